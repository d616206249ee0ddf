"""How hot replicas may be: where real bonds hardly break."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from mdxai.forecast.bond_strengths import ATTEMPTS, RARE, bond_strength, ceiling_of
from mdxai.frame import BOLTZMANN, Frame
from mdxai.principles.motion.structure import Bonds


def ceiling(atoms, target=300.0):
    return ceiling_of(Frame.from_atoms(atoms), target)


def test_at_the_ceiling_real_bonds_break_once_in_a_nanosecond():
    frame = Frame.from_atoms(molecule("CH3CH2OH"))
    bonds = Bonds(frame)
    ends = zip(frame.numbers[bonds.i], frame.numbers[bonds.j], strict=True)
    strengths = np.array([bond_strength(*pair) for pair in ends])
    rates = ATTEMPTS * np.exp(-strengths / (BOLTZMANN * ceiling(molecule("CH3CH2OH")).temperature))
    assert rates.sum() == pytest.approx(RARE, rel=1e-6)


def test_weak_bonds_lower_the_ceiling():
    ethanol, peroxide = ceiling(molecule("CH3CH2OH")), ceiling(molecule("H2O2"))
    assert 2000 < ethanol.temperature < 2800
    assert peroxide.temperature < 1200
    assert "C–C" in ethanol.reason
    assert "O–O" in peroxide.reason


def test_strengths_are_mean_bond_enthalpies_in_either_order():
    assert bond_strength(6, 1) == bond_strength(1, 6) == pytest.approx(4.28, abs=0.01)
    assert bond_strength(6, 17) == pytest.approx(3.40, abs=0.01)
    assert bond_strength(33, 34) == bond_strength(8, 8)  # not listed: as weak as a peroxide


@pytest.mark.parametrize("atoms", [bulk("Cu", cubic=True), Atoms("Ar2", [[0, 0, 0], [0, 0, 3.8]])])
def test_matter_without_covalent_bonds_may_be_three_times_as_hot(atoms):
    found = ceiling(atoms, 250.0)
    assert found.temperature == 750.0
    assert "no covalent bonds" in found.reason
