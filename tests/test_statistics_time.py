"""Windows, covariance and autocorrelation against scipy, NumPy and processes with known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import ks_2samp, wasserstein_distance

from mdxai.statistics import (
    BinnedCovariance,
    Change,
    Profile,
    StatisticsError,
    Window,
    autocorrelation,
)


def ar1(phi, shape, seed):
    """Return x_t = φ x_{t−1} + noise along the first axis, stationary, of unit variance."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=shape) * np.sqrt(1 - phi**2)
    noise[0] = rng.normal(size=shape[1:])
    return lfilter([1.0], [1.0, -phi], noise, axis=0)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, 0.98])
def test_autocorrelation_of_a_known_process(phi):
    """For AR(1) τ = (1 + φ)/(1 − φ)."""
    result = autocorrelation(ar1(phi, (200_000,), 1))
    exact = (1 + phi) / (1 - phi)
    # Sokal's window leaves out about exp(−5) of τ besides the noise.
    assert abs(result.time - exact) < 4 * result.error + 0.02 * exact
    assert result.effective_samples == pytest.approx(200_000 / result.time)
    assert result.reliable
    assert not autocorrelation(ar1(0.98, (500,), 1)).reliable


@pytest.mark.parametrize("bad", [[1.0], [1.0, np.nan, 2.0], [[1.0, 2.0]], [3.0, 3.0, 3.0]])
def test_series_without_an_autocorrelation(bad):
    with pytest.raises(StatisticsError, match=r"finite numbers|constant"):
        autocorrelation(bad)


frames = st.lists(
    st.tuples(
        st.floats(-10, 10) | st.just(np.nan),
        st.lists(
            st.tuples(st.integers(0, 1), st.floats(0, 2.2), st.floats(-5, 5) | st.just(np.nan)),
            min_size=1,
            max_size=8,
        ),
    ),
    min_size=2,
    max_size=12,
)


@settings(max_examples=50, deadline=None)
@given(frames)
def test_covariance_equals_numpy(rows):
    halves = [BinnedCovariance("ab", 2.0, 2) for _ in range(2)]
    kept = []
    for k, (scalar, samples) in enumerate(rows):
        c, d, v = (np.array(x) for x in zip(*samples, strict=True))
        halves[k % 2].update(c.astype(np.int64), d.astype(float), v.astype(float), scalar)
        kept += [(*sample, scalar) for sample in samples]
    whole = BinnedCovariance.from_state(halves[0].state())
    whole.merge(halves[1])
    c, d, v, s = (np.array(x) for x in zip(*kept, strict=True))
    for channel in range(2):
        for b in range(2):
            mine = (c == channel) & (np.floor(d) == b) & np.isfinite(v) & np.isfinite(s)
            assert whole.count[channel, b] == mine.sum()
            if mine.any():
                expected = np.mean((v[mine] - v[mine].mean()) * (s[mine] - s[mine].mean()))
                assert whole.covariance[channel, b] == pytest.approx(expected, abs=1e-9)


def test_correlation_finds_the_bin_that_follows_the_scalar():
    rng = np.random.default_rng(0)
    both = BinnedCovariance(["x"], 2.0, 2)
    for scalar in rng.normal(size=4000):
        values = np.array([scalar + rng.normal(), rng.normal()])
        both.update(np.zeros(2, dtype=np.int64), np.array([0.5, 1.5]), values, scalar)
    assert both.correlation[0] == pytest.approx([np.sqrt(0.5), 0.0], abs=0.06)


def feed(window, series, times, distances=None):
    """series: (n_frames, n_bins), one sample per bin and frame, of one channel."""
    n = series.shape[1]
    where = np.arange(n) + 0.5 if distances is None else distances
    for time, row in zip(times, series, strict=True):
        window.update(time, np.zeros(n, dtype=np.int64), where, row)


def test_z_scores_are_honest_for_correlated_samples():
    """No change, τ = 19 samples: z spreads like a normal deviate; counting samples does not."""
    n_bins, n = 300, 4001
    reference = Profile(["x"], n_bins, n_bins)
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
    assert np.median(profile.effective_samples) == pytest.approx(4000 / 19, rel=0.3)


def test_a_change_is_found_where_it_is():
    rng = np.random.default_rng(3)
    reference = Profile(["x"], 8.0, 8)
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
    assert list(change.channel_share) == ["x"]


def test_distances_between_distributions_equal_scipy():
    rng = np.random.default_rng(4)
    profiles, raw = [], []
    for mean in (2.0, 2.5):
        profile = Profile(["x"], 6.0, 60)
        window = Window(["x"], 6.0, 100.0, n_bins=60, reference=profile)
        d, v = rng.normal(mean, 0.3, (101, 20)), rng.lognormal(mean - 2, 0.5, (101, 20))
        for k in range(101):
            window.update(float(k), np.zeros(20, dtype=np.int64), d[k], v[k])
        profiles.append(profile)
        raw.append((d[:100].ravel(), v[:100].ravel()))
    change = Change.between(profiles[1], profiles[0])
    counts = [p.total.moments.count[0] for p in profiles]
    centers = profiles[0].bins.centers
    exact = wasserstein_distance(centers, centers, counts[1], counts[0])
    assert change.distance_shift[0] == pytest.approx(exact)
    assert change.distance_shift[0] == pytest.approx(
        wasserstein_distance(raw[0][0], raw[1][0]), abs=0.1
    )
    binned = [np.repeat(centers, c) for c in counts]
    assert change.distance_ks[0] == pytest.approx(ks_2samp(*binned).statistic)
    bound = 0.02 * sum(np.abs(v).mean() for _, v in raw)
    exact = wasserstein_distance(raw[0][1], raw[1][1])
    assert abs(change.strength_shift[0] - exact) <= bound
    assert change.strength_ks[0] == pytest.approx(
        ks_2samp(raw[0][1], raw[1][1]).statistic, abs=0.03
    )


def test_the_window_forgets():
    """Only the last ten blocks count, also after a gap; memory is a ring."""
    window = Window(["x"], 1.0, 10.0, n_bins=1)
    for time in np.arange(0.0, 55.0, 0.5):
        feed(window, np.array([[time]]), [time])
    assert window.profile.total.moments.count[0, 0] == 20
    assert window.profile.total.moments.minimum[0, 0] == 44.0
    feed(window, np.array([[1.0]]), [61.0])
    assert window.profile.total.moments.minimum[0, 0] == 51.0
    feed(window, np.array([[1.0]]), [500.0])
    assert window.profile.total.moments.count.sum() == 0
    with pytest.raises(StatisticsError, match="time runs backwards"):
        feed(window, np.array([[1.0]]), [3.0])


def test_one_block_has_no_error():
    profile = Profile(["x"], 1.0, 1)
    profile.add(profile.total)
    assert np.isnan(profile.standard_error).all()
    assert np.isnan(Change.between(profile, profile).z).all()


def test_the_page_on_statistics_runs():
    page = Path(__file__).resolve().parents[1] / "docs" / "statistics.md"
    snippet = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    names = {}
    exec(snippet, names)
    found = np.isfinite(names["median"])
    np.testing.assert_array_equal(found, names["moments"].count > 0)
    low, high = names["moments"].minimum[found], names["moments"].maximum[found]
    assert np.all((names["median"][found] >= 0.98 * low) & (names["median"][found] <= 1.02 * high))


@pytest.mark.parametrize("phi", [-0.9, -0.5, 0.5, 0.9])
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_autocorrelation_time_of_an_autoregressive_series(phi, scale):
    """x_k = φ x_{k−1} + noise has ρ(t) = φᵗ, so τ = (1 + φ)/(1 − φ), also where that is below 1."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=200_000)
    series = lfilter([1.0], [1.0, -phi], noise) * scale
    found = autocorrelation(series)
    assert found.time == pytest.approx((1 + phi) / (1 - phi), rel=0.1)
    assert found.reliable


def test_autocorrelation_refuses_what_has_none():
    for series in (["a", "b"], [1.0, np.nan], [[1.0, 2.0]]):
        with pytest.raises(StatisticsError, match="expected a series of"):
            autocorrelation(series)
    with pytest.raises(StatisticsError, match="c must be positive, got nan"):
        autocorrelation([1.0, 2.0], c=np.nan)


def test_blocks_of_a_window_at_negative_times():
    window = Window(["a"], 1.0, 10.0, n_blocks=2)
    for time in (-10.0, -5.0, 0.0):
        window.update(time, np.zeros(1, int), np.full(1, 0.5), np.ones(1))
    assert [index for index, _ in window._ring] == [-2, -1]
