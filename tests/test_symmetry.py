"""Symmetries: each catches its fault and passes a sound potential."""

from __future__ import annotations

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mdxai.calculators import twin_of
from mdxai.frame import Frame
from mdxai.principles.probes.mismatch import energy_and_forces
from mdxai.principles.probes.symmetry import CHANGES, comparison, invariances

from .conftest import shaken
from .pair_potential import Pairwise, limits, values


@pytest.fixture
def frame():
    return Frame.from_atoms(shaken())


def invariance(fault, change, frame):
    compare = comparison(twin_of(Pairwise(fault)), CHANGES[change])
    return values(energy_and_forces(change, compare), frame)


@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        ("", set()),
        ("field", {"translation", "rotation", "reflection", "permutation"}),
        ("order", {"permutation"}),
    ],
)
def test_every_symmetry_catches_its_fault(frame, fault, broken):
    found = {
        change
        for change in CHANGES
        if not invariance(fault, change, frame)[change] <= limits()[change].unstable
    }
    assert found == broken


def test_a_force_that_does_not_rotate_is_found(frame):
    """A force of 0.1 eV/Å that stays along x differs by at most twice that after rotation."""
    turned = invariance("field", "rotation", frame)["rotation_forces"]
    assert 0.02 < turned <= 0.2 + 1e-9
    assert invariance("field", "translation", frame)["translation_forces"] < 1e-9


def test_a_periodic_cell_obeys_all_symmetries():
    atoms = bulk("Cu", cubic=True).repeat(2)
    atoms.rattle(0.05, seed=2)
    found = values(invariances(twin_of(EMT())), Frame.from_atoms(atoms))
    assert max(found.values()) < 1e-9
