"""Every fault of a potential does what it claims and nothing else."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

import mdxai
from mdxai.attribution import AttributionUnavailable
from mdxai.frame import Frame
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
    SlowDecay,
    Spike,
    Swirl,
)
from tests.conftest import ethanol_dynamics, heated, shaken

CONSISTENT = [
    Hole(), Hole(("C", "O")), CutoffJump(cutoff=2.9), SlowDecay(), OrderDependence(),
    PreferredDirection(),
]  # fmt: skip


ALL = [
    *CONSISTENT, NanForces(), ScaledForces(), EnergyDrift(), Heating(), Push(), Swirl(), Curl(),
    HalfPrecision(), Spike(at=0),
]  # fmt: skip


def no_fault(frame):
    return frame.energy, frame.forces


def name_of(fault):
    return type(fault).__name__


@pytest.fixture
def frame():
    """Ethanol in motion, with small hydrogen distances, and neither energy nor forces."""
    here = Frame.from_atoms(heated(shaken(amplitude=0.1, seed=3)))
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


def test_without_a_fault_nothing_changes_and_nothing_is_evaluated_twice():
    calls, trajectories = [], []
    for wrap in (lambda c: c, lambda c: FaultyCalculator(c, no_fault)):
        sound = EMT()
        calculate = sound.calculate
        sound.calculate = lambda *a, f=calculate, **k: (calls.append(1), f(*a, **k))[1]
        dynamics = ethanol_dynamics(wrap(sound), 300)
        dynamics.run(20)
        trajectories.append(dynamics.atoms.positions.tobytes())
    assert trajectories[0] == trajectories[1]
    assert len(calls) == 2 * 21


def test_other_results_and_the_card_pass_through(ethanol):
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
    dynamics = ethanol_dynamics(FaultyCalculator(LennardJones(sigma=0.8, rc=20.0), fault), 300)
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


def test_a_spike_is_one_force_once(frame):
    fault = Spike(at=3, atom=2, force=(0.0, 5.0, 0.0))
    for step in (2, 3, 4):
        energy, forces = fault(replace(frame, step=step))
        assert energy == frame.energy
        assert forces[2, 1] == (5.0 if step == 3 else 0.0)
        assert np.count_nonzero(forces) == (step == 3)
    with pytest.raises(FaultError, match="atoms 0 to 8, got 9"):
        Spike(atom=9)(frame)


def test_faults_refuse_what_makes_no_sense():
    copper = bulk("Cu", cubic=True)
    for fault in (Swirl(), PreferredDirection()):
        copper.calc = FaultyCalculator(EMT(), fault)
        with pytest.raises(FaultError, match="has no meaning in a periodic cell"):
            copper.get_forces()
    with pytest.raises(FaultError, match=r"unit length, got \(0, 0, 5\)"):
        PreferredDirection(axis=(0, 0, 5))
