"""Molecules that approach each other: which, how they are scanned, named, followed and kept."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

import mdxai
from mdxai.attribution import attributor
from mdxai.forecast import explain_weak_spots, weak_spots
from mdxai.forecast.card_forecast import CardSpot
from mdxai.forecast.coordinates import MOST_ENCOUNTERS, coordinates_of
from mdxai.forecast.kept_paths import UNTOLD, paths_of
from mdxai.forecast.relaxation import Distances
from mdxai.forecast.scans import distances_of
from mdxai.forecast.weak_spot import WeakPath, WeakSpot, WeakSpots
from mdxai.frame import Frame
from mdxai.principles.probes.configurations import moved
from mdxai.report import draw_weak_spot
from mdxai.serialization import as_plain, from_plain

from .conftest import ETHANOL
from .test_weak_spots import Analytic, exact


def holed_dimer(x):
    """Two hydrogen molecules side by side, with a well of 1.5 eV where their centres are 1.05 Å
    apart.
    """
    one, other = x[1] - x[0], x[3] - x[2]
    between = (x[2] + x[3] - x[0] - x[1]) / 2
    apart = torch.linalg.norm(between)
    lengths = [torch.linalg.norm(v) for v in (one, other)]
    bonds = sum(4.5 * (1 - torch.exp(-1.9 * (r - 0.74))) ** 2 for r in lengths)
    u, v = (d / r for d, r in zip((one, other), lengths, strict=True))
    turned = sum((d @ between / apart) ** 2 for d in (u, v)) + 1 - (u @ v) ** 2
    well = torch.exp(-(((apart - 1.05) / 0.12) ** 2) / 2)
    return bonds + 0.3 * turned + 0.08 * (1 - torch.exp(-0.8 * (apart - 3.0))) ** 2 - 1.5 * well


def side_by_side(apart):
    return [[0, 0, 0], [0, 0, 0.74], [apart, 0, 0], [apart, 0, 0.74]]


DIMER = Atoms("H4", side_by_side(2.9))


@pytest.fixture(scope="module")
def found():
    return weak_spots(Analytic(holed_dimer), DIMER, temperature=500.0)


def test_barrier_path_and_rate_of_an_encounter_are_exact(found):
    barrier, rate = exact(holed_dimer, DIMER, side_by_side(3.0), side_by_side(1.4), 500.0)
    spot = found.worst
    assert (spot.kind, spot.atoms, spot.n_first) == ("encounter", (0, 1, 2, 3), 2)
    assert spot.label == "H2(H0)–H2(H2)"
    assert spot.note == ""
    assert "keeps its bonds" in spot.forbidden
    assert spot.barrier == pytest.approx(barrier, rel=0.01)
    assert spot.rate_per_ps(500.0) == pytest.approx(rate, rel=0.05)
    centres = spot.path.positions.reshape(-1, 2, 2, 3).mean(axis=2)
    assert spot.path.lengths == pytest.approx(np.linalg.norm(centres[:, 1] - centres[:, 0], axis=1))
    along = [float(holed_dimer(torch.tensor(side_by_side(r)))) for r in spot.path.lengths]
    zero = float(holed_dimer(torch.tensor(side_by_side(3.0))))
    assert spot.path.energies[: spot.path.top] == pytest.approx(
        np.array(along[: spot.path.top]) - zero, abs=0.01 * barrier
    )


def test_a_sound_dimer_has_no_weak_spot():
    def sound(x):
        apart = torch.linalg.norm((x[2] + x[3] - x[0] - x[1]) / 2)
        return holed_dimer(x) + 1.5 * torch.exp(-(((apart - 1.05) / 0.12) ** 2) / 2)

    assert len(weak_spots(Analytic(sound), DIMER)) == 0


def test_an_encounter_is_written_drawn_and_read_again(found):
    spot = found.worst
    plain = json.loads(json.dumps(spot.as_dict(500.0)))
    assert (plain["atoms"], plain["n_first"]) == ([0, 1, 2, 3], 2)
    assert from_plain(WeakSpots, as_plain(found)).worst.groups == ((0, 1), (2, 3))
    figure = draw_weak_spot(found)
    assert figure.axes[0].get_xlabel() == "distance of the centres / Å"
    held = CardSpot("encounter", "0-1+2-3", spot.barrier, spot.prefactor_per_ps, 1)
    assert held.indices == spot.atoms
    assert held.label(found.minimum.symbols) == spot.label


def test_an_encounter_is_followed_by_the_atoms_that_end_closest(found):
    paths = paths_of(found)
    (path,) = [p for p in paths.paths if p.label == found.worst.label]
    assert all(len({a[0], a[-1]} & {0, 1}) == 1 for a in path.atoms)  # one of each molecule
    assert path.lengths[0] > path.lengths[path.top] > path.lengths[-1]
    box = replace(found.minimum, pbc=np.ones(3, dtype=bool), cell=20 * np.eye(3))
    only = WeakSpots((found.worst,), 300.0, box, 1, 3.0)
    assert paths_of(only).why_none == UNTOLD


def waters(n, side, seed=0):
    """n³ water molecules on a lattice, turned at random, wrapped into their periodic cell."""
    rng, box = np.random.default_rng(seed), Atoms()
    for place in np.ndindex(n, n, n):
        one = molecule("H2O")
        one.rotate(rng.uniform(0, 360), rng.normal(size=3))
        one.translate(side * np.array(place) + rng.normal(scale=0.1, size=3))
        box += one
    box.set_cell([n * side] * 3)
    box.pbc = True
    return box


def encounters(atoms):
    return [c for c in coordinates_of(Frame.from_atoms(atoms)) if c.kind == "encounter"]


def test_equal_molecules_are_scanned_once_and_neighbours_alone_are_counted():
    box = waters(3, 3.1)
    whole, wrapped = box.copy(), box.copy()
    wrapped.wrap()
    (found,) = encounters(whole)
    (same,) = encounters(wrapped)
    assert replace(same, shift=found.shift) == found
    assert found.multiplicity == len(found.equivalent) < 27 * 26 / 2
    lengths = [
        distances_of([c], 81).lengths(a.positions[None])[0]
        for c, a in ((found, whole), (same, wrapped))
    ]
    assert lengths[0] == pytest.approx(lengths[1], abs=1e-9)
    contacts = whole.get_all_distances(mic=True)[np.ix_(*map(list, found.groups))]
    everything = whole.get_all_distances(mic=True).reshape(27, 3, 27, 3).min(axis=(1, 3))
    assert contacts.min() == pytest.approx(everything[~np.eye(27, dtype=bool)].min())


def test_kinds_of_neighbours_are_told_apart_and_capped():
    two = molecule(ETHANOL)
    water = molecule("H2O")
    water.translate([0, 0, 3.5])
    ion = Atoms("Na", [[0, 8.0, 0]])
    found = encounters(two + water + ion)  # the ion has but one neighbour, the nearest
    assert sorted(sorted(map(len, c.groups)) for c in found) == [[1, 9], [3, 9]]
    assert encounters(two) == []
    assert encounters(Atoms("Ar3", [[0, 0, 0], [3.8, 0, 0], [0, 3.8, 0]])) == []  # pairs of atoms
    many = Atoms()
    for k, name in enumerate(["H2O", "CH4", "NH3", "HF", "H2", "N2", "CO", "C2H2"]):
        one = molecule(name)
        one.translate([3.2 * (k % 3), 3.2 * (k // 3), 0.0])
        many += one
    assert len(encounters(many)) == MOST_ENCOUNTERS


def test_distances_of_groups_are_held_by_rigid_motions():
    rng = np.random.default_rng(3)
    x = rng.normal(scale=2.0, size=(2, 5, 3))
    shift = rng.normal(size=(2, 3))
    held = Distances.between([((0, 1), (2, 3, 4)), ((0,), (4,))], shift, 5)
    centres = x[0, 2:].mean(axis=0) - x[0, :2].mean(axis=0) + shift[0]
    assert held.lengths(x)[0] == pytest.approx(np.linalg.norm(centres))
    moved = held.set(x, np.array([3.0, 1.5]))
    assert held.lengths(moved) == pytest.approx([3.0, 1.5])
    assert np.ptp(moved[0, :2] - x[0, :2], axis=0) == pytest.approx(0, abs=1e-12)
    assert moved.sum(axis=1) == pytest.approx(x.sum(axis=1))
    left = held.project(rng.normal(size=x.shape), x)
    change = held.lengths(x + 1e-6 * left) - held.lengths(x - 1e-6 * left)
    assert change == pytest.approx(0, abs=1e-9)
    assert held.shares(left, x) == pytest.approx(0, abs=1e-12)


@pytest.mark.slow
def test_two_water_molecules_have_no_weak_spot_with_xtb():
    tblite = pytest.importorskip("tblite.ase", reason="tblite is not installed")
    first, second = molecule("H2O"), molecule("H2O")
    second.rotate(100, "y")
    second.translate([0, 0.3, 2.9])
    found = weak_spots(lambda: tblite.TBLite(method="GFN2-xTB", verbosity=0), first + second)
    assert len(found) == 0


def test_encounters_of_two_molecules_are_explained():
    calculator = mdxai.load_calculator("schnet-ethanol")
    second = molecule(ETHANOL)
    second.translate([0.5, 0.3, 4.5])
    both = Frame.from_atoms(molecule(ETHANOL) + second)
    (coordinate,) = encounters(both.to_atoms())
    positions = distances_of([coordinate], 18).set(both.positions[None], np.array([2.0]))
    path = WeakPath(
        np.concatenate([both.positions[None], positions]), np.array([4.5, 2.0]),
        np.array([0.0, 1.0]), 1,
    )  # fmt: skip
    spot = WeakSpot(
        "encounter", coordinate.atoms, "", "", 1.0, 10.0, 1.0, 1, path, n_first=coordinate.n_first
    )
    found = explain_weak_spots(WeakSpots((spot,), 300.0, both, 1, 3.0), calculator)
    explainer = attributor(calculator, method="walks", gamma=0.1, body_order=3)
    apart, close = (
        sum(
            two_body
            for i, j, two_body in zip(a.pairs.i, a.pairs.j, a.two_body, strict=True)
            if (i < 9) != (j < 9)
        )
        for a in explainer.attribute_many([both, moved(both, positions[0])])
    )
    explanation = found.worst.explanation
    assert explanation.sentence.startswith("pairs between the two")
    assert explanation.pair == pytest.approx([0, close - apart], abs=1e-5)
    assert abs(close - apart) > 0.01
