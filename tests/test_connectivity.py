"""Bonds that break and form, fragments and lost hydrogens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from mdxai.frame import Frame
from mdxai.principles import (
    BondIntegrity,
    BrokenBonds,
    ClosestContact,
    FormedBonds,
    Fragments,
    LoneHydrogen,
    PrincipleUnavailable,
)

from .conftest import O2, OH, at, ethanol_with, stretched


@pytest.fixture
def frame():
    return Frame.from_atoms(ethanol_with(None))


def test_a_bond_breaks_late_and_heals_early(frame):
    """The covalent radii of O and H add up to 0.97 Å: broken beyond 1.55 Å, whole below 1.21 Å."""
    principle = BrokenBonds(frame)
    path = [0.97, 1.5, 1.57, 1.4, 1.25, 1.2, 1.5]
    found = [principle.deviate(at(frame, 5 * k, stretched(frame, r))) for k, r in enumerate(path)]
    assert [d.value for d in found] == [0, 0, 1, 1, 1, 0, 0]
    assert found[2].atoms == (O2, OH)


def test_vibrations_change_no_bond(frame):
    principles = [BrokenBonds(frame), FormedBonds(frame), Fragments(frame), LoneHydrogen(frame)]
    rng = np.random.default_rng(0)
    for k in range(200):
        shaken = frame.positions + rng.normal(scale=0.06, size=(9, 3))
        for principle in principles[:3]:
            assert principle.deviate(at(frame, 5 * k, shaken)).value == 0
        assert principles[3].deviate(at(frame, 5 * k, shaken)).value < 0.5


@pytest.fixture
def beside_argon():
    """Ethanol and an argon atom far away, and the positions with it at a distance from C0."""
    atoms = ethanol_with(None) + Atoms("Ar", [[0, 0, 30]])
    first = Frame.from_atoms(atoms)
    outwards = first.positions[0] - first.positions[1]
    outwards /= np.linalg.norm(outwards)

    def approached(r):
        return np.vstack([first.positions[:9], first.positions[0] + r * outwards])

    return first, approached


def test_a_bond_forms_early_and_ends_late(beside_argon):
    first, approached = beside_argon
    principle, found = FormedBonds(first), []
    for k, r in enumerate([3.4, 2.2, 2.0, 2.15, 2.3]):  # 1.82 Å of radii; 2.09 Å and 2.28 Å
        found.append(principle.deviate(at(first, 5 * k, approached(r))))
    assert [d.value for d in found] == [0, 0, 1, 1, 0]
    assert found[2].atoms == (0, 9)


def test_lost_hydrogens_are_fragments_and_one_with_a_new_partner_is_not(frame):
    """Two hydrogens far away are two more fragments; one that moved to a carbon is none."""
    pieces, lone = Fragments(frame), LoneHydrogen(frame)
    away = frame.positions.copy()
    away[OH] += (0, 20, 0)
    away[8] -= (0, 20, 0)
    assert pieces.deviate(at(frame, 5, away)).value == 2
    found = lone.deviate(at(frame, 5, away))
    start = max(
        min(np.linalg.norm(frame.positions[h] - frame.positions[a]) for a in range(3))
        for h in range(3, 9)
    )
    assert found.value == pytest.approx(4.0 - start)
    assert found.atoms in {(OH,), (8,)}
    assert lone.deviate(at(frame, 10, stretched(frame, 1.7))).value == pytest.approx(1.7 - start)
    moved = frame.positions.copy()
    moved[OH] = moved[0] + 1.2 * (moved[0] - moved[1]) / np.linalg.norm(moved[0] - moved[1])
    assert pieces.deviate(at(frame, 10, moved)).value == 0
    assert np.isnan(pieces.deviate(at(frame, 15, np.nan * moved)).value)


def test_bonds_across_a_periodic_boundary_stay_whole():
    atoms = molecule("H2O", cell=[6, 6, 6], pbc=True)
    first = Frame.from_atoms(atoms)
    principles = [BondIntegrity(first), BrokenBonds(first), FormedBonds(first), Fragments(first),
            LoneHydrogen(first)]  # fmt: skip
    atoms.positions[1] += (6, -6, 0)
    for principle in principles:
        found = principle.deviate(replace(Frame.from_atoms(atoms), time=5.0))
        assert found.value == pytest.approx(0, abs=1e-9)
    atoms.positions[1] += (0, 0, 2.0)
    for principle in principles[:2] + principles[3:]:
        assert principle.deviate(replace(Frame.from_atoms(atoms), time=10.0)).value > 0


@pytest.mark.parametrize("principle", [BrokenBonds, Fragments, BondIntegrity])
def test_metals_have_no_bonds_to_keep(principle):
    with pytest.raises(PrincipleUnavailable, match="neighbours may change"):
        principle(Frame.from_atoms(bulk("Cu", cubic=True)))
    with pytest.raises(PrincipleUnavailable, match="no covalent bonds"):
        principle(Frame.from_atoms(bulk("Ar", "fcc", 5.4, cubic=True)))
    with pytest.raises(PrincipleUnavailable, match="those of its network"):
        principle(Frame.from_atoms(bulk("Si", cubic=True)))


def test_hydrogen_molecules_and_lone_metals_are_not_checked():
    with pytest.raises(PrincipleUnavailable, match="no hydrogen is bound"):
        LoneHydrogen(Frame.from_atoms(molecule("H2")))
    with pytest.raises(PrincipleUnavailable, match="fewer than two atoms"):
        FormedBonds(Frame.from_atoms(Atoms("CuO", [[0, 0, 0], [2, 0, 0]])))


def test_small_and_large_systems_agree(frame):
    """The dense list of all pairs and the neighbour search give the same numbers."""
    ranges = {"C-C": (1.4, 9), "C-H": (1.0, 9), "C-O": (1.3, 9), "H-H": (1.4, 9), "H-O": (1.2, 9)}
    boxed = replace(frame, cell=30 * np.eye(3), pbc=np.array([True] * 3))
    rng = np.random.default_rng(1)
    for principle in (
        BondIntegrity, BrokenBonds, FormedBonds, Fragments, LoneHydrogen,
        lambda f: ClosestContact(ranges, f),
    ):  # fmt: skip
        alone, inside = principle(frame), principle(boxed)
        for k in range(1, 30):
            positions = frame.positions + rng.normal(scale=0.25, size=(9, 3))
            a = alone.deviate(at(frame, 5 * k, positions))
            b = inside.deviate(at(boxed, 5 * k, positions))
            assert a.value == pytest.approx(b.value)
            assert a.atoms == b.atoms
