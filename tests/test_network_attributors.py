"""Relevance of networks: against enumerated walks, and what it must obey."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import schnetpack
import torch
from ase import Atoms
from ase.build import molecule
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import mdxai
from mdxai.attribution import (
    AttributionUnavailable,
    FlowAttributor,
    Rule,
    WalkAttributor,
)
from mdxai.calculators import CalculatorError
from mdxai.frame import Frame

from .conftest import (
    KINDS,
    SOUND,
    ethanol_with,
    random_positions,
    random_potential,
    shaken,
)
from .walk_enumeration import assert_equals_enumeration, by_set, schnetpack_inputs, walk_relevance


@settings(max_examples=8, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 1000),
    gamma=st.sampled_from([0.0, 0.1, 0.5]),
    blocks=st.integers(1, 6),
    width=st.integers(3, 10),
    shared=st.booleans(),
)
def test_random_models_equal_enumeration(kind, seed, gamma, blocks, width, shared):
    changes = {"n_interactions": blocks, "n_atom_basis": width, "shared_interactions": shared}
    if kind == "PaiNN":
        changes["shared_filters"] = shared
    potential = random_potential(kind, seed, **changes)
    n_atoms = 3 if blocks <= 4 else 2  # three atoms have 2,187 walks through six blocks
    atoms = Atoms("COH"[:n_atoms], random_positions(n_atoms, seed))
    attribution = WalkAttributor(potential, Rule(gamma)).attribute(atoms)
    assume(abs(attribution.output) < 1e9)  # some random networks explode, and lose their digits
    assert_equals_enumeration(attribution, potential, atoms, gamma, 1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [0.0, 0.1])
def test_four_atoms_three_blocks_equal_enumeration(kind, gamma):
    potential = random_potential(kind, 11)
    atoms = Atoms("COH2", random_positions(4, 12))
    attribution = WalkAttributor(potential, Rule(gamma)).attribute(atoms)
    assert_equals_enumeration(attribution, potential, atoms, gamma, 1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_equals_enumeration(kind):
    exact = random_potential(kind, 13)
    single = random_potential(kind, 13, dtype=torch.float32)
    atoms = Atoms("COH2", random_positions(4, 14))
    attribution = WalkAttributor(single, Rule(0.1)).attribute(atoms)
    assert_equals_enumeration(attribution, exact, atoms, 0.1, 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_small_periodic_cell_equals_enumeration(kind):
    """Pairs have several images within the cutoff, and atoms see their own images."""
    potential = random_potential(kind, 15, n_interactions=2)
    cell = [[4.5, 0, 0], [0.5, 3.8, 0], [0, 0, 5]]
    atoms = Atoms("COH", random_positions(3, 16), cell=cell, pbc=True)
    attribution = WalkAttributor(potential, Rule(0.1)).attribute(atoms)
    assert_equals_enumeration(attribution, potential, atoms, 0.1, 1e-10)


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("gamma", [0.0, 0.1])
def test_trained_models_equal_enumeration(name, gamma):
    """On ethanol, for the walks within a few pairs of atoms."""
    calculator = mdxai.load_calculator(name, dtype="float64")
    atoms = shaken(amplitude=0.1, seed=2)
    attribution = mdxai.attributor(calculator, gamma=gamma).attribute(atoms)
    inputs = schnetpack_inputs(atoms, calculator.card.cutoff)
    scale = np.abs(attribution.two_body).max()
    for pair in [(0, 1), (1, 2), (2, 3), (4, 8)]:
        sets = by_set(walk_relevance(calculator.model, inputs, gamma, pair))
        here = (attribution.pairs.i == pair[0]) & (attribution.pairs.j == pair[1])
        assert attribution.two_body[here].item() == pytest.approx(
            sets[frozenset(pair)], abs=1e-10 * scale
        )
        assert attribution.one_body[pair[0]] == pytest.approx(
            sets[frozenset(pair[:1])], abs=1e-10 * scale
        )


@pytest.mark.parametrize("name", SOUND)
def test_body_orders_sum_to_the_total_and_the_residual_is_what_is_left(name):
    calculator = mdxai.load_calculator(name)
    atoms = ethanol_with(calculator)
    attribution = mdxai.attributor(calculator).attribute(atoms)
    assert attribution.by_body_order.sum() == pytest.approx(attribution.relevance_total, abs=1e-12)
    output = atoms.get_potential_energy() - len(atoms) * calculator.card.offset_per_atom
    assert attribution.output == pytest.approx(output, abs=1e-5)
    assert attribution.residual == pytest.approx(output - attribution.atoms.sum(), abs=1e-5)


@pytest.mark.parametrize("name", SOUND)
def test_relevance_follows_permutations_rotations_and_shifts(name):
    attributor = mdxai.attributor(mdxai.load_calculator(name, dtype="float64"))
    atoms = shaken(amplitude=0.1, seed=4)
    here = attributor.attribute(atoms)
    atoms.rotate(73, (1, 2, 3))
    atoms.translate((3, -50, 7))
    np.testing.assert_allclose(attributor.attribute(atoms).two_body, here.two_body, atol=1e-10)
    order = np.random.default_rng(0).permutation(len(atoms))
    permuted = attributor.attribute(atoms[order])
    np.testing.assert_allclose(permuted.atoms, here.atoms[order], atol=1e-10)
    np.testing.assert_allclose(np.sort(permuted.two_body), np.sort(here.two_body), atol=1e-10)


@pytest.mark.parametrize("name", SOUND)
def test_two_far_copies_double_everything(name):
    attributor = mdxai.attributor(mdxai.load_calculator(name, dtype="float64"))
    one = ethanol_with(None)
    far = one.copy()
    far.translate((100, 0, 0))
    single, double = attributor.attribute(one), attributor.attribute(one + far)
    np.testing.assert_allclose(double.by_body_order, 2 * single.by_body_order, atol=1e-9)
    assert double.output == pytest.approx(2 * single.output)


@pytest.mark.parametrize("name", SOUND)
def test_bonds_carry_the_strongest_relevance(name):
    """What a chemist expects of a sound model: the C–C and C–O bonds come before any non-bond."""
    atoms = ethanol_with(None)
    attribution = mdxai.attributor(mdxai.load_calculator(name)).attribute(atoms)
    strength = np.abs(attribution.two_body)
    bonded = attribution.pairs.distances < 1.6
    heavy = (atoms.numbers[attribution.pairs.i] > 1) & (atoms.numbers[attribution.pairs.j] > 1)
    assert strength[bonded & heavy].min() > strength[~bonded & heavy].max()
    assert np.median(strength[bonded]) > 2 * np.median(strength[~bonded])


def test_the_model_is_left_as_found(ethanol):
    before = copy.deepcopy(ethanol.calc.model.state_dict())
    forces = ethanol.get_forces().copy()
    attributor = mdxai.attributor(ethanol.calc)
    attributor.attribute(ethanol)
    broken = ethanol.copy()
    broken.positions[0, 0] = np.nan
    with pytest.raises(AttributionUnavailable, match="step 0 are not finite"):
        attributor.attribute(Frame.from_atoms(broken))
    for name, value in ethanol.calc.model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    np.testing.assert_array_equal(ethanol.get_forces(), forces)


def test_compiled_attribution_equals_eager():
    compiled, eager = (
        mdxai.load_calculator("schnet-ethanol", compile=flag) for flag in (True, False)
    )
    atoms = ethanol_with(None)
    explanations = []
    for calculator in (compiled, eager):
        explain = mdxai.attributor(calculator, method="walks")
        atoms.calc = calculator
        atoms.get_forces()
        explanations.append(explain.attribute(atoms))
        assert explain.runs_compiled == (calculator is compiled)
    ours, theirs = explanations
    for name in ("strengths", "one_body", "by_body_order", "atoms"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_a_periodic_pair_are_summed(kind):
    """In a doubled cell every pair is within reach once: sums per image must be the same."""
    potential = random_potential(kind, 9, cutoff=3.0)
    small = Atoms("CO", [[0, 0, 0], [1.2, 0.1, 0]], cell=[2.8, 20, 20], pbc=True)
    attribution = WalkAttributor(potential).attribute(small)
    assert attribution.several_images.tolist() == [True]
    assert attribution.pairs.distances[0] == pytest.approx(np.hypot(1.2, 0.1))
    flow = FlowAttributor(potential)
    once, twice = flow.attribute(small), flow.attribute(small.repeat((2, 1, 1)))
    assert len(once.pairs) > 1
    assert twice.strengths.sum() == pytest.approx(2 * once.strengths.sum())


@pytest.mark.parametrize("name", SOUND)
def test_activations_of_a_force_call_give_the_same_relevance(name):
    atoms = shaken(amplitude=0.1, seed=3)
    cold = mdxai.attributor(mdxai.load_calculator(name)).attribute(atoms)
    atoms.calc = mdxai.load_calculator(name)
    explain = mdxai.attributor(atoms.calc)
    atoms.get_forces()
    assert atoms.calc.running_potential.last_activations.belong_to(Frame.from_atoms(atoms))
    np.testing.assert_allclose(explain.attribute(atoms).two_body, cold.two_body, atol=1e-6)
    moved = atoms.copy()
    moved.positions[0] += 0.2  # a frame that was not the last evaluated one
    fresh = mdxai.attributor(mdxai.load_calculator(name)).attribute(moved)
    np.testing.assert_allclose(explain.attribute(moved).two_body, fresh.two_body, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_changed_weights_are_noticed(kind):
    potential = random_potential(kind, 4)
    atoms = Atoms("COH2", random_positions(4, 5))
    explain = WalkAttributor(potential)
    before = explain.attribute(atoms)
    with torch.no_grad():
        for parameter in potential.network.parameters():
            parameter.mul_(1.05)
    after = explain.attribute(atoms)
    expected = WalkAttributor(copy.deepcopy(potential)).attribute(atoms)
    np.testing.assert_array_equal(after.two_body, expected.two_body)
    assert not np.allclose(after.two_body, before.two_body)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_what_single_frames_give(kind):
    potential = random_potential(kind, 6)
    frames = [Atoms("COH", random_positions(3, 1)), Atoms("COH2", random_positions(4, 2))] * 8
    explain = WalkAttributor(potential, body_order=3)
    for one, batched in zip(frames, explain.attribute_many(frames), strict=True):
        alone = explain.attribute(one)
        assert batched.output == pytest.approx(alone.output)
        for name in ("atoms", "one_body", "strengths", "by_body_order", "triples", "three_body"):
            np.testing.assert_allclose(
                getattr(batched, name), getattr(alone, name), atol=1e-11, err_msg=name
            )
        np.testing.assert_array_equal(batched.pairs.j, alone.pairs.j)
    assert explain.attribute_many([]) == []


def test_attributing_while_another_thread_asks_for_forces(ethanol):
    explain = mdxai.attributor(ethanol.calc)
    expected = explain.attribute(ethanol).two_body
    frame = Frame.from_atoms(ethanol)
    busy = ethanol.copy()
    busy.calc = ethanol.calc
    stop = threading.Event()

    def simulate():
        while not stop.is_set():
            busy.rattle(1e-3)
            busy.get_forces()

    thread = threading.Thread(target=simulate)
    thread.start()
    try:
        for _ in range(20):
            np.testing.assert_allclose(explain.attribute(frame).two_body, expected, atol=1e-5)
    finally:
        stop.set()
        thread.join()


def test_changed_weights_are_not_mixed_with_old_activations(ethanol):
    explain = mdxai.attributor(ethanol.calc, method="walks")
    ethanol.get_forces()
    explain.attribute(ethanol)
    with torch.no_grad():
        for parameter in ethanol.calc.model.parameters():
            parameter.mul_(1.05)
    fresh = mdxai.attributor(ethanol.calc, method="walks").attribute(ethanol.copy())
    changed = explain.attribute(ethanol)
    np.testing.assert_allclose(changed.two_body, fresh.two_body, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_of_other_widths_equal_enumeration(kind):
    """Filters wider than the features, three readout layers."""
    changes = {"n_filters": 17} if kind == "SchNet" else {}
    potential = random_potential(kind, 32, n_interactions=2, n_atom_basis=10, **changes)
    deep = schnetpack.atomistic.Atomwise(n_in=10, n_layers=3).double().requires_grad_(False)
    potential.network.output_modules[0] = deep
    atoms = Atoms("COH", random_positions(3, 33))
    attribution = WalkAttributor(potential, Rule(0.1)).attribute(atoms)
    assert_equals_enumeration(attribution, potential, atoms, 0.1, 1e-10)


@pytest.mark.parametrize("name", SOUND)
def test_every_frame_is_checked_whatever_came_before(name):
    explain = mdxai.attributor(mdxai.load_calculator(name), method="walks")
    sound, broken = Atoms("CO", [[0, 0, 0], [0, 0, 1.2]]), Atoms("CO", [[0, 0, 0], [0, 0, 0]])
    explain.attribute(sound)
    with pytest.raises(CalculatorError, match="on top of each other"):
        explain.attribute(broken)
    with pytest.raises(CalculatorError, match="on top of each other"):
        explain.attribute_many([sound, broken])


def test_one_attributor_in_many_threads():
    explain = mdxai.attributor(mdxai.load_calculator("painn-ethanol"), method="walks")
    molecules = [molecule(name) for name in ("CH3CH2OH", "H2O", "CH4", "CH3OH")]
    truth = [explain.attribute(atoms).two_body for atoms in molecules]
    wrong = []

    def work(k):
        found = (explain.attribute(molecules[k]).two_body for _ in range(15))
        wrong.extend(k for two in found if not np.allclose(two, truth[k], atol=1e-5))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_published_models_refuse_elements_their_embedding_lacks():
    potential = random_potential("PaiNN", 34)
    for number in (0, 101):
        with pytest.raises(CalculatorError, match="takes atomic numbers 1 to"):
            WalkAttributor(potential).attribute(Atoms([number, 6], [[0, 0, 0], [0, 0, 2]]))
