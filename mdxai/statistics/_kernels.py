"""Kernels of the statistics. Every one has a NumPy twin in the tests and adds nothing but speed.

Kernels hold no Python lock. They check every length and index that could lead out of an array, and
return the number of samples whose channel does not exist, or −1 where lengths differ. Samples that
are left out are counted in skipped, (3,): outside the bins, not finite, of channel −1.
"""

from __future__ import annotations

import math

import numba
import numpy as np

CannotCompile = numba.core.errors.NumbaError  # raised for arguments no kernel is made for

BLOCK = 1024  # samples of a cell that are summed before they join the running moments
FIRST = 16  # the same for the first block, whose shift is one sample and may be far off

# Columns of a cell: 64 bytes, so that a sample touches one cache line.
PENDING, SUM1, SUM2, CENTER, LOW, HIGH, COUNT, REST = range(8)
WIDTH = np.uint64(8)
C_SUM1, C_SUM2, C_CENTER, C_LOW, C_HIGH, C_COUNT = (np.uint64(k) for k in (1, 2, 3, 4, 5, 6))


@numba.njit(cache=True, nogil=True)
def _skip(channel, n_channels, finite, skipped):  # type: ignore[no-untyped-def]
    """Count one sample that is left out; return 1 where its channel does not exist."""
    if channel < -1 or channel >= n_channels:
        return 1
    skipped[1 if not finite else (2 if channel == -1 else 0)] += 1
    return 0


@numba.njit(cache=True, nogil=True)
def _join(cell, square, n, delta, gain):  # type: ignore[no-untyped-def]
    """Let n samples join the running moments (Chan, Golub and LeVeque 1983).

    delta: their mean less the running mean. gain: their sum of squares about their own mean. The
    mean is CENTER + REST and the sum of squares square[0] + square[1]: unevaluated sums (Knuth,
    Neumaier), so that 10⁷ joins lose no digits.
    """
    before = cell[COUNT]
    total = before + n
    gain += delta * delta * (before / total) * n
    high = square[0] + gain
    square[1] += (square[0] - high) + gain if square[0] >= gain else (gain - high) + square[0]
    square[0] = high
    center = cell[CENTER]
    move = cell[REST] + delta * (n / total)
    mean = center + move
    virtual = mean - center
    cell[REST] = (center - (mean - virtual)) + (move - virtual)
    cell[CENTER] = mean
    cell[COUNT] = total


@numba.njit(cache=True, nogil=True)
def _fold(cell, square):  # type: ignore[no-untyped-def]
    """Let the pending sums of one cell join its running moments."""
    n = cell[PENDING]
    if n > 0:
        shift = cell[SUM1] / n
        gain = max(0.0, cell[SUM2] - cell[SUM1] * shift)
        _join(cell, square, n, shift - cell[REST], gain)
        cell[PENDING] = 0.0
        cell[SUM1] = 0.0
        cell[SUM2] = 0.0


@numba.njit(cache=True, nogil=True)
def fold_all(cells, squares):  # type: ignore[no-untyped-def]
    """Let the pending sums of every cell join. cells: (n_cells, 8), squares: (n_cells, 2)."""
    for k in range(len(cells)):
        _fold(cells[k], squares[k])


@numba.njit(cache=True, nogil=True)
def merge_moments(cells, squares, other_cells, other_squares):  # type: ignore[no-untyped-def]
    """Add folded cells to folded cells. Shapes as in `fold_all`."""
    for k in range(len(cells)):
        cell, other = cells[k], other_cells[k]
        if other[COUNT] == 0:
            continue
        if cell[COUNT] == 0:
            cell[:] = other
            squares[k, :] = other_squares[k]
            continue
        delta = (other[CENTER] - cell[CENTER]) + (other[REST] - cell[REST])
        _join(cell, squares[k], other[COUNT], delta, other_squares[k, 0])
        squares[k, 1] += other_squares[k, 1]
        cell[LOW] = min(cell[LOW], other[LOW])
        cell[HIGH] = max(cell[HIGH], other[HIGH])


@numba.njit(cache=True, nogil=True)
def update_moments(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917 (flat arrays for numba)
    channels, distances, values, inverse_width, n_channels, n_bins, flat, squares, skipped
):
    """Add samples to running moments: sums about a shift, which join every BLOCK samples of a cell.

    channels, distances, values: (n,). flat: (n_channels · n_bins · 8,), squares: (n_channels ·
    n_bins, 2), updated in place. Unsigned flat indices: slices would count references per sample.
    """
    if len(distances) != len(channels) or len(values) != len(channels):
        return -1
    unknown = 0
    for k in range(len(channels)):
        value = np.float64(values[k])
        position = distances[k] * inverse_width
        c = channels[k]
        inside = (position >= 0.0) & (position < n_bins) & (c >= 0) & (c < n_channels)
        if not (inside & (value - value == 0.0)):
            finite = math.isfinite(value) and math.isfinite(position)
            unknown += _skip(c, n_channels, finite, skipped)
            continue
        at = (np.uint64(c) * np.uint64(n_bins) + np.uint64(int(position))) * WIDTH
        pending = flat[at]
        if pending == 0.0 and flat[at + C_COUNT] == 0.0:
            flat[at + C_CENTER] = value
        shifted = value - flat[at + C_CENTER]
        pending += 1.0
        flat[at] = pending
        flat[at + C_SUM1] += shifted
        flat[at + C_SUM2] += shifted * shifted
        # Extremes are rare, and a store that is not made is time saved.
        if value < flat[at + C_LOW]:  # noqa: PLR1730
            flat[at + C_LOW] = value
        if value > flat[at + C_HIGH]:  # noqa: PLR1730
            flat[at + C_HIGH] = value
        if pending == BLOCK or (pending == FIRST and flat[at + C_COUNT] == 0.0):
            _fold(flat[at : at + WIDTH], squares[at // WIDTH])
    return unknown


@numba.njit(cache=True, nogil=True)
def count_bins(channels, positions, inverse_width, counts, skipped):  # type: ignore[no-untyped-def]
    """Count samples per cell. channels, positions: (n,). counts: (n_channels, n_bins)."""
    if len(positions) != len(channels):
        return -1
    n_channels, n_bins = counts.shape
    unknown = 0
    for k in range(len(channels)):
        position = positions[k] * inverse_width
        c = channels[k]
        if (position >= 0.0) & (position < n_bins) & (c >= 0) & (c < n_channels):
            counts[c, int(position)] += 1
        else:
            unknown += _skip(c, n_channels, math.isfinite(position), skipped)
    return unknown


@numba.njit(cache=True, nogil=True)
def count_buckets(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917 (flat arrays for numba)
    channels, distances, values, inverse_width, smallest, inverse_log_gamma, counts, skipped
):
    """Count values in logarithmic buckets (DDSketch: Masson, Rim and Lee 2019).

    Bucket k ≥ 0 of either sign holds smallest·γᵏ⁻¹ < |value| ≤ smallest·γᵏ; the middle one holds
    |value| < smallest, the two at the ends all beyond. counts: (n_channels, n_bins, n_buckets).
    """
    if len(distances) != len(channels) or len(values) != len(channels):
        return -1
    n_channels, n_bins, n_buckets = counts.shape
    middle = n_buckets // 2
    unknown = 0
    for k in range(len(channels)):
        value = np.float64(values[k])
        position = distances[k] * inverse_width
        c = channels[k]
        inside = (position >= 0.0) & (position < n_bins) & (c >= 0) & (c < n_channels)
        if not (inside & (value - value == 0.0)):
            finite = math.isfinite(value) and math.isfinite(position)
            unknown += _skip(c, n_channels, finite, skipped)
            continue
        size = abs(value) / smallest
        step = 0
        if size >= 1.0:
            power = math.ceil(min(math.log(size) * inverse_log_gamma, float(middle)))
            step = min(int(power) + 1, middle)
        counts[c, int(position), middle + (step if value > 0 else -step)] += 1
    return unknown


@numba.njit(cache=True, nogil=True)
def update_covariance(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917 (flat arrays for numba)
    channels, distances, values, scalar, inverse_width, cells, skipped
):
    """Welford's update of the co-moments of each sample with its frame's scalar.

    channels, distances, values: (n,). cells: (n_channels, n_bins, 6): count, mean of the values,
    mean of the scalar, and the sums of squares and products of deviations vv, ss, vs.
    """
    if len(distances) != len(channels) or len(values) != len(channels):
        return -1
    n_channels, n_bins = cells.shape[0], cells.shape[1]
    unknown = 0
    for k in range(len(channels)):
        value = np.float64(values[k])
        position = distances[k] * inverse_width
        c = channels[k]
        inside = (position >= 0.0) & (position < n_bins) & (c >= 0) & (c < n_channels)
        if not (inside & math.isfinite(value) & math.isfinite(scalar)):
            finite = math.isfinite(value) and math.isfinite(position) and math.isfinite(scalar)
            unknown += _skip(c, n_channels, finite, skipped)
            continue
        cell = cells[c, int(position)]
        cell[0] += 1
        dv, ds = value - cell[1], scalar - cell[2]
        cell[1] += dv / cell[0]
        cell[2] += ds / cell[0]
        cell[3] += dv * (value - cell[1])
        cell[4] += ds * (scalar - cell[2])
        cell[5] += dv * (scalar - cell[2])
    return unknown
