"""Which rigid motions nothing resists: molecules in cells, chains, slabs, crystals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc100, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

import mdxai
from mdxai.calculators import twin_of
from mdxai.forecast import weak_spots
from mdxai.forecast.bonded_parts import bonded_parts
from mdxai.forecast.evaluations import evaluations
from mdxai.forecast.free_motions import free_parts
from mdxai.forecast.relaxation import relax
from mdxai.forecast.saddle import force_constants, stationary_point
from mdxai.frame import Frame

from .conftest import ETHANOL
from .test_weak_spots import WATER, Analytic, bent, exact, holed_water

ARGON = {"sigma": 3.4, "epsilon": 0.0104, "rc": 8.0}


@pytest.fixture(scope="module")
def schnet():
    return mdxai.load_calculator("schnet-ethanol", dtype="float64")


def boxed(atoms, side, *, wrapped=False):
    """Return atoms in a cubic cell; wrapped, so that its faces cut through the molecule."""
    box = atoms.copy()
    box.set_cell([side] * 3)
    box.pbc = True
    if wrapped:
        box.positions -= box.positions.mean(axis=0)
        box.wrap()
    return box


def n_free(calculator, atoms):
    """Return how many motions are free besides those of the whole, in the structure as it is."""
    evaluate = evaluations(twin_of(calculator), Frame.from_atoms(atoms))
    hessian = force_constants(evaluate, atoms.positions)
    return free_parts(evaluate, atoms.positions, hessian).shape[1]


def minimum_of(calculator, atoms):
    evaluate = evaluations(twin_of(calculator), Frame.from_atoms(atoms))
    start = relax(evaluate, atoms.positions[None], fmax=0.02, steps=500).positions[0]
    return stationary_point(evaluate, start, fmax=1e-5)


def test_a_cell_changes_no_barrier_frequency_or_rate():
    water, calculator = boxed(WATER, 9.0), Analytic(holed_water)
    free, held = (weak_spots(calculator, a, temperature=500.0) for a in (WATER, water))
    assert held.worst.note == ""
    assert held.worst.barrier == pytest.approx(free.worst.barrier, abs=1e-8)
    assert held.worst.prefactor_per_ps == pytest.approx(free.worst.prefactor_per_ps, rel=1e-6)
    barrier, rate = exact(holed_water, WATER, bent(0.96, 1.52), bent(0.96, 1.15), 500.0)
    assert held.worst.barrier == pytest.approx(barrier, rel=0.01)
    assert held.worst.rate_per_ps(500.0) == pytest.approx(rate, rel=0.05)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_molecule_of_a_network_has_the_same_frequencies_in_a_cell(schnet, wrapped):
    alone = minimum_of(schnet, molecule(ETHANOL))
    held = minimum_of(schnet, boxed(molecule(ETHANOL), 12.0, wrapped=wrapped))
    assert alone.order == held.order == 0
    assert len(alone.frequencies) == 21
    assert held.frequencies == pytest.approx(alone.frequencies, rel=1e-6)


@pytest.mark.slow
def test_weak_spots_of_a_network_are_the_same_in_a_cell(schnet):
    found = [
        weak_spots(schnet, atoms, temperature=1000.0)
        for atoms in (molecule(ETHANOL), boxed(molecule(ETHANOL), 12.0))
    ]
    alone, held = ({(s.kind, min(s.equivalent)): s for s in f.spots} for f in found)
    assert alone.keys() == held.keys()
    for which, one in alone.items():
        other = held[which]
        assert other.note == one.note
        assert other.barrier == pytest.approx(one.barrier, abs=1e-4)
        assert other.prefactor_per_ps == pytest.approx(one.prefactor_per_ps, rel=0.05)
    assert found[1].hazard_per_ps == pytest.approx(found[0].hazard_per_ps, rel=0.005)
    assert found[0].worst.barrier == pytest.approx(0.69, abs=0.01)


@pytest.mark.parametrize(
    ("calculator", "crystal"),
    [
        (EMT, bulk("Cu", cubic=True)),
        (lambda: LennardJones(**ARGON), bulk("Ar", "fcc", a=5.26, cubic=True).repeat((2, 1, 1))),
    ],
    ids=["copper", "argon"],
)
def test_a_crystal_keeps_all_its_modes(calculator, crystal):
    crystal.rattle(0.02, seed=1)
    found = minimum_of(calculator, crystal)
    assert len(found.frequencies) == 3 * len(crystal) - 3
    assert found.order == 0


def wire(cell_of):
    """A rod of copper, two by two atoms across, along the third vector of a cell."""
    atoms = bulk("Cu", cubic=True).repeat((1, 1, 2))
    length = atoms.cell[2, 2]
    atoms.rattle(0.05, seed=2)
    atoms.set_cell(cell_of(length))
    return atoms


def test_a_chain_turns_about_itself_and_a_slab_does_not_turn():
    straight = wire(lambda length: np.diag([15.0, 15.0, length]))
    for pbc in ((False, False, True), (True, True, True)):
        straight.pbc = pbc
        assert n_free(EMT, straight) == 1
    tilted = straight.copy()
    tilted.rotate(30, "x", rotate_cell=True)
    tilted.rotate(20, "y", rotate_cell=True)
    assert n_free(EMT, tilted) == 1
    slab = fcc100("Cu", (2, 2, 2), vacuum=8.0)
    slab.rattle(0.05, seed=3)
    assert n_free(EMT, slab) == 0


def test_far_molecules_move_and_turn_on_their_own():
    slab = fcc100("Cu", (2, 2, 2), vacuum=12.0)
    nitrogen = molecule("N2")
    nitrogen.translate(slab.positions.mean(axis=0) + np.array([0, 0, 9.0]))
    assert n_free(EMT, slab + nitrogen) == 5  # it is linear
    argon = Atoms("Ar4", [[0, 0, 0], [3.8, 0, 0], [1.9, 3.3, 0], [20.0, 1.0, 2.0]])
    assert n_free(lambda: LennardJones(**ARGON), argon) == 3


def test_what_interacts_only_weakly_keeps_its_modes(schnet):
    """Two argon atoms across a face of the cell: one vibration; the two turns of both are free."""
    argon = boxed(Atoms("Ar2", [[0.2, 0, 0], [24, 1.0, 1.0]]), 25.0)
    found = minimum_of(lambda: LennardJones(**ARGON), argon)
    assert len(found.frequencies) == 1
    alone = minimum_of(lambda: LennardJones(**ARGON), Atoms("Ar2", [[0, 0, 0], [3.8, 0, 0]]))
    assert found.frequencies == pytest.approx(alone.frequencies, rel=1e-3)
    near = molecule(ETHANOL)
    other = near.copy()
    other.translate([4.0, 1.0, 0.5])
    assert n_free(schnet, near + other) == 0


def test_parts_are_what_bonds_hold_together():
    frame = Frame.from_atoms(boxed(molecule("H2O"), 6.0, wrapped=True))
    (part,) = bonded_parts(frame)
    assert part.is_molecule
    whole = part.whole(frame.positions)
    alone = molecule("H2O").positions
    assert np.linalg.norm(whole[1] - whole[0]) == pytest.approx(np.linalg.norm(alone[1] - alone[0]))
    rod = Frame.from_atoms(wire(lambda length: np.diag([15.0, 15.0, length])))
    (part,) = bonded_parts(replace(rod, pbc=np.array([False, False, True])))
    assert not part.is_molecule
    assert np.abs(part.repeats[:, :2]).max() < 1e-9
