"""Conservation of energy, its drift and its jumps, with and without a thermostat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import ExternalForce, FixConstraint, Hookean
from ase.md.verlet import VelocityVerlet

import mdxai
from mdxai.engines import AseEngine, EngineDescription
from mdxai.frame import Frame, Thermostat
from mdxai.principles import (
    ConservedEnergy,
    EnergyConservation,
    EnergyDrift,
    EnergyJump,
    StepDefect,
    principles_for,
)

from .conftest import copper, ethanol_with, frames_of, heated, langevin
from .crystal_baths import BATHS, hot_crystal, in_bath, watch


@pytest.fixture
def frame(ethanol_frame):
    return ethanol_frame


def at(frame, k, timestep=1.0, **changes):
    return replace(frame, step=k, time=k * timestep, **changes)


def energy_of(first, *, thermostatted):
    conserved = ConservedEnergy(StepDefect(first), first, thermostatted=thermostatted)
    return EnergyConservation(conserved)


def run_copper(dynamics_of, timestep, steps=200, scale=1.0):
    """Return the largest energy deviation of copper by EMT, meV/atom."""

    class Scaled(EMT):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results["forces"] = scale * self.results["forces"]

    atoms = copper()
    atoms.rattle(0.05, seed=0)
    atoms.calc = Scaled()
    dynamics = dynamics_of(heated(atoms, 600), timestep)
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


def constant_energy(atoms, timestep):
    return VelocityVerlet(atoms, timestep * units.fs)


def thermostatted(atoms, timestep):
    return langevin(atoms, 600, timestep=timestep, friction=0.02 / units.fs, rng=2)


@pytest.mark.parametrize("dynamics_of", [constant_energy, thermostatted], ids=["nve", "nvt"])
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


@pytest.mark.parametrize("bath", ["chain", "bussi"])
def test_the_heat_of_a_thermostat_is_counted(bath):
    """With it the sum is conserved, without it it is not, and monitoring sparsely is no problem."""
    dynamics = BATHS[bath](hot_crystal())
    found, bare = [], []
    principle = []

    def see(frame):
        if frame.step % 3:
            return
        if not principle:
            conserved = ConservedEnergy(StepDefect(frame), frame, thermostatted=True)
            principle.append(EnergyConservation(conserved))
        found.append(principle[0].deviate(frame).value)
        bare.append(frame.energy + frame.kinetic_energy)

    watch(dynamics, 60, see)
    assert max(found) < 0.5
    assert 1e3 * np.ptp(bare) / 32 > 10 * max(found)


def test_a_chain_whose_temperature_is_changed_does_not_count_heat():
    dynamics = BATHS["chain"](hot_crystal())
    engine = AseEngine(dynamics)
    assert engine.frame().thermostat == Thermostat(pytest.approx(300.0), 0.0)
    dynamics._thermostat._kT *= 2
    assert engine.frame().thermostat == Thermostat(pytest.approx(600.0), None)
    assert AseEngine(BATHS["langevin"](hot_crystal())).frame().thermostat.energy is None


def drift_of(frame, energies, timestep=10.0):
    conserved = ConservedEnergy(StepDefect(frame), frame, thermostatted=False)
    principle = EnergyDrift(conserved)
    energies = frame.energy + np.asarray(energies)
    return [principle.deviate(at(frame, k, timestep, energy=e)) for k, e in enumerate(energies)]


def test_energy_drift_is_the_slope_whatever_swings_and_jumps(frame):
    time = np.arange(600) * 10.0
    rng = np.random.default_rng(0)
    noise = 0.002 * np.sin(time / 7) + 0.001 * rng.normal(size=600)
    drifting = drift_of(frame, 9 * 5e-6 * time + noise)  # 5 meV/atom/ps
    assert all(d is None for d in drifting[:100])
    assert drifting[-1].value == pytest.approx(5, rel=0.05)
    jump = 0.5 * (time > 5500)  # least squares takes it for a drift
    assert drift_of(frame, noise + jump)[-1].value < 0.2
    assert np.polyfit(time, jump, 1)[0] / 9 * 1e6 > 4
    assert np.isnan(drift_of(frame, [0.0, np.nan])[1].value)


def test_energy_jump_stands_out_from_what_steps_usually_create():
    principle, values, frames = [], [], []

    def see(frame):
        frames.append(frame)
        if not principle:
            principle.append(EnergyJump(StepDefect(frame)))
        lift = 0.02 if frame.step >= 180 else 0.0  # eV, from one step to the next
        found = principle[0].deviate(replace(frame, energy=frame.energy + lift))
        values.append(np.nan if found is None else found.value)

    watch(in_bath(hot_crystal(), 600), 200, see)
    a, b = frames[178:180]
    defect = b.energy - a.energy + np.sum((a.forces + b.forces) / 2 * (b.positions - a.positions))
    assert np.isnan(values[:100]).all()
    ordinary = np.delete(np.array(values[100:]), 80)
    assert ordinary.max() < 20
    assert values[180] > 50
    assert values[179] / values[180] == pytest.approx(abs(defect) / 0.02, rel=0.3)


def test_energy_jump_forgets_a_gap(frame):
    principle = EnergyJump(StepDefect(frame))
    rng = np.random.default_rng(0)
    for k in range(150):
        principle.deviate(at(frame, k, energy=frame.energy + 1e-4 * rng.normal()))
    assert principle.deviate(at(frame, 160, energy=frame.energy + 5.0)) is None
    assert principle.deviate(at(frame, 161, energy=frame.energy + 5.0)).value < 1
    assert principle.deviate(at(frame, 162, energy=frame.energy + 5.1)).value > 50
    assert np.isnan(principle.deviate(at(frame, 163, energy=np.nan)).value)


RESTRAINTS = {
    "pair": lambda: Hookean(0, 2, rt=1.3, k=2.0),
    "point": lambda: Hookean(0, (0.5, 0.0, 0.0), rt=0.1, k=1.0),
    "plane": lambda: Hookean(3, (0.0, 0.0, 1.0, 0.5), k=2.0),
    "pull": lambda: ExternalForce(0, 2, 0.05),
}


def restrained(restraint, n_steps=200):
    """Return ethanol's frames in NVE with a restraint, and ASE's own energies and forces."""
    atoms = heated(ethanol_with("painn-ethanol", dtype="float64"))
    atoms.set_constraint(restraint)
    dynamics, own = VelocityVerlet(atoms, 0.25 * units.fs), []
    dynamics.attach(lambda: own.append((atoms.get_potential_energy(), atoms.get_forces(md=True))))
    return frames_of(dynamics, n_steps), own


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=pytest.mark.slow if k != "pull" else ()) for k in RESTRAINTS],
)
def test_restraints_count_as_in_ase(kind):
    frames, own = restrained(RESTRAINTS[kind]())
    assert max(abs(frame.outside.energy) for frame in frames) > 0.005
    for frame, (energy, forces) in zip(frames, own, strict=True):
        assert frame.energy == energy
        np.testing.assert_array_equal(frame.forces, forces)
    nve = EngineDescription(conserves_energy=True)
    principles, unavailable = principles_for(frames[0], None, nve)
    worst = dict.fromkeys((p.name for p in principles), 0.0)
    for frame in frames:
        for principle in principles:
            found = principle.deviate(frame, None)
            worst[principle.name] = max(worst[principle.name], found.value if found else 0.0)
    if kind != "pull":  # ASE adds this one's force to the momenta as well, which is no dynamics
        assert worst["energy"] < 0.5  # meV/atom
    assert worst["net_force"] < 1e-6
    pushed = {"momentum", "angular_momentum"} & unavailable.keys()
    if kind in ("point", "plane"):
        assert pushed == {"momentum", "angular_momentum"}
        assert "Hookean may push" in unavailable["momentum"]
    else:
        assert not pushed
        assert max(worst["momentum"], worst["angular_momentum"]) < 1e-3


class Towed(FixConstraint):
    """A spring whose end moves on: with every call, or as a clock tells."""

    def __init__(self, clock=None):
        self.clock, self.calls = clock, 0

    def end(self):
        self.calls += self.clock is None
        return 0.004 * (self.calls if self.clock is None else self.clock[0])

    def get_removed_dof(self, atoms):
        return 0

    def adjust_positions(self, atoms, new):
        pass

    def adjust_momenta(self, atoms, momenta):
        pass

    def adjust_forces(self, atoms, forces):
        forces[0, 0] -= 5.0 * (atoms.positions[0, 0] - self.end())

    def adjust_potential_energy(self, atoms):
        return 2.5 * (atoms.positions[0, 0] - self.end()) ** 2


def test_a_restraint_that_moves_with_time_is_no_broken_energy():
    clock = [0]
    atoms = heated(ethanol_with("painn-ethanol", dtype="float64"))
    atoms.set_constraint(Towed(clock))
    dynamics = VelocityVerlet(atoms, 0.25 * units.fs)
    totals = []
    dynamics.attach(lambda: totals.append(atoms.get_total_energy()))
    with mdxai.Monitor(dynamics, attribute_every=0, on_unstable="ignore") as monitor:
        dynamics.attach(monitor)
        dynamics.attach(lambda: clock.__setitem__(0, clock[0] + 1))
        dynamics.run(300)
    assert 1e3 * np.ptp(totals) / len(atoms) > 50  # the tow does work
    assert not {f.principle for f in monitor.verdict.findings} & {"energy", "energy_jump"}
    assert "Towed may push" in monitor.verdict.unavailable["momentum"]


def test_a_restraint_that_changes_when_asked_is_not_asked():
    def positions(*, monitored):
        atoms = heated(ethanol_with("painn-ethanol"))
        atoms.set_constraint(Towed())
        dynamics = VelocityVerlet(atoms, 0.25 * units.fs)
        if monitored:
            dynamics.attach(mdxai.Monitor(dynamics, attribute_every=0, on_unstable="ignore"))
        dynamics.run(20)
        return atoms.positions

    np.testing.assert_array_equal(positions(monitored=True), positions(monitored=False))
