"""Windows and reference profiles against processes with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from mdxai.statistics import BlockProfile, Change, StatisticsError, Window


def ar1(phi, shape, seed):
    """Return x_t = φ x_{t−1} + noise along the first axis, stationary, of unit variance."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=shape) * np.sqrt(1 - phi**2)
    noise[0] = rng.normal(size=shape[1:])
    return lfilter([1.0], [1.0, -phi], noise, axis=0)


def feed(window, series, times, distances=None):
    """series: (n_frames, n_bins), one sample per bin and frame, of one channel."""
    n = series.shape[1]
    where = np.arange(n) + 0.5 if distances is None else distances
    for time, row in zip(times, series, strict=True):
        window.update(time, np.zeros(n, dtype=np.int64), where, row)


def test_z_scores_are_honest_for_correlated_samples():
    """No change, τ = 19 samples: z spreads like a normal deviate; counting samples does not."""
    n_bins, n = 300, 4001
    reference = BlockProfile(["x"], n_bins, n_bins)
    window = Window(["x"], n_bins, 4000.0, n_bins=n_bins, n_blocks=10)
    past = Window(["x"], n_bins, 4000.0, n_bins=n_bins, n_blocks=10, reference=reference)
    feed(past, ar1(0.9, (n, n_bins), 1), np.arange(n))
    feed(window, ar1(0.9, (n, n_bins), 2), np.arange(n))
    profile = window.profile
    change = Change.between(profile, reference)
    assert np.isfinite(change.z).all()
    assert change.z.std() == pytest.approx(1.0, abs=0.15)
    assert np.mean(np.abs(change.z) > 1.96) < 0.10
    naive = (profile.mean - reference.mean) / np.sqrt(2 / 4000)
    assert naive.std() > 3


def test_a_change_is_found_where_it_is():
    rng = np.random.default_rng(3)
    reference = BlockProfile(["x"], 8.0, 8)
    past = Window(["x"], 8.0, 400.0, n_bins=8, reference=reference)
    now = Window(["x"], 8.0, 400.0, n_bins=8)
    times = np.arange(0, 1000.0)
    feed(past, 5 + rng.normal(size=(1000, 8)), times)
    shift = np.where(np.arange(8) == 5, 1.0, 0.0)
    feed(now, 5 + shift + rng.normal(size=(1000, 8)), times)
    change = Change.between(now.profile, reference)
    top = change.largest(1)[0]
    assert (top.channel, top.left, top.right) == ("x", 5.0, 6.0)
    assert top.z > 5
    assert top.share > 0.5
    assert change.share.sum() == pytest.approx(1.0)


def test_the_window_forgets():
    """Only the last ten blocks count, also after a gap; memory is a ring."""
    window = Window(["x"], 1.0, 10.0, n_bins=1)
    for time in np.arange(0.0, 55.0, 0.5):
        feed(window, np.array([[time]]), [time])
    assert window.profile.total.count[0, 0] == 20
    assert window.profile.total.minimum[0, 0] == 44.0
    feed(window, np.array([[1.0]]), [61.0])
    assert window.profile.total.minimum[0, 0] == 51.0
    feed(window, np.array([[1.0]]), [500.0])
    assert window.profile.total.count.sum() == 0
    with pytest.raises(StatisticsError, match="time runs backwards"):
        feed(window, np.array([[1.0]]), [3.0])


def test_one_block_has_no_error():
    profile = BlockProfile(["x"], 1.0, 1)
    profile.add(profile.total)
    assert np.isnan(profile.standard_error).all()
    assert np.isnan(Change.between(profile, profile).z).all()


def test_blocks_of_a_window_at_negative_times():
    window = Window(["a"], 1.0, 10.0, n_bins=1, n_blocks=2)
    for time, n_blocks in ((-10.0, 0), (-5.0, 1), (0.0, 2), (5.0, 2), (10.0, 2)):
        window.update(time, np.zeros(1, int), np.full(1, 0.5), np.full(1, time))
        assert window.profile.n_blocks.sum() == n_blocks
    assert window.profile.total.minimum[0, 0] == 0.0
