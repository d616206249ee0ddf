"""Frames and pairs against ASE."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixCartesian, MirrorForce
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

from mdxai.calculators import twin_of
from mdxai.frame import AMU_ANG2_PER_FS2, ASE_TIME_PER_FS, BOLTZMANN, Frame, FrameError, find_pairs
from tests.conftest import ethanol_with, heated


def test_constants_are_those_of_ase():
    assert pytest.approx(units.kB, rel=1e-9) == BOLTZMANN
    assert pytest.approx(1 / units.fs**2, rel=1e-7) == AMU_ANG2_PER_FS2
    assert units.fs == ASE_TIME_PER_FS


def test_energies_and_temperature_equal_ase():
    atoms = heated(ethanol_with(EMT()), 400)
    atoms.get_forces()
    frame = Frame.from_atoms(atoms, step=3, time=1.5)
    assert frame.kinetic_energy == pytest.approx(atoms.get_kinetic_energy(), rel=1e-7)
    assert frame.temperature == pytest.approx(atoms.get_temperature(), rel=1e-7)
    assert frame.energy == atoms.get_potential_energy()
    assert (frame.step, frame.time, frame.n_atoms) == (3, 1.5, 9)
    with pytest.raises(ValueError, match="read-only"):
        frame.positions[0] = 0


def test_a_frame_never_starts_an_evaluation():
    atoms = ethanol_with(None)
    assert np.isnan(Frame.from_atoms(atoms).energy)
    atoms.calc = EMT()
    assert np.isnan(Frame.from_atoms(atoms).energy)
    atoms.get_potential_energy()
    atoms.positions[0] += 0.1  # what the calculator holds is now out of date
    assert np.isnan(Frame.from_atoms(atoms).forces).all()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000), n=st.integers(2, 90), cutoff=st.floats(1.0, 6.0),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)  # fmt: skip
def test_pairs_equal_those_of_ase(seed, n, cutoff, pbc):
    rng = np.random.default_rng(seed)
    cell = 6 * np.eye(3) + rng.normal(scale=0.5, size=(3, 3))
    atoms = Atoms(f"H{n}", rng.uniform(-2, 8, size=(n, 3)), cell=cell, pbc=pbc)
    pairs = find_pairs(atoms.positions, cell, atoms.pbc, cutoff)
    i, j, d = neighbor_list("ijd", atoms, cutoff)
    expected = {}
    for a, b, distance in zip(i.tolist(), j.tolist(), d.tolist(), strict=True):
        if a < b:
            expected[a, b] = min(distance, expected.get((a, b), np.inf))
    found = zip(pairs.i.tolist(), pairs.j.tolist(), strict=True)
    assert list(found) == sorted(expected)
    np.testing.assert_allclose(pairs.distances, [expected[k] for k in sorted(expected)], atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(pairs.vectors, axis=1), pairs.distances, atol=1e-9)


def test_infinite_cutoff_in_a_periodic_cell_is_refused():
    with pytest.raises(ValueError, match="need a finite cutoff"):
        find_pairs(np.zeros((2, 3)), np.eye(3), [True] * 3, np.inf)


@pytest.mark.parametrize(
    ("held", "removed"),
    [(FixAtoms([0]), 3), (FixCartesian([0, 1], mask=(True, False, True)), 4),
     (MirrorForce(0, 1, 2.0), 0)],
)  # fmt: skip
def test_constraints_are_counted_where_they_can_say_what_they_take(held, removed):
    atoms = bulk("Cu", cubic=True)
    atoms.set_constraint(held)
    found = Frame.from_atoms(atoms).n_constrained
    assert type(found) is int
    assert found == removed


class ReadsCharge(Calculator):
    """A bond whose length depends on the total charge, which it reads from atoms.info."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        vector = atoms.positions[1] - atoms.positions[0]
        length = np.linalg.norm(vector)
        beyond = length - 1.0 - 0.2 * atoms.info["charge"]
        force = -20.0 * beyond * vector / length
        self.results = {"energy": 10.0 * beyond**2, "forces": np.array([-force, force])}


def hydroxide() -> Atoms:
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 0.8]], momenta=[[0, 0, 0.1], [0, 0, -0.1]])
    atoms.info |= {"charge": -1, "spin": 1, "model": object(), "tags": ["a", 1.5]}
    atoms.set_initial_charges([-1.0, 0.0])
    atoms.set_initial_magnetic_moments([0.5, 0.5])
    return atoms


def test_a_frame_carries_all_that_a_calculator_may_read():
    atoms = hydroxide()
    atoms.calc = ReadsCharge()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    frame = Frame.from_atoms(atoms, step=3, time=1.5)
    atoms.info["charge"] = 5  # what changes afterwards is another instant
    atoms.arrays["initial_charges"][0] = 5.0
    again = frame.to_atoms()
    assert again.info == {"charge": -1, "spin": 1, "tags": ["a", 1.5], "step": 3, "time_fs": 1.5}
    assert again.get_initial_charges().tolist() == [-1.0, 0.0]
    assert again.get_initial_magnetic_moments().tolist() == [0.5, 0.5]
    np.testing.assert_allclose(again.get_momenta(), atoms.get_momenta(), rtol=1e-14)
    assert again.get_potential_energy() == energy
    np.testing.assert_array_equal(again.get_forces(), forces)
    assert Frame.from_atoms(again).inputs.info == frame.inputs.info | {"step": 3, "time_fs": 1.5}


def test_a_twin_evaluates_with_the_charge_that_the_atoms_carry():
    atoms = hydroxide()
    atoms.calc = ReadsCharge()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    found, on_atoms = twin_of(atoms.calc).evaluate(Frame.from_atoms(atoms))
    assert found == energy
    np.testing.assert_array_equal(on_atoms, forces)


def test_what_an_instant_lacks_is_absent_and_nan_is_not():
    atoms = hydroxide()
    bare = Frame.from_atoms(atoms)
    assert (bare.has_energy, bare.has_forces, bare.has_velocities) == (False, False, True)
    assert bare.to_atoms().calc.results == {}
    broken = bare.with_results(np.nan, np.full((2, 3), np.nan))
    assert broken.has_energy
    assert broken.has_forces
    assert np.isnan(broken.to_atoms().get_potential_energy())
    still = broken.without("velocities", "energy")
    assert still.absent == {"velocities", "energy"}
    assert np.isnan(still.velocities).all()
    assert not still.to_atoms().has("momenta")
    assert set(still.to_atoms().calc.results) == {"forces"}
    assert broken.without() is broken
    with pytest.raises(FrameError, match="can lack velocities, forces, energy, got energies"):
        broken.without("energies")


def test_forces_without_an_energy_leave_the_energy_absent():
    class ForcesAlone(ReadsCharge):
        def calculate(self, *arguments, **options):
            super().calculate(*arguments, **options)
            del self.results["energy"]

    atoms = hydroxide()
    atoms.calc = ForcesAlone()
    atoms.get_forces()
    frame = Frame.from_atoms(atoms)
    assert (frame.has_energy, frame.has_forces) == (False, True)
    assert set(frame.to_atoms().calc.results) == {"forces"}


def test_forces_of_another_shape_are_refused():
    atoms = hydroxide()
    atoms.calc = ReadsCharge()
    atoms.get_forces()
    atoms.calc.results["forces"] = np.zeros((3, 3))
    with pytest.raises(FrameError, match=r"holds forces of shape \(3, 3\) for 2 atoms"):
        Frame.from_atoms(atoms)
