"""Detectors: run lengths and delays against theory, and against the literal definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from mdxai.serialization import decode, encode, restore, snapshot
from mdxai.statistics import StatisticsError
from mdxai.statistics.change_detection import (
    DETECTORS,
    Baseline,
    Cusum,
    Ewma,
    PageHinkley,
    Shewhart,
    make_detector,
    robust_baseline,
)


def run_lengths(detector, threshold, shift, n_streams, seed):
    """Return how long each of many normal streams takes to its alarm."""
    rng = np.random.default_rng(seed)
    lengths = np.zeros(n_streams)
    step = 0
    while not lengths.all():
        step += 1
        alarm = detector.update(rng.normal(shift, size=n_streams)) > threshold
        lengths[alarm & (lengths == 0)] = step
    return lengths


def agrees(lengths, expected):
    error = lengths.std() / np.sqrt(len(lengths))
    return abs(lengths.mean() - expected) < 4 * error


def chain_length(inner, start):
    """Mean number of steps of a chain with transitions `inner` among states without alarm."""
    return np.linalg.solve(np.eye(len(inner)) - inner, np.ones(len(inner)))[start]


def brook_evans(k, h, shift, n=400):
    """One-sided CUSUM from 0 (Brook and Evans, Biometrika 59, 539, 1972)."""
    width = 2 * h / (2 * n - 1)
    centres = width * np.arange(n)
    edges = centres + width / 2
    upper = norm.cdf(edges[None, :] - centres[:, None] + k - shift)
    inner = np.diff(upper, axis=1, prepend=0.0)
    return chain_length(inner, 0)


def siegmund(k, h, shift):
    """Siegmund's corrected diffusion (Sequential Analysis, 1985)."""
    drift, level = shift - k, h + 1.166
    return (np.exp(-2 * drift * level) + 2 * drift * level - 1) / (2 * drift**2)


def ewma_chain(weight, limit, shift, n=401):
    """Two-sided EWMA from 0 (Lucas and Saccucci, Technometrics 32, 1, 1990)."""
    edge = limit * np.sqrt(weight / (2 - weight))
    edges = np.linspace(-edge, edge, n + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    reach = (edges[None, :] - (1 - weight) * centres[:, None]) / weight
    return chain_length(np.diff(norm.cdf(reach - shift), axis=1), n // 2)


@pytest.mark.parametrize(("k", "h", "shift"), [(0.5, 4.0, 0.0), (0.5, 4.0, 1.0), (0.25, 6.0, 0.5)])
def test_cusum_run_lengths(k, h, shift):
    exact = brook_evans(k, h, shift)
    assert siegmund(k, h, shift) == pytest.approx(exact, rel=0.03)
    n = 1000 if shift == 0 else 4000
    assert agrees(run_lengths(Cusum(n, allowance=k), h, shift, n, 1), exact)


def test_two_sided_cusum_is_the_sum_of_both_rates():
    """Kemp (1961): 1/ARL = 1/ARL⁺ + 1/ARL⁻; 168 for k = 0.5, h = 4, as in textbooks."""
    both = brook_evans(0.5, 4.0, 0.0) / 2
    assert both == pytest.approx(168, rel=0.005)
    assert agrees(run_lengths(Cusum(2000, sides="both"), 4.0, 0.0, 2000, 2), both)
    down = run_lengths(Cusum(2000, sides="down"), 4.0, -1.0, 2000, 3)
    assert agrees(down, brook_evans(0.5, 4.0, 1.0))


@pytest.mark.parametrize(
    ("weight", "limit", "shift", "table"),
    [(0.1, 2.814, 0.0, 500), (0.1, 2.814, 1.0, 10.3), (0.25, 2.998, 1.0, 11.1)],
)
def test_ewma_run_lengths(weight, limit, shift, table):
    """The table of Lucas and Saccucci."""
    exact = ewma_chain(weight, limit, shift)
    assert exact == pytest.approx(table, rel=0.015)
    n = 1000 if shift == 0 else 4000
    lengths = run_lengths(Ewma(n, weight=weight, sides="both"), limit, shift, n, 4)
    assert agrees(lengths, exact)


def test_shewhart_run_lengths():
    lengths = run_lengths(Shewhart(3000, sides="both"), 3.0, 0.0, 3000, 5)
    assert agrees(lengths, 1 / (2 * norm.sf(3.0)))
    lengths = run_lengths(Shewhart(3000), 3.0, 1.0, 3000, 6)
    assert agrees(lengths, 1 / norm.sf(2.0))


def literal_page_hinkley(values, delta):
    means = np.cumsum(values) / np.arange(1, len(values) + 1)
    sums = np.concatenate([[0.0], np.cumsum(values - means - delta)])
    return (sums - np.minimum.accumulate(sums))[1:], values - means


def test_page_hinkley_is_its_definition_and_the_cusum_of_shifted_data():
    rng = np.random.default_rng(7)
    values = np.concatenate([rng.normal(2.0, size=300), rng.normal(3.0, size=100)])
    expected, shifted = literal_page_hinkley(values, 0.2)
    test, cusum = PageHinkley(allowance=0.2), Cusum(allowance=0.2)
    found = np.array([test.update(v)[0] for v in values])
    np.testing.assert_allclose(found, expected, atol=1e-10)
    np.testing.assert_allclose(found, [cusum.update(v)[0] for v in shifted], atol=1e-10)
    assert found[399] > 5 * found[299]


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("sides", ["up", "down", "both"])
def test_streams_are_independent_and_nan_changes_nothing(name, sides):
    rng = np.random.default_rng(8)
    values = rng.normal(size=(3, 50))
    together, holed = (make_detector(name, 3, {"sides": sides}) for _ in range(2))
    alone = [make_detector(name, 1, {"sides": sides}) for _ in range(3)]
    for n, column in enumerate(values.T):
        statistic = together.update(column)
        assert list(statistic) == [d.update(v)[0] for d, v in zip(alone, column, strict=True)]
        holed.update(np.full(3, np.nan))
        np.testing.assert_array_equal(holed.update(column), statistic)
        assert (holed.n_missing == n + 1).all()
    together.restart(np.array([False, True, False]))
    assert together.statistic[1] == 0
    fresh = make_detector(name, 1, {"sides": sides})
    for v in (0.3, 1.2, -4.0):
        together.update(np.full(3, v))
        assert together.statistic[1] == fresh.update(v)[0]


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_go_on_from_a_checkpoint(name):
    rng = np.random.default_rng(9)
    whole = make_detector(name, 2)
    for _ in range(20):
        whole.update(rng.normal(size=2))
    again = restore(make_detector(name, 2), decode(encode(snapshot(whole))))
    for _ in range(20):
        values = rng.normal(size=2)
        np.testing.assert_array_equal(again.update(values), whole.update(values))


def test_baseline_is_robust_and_bounded():
    rng = np.random.default_rng(10)
    values = rng.normal(5.0, 2.0, size=20_001)
    values[::50] = 1e4  # outliers
    location, scale = robust_baseline(values)
    assert (location, scale) == pytest.approx((5.0, 2.0), rel=0.05)
    assert np.isnan(robust_baseline(values[:7])).all()
    baseline = Baseline(100.0, np.array([5.0, 10.0]))
    seen = np.array([baseline.update(0.5 * n, np.full(2, v)) for n, v in enumerate(values[:600])])
    size = len(encode(snapshot(baseline)))
    for n in range(600, 2000):
        baseline.update(0.5 * n, values[:2])
    assert len(encode(snapshot(baseline))) <= size + 64  # it does not grow with the run
    for stream, every in enumerate((10, 20)):
        taken = values[:200:every]
        location, scale = robust_baseline(taken)
        assert (baseline.location[stream], baseline.scale[stream]) == (location, scale)
        assert np.isnan(seen[:200, stream]).all()
        expected = (values[200:600:every] - location) / scale
        np.testing.assert_array_equal(seen[200::every, stream], expected)
        assert np.isfinite(seen[:, stream]).sum() == len(expected)


def test_baseline_that_is_given_or_flat():
    baseline = Baseline(100.0, np.ones(2), np.array([1.0, np.nan]), np.array([2.0, np.nan]))
    assert baseline.update(0.0, np.array([5.0, 0.0]))[0] == 2.0
    for time in range(1, 101):
        baseline.update(float(time), np.array([np.nan, 0.0]))
    assert list(baseline.update(101.0, np.array([np.inf, 0.0]))) == [1e6, 0.0]
    assert baseline.update(102.0, np.array([-np.inf, 1e-9]))[1] == 1e6
    baseline.restart(np.array([True, True]))
    assert list(np.isnan(baseline.update(103.0, np.zeros(2)))) == [False, True]


def test_bad_input_is_refused():
    with pytest.raises(StatisticsError, match="got 'magic'"):
        make_detector("magic", 1)
    with pytest.raises(StatisticsError, match="cusum does not take"):
        make_detector("cusum", 1, {"weight": 1})
    with pytest.raises(StatisticsError, match="value for each of 2"):
        Cusum(2).update(1.0)
    for bad, message in (
        (lambda: Ewma(weight=0.0), "weight of an EWMA must be in"),
        (lambda: Cusum(allowance=-1), "allowance must be 0 or positive"),
        (lambda: Cusum(0), "at least one stream"),
        (lambda: Shewhart(sides="left"), "sides of up, down, both"),
        (lambda: Baseline(0.0, np.ones(1)), "a span and spacings > 0 fs"),
    ):
        with pytest.raises(StatisticsError, match=message):
            bad()
