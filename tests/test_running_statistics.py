"""Medians and block means of a running series, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

from mdxai.principles.running_statistics import BlockMeans, Every, RunningMedian


def test_running_median_follows_slowly():
    rng = np.random.default_rng(6)
    median = RunningMedian()
    for value in rng.lognormal(size=2000):
        median.add(value)
    assert median.value == pytest.approx(1, rel=0.25)
    before = median.value
    for value in (1e6, np.nan, np.inf):
        median.add(value)
    assert median.value <= before * 1.01 + 1e-12
    for value in 5 * rng.lognormal(size=2000):
        median.add(value)
    assert median.value == pytest.approx(5, rel=0.25)


def test_block_means_keep_the_whole_run_in_bounded_memory():
    history = BlockMeans(2, 10.0)
    time = np.arange(0, 5000, 2.5)
    values = np.stack([np.sin(time), time**2], axis=1)
    for t, v in zip(time, values, strict=True):
        history.add(t, v)
    n, length = len(history.times), history.length
    assert n < history.CAPACITY
    for k in range(n):
        inside = (time >= k * length) & (time < (k + 1) * length)
        np.testing.assert_allclose(history.means[k], values[inside].mean(axis=0))
        assert history.times[k] == pytest.approx(time[inside].mean())


def test_block_means_know_the_error_of_a_correlated_mean():
    """An autoregressive process of coefficient a has a mean of variance (1 + a)/(1 − a)/n."""
    rng = np.random.default_rng(7)
    noise = rng.normal(size=(12_800, 40))
    chain = np.zeros(40)
    history = BlockMeans(40, 1.0)
    for k in range(12_800):
        chain = 0.8 * chain + np.sqrt(1 - 0.8**2) * noise[k]
        history.add(float(k), chain)
    batches = history.batches()
    mean, error = batches.mean(axis=0), batches.std(axis=0, ddof=1) / 4
    expected = np.sqrt(1.8 / 0.2 / 12_800)
    assert error.mean() == pytest.approx(expected, rel=0.2)
    assert mean.std() == pytest.approx(expected, rel=0.4)


def test_every_looks_when_due():
    every = Every(2.0)
    assert [every.due(t) for t in (0.0, 0.5, 1.9, 2.0, 3.0, 1.0, np.nan, 0.0)] == [
        True, False, False, True, False, True, True, True,
    ]  # fmt: skip
