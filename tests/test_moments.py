"""Running moments against NumPy, rational arithmetic and math.fsum."""

from __future__ import annotations

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdxai.statistics import BinnedMoments, StatisticsError


def plain_moments(moments, channels, distances, values):
    """The NumPy twin of the kernel: masks and two-pass formulas."""
    n_bins = moments.count.shape[1]
    column = np.full(len(values), -1)
    fine = np.isfinite(values) & np.isfinite(distances)
    column[fine] = np.floor(distances[fine] * (n_bins / moments.bin_edges[-1])).astype(int)
    result = {}
    for c in range(len(moments.channels)):
        for b in range(n_bins):
            x = values[fine & (channels == c) & (column == b)]
            if len(x):
                result[c, b] = (len(x), x.mean(), x.var(), x.min(), x.max())
    return result


def assert_equal_moments(moments, expected):
    assert moments.count.sum() == sum(row[0] for row in expected.values())
    for (c, b), row in expected.items():
        found = (moments.count, moments.mean, moments.variance, moments.minimum, moments.maximum)
        np.testing.assert_allclose([f[c, b] for f in found], row, rtol=1e-9, atol=1e-12)


samples = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.floats(-1, 7) | st.just(np.nan),
        st.floats(-1e3, 1e3) | st.sampled_from([np.nan, np.inf]),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(samples, samples)
def test_kernel_and_merge_equal_numpy(first, second):
    def arrays(rows):
        c, d, v = (np.array(x) for x in zip(*rows, strict=True)) if rows else ([], [], [])
        return np.asarray(c, dtype=np.int64), np.asarray(d, float), np.asarray(v, float)

    halves = [BinnedMoments("abc", 6.0, 12), BinnedMoments("abc", 6.0, 12)]
    for half, rows in zip(halves, (first, second), strict=True):
        half.update(*arrays(rows))
    whole = halves[0]
    whole.merge(halves[1])
    c, d, v = arrays(first + second)
    inside = np.isfinite(v) & np.isfinite(d) & (d >= 0) & (d < 6.0)
    d = np.where(inside, d, np.nan)
    assert_equal_moments(whole, plain_moments(whole, c, d, v))
    assert whole.count.sum() + whole.outside + whole.not_finite == len(v)


def test_variance_of_small_differences_on_a_large_offset():
    """The naive sum of squares loses all digits here."""
    values = 1e9 + np.array([4.0, 7.0, 13.0, 16.0])
    moments = BinnedMoments(["x"], 1.0, 1)
    moments.update(np.zeros(4, dtype=np.int64), np.full(4, 0.5), values)
    assert moments.variance[0, 0] == pytest.approx(22.5)


def test_different_bins_do_not_merge():
    with pytest.raises(ValueError, match="same channels and bins"):
        BinnedMoments(["x"], 1.0, 4).merge(BinnedMoments(["x"], 2.0, 4))


def one_bin(values):
    moments = BinnedMoments(["x"], 1.0, 1)
    values = np.asarray(values, dtype=float)
    moments.update(np.zeros(len(values), dtype=np.int64), np.full(len(values), 0.5), values)
    return moments


def exact(values):
    """Mean and variance in rational arithmetic."""
    rows = [Fraction(float(v)) for v in values]
    mean = sum(rows) / len(rows)
    return mean, sum((v - mean) ** 2 for v in rows) / len(rows)


def test_tiny_spread_on_an_offset_of_1e8():
    """Many accumulators, merged, against rational arithmetic."""
    rng = np.random.default_rng(0)
    values = 1e8 + rng.normal(scale=1e-5, size=40_000)
    whole = BinnedMoments(["x"], 1.0, 1)
    for part in np.array_split(values, 700):
        whole.merge(one_bin(part))
    for moments in (whole, one_bin(values)):
        mean, variance = exact(values)
        assert moments.mean[0, 0] == pytest.approx(float(mean), rel=2e-16)
        assert moments.variance[0, 0] == pytest.approx(float(variance), rel=1e-11)


def test_first_sample_far_from_all_others():
    """The first sample sets the shift; the next blocks must not suffer from it."""
    values = np.concatenate([[1e8], np.random.default_rng(1).normal(size=5000)])
    mean, variance = exact(values)
    moments = one_bin(values)
    error = moments.mean[0, 0] - float(mean)
    assert abs(error) < 1e-13 * float(variance) ** 0.5
    assert moments.variance[0, 0] == pytest.approx(float(variance), rel=1e-13)


def test_ten_billion_samples():
    """2¹⁴ samples merged with themselves 20 times are 1.7·10¹⁰ of the same mean and variance."""
    values = 1e6 + np.random.default_rng(2).normal(size=2**14)
    moments = one_bin(values)
    for _ in range(20):
        moments.merge(moments)
    assert moments.count[0, 0] == 2**34
    mean, variance = exact(values)
    assert moments.mean[0, 0] == pytest.approx(float(mean), rel=2e-16)
    assert moments.variance[0, 0] == pytest.approx(float(variance), rel=1e-12)


def test_a_long_stream_keeps_its_digits():
    """3·10⁶ samples, thousands of folded blocks, against math.fsum."""
    values = 1e8 + np.random.default_rng(3).normal(size=3_000_000)
    moments = one_bin(values)
    mean = math.fsum(values) / len(values)
    variance = math.fsum((values - mean) ** 2) / len(values)
    assert moments.mean[0, 0] == pytest.approx(mean, rel=3e-16)
    assert moments.variance[0, 0] == pytest.approx(variance, rel=1e-12)


def random_samples(n, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=n)
    values[::97] = np.nan
    return rng.integers(0, 3, n), rng.uniform(0, 6.1, n), values


@pytest.mark.parametrize("way", ["calls", "state", "pickle"])
def test_interrupted_stream_gives_the_same_bits(way):
    c, d, v = random_samples(50_000)
    whole, parts = (BinnedMoments("abc", 6.0, 4) for _ in range(2))
    whole.update(c, d, v)
    for cut in np.array_split(np.arange(len(v)), 7):
        parts.update(c[cut], d[cut], v[cut])
        _ = parts.variance  # reading changes nothing
        if way == "state":
            parts = BinnedMoments.from_state(parts.state())
        elif way == "pickle":
            parts = pickle.loads(pickle.dumps(parts))
    for name, array in whole.state().items():
        np.testing.assert_array_equal(parts.state()[name], array)


def test_read_only_and_narrow_arrays_are_taken_as_they_are():
    c, d, v = random_samples(500)
    plain, other = (BinnedMoments("abc", 6.0, 12) for _ in range(2))
    v = v.astype(np.float32)
    plain.update(c, d, v.astype(np.float64))
    d.setflags(write=False)
    other.update(c.astype(np.int32), d, v)
    np.testing.assert_array_equal(other.mean, plain.mean)


def test_samples_that_fit_nowhere():
    moments = BinnedMoments("ab", 1.0, 4)
    x = np.full(3, 0.5)
    moments.update(np.array([0, -1, 1]), x, x)
    assert (moments.count.sum(), moments.unassigned) == (2, 1)
    with pytest.raises(StatisticsError, match="1 samples have a channel outside 0…1"):
        moments.update(np.array([0, 2, 1]), x, x)
    with pytest.raises(StatisticsError, match="same length"):
        moments.update(np.array([0, 1]), x, x)
    assert moments.count.sum() == 4
    with pytest.raises(StatisticsError, match="at least one channel"):
        BinnedMoments([], 1.0)


@pytest.mark.parametrize(("upper", "n_bins"), [(5.0, 240), (5.29, 240), (4.5, 100), (3.3, 300)])
def test_a_sample_on_an_edge_is_in_the_bin_that_begins_there(upper, n_bins):
    moments = BinnedMoments(["a"], upper, n_bins)
    edges = moments.bin_edges
    np.testing.assert_allclose(edges, np.linspace(0, upper, n_bins + 1), rtol=1e-15)
    for samples, bins in ((edges[:-1], 0), (np.nextafter(edges[1:], 0), 0)):
        moments.reset()
        moments.update(np.full(n_bins, bins), samples, np.ones(n_bins))
        np.testing.assert_array_equal(moments.count[0], 1)
    moments.update(np.zeros(1, int), edges[-1:], np.ones(1))
    assert moments.outside == 1


@pytest.mark.parametrize(
    ("channels", "distances", "values"),
    [
        (np.zeros(4), np.ones(4), np.ones(4)),
        (np.zeros((2, 2), int), np.ones((2, 2)), np.ones((2, 2))),
        (np.zeros(4, int), np.ones(4), np.ones(4, complex)),
        ([0, 0], np.ones(2), np.ones(2)),
    ],
)
def test_samples_of_another_kind_are_refused(channels, distances, values):
    with pytest.raises(StatisticsError, match="channels must be integers, distances"):
        BinnedMoments(["a"], 5.0).update(channels, distances, values)


def test_channels_and_bins_that_make_no_sense():
    with pytest.raises(StatisticsError, match="channel names must differ"):
        BinnedMoments(["a", "a"], 5.0)
    with pytest.raises(StatisticsError, match=r"whole number, got 2\.7"):
        BinnedMoments(["a"], 5.0, 2.7)
