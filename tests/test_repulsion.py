"""Holes and missing walls between close atoms."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from mdxai.calculators import twin_of
from mdxai.frame import Frame
from mdxai.principles import PrincipleUnavailable, dimer_curve
from mdxai.principles.probes.repulsion import (
    DIMER_MEASURES,
    DimerCurves,
    Dimers,
    Squeeze,
    squeeze_scans,
)

from .conftest import shaken
from .pair_potential import Pairwise, limits, values


@pytest.fixture
def frame():
    return Frame.from_atoms(shaken())


class Holed:
    """A network with a Gaussian hole in the energy of every two H, at 1.2 Å."""

    def __init__(self, network, depth):
        self.network, self.depth = network, depth
        self.name, self.cutoff = "holed", network.cutoff
        self.n_layers, self.elements = network.n_layers, network.elements

    def evaluate(self, frame):
        energy, forces = self.network.evaluate(frame)
        hydrogens = frame.positions[frame.numbers == 1]
        r = np.linalg.norm(hydrogens[:, None] - hydrogens, axis=-1)
        holes = np.exp(-(((r[np.triu_indices(len(r), k=1)] - 1.2) / 0.1) ** 2))
        return energy - self.depth * holes.sum(), forces


def test_squeeze_finds_the_hole_and_its_depth(frame, networks):
    def measured(depth):
        scans = squeeze_scans(Holed(networks["schnet-ethanol"], depth))
        return [Squeeze(quantity, scans).deviate(frame) for quantity in ("squeeze", "wall")]

    squeeze, _ = measured(4.0)
    assert [frame.symbols[a] for a in squeeze.atoms] == ["H", "H"]
    assert 1 < squeeze.value <= 4
    assert [d.value for d in measured(0.0)] == [0, 0]


def test_a_missing_wall_is_found(frame):
    class Nothing(Pairwise):
        def broken(self, energy, forces, x):
            return 0.0, 0 * forces

    scans = squeeze_scans(twin_of(Nothing()))
    assert values([Squeeze("squeeze", scans), Squeeze("wall", scans)], frame) == {
        "squeeze": 0, "wall": 5,
    }  # fmt: skip


def test_dimer_measures_pass_a_sound_curve_and_catch_a_hole(frame):
    hole = {m: Dimers(m, DimerCurves(twin_of(Pairwise("hole"))), frame) for m in DIMER_MEASURES}
    wrong = values(hole.values(), frame)
    right = DimerCurves(twin_of(Pairwise()))
    fine = values([Dimers(m, right, frame) for m in DIMER_MEASURES], frame)
    assert all(fine[m] <= limits()[m].warn for m in DIMER_MEASURES), fine
    assert wrong["dimer_flips"] >= 1
    assert wrong["dimer_jump"] > 0.3
    assert wrong["dimer_tortuosity"] > 10 * fine["dimer_tortuosity"]
    double = Dimers("dimer_work", DimerCurves(twin_of(Pairwise("double"))), frame)
    assert double.deviate(frame).value > 0.1


def test_dimer_curve_is_that_of_the_formula():
    curve = dimer_curve(twin_of(LennardJones(epsilon=0.0104, sigma=3.4, rc=20.0)), (18, 18))
    x = (3.4 / curve.distances) ** 6
    rise = curve.energies - curve.energies[0]
    assert rise == pytest.approx(4 * 0.0104 * ((x * x - x) - (x * x - x)[0]))
    assert curve.forces == pytest.approx(24 * 0.0104 * (2 * x * x - x) / curve.distances)


def test_elements_that_a_calculator_refuses_are_reported():
    frame = Frame.from_atoms(molecule("CH3SH"))
    dimers = Dimers("dimer_wall", DimerCurves(twin_of(EMT())), frame)
    assert set(dimers.refused) == {"C-S", "H-S"}
    with pytest.raises(PrincipleUnavailable, match="fails on S2"):
        Dimers("dimer_wall", DimerCurves(twin_of(EMT())), Frame.from_atoms(molecule("S2")))
