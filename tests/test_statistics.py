"""Kernels against their NumPy twins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdxai.statistics import BinnedMoments, ElementPairChannels


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


def test_element_pair_channels():
    channels = ElementPairChannels(np.array([6, 6, 8, 1, 1]))
    assert channels.names == ("H-H", "C-H", "H-O", "C-C", "C-O")
    i, j = np.array([0, 2, 3, 4]), np.array([1, 0, 4, 2])
    assert [channels.names[c] for c in channels.of(i, j)] == ["C-C", "C-O", "H-H", "H-O"]
