"""Every fault does what it claims and nothing else, and the assertions say what is wrong."""

from __future__ import annotations

import copy
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet
from schnetpack.md import MaxwellBoltzmannInit, Simulator, System
from schnetpack.md.integrators import VelocityVerlet as SpkVerlet
from schnetpack.md.simulation_hooks import LangevinThermostat

import mdxai
from mdxai.attribution import AttributionUnavailable
from mdxai.calculators import NetworkCalculator
from mdxai.frame import Frame
from mdxai.monitoring.monitor import Monitor
from mdxai.testing import (
    Curl,
    CutoffJump,
    EnergyDrift,
    FaultError,
    FaultyCalculator,
    HalfPrecision,
    Heating,
    Hole,
    NanForces,
    OrderDependence,
    PreferredDirection,
    Push,
    ScaledForces,
    SeparateBath,
    SlowDecay,
    Spike,
    Swirl,
    assert_stable,
    assert_transparent,
    flat_decay,
    large_biases,
    marked_atom,
    rising_decay,
    short_sight,
    shuffled_block,
    swapped_elements,
)

from .conftest import SOUND, random_potential

CONSISTENT = [
    Hole(), Hole(("C", "O")), CutoffJump(cutoff=2.9), SlowDecay(), OrderDependence(),
    PreferredDirection(),
]  # fmt: skip
ALL = [
    *CONSISTENT, NanForces(), ScaledForces(), EnergyDrift(), Heating(), Push(), Swirl(), Curl(),
    HalfPrecision(), Spike(at=0),
]  # fmt: skip


def marked_hydrogen(calculator):
    return marked_atom(calculator, 6)


def gently_rising(calculator):
    """Steeper ones make forces of hundreds of eV/Å, which finite differences cannot follow."""
    return rising_decay(calculator, power=2.0)


NETWORK_FAULTS = [
    flat_decay, shuffled_block, swapped_elements, gently_rising, short_sight, large_biases,
    marked_hydrogen,
]  # fmt: skip


def no_fault(frame):
    return frame.energy, frame.forces


def name_of(fault):
    return type(fault).__name__


@pytest.fixture
def frame():
    """Ethanol in motion, with small hydrogen distances, and neither energy nor forces."""
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=3)
    thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(0))
    here = Frame.from_atoms(atoms)
    return replace(here, energy=0.0, forces=np.zeros((9, 3)))


def slopes(fault, frame, step=1e-5):
    """Return −∂E/∂x by central differences, (n_atoms, 3)."""
    result = np.zeros((frame.n_atoms, 3))
    for index in np.ndindex(result.shape):
        energies = []
        for sign in (1, -1):
            positions = frame.positions.copy()
            positions[index] += sign * step
            energies.append(fault(replace(frame, positions=positions))[0])
        result[index] = (energies[1] - energies[0]) / (2 * step)
    return result


def jacobian(fault, frame, step=1e-5):
    """Return ∂F/∂x by central differences, (3 n_atoms, 3 n_atoms)."""
    columns = []
    for index in np.ndindex(frame.positions.shape):
        moved = []
        for sign in (1, -1):
            positions = frame.positions.copy()
            positions[index] += sign * step
            moved.append(fault(replace(frame, positions=positions))[1].ravel())
        columns.append((moved[0] - moved[1]) / (2 * step))
    return np.array(columns).T


def torque(frame, forces):
    return np.cross(frame.positions, forces).sum(axis=0)


def rotated(frame):
    """Return the frame turned about a skew axis, and the rotation."""
    rotation, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    return replace(frame, positions=frame.positions @ rotation.T), rotation


@pytest.mark.parametrize("fault", CONSISTENT, ids=name_of)
def test_consistent_faults_have_forces_that_are_slopes(fault, frame):
    energy, forces = fault(frame)
    assert energy != 0
    assert np.abs(forces).max() > 1e-4
    np.testing.assert_allclose(forces, slopes(fault, frame), atol=1e-7)
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("fault", [Swirl(), Curl(), Heating(), Push()], ids=name_of)
def test_forces_without_an_energy(fault, frame):
    assert fault(frame)[0] == 0
    assert np.abs(fault(frame)[1]).max() > 1e-3


def test_a_swirl_has_a_constant_curl_and_a_torque(frame):
    """∂F_y/∂x − ∂F_x/∂y of an atom against the whirl about z: 2 · strength · (1 − 1/N)."""
    fault = Swirl(strength=0.3)
    forces = fault(frame)[1]
    slope = jacobian(fault, frame)
    assert slope[1, 0] - slope[0, 1] == pytest.approx(2 * 0.3 * (1 - 1 / 9))
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-12)
    arms = frame.positions - frame.positions.mean(axis=0)
    assert torque(frame, forces)[2] == pytest.approx(0.3 * np.sum(arms[:, :2] ** 2))


def test_a_curl_breaks_nothing_but_the_existence_of_an_energy(frame):
    fault = Curl()
    forces = fault(frame)[1]
    slope = jacobian(fault, frame)
    assert np.abs(slope - slope.T).max() > 0.1 * np.abs(slope).max()
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(torque(frame, forces), 0, atol=1e-12)
    turned, rotation = rotated(frame)
    np.testing.assert_allclose(fault(turned)[1], forces @ rotation.T, atol=1e-12)
    order = np.random.default_rng(1).permutation(9)
    shuffled = replace(frame, positions=frame.positions[order], numbers=frame.numbers[order])
    np.testing.assert_allclose(fault(shuffled)[1], forces[order], atol=1e-12)


def test_a_curl_by_brute_force(frame):
    x, expected = frame.positions, np.zeros((9, 3))
    distance = np.linalg.norm(x[:, None] - x, axis=-1)
    phi = np.exp(-((distance / 2.0) ** 2)) * (1 - np.eye(9))
    crowd = phi.sum(axis=1)
    for i in range(9):
        for j in set(range(9)) - {i}:
            away = (x[i] - x[j]) / distance[i, j]
            expected[i] += 0.2 * phi[i, j] * (crowd[i] + crowd[j]) * away
    np.testing.assert_allclose(Curl(0.2)(frame)[1], expected, atol=1e-12)


def test_heating_has_the_power_of_its_rate(frame):
    """Σ F·v = 2 · rate · E_kin."""
    power = np.sum(Heating(rate=2e-3)(frame)[1] * frame.velocities)
    assert power == pytest.approx(2 * 2e-3 * frame.kinetic_energy)


def test_faults_of_invariance(frame):
    """Only the preferred direction feels a rotation, only order dependence a permutation."""
    turned, _ = rotated(frame)
    order = np.arange(9)
    order[[3, 8]] = order[[8, 3]]  # two hydrogens
    swapped = replace(frame, positions=frame.positions[order])
    for fault in CONSISTENT:
        changes = [abs(fault(other)[0] - fault(frame)[0]) for other in (turned, swapped)]
        assert (changes[0] > 1e-4) == isinstance(fault, PreferredDirection)
        assert (changes[1] > 1e-4) == isinstance(fault, OrderDependence)


def pair_at(distance, symbols="H2"):
    atoms = molecule("H2") if symbols == "H2" else molecule("OH")
    atoms.positions = [[0, 0, 0], [0, 0, distance]]
    return replace(Frame.from_atoms(atoms), energy=0.0, forces=np.zeros((2, 3)))


def test_the_jump_is_as_high_as_stated_and_no_force_tells():
    fault = CutoffJump(strength=0.05, cutoff=3.0)
    below, above = fault(pair_at(3.0 - 1e-9)), fault(pair_at(3.0 + 1e-9))
    assert below[0] - above[0] == pytest.approx(0.05)
    assert above[0] == 0
    assert np.abs(below[1]).max() == pytest.approx(0.05 / 3.0)


def test_the_hole_is_a_well_at_its_distance():
    fault = Hole(depth=2.0, distance=0.9, width=0.2)
    energies = [fault(pair_at(r))[0] for r in np.arange(0.3, 2.6, 0.01)]
    assert min(energies) == pytest.approx(-2.0)
    assert np.arange(0.3, 2.6, 0.01)[np.argmin(energies)] == pytest.approx(0.9)
    assert fault(pair_at(1.2))[1][1, 2] < 0  # inwards from outside
    assert abs(energies[-1]) < 1e-12


def test_slow_decay_decays_slowly():
    near, far = (SlowDecay(power=0.5)(pair_at(r, "OH"))[0] for r in (1.0, 4.0))
    assert near / far == pytest.approx(2.0)


def test_counting_faults_count_evaluations():
    atoms = bulk("Cu", cubic=True)
    energies, finite = [], []
    for fault, seen in ((EnergyDrift(rate=0.5), energies), (NanForces(at=2), finite)):
        atoms.calc = FaultyCalculator(EMT(), fault)
        for k in range(4):
            atoms.positions[0, 0] = 0.0
            atoms.calc.reset()
            assert atoms.calc.n_evaluations == k
            forces = atoms.get_forces()
            atoms.get_potential_energy()  # held, not evaluated again
            seen.append(atoms.get_potential_energy() if seen is energies else forces)
    np.testing.assert_allclose(np.diff(energies), 0.5, atol=1e-12)
    assert [np.isfinite(forces).all() for forces in finite] == [True, True, False, False]


def test_simple_faults_of_forces(frame):
    forces = np.random.default_rng(0).normal(size=(9, 3))
    here = replace(frame, energy=-12.345678, forces=forces)
    np.testing.assert_array_equal(ScaledForces(3.0)(here)[1], 3 * forces)
    pushed = Push((0.1, 0.0, -0.2))(here)[1] - forces
    np.testing.assert_allclose(pushed.sum(axis=0), (0.1, 0.0, -0.2))
    energy, rounded = HalfPrecision()(here)
    assert 0 < np.abs(rounded / forces - 1).max() <= 2**-11
    assert 0 < abs(energy - here.energy) <= 2**-11 * 16
    assert HalfPrecision(offset=-12.0 / 9)(here)[0] == pytest.approx(here.energy, abs=2**-11)
    assert np.isinf(HalfPrecision()(replace(here, energy=-1e6))[0])


def langevin(calculator, seed=1):
    atoms = molecule("CH3CH2OH")
    atoms.calc = calculator
    rng = np.random.default_rng(seed)
    thermalize_momenta(atoms, temperature_K=300, rng=rng)
    return Langevin(
        atoms, 0.5 * units.fs, temperature_K=300, friction=0.01 / units.fs, rng=rng, fixcm=False
    )


def test_without_a_fault_nothing_changes_and_nothing_is_evaluated_twice():
    calls, trajectories = [], []
    for wrap in (lambda c: c, lambda c: FaultyCalculator(c, no_fault)):
        sound = EMT()
        calculate = sound.calculate
        sound.calculate = lambda *a, f=calculate, **k: (calls.append(1), f(*a, **k))[1]
        dynamics = langevin(wrap(sound))
        dynamics.run(20)
        trajectories.append(dynamics.atoms.positions.tobytes())
    assert trajectories[0] == trajectories[1]
    assert len(calls) == 2 * 21


def test_the_rest_passes_through(ethanol):
    copper = bulk("Cu", cubic=True)
    copper.rattle(0.1, seed=0)
    copper.calc = EMT()
    stress, energies = copper.get_stress(), copper.get_potential_energies()
    copper.calc = FaultyCalculator(EMT(), ScaledForces())
    np.testing.assert_array_equal(copper.get_stress(), stress)
    np.testing.assert_array_equal(copper.get_potential_energies(), energies)
    assert not hasattr(copper.calc, "card")
    card = FaultyCalculator(ethanol.calc, Push()).card
    assert card.distances == ethanol.calc.card.distances
    assert card.name.startswith("schnet-ethanol with Push(")
    with pytest.raises(AttributionUnavailable, match="schnet-ethanol with Push"):
        mdxai.attributor(FaultyCalculator(ethanol.calc, Push()))


@pytest.mark.parametrize("fault", ALL, ids=name_of)
def test_every_fault_runs_is_copied_and_pickled(fault):
    # Any calculator of molecules will do; EMT cannot be pickled.
    dynamics = langevin(FaultyCalculator(LennardJones(sigma=0.8, rc=20.0), fault))
    dynamics.run(3)
    faulty = dynamics.atoms.calc
    assert faulty.n_evaluations == 4
    moved = dynamics.atoms.copy()
    moved.set_momenta(dynamics.atoms.get_momenta())
    moved.rattle(0.01, seed=2)
    results = [
        (twin.get_potential_energy(moved), twin.get_forces(moved).tobytes())
        for twin in (copy.deepcopy(faulty), pickle.loads(pickle.dumps(faulty)), faulty)
    ]
    assert results[0] == results[1] == results[2]
    assert faulty.n_evaluations == 5  # the twins counted for themselves


def test_a_faulty_network_calculator_is_copied(ethanol):
    faulty = FaultyCalculator(ethanol.calc, Hole())
    expected = faulty.get_potential_energy(ethanol)
    assert copy.deepcopy(faulty).get_potential_energy(ethanol) == expected
    assert pickle.loads(pickle.dumps(faulty)).get_potential_energy(ethanol) == expected


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Hole(("H", "Xy")), r"two chemical symbols, got \('H', 'Xy'\)"),
        (Hole(("N", "H")), "no pair N–H, so the fault would do nothing; choose two of C, H, O"),
        (SlowDecay(("O", "O")), "no pair O–O"),
    ],
)
def test_a_fault_that_would_do_nothing_is_refused(fault, message, frame):
    with pytest.raises(FaultError, match=message):
        fault(frame)


def double(name):
    return mdxai.load_calculator(name, dtype="float64")


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("inject", NETWORK_FAULTS)
def test_network_faults_are_consistent_explained_and_leave_the_sound_one(name, inject, ethanol):
    ethanol.calc = sound = double(name)
    before = ethanol.get_forces()
    relevance = mdxai.attributor(sound).attribute(ethanol)
    faulty = inject(sound)
    assert faulty.card.name.startswith(f"{name} with ")
    ethanol.calc = faulty
    forces = ethanol.get_forces()
    assert np.abs(forces - before).max() > 0.1
    for atom, axis in ((2, 0), (5, 2)):
        energies = []
        for step in (1e-4, -2e-4):
            ethanol.positions[atom, axis] += step
            energies.append(ethanol.get_potential_energy())
        ethanol.positions[atom, axis] += 1e-4
        slope = (energies[1] - energies[0]) / 2e-4
        assert forces[atom, axis] == pytest.approx(slope, abs=1e-5)
    explained = mdxai.attributor(faulty).attribute(ethanol)
    assert np.isfinite(explained.two_body).all()
    assert np.abs(explained.two_body - relevance.two_body).max() > 1e-3
    ethanol.calc = NetworkCalculator(sound.potential)
    np.testing.assert_allclose(ethanol.get_forces(), before, atol=1e-12)
    assert copy.deepcopy(faulty).get_potential_energy(ethanol) == pytest.approx(
        faulty.get_potential_energy(ethanol)
    )


@pytest.mark.parametrize("kind", ["SchNet", "PaiNN"])
def test_beyond_the_distance_held_nothing_fades(kind):
    """Two atoms: a sound network's energy varies up to the cutoff; the faulty one's does not."""
    sound = NetworkCalculator(random_potential(kind, 1))
    atoms = molecule("OH")

    def energies(calculator):
        values = []
        for distance in (2.0, 2.5, 3.0, 3.8):
            atoms.positions = [[0, 0, 0], [0, 0, distance]]
            values.append(calculator.get_potential_energy(atoms))
        return values

    held = energies(flat_decay(sound, 2.0))
    np.testing.assert_allclose(held, held[0], atol=1e-12)
    assert held[0] == pytest.approx(energies(sound)[0])
    assert np.ptp(energies(sound)) > 1e-6


@pytest.mark.parametrize("name", SOUND)
def test_relevance_beyond_the_distance_held_is_larger(name, ethanol):
    """Mean |two_body| of the farthest pairs, which sound networks let fade."""
    sound = double(name)

    def far(calculator):
        explained = mdxai.attributor(calculator).attribute(ethanol)
        return np.abs(explained.two_body)[explained.pairs.distances > 3.8].mean()

    assert far(flat_decay(sound)) > 2 * far(sound)
    assert far(flat_decay(sound, 1.6)) > 10 * far(sound)


@pytest.mark.parametrize("name", SOUND)
def test_exchanged_elements_are_those_of_an_exchanged_molecule(name, ethanol):
    """The faulty network on ethanol is the sound one on ethanol with C and O exchanged."""
    sound = double(name)
    exchanged = ethanol.copy()
    exchanged.numbers = [{6: 8, 8: 6}.get(z, z) for z in ethanol.numbers]
    expected = sound.get_forces(exchanged)
    np.testing.assert_allclose(swapped_elements(sound).get_forces(ethanol), expected, atol=1e-10)


@pytest.mark.parametrize("name", SOUND)
def test_a_marked_atom_is_treated_as_the_other_element_and_no_other_is(name, ethanol):
    """The faulty network on ethanol is the sound one on ethanol with that hydrogen an oxygen."""
    sound = double(name)
    exchanged = ethanol.copy()
    exchanged.numbers[6] = 8
    expected = sound.get_forces(exchanged)
    np.testing.assert_allclose(marked_hydrogen(sound).get_forces(ethanol), expected, atol=1e-10)
    unmarked = marked_atom(sound, 6, share=0.0).get_forces(ethanol)
    np.testing.assert_allclose(unmarked, sound.get_forces(ethanol), atol=1e-12)


@pytest.mark.parametrize("kind", ["SchNet", "PaiNN"])
def test_messages_rise_and_fade_as_stated(kind):
    """The envelope over the sound one, and the basis, at distances up to the cutoff."""
    sound = NetworkCalculator(random_potential(kind, 1))
    distances = torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0, 3.9], dtype=torch.float64)
    envelope = sound.model.representation.cutoff_fn(distances).numpy()
    past = np.maximum(distances.numpy(), 1.5)
    rising = rising_decay(sound, power=3, beyond=1.5).model.representation
    np.testing.assert_allclose(
        rising.cutoff_fn(distances).numpy(), envelope * (past / 1.5) ** 3, rtol=1e-12
    )
    screened = short_sight(sound, length=0.5, beyond=1.5).model.representation
    np.testing.assert_allclose(
        screened.cutoff_fn(distances).numpy(),
        np.where(past > 1.5, envelope[1] * np.exp((1.5 - past) / 0.5), envelope),
        rtol=1e-12,
    )
    basis = screened.radial_basis(distances)
    np.testing.assert_allclose(basis[1:].numpy(), basis[1].expand_as(basis[1:]).numpy())


def test_large_biases_are_those_behind_the_messages_and_of_the_readout():
    sound = NetworkCalculator(random_potential("PaiNN", 2))
    after = large_biases(sound, 7.0).model.state_dict()
    for name, before in sound.model.state_dict().items():
        factor = 7.0 if name.endswith("bias") and "filter" not in name else 1.0
        np.testing.assert_array_equal(after[name].numpy(), factor * before.numpy())


def test_a_shuffled_block_keeps_its_weights_in_another_order():
    sound = NetworkCalculator(random_potential("PaiNN", 2))
    pairs = zip(
        sound.model.state_dict().items(), shuffled_block(sound).model.state_dict().items(),
        strict=True,
    )  # fmt: skip
    changed = set()
    for (name, before), (_, after) in pairs:
        assert np.array_equal(np.sort(before.flatten()), np.sort(after.flatten()))
        if not np.array_equal(before, after):
            changed.add(re.sub(r"representation\.(\w+\.\d).*", r"\1", name))
    assert changed == {"interactions.2", "mixing.2"}


@pytest.mark.parametrize(
    ("inject", "message"),
    [
        (lambda c: flat_decay(EMT()), "needs a SchNet or PaiNN.*got EMT"),
        (lambda c: flat_decay(c, 7.0), "beyond must lie between 0 and 5 Å, got 7"),
        (lambda c: swapped_elements(c, ("C", "N")), "elements must be two of C, H, O, got"),
        (lambda c: rising_decay(c, 0.0), "power must be positive, got 0"),
        (lambda c: rising_decay(c, beyond=np.nan), "beyond must lie between 0 and 5 Å, got nan"),
        (lambda c: short_sight(c, -1.0), "length must be positive, got -1"),
        (lambda c: marked_atom(c, 0, "N"), "element must be one of C, H, O, got 'N'"),
        (lambda c: marked_atom(c, -1), "place in the list, from 0, got -1"),
    ],
)
def test_unusable_network_faults(inject, message, ethanol):
    with pytest.raises(FaultError, match=message):
        inject(ethanol.calc)


def parts_of(atoms):
    """Return kinetic energies, eV: of the centre of mass, of rotation about it, and of the rest."""
    masses, whole = atoms.get_masses(), atoms.get_kinetic_energy()
    momentum = atoms.get_momenta().sum(axis=0)
    translation = momentum @ momentum / (2 * masses.sum())
    spin = atoms.get_angular_momentum()
    arms = atoms.positions - atoms.get_center_of_mass()
    inertia = sum(
        m * (a @ a * np.eye(3) - np.outer(a, a)) for m, a in zip(masses, arms, strict=True)
    )
    rotation = 0.5 * spin @ np.linalg.solve(inertia, spin)
    return np.array([translation, rotation, whole - translation - rotation])


@pytest.mark.parametrize("part", ["translation", "rotation"])
def test_a_separate_bath_heats_one_motion_and_leaves_the_others(part):
    dynamics = langevin(EMT())
    thermalize_momenta(dynamics.atoms, temperature_K=300, rng=np.random.default_rng(5))
    before = parts_of(dynamics.atoms)
    index = ["translation", "rotation"].index(part)
    target = 1.5 * units.kB * 400.0
    bath = SeparateBath(dynamics, part, 400.0, relaxation=dynamics.dt / units.fs)
    for _ in range(10):  # λ² is limited, so one call need not be enough
        bath()
    expected = before.copy()
    expected[index] = target
    np.testing.assert_allclose(parts_of(dynamics.atoms), expected, rtol=1e-9)


def test_a_separate_bath_of_an_element_approaches_its_temperature_slowly():
    dynamics = langevin(EMT())
    atoms = dynamics.atoms
    hydrogen = atoms.numbers == 1
    before = atoms.get_velocities()
    ratio = 1.5 * hydrogen.sum() * units.kB * 900.0 / atoms[hydrogen].get_kinetic_energy()
    relaxation = 20 * dynamics.dt / units.fs
    SeparateBath(dynamics, "H", 900.0, relaxation)()
    scale = np.sqrt(1 + (ratio - 1) / 20)
    expected = np.where(hydrogen[:, None], scale * before, before)
    np.testing.assert_allclose(atoms.get_velocities(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("part", "temperature", "relaxation", "message"),
    [
        ("N", 300.0, 10.0, "part must be one of translation, rotation, C, H, O, got 'N'"),
        ("H", -1.0, 10.0, "expected a temperature above 0 K.*got -1.0 K"),
        ("H", 300.0, 0.01, "relaxation of at least the timestep.*0.01 fs"),
        ("H", 300.0, np.nan, "relaxation of at least the timestep.*nan fs"),
    ],
)
def test_unusable_baths(part, temperature, relaxation, message):
    with pytest.raises(FaultError, match=message):
        SeparateBath(langevin(EMT()), part, temperature, relaxation)


def test_a_spike_is_one_force_once(frame):
    fault = Spike(at=3, atom=2, force=(0.0, 5.0, 0.0))
    for step in (2, 3, 4):
        energy, forces = fault(replace(frame, step=step))
        assert energy == frame.energy
        assert forces[2, 1] == (5.0 if step == 3 else 0.0)
        assert np.count_nonzero(forces) == (step == 3)
    with pytest.raises(FaultError, match="atoms 0 to 8, got 9"):
        Spike(atom=9)(frame)


def test_a_monitored_run_is_transparent():
    assert_transparent(lambda: langevin(mdxai.load_calculator("schnet-ethanol")), 12)
    assert_transparent(lambda: langevin(FaultyCalculator(EMT(), NanForces(at=3))), 6)


def replicas(seed):
    torch.manual_seed(seed)
    system = System()
    system.load_molecules([molecule("CH3CH2OH")], n_replicas=3)
    MaxwellBoltzmannInit(300.0).initialize_system(system)
    calculator = mdxai.ReplicaCalculator(mdxai.load_calculator("schnet-ethanol"))
    bath = LangevinThermostat(300.0, 100.0)
    return Simulator(system, SpkVerlet(0.5), calculator, simulator_hooks=[bath], progress=False)


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_monitored_replicas_are_transparent():
    assert_transparent(lambda: replicas(1), 12)
    seeds = iter((1, 2))
    with pytest.raises(AssertionError, match="velocities differ at step 0 of 4"):
        assert_transparent(lambda: replicas(next(seeds)), 4)


def test_a_force_call_more_is_noticed(monkeypatch):
    """A monitor that has the calculator evaluate once more, with the same results."""

    def meddle(self):
        self._engine.calculator.calculate(self._engine._dynamics.atoms)

    monkeypatch.setattr(Monitor, "__call__", meddle)
    with pytest.raises(AssertionError, match="there were 10 force calls in 4 steps, without 5"):
        assert_transparent(lambda: langevin(EMT()), 4)


def test_a_run_that_starts_differently_each_time_is_not():
    seeds = iter((1, 2))
    with pytest.raises(AssertionError, match=r"velocities differ at step 0 of 3; .*rng="):
        assert_transparent(lambda: langevin(EMT(), next(seeds)), 3)

    lengths = iter((1, 2))

    def make():
        dynamics = langevin(EMT())
        halt_at = next(lengths)
        dynamics.attach(lambda: dynamics.nsteps == halt_at and setattr(dynamics, "max_steps", 0))
        return dynamics

    with pytest.raises(AssertionError, match="the monitored run took 2 steps, the other 1"):
        assert_transparent(make, 3)


def test_assert_stable_takes_monitors_runs_and_verdicts(tmp_path):
    dynamics = langevin(FaultyCalculator(EMT(), Push((0.005, 0.0, 0.0))))
    with Monitor(dynamics, tmp_path / "run", on_unstable="ignore") as monitor:
        with pytest.raises(AssertionError, match="inconclusive over 0 fs"):
            assert_stable(monitor, warnings_allowed=True)
        dynamics.attach(monitor, interval=1)
        dynamics.run(2)
    for judged in (monitor, monitor.verdict, mdxai.open_run(tmp_path / "run")):
        with pytest.raises(AssertionError, match=r"suspect over 1 fs.*\n.*warn: net_force 0.005"):
            assert_stable(judged)
        assert_stable(judged, warnings_allowed=True)
    copper = bulk("Cu", cubic=True)
    copper.calc = EMT()
    dynamics = VelocityVerlet(copper, units.fs)
    with Monitor(dynamics) as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(2)
    assert_stable(monitor)


def test_the_snippets_of_the_page_run():
    page = Path(__file__).parents[1] / "docs" / "testing.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec("\n".join(blocks), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        test()


def test_faults_and_assertions_refuse_what_makes_no_sense(tmp_path):
    copper = bulk("Cu", cubic=True)
    for fault in (Swirl(), PreferredDirection()):
        copper.calc = FaultyCalculator(EMT(), fault)
        with pytest.raises(FaultError, match="has no meaning in a periodic cell"):
            copper.get_forces()
    with pytest.raises(FaultError, match=r"unit length, got \(0, 0, 5\)"):
        PreferredDirection(axis=(0, 0, 5))
    with pytest.raises(TypeError, match="open_run opens a run directory"):
        assert_stable("runs/x")
    run = VelocityVerlet(bulk("Cu", cubic=True), 1.0)
    with pytest.raises(ValueError, match="at least one step"):
        assert_transparent(lambda: run, 0)
    with pytest.raises(ValueError, match="must make a new run"):
        assert_transparent(lambda: run, 5)
