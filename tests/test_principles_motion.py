"""Principles of energy, momentum, equipartition and forces, each against a second derivation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import NoseHooverChainNVT
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from scipy import stats

from mdxai.engines import AseEngine
from mdxai.frame import AMU_ANG2_PER_FS2, BOLTZMANN, Frame, Thermostat
from mdxai.principles import (
    AngularMomentum,
    ConservedEnergy,
    ElementTemperature,
    EnergyConservation,
    EnergyDrift,
    EnergyJump,
    FlyingIceCube,
    ForceBeyondTraining,
    ForceSpike,
    KineticSpread,
    ModeTemperature,
    Momentum,
    NetTorque,
    PrincipleUnavailable,
    StepDefect,
    principles_for,
)
from mdxai.principles.frame_quantities import frame_quantities
from mdxai.principles.running_statistics import BlockMeans, Every, RunningMedian
from mdxai.stability.thresholds import THRESHOLDS
from mdxai.stability.verdict import Stability, VerdictBuilder


@pytest.fixture
def frame():
    atoms = molecule("CH3CH2OH")
    atoms.calc = EMT()
    thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(0))
    atoms.get_forces()
    return Frame.from_atoms(atoms)


def at(frame, k, timestep=1.0, **changes):
    return replace(frame, step=k, time=k * timestep, **changes)


def thermal(frame, rng, temperature=300.0):
    scale = np.sqrt(BOLTZMANN * temperature / frame.masses / AMU_ANG2_PER_FS2)[:, None]
    return rng.normal(size=(frame.n_atoms, 3)) * scale


def copper(temperature=600.0):
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.calc = EMT()
    thermalize_momenta(atoms, temperature_K=temperature, rng=np.random.default_rng(0))
    Stationary(atoms)
    return atoms


def run(dynamics, steps, see):
    engine = AseEngine(dynamics)
    dynamics.attach(lambda: see(engine.frame()))
    dynamics.run(steps)


def langevin(atoms, temperature):
    return Langevin(
        atoms, 2 * units.fs, temperature_K=temperature, friction=0.02 / units.fs,
        rng=np.random.default_rng(1), fixcm=False,
    )  # fmt: skip


BATHS = {
    "nve": lambda atoms: VelocityVerlet(atoms, 2 * units.fs),
    "langevin": lambda atoms: langevin(atoms, 300),
    "chain": lambda atoms: NoseHooverChainNVT(atoms, 2 * units.fs, 300, 100 * units.fs),
    "bussi": lambda atoms: Bussi(
        atoms, 2 * units.fs, 300, 100 * units.fs, rng=np.random.RandomState(0)
    ),
}


@pytest.mark.parametrize("bath", BATHS)
def test_a_sound_crystal_raises_no_alarm(bath):
    """Every principle together, from the lattice at 600 K of velocities into the bath."""
    dynamics = BATHS[bath](copper())
    engine = AseEngine(dynamics)
    principles = []
    builder = VerdictBuilder(THRESHOLDS)

    def see(frame):
        if not principles:
            principles.extend(principles_for(frame, None, engine.describe())[0])
        builder.add(frame.time, {p.name: p.deviate(frame, None) for p in principles})

    run(dynamics, 150, see)
    assert builder.verdict().stability is Stability.STABLE, str(builder.verdict())


@pytest.mark.parametrize("bath", ["chain", "bussi"])
def test_the_heat_of_a_thermostat_is_counted(bath):
    """With it the sum is conserved, without it it is not, and monitoring sparsely is no problem."""
    dynamics = BATHS[bath](copper())
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

    run(dynamics, 60, see)
    assert max(found) < 0.5
    assert 1e3 * np.ptp(bare) / 32 > 10 * max(found)


def test_a_chain_whose_temperature_is_changed_does_not_count_heat():
    dynamics = BATHS["chain"](copper())
    engine = AseEngine(dynamics)
    assert engine.frame().thermostat == Thermostat(pytest.approx(300.0), 0.0)
    dynamics._thermostat._kT *= 2
    assert engine.frame().thermostat == Thermostat(pytest.approx(600.0), None)
    assert AseEngine(langevin(copper(), 300)).frame().thermostat.energy is None


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
    atoms = copper()
    principle, values, frames = [], [], []

    def see(frame):
        frames.append(frame)
        if not principle:
            principle.append(EnergyJump(StepDefect(frame)))
        lift = 0.02 if frame.step >= 180 else 0.0  # eV, from one step to the next
        found = principle[0].deviate(replace(frame, energy=frame.energy + lift))
        values.append(np.nan if found is None else found.value)

    run(langevin(atoms, 600), 200, see)
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


def test_net_torque_against_the_sum_over_atoms(frame):
    principle = NetTorque(frame)
    centre = frame.positions.mean(axis=0)
    balanced = frame.forces - frame.forces.mean(axis=0)
    expected = sum(np.cross(x - centre, f) for x, f in zip(frame.positions, balanced, strict=True))
    assert principle.deviate(replace(frame, forces=balanced)).value == pytest.approx(
        np.linalg.norm(expected), abs=1e-9
    )
    twist = np.cross([0, 0, 0.1], frame.positions - centre)
    assert principle.deviate(at(frame, 10, forces=twist)).value > 0.1
    # Neither a pull on the whole nor its place matters.
    there = at(frame, 20, forces=twist + 3.0, positions=frame.positions + 50.0)
    here = at(frame, 30, forces=twist)
    assert principle.deviate(there).value == pytest.approx(principle.deviate(here).value)
    with pytest.raises(PrincipleUnavailable, match="periodic cell"):
        NetTorque(replace(frame, pbc=np.array([True, False, False])))


def test_momentum_and_angular_momentum_in_thermal_units(frame):
    """A push of the whole by one thermal speed is 1 σ; a turn likewise; positions do not matter."""
    still = replace(frame, velocities=np.random.default_rng(0).normal(size=(9, 3)) * 0.01)
    push = Momentum(still, conserves_energy=True)
    turn = AngularMomentum(still, conserves_energy=True)
    assert push.deviate(still).value == turn.deviate(still).value == 0
    moved = replace(still, time=10.0, velocities=still.velocities + np.array([0.001, 0, 0]))
    sigma = np.sqrt(BOLTZMANN * moved.temperature / still.masses.sum() / AMU_ANG2_PER_FS2)
    assert push.deviate(moved).value == pytest.approx(0.001 / sigma)
    assert turn.deviate(moved).value == pytest.approx(0, abs=1e-9)
    centre = still.masses @ still.positions / still.masses.sum()
    arms = still.positions - centre
    spun = replace(still, time=20.0, velocities=still.velocities + np.cross([0, 0, 1e-3], arms))
    moment = still.masses @ (arms**2)[:, :2].sum(axis=1) * 1e-3
    heavy = 2 * still.masses @ (arms**2).sum(axis=1) / 3
    across = [np.sum(still.masses * arms[:, 2] * arms[:, k]) * 1e-3 for k in (0, 1)]
    sigma = np.sqrt(BOLTZMANN * spun.temperature * heavy / AMU_ANG2_PER_FS2)
    assert turn.deviate(spun).value == pytest.approx(np.hypot(moment, np.hypot(*across)) / sigma)
    for principle in (Momentum, AngularMomentum):
        with pytest.raises(PrincipleUnavailable, match="a thermostat changes it"):
            principle(frame, conserves_energy=False)
        with pytest.raises(PrincipleUnavailable, match="constraints"):
            principle(replace(frame, n_constrained=3), conserves_energy=True)


def test_motion_of_the_whole_takes_its_kinetic_energy_apart(frame):
    """Rigid motion alone: translation and rotation are all of the kinetic energy."""
    centre = frame.masses @ frame.positions / frame.masses.sum()
    rigid = np.cross([0.002, -0.001, 0.003], frame.positions - centre) + np.array([0.01, 0.02, 0.0])
    seen = frame_quantities(replace(frame, velocities=rigid))
    assert seen.translation + seen.rigid.rotation == pytest.approx(seen.kinetic)
    water = molecule("CO2")
    water.set_velocities(np.cross([0, 0.01, 0], water.positions))
    seen = frame_quantities(Frame.from_atoms(water))
    assert seen.rigid.rotation == pytest.approx(seen.kinetic)


def test_flying_ice_cube_is_normal_in_the_canonical_ensemble(frame):
    frame = replace(frame, thermostat=Thermostat(300.0))
    principle = FlyingIceCube(frame)
    rng = np.random.default_rng(1)
    values = [
        principle.deviate(at(frame, k, 10.0, velocities=thermal(frame, rng))).value
        for k in range(3000)
    ]
    above = np.sort(values)[1600:]
    expected = stats.norm.ppf((np.arange(1600, 3000) + 0.5) / 3000)
    np.testing.assert_allclose(above[:-20], expected[:-20], atol=0.12)
    fly = thermal(frame, rng) * 0.1 + (0.01, 0.01, 0.01)
    assert principle.deviate(at(frame, 4000, 10.0, velocities=fly)).value > 6
    assert principle.deviate(at(frame, 4001, 10.0, velocities=0 * fly)).value == 0
    assert np.isnan(principle.deviate(at(frame, 4002, 10.0, velocities=np.nan * fly)).value)


def averages(principle, frame, velocities, n=1600):
    found = None
    for k in range(n):
        found = principle.deviate(at(frame, k, 10.0, velocities=velocities()))
    return found


def test_canonical_velocities_have_the_right_averages_and_others_have_not(frame):
    rng = np.random.default_rng(2)
    frame = replace(frame, thermostat=Thermostat(300.0))
    principles = {
        "spread": lambda: KineticSpread(frame),
        "mode": lambda: ModeTemperature(frame, random_bath=True),
        "element": lambda: ElementTemperature(frame, random_bath=True),
    }
    for make in principles.values():
        assert averages(make(), frame, lambda: thermal(frame, rng)).value == 0

    def rescaled():  # as Berendsen's thermostat at its strongest: no fluctuation at all
        v = thermal(frame, rng)
        return v * np.sqrt(300.0 / replace(frame, velocities=v).temperature)

    assert averages(principles["spread"](), frame, rescaled).value == pytest.approx(1, abs=0.05)

    def hot_hydrogens():
        v = thermal(frame, rng)
        v[frame.numbers == 1] *= 2
        return v

    found = averages(principles["element"](), frame, hot_hydrogens)
    assert found.value > 0.3
    assert set(frame.numbers[list(found.atoms)]) <= {6, 8}  # too cold: further off, relatively

    def flying():
        return thermal(frame, rng) + np.array([0.01, 0, 0])

    assert averages(principles["mode"](), frame, flying).value > 0.5


def test_a_centre_of_mass_at_rest_is_no_fault(frame):
    rng = np.random.default_rng(3)
    frame = replace(frame, thermostat=Thermostat(300.0))

    def at_rest():
        v = thermal(frame, rng)
        return v - frame.masses @ v / frame.masses.sum()

    for principle in (
        KineticSpread(frame),
        ModeTemperature(frame, random_bath=True),
        ElementTemperature(frame, random_bath=True),
    ):
        assert averages(principle, frame, at_rest).value < 0.02


def test_annealing_is_never_compared_with_one_temperature(frame):
    kelvin = np.linspace(300, 900, 1600)
    principle = KineticSpread(replace(frame, thermostat=Thermostat(300.0)))
    rng = np.random.default_rng(4)
    found = None
    for k, temperature in enumerate(kelvin):
        heated = replace(frame, thermostat=Thermostat(temperature))
        found = principle.deviate(at(heated, k, 10.0, velocities=thermal(frame, rng)))
    assert found is None


@pytest.mark.parametrize(
    ("principle", "match"),
    [
        (KineticSpread, "no thermostat"),
        (FlyingIceCube, "momentum is conserved"),
        (lambda f: ModeTemperature(f, random_bath=False), "keeps what it started with"),
        (lambda f: ElementTemperature(f, random_bath=False), "keep their energy"),
        (lambda f: ModeTemperature(replace(f, n_constrained=3), random_bath=True), "constraints"),
        (lambda f: ElementTemperature(replace(f, numbers=0 * f.numbers + 6), random_bath=True),
         "all atoms are C"),
    ],
)  # fmt: skip
def test_what_equipartition_cannot_say(frame, principle, match):
    with pytest.raises(PrincipleUnavailable, match=match):
        principle(frame)


def test_force_spike_against_the_median(frame):
    principle = ForceSpike()
    rng = np.random.default_rng(5)
    seen = []
    for k in range(400):
        forces = rng.normal(size=(9, 3))
        seen.append(np.linalg.norm(forces, axis=1).max())
        found = principle.deviate(at(frame, k, forces=forces))
        assert (found is None) == (k < 100)
    spike = forces.copy()
    spike[4] = (30, 0, 0)
    found = principle.deviate(at(frame, 400, forces=spike))
    assert found.value == pytest.approx(30 / np.median(seen) - 1, rel=0.1)
    assert found.atoms == (4,)
    lost = spike.copy()
    lost[7] = np.nan
    assert np.isnan(principle.deviate(at(frame, 401, forces=lost)).value)


def test_force_beyond_training(frame):
    principle = ForceBeyondTraining(8.0)
    forces = np.zeros((9, 3))
    forces[2] = (0, 6, 8)
    found = principle.deviate(replace(frame, forces=forces))
    assert (found.value, found.atoms) == (pytest.approx(0.25), (2,))
    assert principle.deviate(replace(frame, forces=0.5 * forces)).value == 0
    assert np.isnan(principle.deviate(replace(frame, forces=np.nan * forces)).value)
    for missing in (None, np.nan, 0.0):
        with pytest.raises(PrincipleUnavailable, match="largest force"):
            ForceBeyondTraining(missing)


def test_running_median_follows_slowly():
    rng = np.random.default_rng(6)
    median = RunningMedian()
    for value in rng.lognormal(size=2000):
        median.add(value)
    assert median.value == pytest.approx(1, rel=0.25)
    before = median.value
    for value in (1e6, np.nan, np.inf):
        median.add(value)
    assert median.value <= before * 1.01 + 1e-12
    for value in 5 * rng.lognormal(size=2000):
        median.add(value)
    assert median.value == pytest.approx(5, rel=0.25)


def test_block_means_keep_the_whole_run_in_bounded_memory():
    history = BlockMeans(2, 10.0)
    time = np.arange(0, 5000, 2.5)
    values = np.stack([np.sin(time), time**2], axis=1)
    for t, v in zip(time, values, strict=True):
        history.add(t, v)
    n, length = len(history.times), history.length
    assert n < history.CAPACITY
    for k in range(n):
        inside = (time >= k * length) & (time < (k + 1) * length)
        np.testing.assert_allclose(history.means[k], values[inside].mean(axis=0))
        assert history.times[k] == pytest.approx(time[inside].mean())


def test_block_means_know_the_error_of_a_correlated_mean():
    """An autoregressive process of coefficient a has a mean of variance (1 + a)/(1 − a)/n."""
    rng = np.random.default_rng(7)
    noise = rng.normal(size=(12_800, 40))
    chain = np.zeros(40)
    history = BlockMeans(40, 1.0)
    for k in range(12_800):
        chain = 0.8 * chain + np.sqrt(1 - 0.8**2) * noise[k]
        history.add(float(k), chain)
    mean, error = history.mean_and_error()
    expected = np.sqrt(1.8 / 0.2 / 12_800)
    assert error.mean() == pytest.approx(expected, rel=0.2)
    assert mean.std() == pytest.approx(expected, rel=0.4)


def test_every_looks_when_due():
    every = Every(2.0)
    assert [every.due(t) for t in (0.0, 0.5, 1.9, 2.0, 3.0, 1.0, np.nan, 0.0)] == [
        True, False, False, True, False, True, True, True,
    ]  # fmt: skip


def test_a_run_that_starts_broken_can_be_judged():
    atoms = molecule("CH3CH2OH")
    atoms.positions[3, 1] = np.nan
    frame = Frame.from_atoms(atoms)
    principles, _ = principles_for(frame)
    deviations = {p.name: p.deviate(frame, None) for p in principles}
    assert not deviations["non_finite"].value <= 0
