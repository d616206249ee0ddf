"""Jumps at the cutoff, and energies of stretched bonds."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones

from mdxai.calculators import twin_of
from mdxai.frame import Frame
from mdxai.principles.probes.smoothness import BondStretch, CutoffJump, cutoff_scans, stretch_scans

from .conftest import shaken
from .pair_potential import Pairwise


@pytest.fixture
def frame():
    return Frame.from_atoms(shaken())


def test_a_jump_at_the_cutoff_is_measured_whether_the_cutoff_is_stated_or_not(frame):
    for cutoff in (5.0, np.nan):
        scans = cutoff_scans(twin_of(Pairwise("jump"), cutoff=cutoff))
        assert CutoffJump("energy", scans).deviate(frame).value == pytest.approx(10, rel=0.05)
    sound = cutoff_scans(twin_of(Pairwise(), cutoff=5.0))
    assert CutoffJump("energy", sound).deviate(frame).value < 1e-3
    assert CutoffJump("forces", sound).deviate(frame).value < 1e-3


def test_force_jump_of_a_truncated_lennard_jones_is_its_slope_there():
    """ASE shifts the energy to zero at the cutoff but keeps the slope."""
    atoms = bulk("Ar", "fcc", 5.26, cubic=True).repeat(2)
    frame = Frame.from_atoms(atoms)
    scans = cutoff_scans(twin_of(LennardJones(epsilon=0.0104, sigma=3.4, rc=6.0)))
    x = (3.4 / 6.0) ** 6
    slope = 24 * 0.0104 * (x - 2 * x * x) / 6.0
    assert CutoffJump("forces", scans).deviate(frame).value == pytest.approx(slope, rel=0.05)
    assert CutoffJump("energy", scans).deviate(frame).value < 0.1


def test_a_ripple_in_a_stretched_bond_is_found(frame):
    class Ripple(Pairwise):
        def broken(self, energy, forces, x):
            r = np.linalg.norm(x[2] - x[1])
            well, fault = 20 * (r - 1.4) ** 2, -3 * np.exp(-(((r - 1.9) / 0.1) ** 2))
            return well + fault * (self.fault == "ripple"), forces

    def measured(fault, quantity):
        scans = stretch_scans(twin_of(Ripple(fault)), frame)
        return BondStretch(quantity, scans).deviate(frame)

    assert measured("", "stretch").value == 0
    assert measured("", "inflections").value == 0
    fallen = measured("ripple", "stretch")
    assert fallen.value > 0.4
    assert set(fallen.atoms) == {1, 2}
    assert measured("ripple", "inflections").value >= 1
