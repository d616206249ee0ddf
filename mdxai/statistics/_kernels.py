"""Numba kernels: statistics of many samples, then quantities of a single frame.

Each kernel has a NumPy twin in the tests, returns the same numbers and differs only in speed.
Kernels release the GIL. `update_moments` and `sum_strengths` check every length and index;
`update_moments` returns the number of samples whose channel does not exist, or −1 if lengths
differ, and counts the samples that it leaves out in skipped, (3,): outside the bins, not finite, of
channel −1. All other kernels rely on their callers for shapes and indices.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numba
import numpy as np

CannotCompile = numba.core.errors.NumbaError  # raised for arguments of the wrong type

BLOCK = 1024  # samples of a cell that are summed before they join its moments
FIRST = 16  # the same for the first block, whose shift is a single, possibly extreme sample

# Columns of a cell: 64 bytes, so that a sample touches one cache line.
PENDING, SUM1, SUM2, CENTER, LOW, HIGH, COUNT, REST = range(8)
WIDTH = np.uint64(8)
C_SUM1, C_SUM2, C_CENTER, C_LOW, C_HIGH, C_COUNT = (np.uint64(k) for k in (1, 2, 3, 4, 5, 6))


def _compiled(function: Any, **options: Any) -> Any:
    """Compile a function when it is first called; cached on disk where there is room for that.

    numba looks for a place beside this file, in $NUMBA_CACHE_DIR and in the user's home.
    """
    try:
        return numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # an installation that cannot be written to, and no home
        return numba.njit(nogil=True, **options)(function)


_dividing = partial(_compiled, error_model="numpy")  # by 0 gives infinity or NaN, as in NumPy


@_compiled
def _skip(channel, n_channels, finite, skipped):  # type: ignore[no-untyped-def]
    """Count one sample that is left out; return 1 where its channel does not exist."""
    if channel < -1 or channel >= n_channels:
        return 1
    skipped[1 if not finite else (2 if channel == -1 else 0)] += 1
    return 0


@_compiled
def _join(cell, square, n, delta, gain):  # type: ignore[no-untyped-def]
    """Merge n samples into the running moments (Chan, Golub and LeVeque 1983).

    delta: their mean less the running mean. gain: their sum of squares about their own mean. The
    mean is CENTER + REST and the sum of squares square[0] + square[1]: unevaluated sums (Knuth,
    Neumaier), so that 10⁷ merges lose no digits.
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


@_compiled
def _fold(cell, square):  # type: ignore[no-untyped-def]
    """Merge the pending sums of one cell into its running moments."""
    n = cell[PENDING]
    if n > 0:
        shift = cell[SUM1] / n
        gain = max(0.0, cell[SUM2] - cell[SUM1] * shift)
        _join(cell, square, n, shift - cell[REST], gain)
        cell[PENDING] = 0.0
        cell[SUM1] = 0.0
        cell[SUM2] = 0.0


@_compiled
def fold_all(cells, squares):  # type: ignore[no-untyped-def]
    """Merge the pending sums of every cell. cells: (n_cells, 8), squares: (n_cells, 2)."""
    for k in range(len(cells)):
        _fold(cells[k], squares[k])


@_compiled
def merge_moments(cells, squares, other_cells, other_squares):  # type: ignore[no-untyped-def]
    """Add the moments of other cells; both without pending sums. Shapes as in `fold_all`."""
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


@_compiled
def update_moments(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917 (flat arrays for numba)
    channels, distances, values, inverse_width, n_channels, n_bins, flat, squares, skipped
):
    """Add samples to running moments: sums about a shift, merged every BLOCK samples of a cell.

    channels, distances, values: (n,). flat: (n_channels · n_bins · 8,), squares: (n_channels ·
    n_bins, 2), updated in place. Indices are flat and unsigned: numba counts references for slices.
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
        # New extremes are rare, so a branch is cheaper than a store per sample.
        if value < flat[at + C_LOW]:  # noqa: PLR1730
            flat[at + C_LOW] = value
        if value > flat[at + C_HIGH]:  # noqa: PLR1730
            flat[at + C_HIGH] = value
        if pending == BLOCK or (pending == FIRST and flat[at + C_COUNT] == 0.0):
            _fold(flat[at : at + WIDTH], squares[at // WIDTH])
    return unknown


@_compiled
def sum_strengths(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917 (flat arrays for numba)
    frames, channels, distances, strengths, width, count, total
):
    """Add up strengths per frame, channel and bin; skip samples outside them or not finite.

    frames, channels, distances, strengths: (n,). count, total: (n_frames, n_channels, n_bins),
    updated in place.
    """
    n_frames, n_channels, n_bins = count.shape
    for k in range(min(len(frames), len(channels), len(distances), len(strengths))):
        strength, place = np.float64(strengths[k]), distances[k] / width
        f, c = frames[k], channels[k]
        inside = (place >= 0.0) & (place < n_bins) & (c >= 0) & (c < n_channels)
        if inside & (f >= 0) & (f < n_frames) & (strength - strength == 0.0):
            count[f, c, int(place)] += 1
            total[f, c, int(place)] += strength


# Kernels of one frame: single passes over its atoms or pairs. For a small molecule, NumPy spends
# more time on its dozens of calls per frame than on arithmetic. As in NumPy's `argmax`, NaN counts
# as the largest, and the first of several equal values is returned.


@_compiled
def all_distances(points, distances):  # type: ignore[no-untyped-def]
    """Fill distances (n_pairs,) of all pairs i < j of points (n, 3)."""
    k = 0
    for i in range(len(points)):
        for j in range(i + 1, len(points)):
            x = points[j, 0] - points[i, 0]
            y = points[j, 1] - points[i, 1]
            z = points[j, 2] - points[i, 2]
            distances[k] = math.sqrt(x * x + y * y + z * z)
            k += 1


@_compiled
def summary(  # type: ignore[no-untyped-def]
    positions, velocities, forces, masses, kinetic, distances
):
    """Return sums over atoms, and the atoms with the largest force and kinetic energy.

    One kernel computes all of this. A kernel that is called once per step, between evaluations of
    a network, costs some 10 µs because its code has left the processor's cache.

    positions, velocities, forces: (n_atoms, 3). masses: (n_atoms,). kinetic: (n_atoms,) is filled
    with m v². distances: (n_pairs,) is filled with those of all pairs i < j, unless it is empty.

    Returns:
        Σ x, Σ v over all components; Σ F (3 numbers), Σ m v (3), Σ m, Σ m v²; largest F² and its
        atom; atom of the largest m v².
    """
    x = v = fx = fy = fz = px = py = pz = mass = total = 0.0
    largest, hottest = -1.0, -1.0
    at_force = at_heat = 0
    for a in range(len(masses)):
        m, f0, f1, f2 = masses[a], forces[a, 0], forces[a, 1], forces[a, 2]
        v0, v1, v2 = velocities[a, 0], velocities[a, 1], velocities[a, 2]
        x += positions[a, 0] + positions[a, 1] + positions[a, 2]
        v += v0 + v1 + v2
        fx, fy, fz = fx + f0, fy + f1, fz + f2
        px, py, pz = px + m * v0, py + m * v1, pz + m * v2
        mass += m
        square, heat = f0 * f0 + f1 * f1 + f2 * f2, m * (v0 * v0 + v1 * v1 + v2 * v2)
        kinetic[a] = heat
        total += heat
        if not (square <= largest) and not math.isnan(largest):
            largest, at_force = square, a
        if not (heat <= hottest) and not math.isnan(hottest):
            hottest, at_heat = heat, a
    if len(distances):
        all_distances(positions, distances)
    return x, v, fx, fy, fz, px, py, pz, mass, total, largest, at_force, at_heat


@_compiled
def largest_change(values, rows, reference):  # type: ignore[no-untyped-def]
    """Return the largest |values[rows] − reference| and its index. rows, reference: (n,)."""
    largest, at = -1.0, 0
    for k in range(len(rows)):
        change = abs(values[rows[k]] - reference[k])
        if not (change <= largest):
            largest, at = change, k
            if math.isnan(change):
                break
    return largest, at


@_compiled
def largest_excess(values, limits, sign):  # type: ignore[no-untyped-def]
    """Return the largest sign · (values − limits) and its index; −∞ if there are no values."""
    largest, at = -np.inf, 0
    for k in range(len(values)):
        excess = sign * (values[k] - limits[k])
        if not (excess <= largest):
            largest, at = excess, k
            if math.isnan(excess):
                break
    return largest, at


@_compiled
def largest_ratio(values, rows, reference):  # type: ignore[no-untyped-def]
    """Return the largest values[rows] / reference and its index. rows, reference: (n,)."""
    largest, at = -np.inf, 0
    for k in range(len(rows)):
        ratio = values[rows[k]] / reference[k]
        if not (ratio <= largest):
            largest, at = ratio, k
            if math.isnan(ratio):
                break
    return largest, at


@_compiled
def nearest_heavy(i, j, distances, light, nearest):  # type: ignore[no-untyped-def]
    """Lower `nearest` (n_atoms,) of light atoms to the distance of their nearest heavy partner.

    i, j, distances: (n_pairs,). light: (n_atoms,) bool.
    """
    for k in range(len(distances)):
        a, b = i[k], j[k]
        if light[a] != light[b]:
            atom = a if light[a] else b
            if not (distances[k] >= nearest[atom]):
                nearest[atom] = distances[k]


@_dividing
def largest_kick(velocities, last, forces, last_forces, masses, half):  # type: ignore[no-untyped-def]
    """Return the largest m |Δv − half · (F + F_last)/m|² and its atom; NaN counts as the largest.

    velocities, last, forces, last_forces: (n_atoms, 3). masses: (n_atoms,).
    """
    largest, at = -1.0, 0
    for a in range(len(masses)):
        square = 0.0
        for axis in range(3):
            made = half * (forces[a, axis] + last_forces[a, axis]) / masses[a]
            square += (velocities[a, axis] - last[a, axis] - made) ** 2
        if not (masses[a] * square <= largest):
            largest, at = masses[a] * square, a
            if math.isnan(largest):
                break
    return largest, at


@_compiled
def step_work(moved, forces, last_forces):  # type: ignore[no-untyped-def]
    """Return Σ (F + F_last)·(x − x_last), `moved` being x − x_last. All (n_atoms, 3)."""
    work = 0.0
    for a in range(len(moved)):
        for axis in range(3):
            work += (last_forces[a, axis] + forces[a, axis]) * moved[a, axis]
    return work


@_dividing
def turn_work(moved, first, middle, then_moved, last):  # type: ignore[no-untyped-def]
    """Return the work of two steps at once less that of one after the other, by trapezoids.

    moved, then_moved: displacements of the two steps; first, middle, last: forces before, between
    and after them. All (n_atoms, 3). It is 0 for forces that are linear in the positions.
    """
    work = 0.0
    for a in range(len(moved)):
        for axis in range(3):
            work += (middle[a, axis] - first[a, axis]) * then_moved[a, axis]
            work -= (last[a, axis] - middle[a, axis]) * moved[a, axis]
    return 0.5 * work


@_dividing
def about_centre(positions, vectors, masses):  # type: ignore[no-untyped-def]
    """Return Σ m a ⊗ a and Σ m a × v, a the vectors from the centre of mass.

    positions, vectors: (n_atoms, 3). masses: (n_atoms,).

    Returns:
        The 6 numbers xx, yy, zz, xy, xz, yz, then Σ m a × v (3 numbers).
    """
    mass = cx = cy = cz = 0.0
    for k in range(len(masses)):
        m = masses[k]
        mass += m
        cx += m * positions[k, 0]
        cy += m * positions[k, 1]
        cz += m * positions[k, 2]
    cx, cy, cz = cx / mass, cy / mass, cz / mass
    xx = yy = zz = xy = xz = yz = lx = ly = lz = 0.0
    for k in range(len(masses)):
        m = masses[k]
        x, y, z = positions[k, 0] - cx, positions[k, 1] - cy, positions[k, 2] - cz
        u, v, w = vectors[k, 0], vectors[k, 1], vectors[k, 2]
        xx, yy, zz = xx + m * x * x, yy + m * y * y, zz + m * z * z
        xy, xz, yz = xy + m * x * y, xz + m * x * z, yz + m * y * z
        lx, ly, lz = lx + m * (y * w - z * v), ly + m * (z * u - x * w), lz + m * (x * v - y * u)
    return xx, yy, zz, xy, xz, yz, lx, ly, lz


@_dividing
def follow_paths(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917 (flat arrays for numba)
    positions, ends, paths, marks, box, levels, state, counts, time, separation
):
    """Follow distances along their paths; return the largest progress and its row; (0, -1) if none.

    positions: (n_atoms, 3). ends: (n, 2) atoms; paths: (n,) which path each belongs to. marks:
    (n, 2) length where a path begins, and 1 over the change up to its top. box: (2, 3, 3) cell and
    its inverse with zero columns along vectors that do not repeat; (0, 3, 3) where none does.
    levels: (n_paths, m) height at equally spaced progress from 0 to 1, as a share of the top's.
    state: (n, 4) highest progress of the present cluster, its time, highest of all, its time.
    counts: (n_paths, n_bins + 1) highest points of clusters by height; last, those at the top.
    A cluster ends when its highest point was not exceeded for `separation`.
    """
    n_bins, last = counts.shape[1] - 1, levels.shape[1] - 1
    largest, farthest = 0.0, -1
    for k in range(len(ends)):
        i, j = ends[k, 0], ends[k, 1]
        x = positions[j, 0] - positions[i, 0]
        y = positions[j, 1] - positions[i, 1]
        z = positions[j, 2] - positions[i, 2]
        if len(box):
            cell, inverse = box[0], box[1]
            a = round(x * inverse[0, 0] + y * inverse[1, 0] + z * inverse[2, 0])
            b = round(x * inverse[0, 1] + y * inverse[1, 1] + z * inverse[2, 1])
            c = round(x * inverse[0, 2] + y * inverse[1, 2] + z * inverse[2, 2])
            x -= a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]
            y -= a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]
            z -= a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]
        progress = (math.sqrt(x * x + y * y + z * z) - marks[k, 0]) * marks[k, 1]
        if progress > largest:
            largest, farthest = progress, k
        if progress > state[k, 2]:
            state[k, 2] = progress
            state[k, 3] = time
        if time - state[k, 1] >= separation:
            w, top = paths[k], state[k, 0]
            if top >= 1.0:
                counts[w, n_bins] += 1
            elif top > 0.0:
                place = top * last
                m = int(place)
                height = levels[w, m] + (place - m) * (levels[w, m + 1] - levels[w, m])
                counts[w, min(int(height * n_bins), n_bins - 1)] += 1
            else:
                counts[w, 0] += 1
            state[k, 0] = progress
            state[k, 1] = time
        elif progress > state[k, 0]:
            state[k, 0] = progress
            state[k, 1] = time
    return largest, farthest
