"""Bond lengths, against a second derivation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from mdxai.frame import Frame
from mdxai.principles import (
    BondIntegrity,
    PrincipleUnavailable,
)

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
