"""Every principle is 0 when obeyed and catches its injected fault."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

from mdxai.calculators.card import Card
from mdxai.engines import AseEngine, EngineDescription
from mdxai.frame import BOLTZMANN, Frame, Thermostat
from mdxai.principles import (
    BondIntegrity,
    ClosestContact,
    ConservedEnergy,
    EnergyConservation,
    NetForce,
    NonFinite,
    PrincipleUnavailable,
    StepDefect,
    Temperature,
    explanation_principles,
    principles_for,
)
from mdxai.stability.thresholds import THRESHOLDS

RANGES = {"H-H": (1.4, 4.5), "C-H": (0.95, 3.5), "H-O": (0.9, 3.6), "C-C": (1.4, 1.7),
          "C-O": (1.3, 2.7)}  # fmt: skip

NVE = EngineDescription("VelocityVerlet", 0.5, None, conserves_energy=True)
NVT = EngineDescription("Langevin", 0.5, 300.0, conserves_energy=False, random_bath=True)


@pytest.fixture
def frame():
    atoms = molecule("CH3CH2OH")
    atoms.calc = EMT()
    thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(0))
    atoms.get_forces()
    return Frame.from_atoms(atoms)


def test_non_finite_counts_and_names_atoms(frame):
    assert NonFinite().deviate(frame).value == 0
    forces = frame.forces.copy()
    forces[4, 1], forces[7] = np.inf, np.nan
    deviation = NonFinite().deviate(replace(frame, forces=forces))
    assert (deviation.value, deviation.atoms) == (4, (4, 7))
    assert NonFinite().deviate(replace(frame, energy=np.nan)).value == 1


def test_temperature_counts_standard_deviations_of_the_bath(frame):
    """Kinetic energies drawn from the canonical ensemble have unit standard deviation in σ."""
    rng = np.random.default_rng(1)
    frame = replace(frame, thermostat=Thermostat(300.0))
    principle = Temperature(frame)
    excess = []
    for _ in range(4000):
        scale = np.sqrt(BOLTZMANN * 300.0 / frame.masses / 103.6426957)[:, None]
        velocities = rng.normal(size=(9, 3)) * scale
        excess.append(principle.deviate(replace(frame, velocities=velocities)).value)
    chi = (rng.chisquare(27, size=100_000) / 27 - 1) / np.sqrt(2 / 27)
    assert np.mean(excess) == pytest.approx(chi.clip(0).mean(), abs=0.03)
    assert np.quantile(excess, 0.99) == pytest.approx(np.quantile(chi, 0.99), rel=0.1)
    hot = frame.velocities.copy()
    hot[6] *= 30
    deviation = principle.deviate(replace(frame, velocities=hot))
    assert deviation.value > 12
    assert deviation.atoms == (6,)


def test_temperature_follows_the_bath_and_needs_one(frame):
    at_400 = replace(frame, thermostat=Thermostat(400.0))
    principle = Temperature(at_400)
    hot = replace(at_400, velocities=3 * frame.velocities)
    hotter_bath = replace(hot, thermostat=Thermostat(4000.0))  # set anew during the run
    assert principle.deviate(hotter_bath).value < principle.deviate(hot).value
    # What a strained start releases is no fault of a cold thermostat.
    assert principle.deviate(replace(frame, thermostat=Thermostat(1.0))).value < 3
    with pytest.raises(PrincipleUnavailable, match="no thermostat sets a temperature"):
        Temperature(frame)
    with pytest.raises(PrincipleUnavailable, match="no atom is free"):
        Temperature(replace(at_400, n_constrained=27))


def energy_of(first, *, thermostatted):
    conserved = ConservedEnergy(StepDefect(first), first, thermostatted=thermostatted)
    return EnergyConservation(conserved)


def run_copper(dynamics_of, timestep, steps=200, scale=1.0):
    """Return the largest energy deviation of copper by EMT, meV/atom."""

    class Scaled(EMT):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results["forces"] = scale * self.results["forces"]

    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.rattle(0.05, seed=0)
    atoms.calc = Scaled()
    thermalize_momenta(atoms, temperature_K=600, rng=np.random.default_rng(0))
    dynamics = dynamics_of(atoms, timestep * units.fs)
    engine = AseEngine(dynamics)
    found = []

    def watch():
        frame = engine.frame()
        if not found:
            conserves = engine.describe().conserves_energy
            found.append(energy_of(frame, thermostatted=not conserves))
        found.append(found[0].deviate(frame).value)

    dynamics.attach(watch)
    dynamics.run(steps)
    return max(found[1:])


def langevin(atoms, timestep):
    rng = np.random.default_rng(2)
    return Langevin(
        atoms, timestep, temperature_K=600, friction=0.02 / units.fs, rng=rng, fixcm=False
    )


@pytest.mark.parametrize("dynamics_of", [VelocityVerlet, langevin], ids=["nve", "nvt"])
def test_energy_conservation_with_and_without_a_thermostat(dynamics_of):
    """A consistent potential obeys it, better at a smaller timestep; scaled forces do not."""
    fine = run_copper(dynamics_of, 1.0)
    assert fine < 2.0
    assert run_copper(dynamics_of, 4.0, steps=50) > fine
    assert run_copper(dynamics_of, 1.0, scale=1.5) > 10 * fine


def test_energy_needs_every_step_under_a_thermostat(frame):
    principle = energy_of(frame, thermostatted=True)
    assert principle.deviate(replace(frame, step=1)).value == 0
    assert principle.deviate(replace(frame, step=3)) is None
    assert principle.deviate(replace(frame, step=4)) is None  # the gap cannot be closed later


def test_net_force(frame):
    force = frame.forces - frame.forces.mean(axis=0)
    assert NetForce().deviate(replace(frame, forces=force)).value == pytest.approx(0, abs=1e-12)
    pulled = force.copy()
    pulled[0] += (0.3, 0, 0.4)
    assert NetForce().deviate(replace(frame, forces=pulled)).value == pytest.approx(0.5)


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


def test_closest_contact_compares_with_training(frame):
    principle = ClosestContact(RANGES, frame)
    assert principle.deviate(frame).value == 0
    positions = frame.positions.copy()
    positions[3] = positions[4] + (0, 0, 1.0)  # two hydrogens at 1.0 Å; 1.4 Å was the shortest
    deviation = principle.deviate(replace(frame, positions=positions))
    assert deviation.value == pytest.approx(0.4)
    assert deviation.atoms == (3, 4)


def test_what_cannot_be_checked_says_why(frame):
    principles, unavailable = principles_for(frame)
    no_bath = {"temperature", "kinetic_spread", "flying_ice_cube", "mode_temperature",
               "element_temperature"}  # fmt: skip
    untrained = {"contact", "beyond_training", "force_beyond_training"}
    assert set(unavailable) == no_bath | untrained | {"momentum", "angular_momentum"}
    assert "does not state which distances" in unavailable["contact"]
    assert {p.name for p in principles} == {
        "non_finite", "bond", "broken_bonds", "formed_bonds", "fragments", "lone_hydrogen",
        "distance_drift", "force_spike", "net_force", "net_torque", "energy", "energy_drift",
        "energy_jump",
    }  # fmt: skip
    card = Card("x", {"cutoff": 5.0}, ("C", "H", "O"), distances=RANGES, forces_max=8.0)
    heated = replace(frame, thermostat=Thermostat(300.0))
    assert set(principles_for(heated, card, NVT)[1]) == {"momentum", "angular_momentum"}
    less = {pair: span for pair, span in RANGES.items() if pair != "H-O"}
    partly = principles_for(frame, Card("x", {"cutoff": 5.0}, distances=less))[1]
    assert {"contact of H-O", "elements"} <= set(partly)
    silent = principles_for(frame.without("energy"))[1]
    for name in ("energy", "energy_drift", "energy_jump"):
        assert silent[name].startswith("the calculator gives MD no energy")


def test_every_principle_has_a_threshold_and_a_unit(frame):
    card = Card("x", {"cutoff": 5.0}, ("C", "H", "O"), distances=RANGES, forces_max=8.0)
    nve = principles_for(frame, card, NVE)[0]
    nvt = principles_for(replace(frame, thermostat=Thermostat(300.0)), card, NVT)[0]
    learned = explanation_principles(frame, 5.0)[0]
    assert all(p.unit and p.cost == "free" for p in nve + nvt)
    assert all(p.unit and p.cost == "attribution" for p in learned)
    # Sound models rank species against bond enthalpies, so that principle is recorded but not judged.
    judged = {p.name for p in nve + nvt + learned} - {"species_ranking"}
    assert judged == {t.principle for t in THRESHOLDS}


def test_a_single_atom_and_a_fixed_crystal_are_no_false_alarm():
    """Principles without a meaning for them are left out with a reason; the others are obeyed."""
    atom = Frame.from_atoms(Atoms("Ar", velocities=[[0.01, 0, 0]]))
    atom = atom.with_results(0.0, np.zeros((1, 3)))
    crystal = bulk("Cu", cubic=True)
    crystal.set_constraint(FixAtoms([0]))
    crystal.calc = EMT()
    crystal.get_forces()
    for first in (atom, Frame.from_atoms(crystal)):
        heated = replace(first, thermostat=Thermostat(300.0))
        for start, dynamics in ((heated, NVT), (first, NVE)):
            principles, unavailable = principles_for(start, None, dynamics)
            assert all(unavailable.values())
            for step in range(3):
                frame = replace(start, step=step, time=float(step))
                found = [p.deviate(frame, None) for p in principles]
                assert all(d is None or d.value < 1e-6 for d in found)


def test_a_calculator_without_energies_is_not_taken_for_nan(frame):
    silent = frame.without("energy")
    principles, _ = principles_for(silent)
    assert principles[0].deviate(silent).value == 0


def test_wrapping_into_the_cell_does_no_work():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=0)
    atoms.calc = EMT()
    atoms.get_potential_energy()
    here = Frame.from_atoms(atoms)
    principle = energy_of(here, thermostatted=True)
    wrapped = replace(here, step=1, positions=here.positions + here.cell[0] - 2 * here.cell[2])
    assert principle.deviate(wrapped).value == pytest.approx(0, abs=1e-9)
    strained = replace(wrapped, step=2, cell=1.01 * here.cell)
    assert principle.deviate(strained) is None  # work of the barostat is not counted


def test_hydrogen_has_a_bond():
    assert BondIntegrity(Frame.from_atoms(molecule("H2"))).name == "bond"
