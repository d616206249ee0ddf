"""Every kernel against its NumPy twin, ties and NaN included.

Those of `BinnedMoments` (update_moments, fold_all, merge_moments) have theirs in test_moments.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdxai.frame import find_pairs
from mdxai.statistics import _kernels as kernels


@pytest.fixture(params=[None, 0, 4], ids=["finite", "first-nan", "later-nan"])
def system(request):
    rng = np.random.default_rng(3)
    positions, velocities, forces = rng.normal(size=(3, 6, 3))
    forces[4] = forces[1] = 5.0  # a tie for the largest
    if request.param is not None:
        forces[request.param, 1] = velocities[request.param, 2] = np.nan
        positions[request.param] = np.nan
        forces[5] = velocities[5] = np.nan  # of several NaN the first counts
    return positions, velocities, forces, rng.uniform(1, 16, size=6)


def test_summary(system):
    positions, velocities, forces, masses = system
    heats, distances = np.empty(len(masses)), np.empty(15)
    *sums, largest, pulled, hottest = kernels.summary(
        positions, velocities, forces, masses, heats, distances
    )
    twin = masses * (velocities**2).sum(axis=1)
    squares = (forces**2).sum(axis=1)
    expected = [
        positions.sum(), velocities.sum(), *forces.sum(axis=0), *(masses @ velocities),
        masses.sum(), twin.sum(),
    ]  # fmt: skip
    np.testing.assert_allclose(sums, expected, rtol=1e-12)
    np.testing.assert_allclose(heats, twin, rtol=1e-12)
    np.testing.assert_allclose(largest, squares.max(), rtol=1e-12)
    assert (pulled, hottest) == (squares.argmax(), twin.argmax())
    pairs = find_pairs(positions, np.zeros((3, 3)), np.zeros(3, bool), np.inf)
    np.testing.assert_allclose(distances, pairs.distances, rtol=1e-15)
    without = kernels.summary(positions, velocities, forces, masses, heats, np.empty(0))
    np.testing.assert_equal(without, (*sums, largest, pulled, hottest))


def test_largest_change_and_excess(system):
    values = np.abs(system[0]).ravel()
    rows = np.array([17, 3, 3, 0, 14])
    reference = np.linspace(0, 1, 5)
    change = np.abs(values[rows] - reference)
    largest, at = kernels.largest_change(values, rows, reference)
    np.testing.assert_equal((largest, at), (change.max(), change.argmax()))
    limits = np.linspace(-1, 1, len(values))
    limits[2] = np.inf  # a pair without a limit
    for sign in (1.0, -1.0):
        excess = sign * (values - np.where(np.isinf(limits), sign * limits, limits))
        found = kernels.largest_excess(
            values, np.where(np.isinf(limits), sign * limits, limits), sign
        )
        np.testing.assert_equal(found, (excess.max(), excess.argmax()))
    assert kernels.largest_excess(values[:0], limits[:0], 1.0)[0] == -np.inf


def test_largest_ratio(system):
    values, rows = np.abs(system[0]).ravel(), np.array([17, 3, 3, 0, 14])
    reference = np.linspace(1, 2, 5)
    ratio = values[rows] / reference
    found = kernels.largest_ratio(values, rows, reference)
    np.testing.assert_equal(found, (ratio.max(), ratio.argmax()))


def test_nearest_heavy():
    rng = np.random.default_rng(5)
    light = np.array([True, False, True, False, True, True])
    i, j = np.triu_indices(6, k=1)
    distances = rng.uniform(0.5, 6.0, size=len(i))
    nearest = np.full(6, 4.0)
    kernels.nearest_heavy(i, j, distances, light, nearest)
    table = np.full((6, 6), np.inf)
    table[i, j] = table[j, i] = distances
    twin = np.where(light, np.minimum(table[:, ~light].min(axis=1), 4.0), 4.0)
    np.testing.assert_array_equal(nearest, twin)


def trapezoid(moved, before, after):
    return -0.5 * np.sum((before + after) * moved)


def test_largest_kick_against_numpy(system):
    positions, velocities, forces, masses = system
    last, half = velocities[::-1].copy(), 0.3
    expected = velocities - last - half * (forces + positions) / masses[:, None]
    heats = masses * (expected**2).sum(axis=1)
    found = kernels.largest_kick(velocities, last, forces, positions, masses, half)
    assert found == (pytest.approx(heats.max(), nan_ok=True), heats.argmax())


def test_step_work_and_about_centre(system):
    positions, velocities, forces, masses = system
    work = kernels.step_work(positions, forces, velocities)
    np.testing.assert_allclose(work, np.sum((forces + velocities) * positions), rtol=1e-12)
    turn = kernels.turn_work(positions, forces, velocities, arms := 2.0 * positions[::-1], forces)
    both = trapezoid(positions + arms, forces, forces)
    apart = trapezoid(positions, forces, velocities) + trapezoid(arms, velocities, forces)
    np.testing.assert_allclose(turn, both - apart, rtol=1e-9, atol=1e-12)
    arms = positions - masses @ positions / masses.sum()
    moments = (masses[:, None] * arms).T @ arms
    turning = np.cross(arms, masses[:, None] * velocities).sum(axis=0)
    a, b = np.array([(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]).T
    found = kernels.about_centre(positions, velocities, masses)
    np.testing.assert_allclose(found, [*moments[a, b], *turning], rtol=1e-10)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-1, 3),
            st.integers(-1, 2),
            st.floats(-0.5, 2.5) | st.just(np.nan),
            st.floats(0, 1e3) | st.sampled_from([np.nan, np.inf]),
        ),
        max_size=60,
    )
)
def test_sum_strengths(samples):
    rows = np.array(samples, dtype=np.float64).reshape(-1, 4)
    frames, channels = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
    distances, strengths = rows[:, 2].copy(), rows[:, 3].copy()
    count, total = np.zeros((3, 2, 5), dtype=np.int64), np.zeros((3, 2, 5))
    kernels.sum_strengths(frames, channels, distances, strengths, 0.4, count, total)
    place = np.floor(np.nan_to_num(distances, nan=-1.0) / 0.4)
    for f, c, b in np.ndindex(3, 2, 5):
        mine = (frames == f) & (channels == c) & (place == b) & np.isfinite(strengths)
        assert count[f, c, b] == mine.sum()
        assert total[f, c, b] == pytest.approx(strengths[mine].sum())


def test_all_distances():
    points = np.random.default_rng(6).normal(size=(5, 3))
    found = np.empty(10)
    kernels.all_distances(points, found)
    i, j = np.triu_indices(5, k=1)
    np.testing.assert_allclose(found, np.linalg.norm(points[j] - points[i], axis=1), rtol=1e-14)
