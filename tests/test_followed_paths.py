"""Following weak spots: progress, highest points of clusters, falls; the kernel and its twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import mdxai
from mdxai.calculators.reference_data import ReferenceData
from mdxai.forecast.kept_paths import paths_of, read_paths, write_paths
from mdxai.frame import Frame
from mdxai.principles import FollowedPath, FollowedPaths, PrincipleUnavailable, WeakSpotProgress
from mdxai.principles.motion.followed_paths import FollowedPathError, closest_allowed
from mdxai.principles.registry import reference_of
from mdxai.record import RecordError
from mdxai.serialization import as_plain
from mdxai.statistics import _kernels as kernels

from .conftest import ETHANOL
from .holed_pair import HoledPair, pair

WATER = Frame.from_atoms(Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))


def path(start, top, end, *, atoms=((1, 0, 2),), barrier=0.8, **changes):
    """Return a path whose energy is a cubic curve of the length."""
    lengths = np.array([*np.linspace(start, top, 21), end])
    share = (lengths - start) / (top - start)
    content = FollowedPath(
        "angle", "H1–O0–H2", atoms, lengths, barrier * share**2 * (3 - 2 * share), 20, barrier,
        0.01, 300.0, "H1–H2 too close",
    )  # fmt: skip
    return replace(content, **changes)


def of_water(*paths):
    return FollowedPaths(paths, numbers=(8, 1, 1))


ANGLE = path(1.5, 1.1, 0.8)


def frame_at(distance, time, base=WATER):
    """Return water whose hydrogens are this far apart, at a time, fs."""
    positions = base.positions.copy()
    positions[2] = positions[1] + [-distance, 0, 0]
    return replace(base, positions=positions, time=float(time), step=int(2 * time))


def follow(principle, distances, step=1.0, start=0.0):
    return [
        principle.deviate(frame_at(d, start + step * k)) for k, d in enumerate(distances, start=1)
    ]


def test_progress_is_the_share_of_the_change_of_the_distance():
    principle = WeakSpotProgress(of_water(ANGLE), WATER, lambda *_: "")
    for distance, progress in ((1.5, 0.0), (1.3, 0.5), (1.14, 0.9), (1.7, 0.0)):
        found = principle.deviate(frame_at(distance, 1.0))
        assert found.value == pytest.approx(progress)
        assert found.atoms == ((1, 0, 2) if progress else ())
    (trace,) = principle.traces()
    assert trace.highest == pytest.approx(0.9)


def test_it_stays_at_the_top_until_physics_forbids_the_structure():
    asked = []

    def forbids(positions, barrier):
        asked.append(barrier)
        return "close" if np.linalg.norm(positions[1] - positions[2]) < 0.9 else ""

    principle = WeakSpotProgress(of_water(ANGLE), WATER, forbids)
    values = [d.value for d in follow(principle, [1.3, 1.0, 0.86, 0.98, 1.05, 1.2, 1.0], start=600)]
    # Sound beyond the top; then fallen, until the distance is that of the top again.
    assert values == pytest.approx([0.5, 1.0, 1.6, 1.3, 1.125, 0.75, 1.0])
    assert asked == [0.8, 0.8, 0.8]
    assert not principle.has_fallen
    (trace,) = principle.traces()
    assert (trace.falls, trace.tells) == (1, True)


def test_a_swing_out_of_a_hole_and_back_is_one_fall():
    principle = WeakSpotProgress(of_water(ANGLE), WATER, lambda *_: "close")
    follow(principle, [1.0] * 3)  # in the first 0.5 ps: not counted
    assert principle.has_fallen
    follow(principle, [*[1.5] * 600, 1.0, 1.2, 1.0, *[1.5] * 300, 1.0, 1.5], start=10.0)
    assert principle.traces()[0].falls == 2


def test_one_highest_point_counts_for_each_cluster():
    """A motion of 40 fs whose amplitude differs from one stretch of 400 fs to the next."""
    principle = WeakSpotProgress(of_water(ANGLE), WATER, lambda *_: "")
    quiet = [1.5] * 500
    times = np.arange(2000)
    amplitude = np.repeat([0.1, 0.2, 0.3, 0.36, 0.05], 400)
    follow(principle, [*quiet, *(1.5 - amplitude * np.sin(2 * np.pi * times / 40) ** 2)])
    (trace,) = principle.traces()
    levels = ANGLE.levels()
    for share in (0.25, 0.5, 0.75, 0.9):
        height = np.interp(share, np.linspace(0, 1, len(levels)), levels)
        assert 1 <= trace.counts[int(height * 128)] <= 3  # of 400 fs
    assert trace.counts.sum() <= 2000 / 200
    assert trace.counts[-1] == 0
    assert principle.watched == pytest.approx(2000.0)


def test_a_pass_without_a_fall_says_that_the_distance_does_not_tell():
    principle = WeakSpotProgress(of_water(ANGLE), WATER, lambda *_: "")
    follow(principle, [*[1.5] * 510, 1.0, *[1.5] * 250])
    (trace,) = principle.traces()
    assert trace.counts[-1] == 1
    assert not trace.tells


def twin(positions, ends, marks, cell, pbc):
    """Return progress along each coordinate, with the shortest image of each pair."""
    vectors = positions[ends[:, 1]] - positions[ends[:, 0]]
    shifts = np.array([[a, b, c] for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)])
    shifts = shifts[(shifts[:, ~pbc] == 0).all(axis=1)]
    images = vectors[:, None] + (shifts @ cell)[None]
    lengths = np.linalg.norm(images, axis=2).min(axis=1)
    return (lengths - marks[:, 0]) * marks[:, 1]


@pytest.mark.parametrize("pbc", [(0, 0, 0), (1, 1, 1), (1, 0, 1)])
def test_the_kernel_agrees_with_its_twin(pbc):
    rng, pbc = np.random.default_rng(5), np.array(pbc, dtype=bool)
    cell = np.array([[7.0, 0, 0], [1.5, 8.0, 0], [0.5, -1.0, 9.0]])
    ends = np.array([[0, 1], [2, 3], [1, 4], [5, 0]])
    marks = np.array([[2.5, -1.0], [1.0, 0.7], [3.0, -0.8], [2.0, 0.5]])
    inverse = np.linalg.pinv(np.where(pbc[:, None], cell, 0.0))
    box = np.stack([cell, inverse]) if pbc.any() else np.empty((0, 3, 3))
    state, counts = np.full((4, 4), -np.inf), np.zeros((2, 129), dtype=np.int64)
    state[:, [1, 3]], highest = 0.0, np.full(4, -np.inf)
    levels, paths = np.linspace(0, 1, 257)[None].repeat(2, 0), np.array([0, 0, 1, 1])
    for k in range(50):
        images = rng.integers(0, 2, size=(6, 3)) * pbc  # wrapped into the cell or not
        positions = rng.uniform(0, 2, size=(6, 3)) + images @ cell
        value, row = kernels.follow_paths(
            positions, ends, paths, marks, box, levels, state, counts, float(k), 10.0
        )
        expected = twin(positions, ends, marks, cell, pbc)
        highest = np.maximum(highest, expected)
        assert value == pytest.approx(max(expected.max(), 0.0))
        assert row == (expected.argmax() if expected.max() > 0 else -1)
        np.testing.assert_allclose(state[:, 2], highest)
    assert counts.sum() > 0


def test_levels_rise_to_the_top_and_leave_out_points_that_lead_back():
    plain = ANGLE.levels()
    grid = np.linspace(0, 1, len(plain))
    np.testing.assert_allclose(plain, grid**2 * (3 - 2 * grid), atol=2e-3)
    odd = ANGLE.lengths.copy()
    odd[5] = 1.6  # before the minimum
    energies = ANGLE.energies.copy()
    energies[12] = np.nan
    levels = replace(ANGLE, lengths=odd, energies=energies).levels()
    assert (np.diff(levels) >= 0).all()
    np.testing.assert_allclose(levels, plain, atol=0.02)


def test_paths_are_written_and_read(tmp_path):
    paths = of_water(replace(ANGLE, energies=np.append(ANGLE.energies[:-1], np.nan)))
    assert read_paths(tmp_path) is None
    write_paths(tmp_path, paths)
    again = read_paths(tmp_path)
    assert as_plain(again) == as_plain(paths)
    assert np.isnan(again.paths[0].energies[-1])
    (tmp_path / "weak_spots.json").write_text('{"paths": [{"kind": "angle"}]}')
    with pytest.raises(RecordError, match=r"weak_spots\.json is damaged"):
        read_paths(tmp_path)


def test_weak_spots_of_the_same_distances_are_one_path():
    """A run cannot tell which of them it passes, and its passages count once."""
    found = mdxai.weak_spots(HoledPair(), pair(), temperature=1000.0)
    (spot,) = found.spots
    higher = replace(spot, barrier=spot.barrier + 0.1, label="another")
    (one,), (both,) = (
        paths_of(replace(found, spots=spots)).paths for spots in ((spot,), (spot, higher))
    )
    assert both.label == one.label == "C0–O1"
    assert both.barrier == spot.barrier
    assert both.rate_per_ps == pytest.approx(spot.rate_per_ps(1000.0) + higher.rate_per_ps(1000.0))
    assert one.rate_per_ps == pytest.approx(spot.rate_per_ps(1000.0))


def test_what_cannot_be_followed_says_so():
    with pytest.raises(PrincipleUnavailable, match="no weak spot below 3 eV"):
        WeakSpotProgress(FollowedPaths((), "no weak spot below 3 eV"), WATER, lambda *_: "")
    with pytest.raises(PrincipleUnavailable, match="no weak spot that could be followed"):
        WeakSpotProgress(of_water(path(1.5, 1.495, 1.0)), WATER, lambda *_: "")
    with pytest.raises(FollowedPathError, match="those of HOH, the run is one of OH2"):
        WeakSpotProgress(replace(of_water(ANGLE), numbers=(1, 8, 1)), WATER, lambda *_: "")


def test_contact_takes_limits_from_weak_spots_where_no_bond_is_as_short():
    """H–H from the top on; C–H, whose bonds are shorter, by physical radii."""
    first = Frame.from_atoms(molecule(ETHANOL))
    paths = FollowedPaths(
        (
            path(1.78, 1.12, 0.9, atoms=((4, 1, 5),)),
            path(1.78, 1.18, 0.9, atoms=((6, 0, 7),)),
            path(1.78, 1.7, 0.9, atoms=((7, 0, 8),)),  # H–H of the first frame are as close
            path(1.95, 1.4, 1.05, atoms=((1, 2, 3),)),
            path(1.09, 1.6, 2.0, atoms=((1, 4),), kind="stretch"),
        )
    )
    assert closest_allowed(paths, first) == {"H-H": pytest.approx(1.18 + 0.15)}
    physical = ReferenceData.physical(first.numbers)
    known = reference_of(first, None, paths)
    assert known.distances["H-H"][0] == pytest.approx(1.33)
    assert known.distances["C-H"] == physical.distances["C-H"]
    assert known.source.startswith("weak spots (H-H) and physical radii")
    assert reference_of(first, None).source == physical.source
