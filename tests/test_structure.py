"""Bond lengths, against a second derivation."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import natural_cutoffs, neighbor_list

from mdxai.engines.engine import EngineDescription
from mdxai.frame import Frame
from mdxai.principles import (
    BondIntegrity,
    PrincipleUnavailable,
    principles_for,
)
from mdxai.principles.motion.structure import bonds_of

from .conftest import O2, OH, at, ethanol_with, stretched


@pytest.fixture
def frame():
    return Frame.from_atoms(ethanol_with(None))


def test_a_reference_trajectory_gives_the_bond_lengths(frame):
    frames = [at(frame, 0, stretched(frame, r)) for r in (1.0, 1.2)]
    principle = BondIntegrity(frame, frames)
    found = principle.deviate(at(frame, 1, stretched(frame, 1.5)))
    assert (found.value, found.atoms) == (pytest.approx(0.4), (O2, OH))


def test_bond_integrity_names_the_bond(frame):
    principle = BondIntegrity(frame)
    assert principle.deviate(frame).value == 0
    positions = frame.positions.copy()
    bond = positions[3] - positions[2]  # O–H
    positions[3] += 0.6 * bond / np.linalg.norm(bond)
    deviation = principle.deviate(replace(frame, positions=positions))
    assert deviation.value == pytest.approx(0.6)
    assert deviation.atoms == (2, 3)
    positions = positions.copy()
    positions[0] = np.nan
    assert np.isnan(principle.deviate(replace(frame, positions=positions)).value)


def test_bonds_across_a_periodic_boundary():
    atoms = molecule("H2O", cell=[6, 6, 6], pbc=True)
    here = Frame.from_atoms(atoms)
    principle = BondIntegrity(here)
    atoms.positions[1] += (6, -6, 0)
    assert principle.deviate(Frame.from_atoms(atoms)).value == pytest.approx(0, abs=1e-9)


def test_no_bonds_no_check():
    with pytest.raises(PrincipleUnavailable, match="no covalent bonds"):
        BondIntegrity(Frame.from_atoms(Atoms("Ar2", [[0, 0, 0], [4, 0, 0]])))


def test_hydrogen_has_a_bond():
    assert BondIntegrity(Frame.from_atoms(molecule("H2"))).name == "bond"


def water_cluster(n_molecules: int) -> Atoms:
    """Return molecules of water on a cubic lattice in vacuum."""
    water, edge = molecule("H2O"), round(n_molecules ** (1 / 3))
    sites = 3.1 * np.array(list(np.ndindex(edge, edge, edge)))
    places = [water.positions + site for site in sites]
    return Atoms(list(water.symbols) * len(sites), np.concatenate(places))


@pytest.mark.parametrize(
    "atoms",
    [
        molecule("C6H6"),
        water_cluster(64),
        bulk("Si", cubic=True),
        bulk("NaCl", "rocksalt", a=5.64),
        bulk("Si").repeat((3, 1, 2)),
        molecule("CH3CH2OH", cell=[[4, 0, 0], [2, 5, 0], [1, 1, 6]], pbc=[True, False, True]),
    ],
    ids=str,
)
def test_bonds_are_the_pairs_that_ase_finds_each_once(atoms):
    """Of the heavier partners of a hydrogen, the nearest counts."""
    i, j, d = neighbor_list("ijd", atoms, natural_cutoffs(atoms, mult=1.25))
    expected = {(a, b) for a, b in zip(i.tolist(), j.tolist(), strict=True) if a < b}
    for hydrogen in np.flatnonzero(atoms.numbers == 1):
        heavy = np.flatnonzero((i == hydrogen) & (atoms.numbers[j] != 1))
        for k in heavy[np.argsort(d[heavy])]:
            if j[k] != j[heavy[np.argmin(d[heavy])]]:
                expected.discard((min(i[k], j[k]), max(i[k], j[k])))
    i, j = bonds_of(Frame.from_atoms(atoms))
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == sorted(expected)
    assert expected


def test_a_large_cluster_is_set_up_without_a_list_of_all_its_pairs():
    first = Frame.from_atoms(water_cluster(1000))
    tracemalloc.start()
    try:
        principles, _ = principles_for(first, None, EngineDescription(timestep=0.5))
        later = replace(first, step=4, time=2.0)
        for principle in principles:
            principle.deviate(later)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30e6  # bytes; all pairs of 3,000 atoms and their vectors are 180e6
