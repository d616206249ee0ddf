"""Twins of calculators."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT

from mdxai.calculators import CalculatorError, twin_of
from mdxai.frame import Frame

from .conftest import ethanol_with, shaken
from .pair_potential import Pairwise


@pytest.fixture
def frame():
    return Frame.from_atoms(shaken())


def test_a_twin_is_independent(frame):
    atoms = ethanol_with(EMT())
    running = atoms.calc
    before = atoms.get_potential_energy()
    twin = twin_of(running)
    twin.evaluate(frame)
    assert running.atoms.positions == pytest.approx(atoms.positions)
    assert running.results["energy"] == before
    assert np.isnan(twin.cutoff)


def test_a_calculator_that_cannot_be_copied_can_be_given_as_a_function(frame):
    class Stubborn(Pairwise):
        def __deepcopy__(self, memo):
            raise TypeError("cannot pickle a lock")

    with pytest.raises(CalculatorError, match="cannot be copied"):
        twin_of(Stubborn())
    assert twin_of(Stubborn).evaluate(frame)[0] == Pairwise().get_potential_energy(
        Atoms(frame.numbers, frame.positions)
    )
    with pytest.raises(CalculatorError, match="expected an ASE calculator"):
        twin_of(3)
