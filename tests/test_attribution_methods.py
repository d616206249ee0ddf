"""Three-body relevance, flow, single walks, black-box methods: each against a second derivation."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import schnetpack
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from hypothesis import given, settings
from hypothesis import strategies as st

import mdxai
from mdxai.attribution import (
    AttributionError,
    AttributionUnavailable,
    ExpansionAttributor,
    FlowAttributor,
    HessianAttributor,
    Rule,
    WalkAttributor,
    all_walks,
    difference,
    partial_forces,
)
from mdxai.calculators import CalculatorError
from mdxai.frame import Frame

from .conftest import SOUND, random_positions, random_potential
from .test_attribution import assert_equals_enumeration, schnetpack_inputs
from .walk_enumeration import by_set, walk_relevance

KINDS = ("SchNet", "PaiNN")
LJ_CUTOFF = 1000.0


def assert_three_body_equals(attribution, sets, tolerance):
    triples = map(frozenset, attribution.triples.tolist())
    found = dict(zip(triples, attribution.three_body, strict=True))
    for trio, value in sets.items():
        if len(trio) == 3:
            assert found.get(trio, 0.0) == pytest.approx(value, abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks", [4, 5, 6])
def test_three_body_of_deep_networks_equals_enumeration(kind, blocks):
    potential = random_potential(kind, blocks, n_interactions=blocks, n_atom_basis=6)
    atoms = Atoms("COH", random_positions(3, blocks))
    truth = walk_relevance(
        potential.network, schnetpack_inputs(atoms, potential.cutoff), 0.1, range(3)
    )
    attribution = WalkAttributor(potential, Rule(0.1), body_order=3).attribute(atoms)
    scale = max(map(abs, truth.values()))
    assert_three_body_equals(attribution, by_set(truth), 1e-9 * scale)


@pytest.mark.parametrize("kind", KINDS)
def test_three_body_in_float32_equals_enumeration(kind):
    exact = random_potential(kind, 21, n_interactions=2)
    single = random_potential(kind, 21, n_interactions=2, dtype=torch.float32)
    atoms = Atoms("COH2", random_positions(4, 22))
    truth = walk_relevance(exact.network, schnetpack_inputs(atoms, exact.cutoff), 0.1, range(4))
    attribution = WalkAttributor(single, Rule(0.1), body_order=3).attribute(atoms)
    sets = by_set(truth)
    assert_three_body_equals(attribution, sets, 1e-4 * max(map(abs, sets.values())))


@pytest.mark.parametrize("name", SOUND)
def test_three_body_of_trained_models_equals_enumeration(name):
    """On real ethanol: the walks within C–C–O and within the hydroxyl's H–O–C."""
    calculator = mdxai.load_calculator(name, dtype="float64")
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=5)
    attribution = mdxai.attributor(calculator, method="walks", body_order=3).attribute(atoms)
    inputs = schnetpack_inputs(atoms, calculator.card.cutoff)
    scale = np.abs(attribution.three_body).max()
    for trio in [(0, 1, 2), (1, 2, 3)]:
        sets = by_set(walk_relevance(calculator.model, inputs, 0.1, trio))
        here = (attribution.triples == trio).all(1)
        assert attribution.three_body[here].item() == pytest.approx(
            sets[frozenset(trio)], abs=1e-10 * scale
        )


@settings(max_examples=8, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 1000),
    gamma=st.sampled_from([0.0, 0.1, 0.5]),
    blocks=st.integers(1, 3),
    periodic=st.booleans(),
)
def test_three_body_single_walks_and_inclusive_strength_equal_enumeration(
    kind, seed, gamma, blocks, periodic
):
    potential = random_potential(kind, seed, n_interactions=blocks, n_atom_basis=6)
    cell = {"cell": [[6.5, 0, 0], [0.5, 5.8, 0], [0, 0, 6]], "pbc": True} if periodic else {}
    atoms = Atoms("COH2", random_positions(4, seed), **cell)
    inputs = schnetpack_inputs(atoms, potential.cutoff)
    truth = walk_relevance(potential.network, inputs, gamma, range(4))
    sets = by_set(truth)
    tolerance = 1e-10 * max(map(abs, truth.values()))
    explain = WalkAttributor(potential, Rule(gamma), body_order=3)
    attribution = explain.attribute(atoms)
    assert_three_body_equals(attribution, sets, 10 * tolerance)
    four = sum(v for s, v in sets.items() if len(s) == 4)
    assert attribution.by_body_order[3] == pytest.approx(four, abs=100 * tolerance)
    walks = all_walks(explain, atoms)
    assert len(walks.atoms) == len(truth)
    for walk, value in zip(walks.atoms.tolist(), walks.relevance, strict=True):
        assert value == pytest.approx(truth[tuple(walk)], abs=tolerance)
    inclusive, absolute = explain.inclusive_strength(atoms), walks.absolute_strength()
    for i, j in [(0, 1), (1, 3), (2, 2)]:
        through = [v for walk, v in truth.items() if i in walk and j in walk]
        assert inclusive[i, j] == pytest.approx(sum(through), abs=100 * tolerance)
        assert absolute[i, j] == pytest.approx(np.abs(through).sum(), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks", [1, 3])
def test_flow_equals_enumeration(kind, blocks):
    potential = random_potential(kind, 3, n_interactions=blocks)
    atoms = Atoms("COH2", random_positions(4, 5))
    flow = FlowAttributor(potential, Rule(0.1)).attribute(atoms)
    inputs = schnetpack_inputs(atoms, potential.cutoff)
    truth = walk_relevance(potential.network, inputs, 0.1, range(4))
    for k, (i, j) in enumerate(zip(flow.pairs.i, flow.pairs.j, strict=True)):
        for step in range(blocks):
            passing = [v for w, v in truth.items() if {w[step], w[step + 1]} == {i, j}]
            assert flow.by_layer[step, k] == pytest.approx(sum(passing), abs=1e-12)
    np.testing.assert_allclose(flow.strengths, flow.by_layer.sum(0))


@pytest.mark.parametrize("kind", KINDS)
def test_lists_and_matrices_agree(kind):
    """More than 40 atoms are laid out as a list: far copies must repeat what the matrix gives."""
    potential = random_potential(kind, 7)
    one = Atoms("COH2", random_positions(4, 8))
    many = Atoms()
    for k in range(12):
        copied = one.copy()
        copied.translate((50 * k, 0, 0))
        many += copied
    explain = WalkAttributor(potential, body_order=3)
    single, repeated = explain.attribute(one), explain.attribute(many)
    for name in ("atoms", "one_body", "strengths", "three_body"):
        expected = np.tile(getattr(single, name), 12)
        np.testing.assert_allclose(getattr(repeated, name), expected, atol=1e-11, err_msg=name)
    np.testing.assert_allclose(repeated.by_body_order, 12 * single.by_body_order, atol=1e-10)
    flow = FlowAttributor(potential)
    np.testing.assert_allclose(
        np.sort(flow.attribute(many).strengths),
        np.sort(np.tile(flow.attribute(one).strengths, 12)),
        atol=1e-11,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_a_periodic_pair(kind):
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
def test_the_force_calls_activations_give_the_same(name):
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=3)
    cold = mdxai.attributor(mdxai.load_calculator(name)).attribute(atoms)
    atoms.calc = mdxai.load_calculator(name)
    explain = mdxai.attributor(atoms.calc)
    atoms.get_forces()
    assert atoms.calc._engine.last_activations.belong_to(Frame.from_atoms(atoms))
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
def test_max_bias_hands_relevance_back(kind):
    """Without γ, a single ruled layer whose bias is handed back conserves what it is given."""
    potential = random_potential(kind, 5, n_interactions=1)
    atoms = Atoms("COH2", random_positions(4, 6))
    kept = WalkAttributor(potential, Rule(0.1)).attribute(atoms)
    returned = WalkAttributor(potential, Rule(0.1, max_bias=True)).attribute(atoms)
    last_bias = potential.network.output_modules[0].outnet[-1].bias.item() * len(atoms)
    assert returned.by_body_order.sum() == pytest.approx(returned.relevance_total)
    if kind == "SchNet":  # the only biases left are the linear layers', whose share is exact
        outward = potential.network.representation.interactions[0].f2out[1].bias
        explain = WalkAttributor(potential, Rule(0.1, max_bias=True))
        network, _ = explain.linearised(Frame.from_atoms(atoms))
        absorbed = last_bias + float((network.top @ outward).sum())
        assert returned.residual == pytest.approx(absorbed, abs=1e-9)
    assert not np.isclose(kept.residual, returned.residual)


@pytest.mark.parametrize("kind", KINDS)
def test_many_frames_in_one_batch(kind):
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


def test_large_systems_flow_automatically():
    potential = random_potential("SchNet", 1)
    calculator = mdxai.load_calculator("schnet-ethanol")
    grid = 3.0 * np.indices((7, 7, 7)).reshape(3, -1).T
    assert mdxai.attributor(calculator).attribute(Atoms("H343", grid)).method == "flow"
    assert mdxai.attributor(calculator).attribute(molecule("CH3CH2OH")).method == "walks"
    flow = FlowAttributor(potential).attribute(Atoms("COH", random_positions(3, 1)))
    with pytest.raises(AttributionUnavailable, match="'flow' gives no two-body relevance"):
        _ = flow.two_body


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


def test_sets_that_make_no_sense_are_refused(ethanol):
    explain = mdxai.attributor(ethanol.calc, method="walks")
    with pytest.raises(ValueError, match="has atoms 0 to 8"):
        explain.relevance_of_sets(ethanol, [[0, 9]])
    with pytest.raises(ValueError, match="names an atom twice"):
        explain.relevance_of_sets(ethanol, [[1, 1]])
    with pytest.raises(ValueError, match="body_order must be one of"):
        mdxai.attributor(ethanol.calc, body_order=4)
    with pytest.raises(ValueError, match="method must be one of auto"):
        mdxai.attributor(ethanol.calc, method="guess")
    with pytest.raises(AttributionUnavailable, match="walks, more than"):
        all_walks(explain, Atoms("H60", 3.0 * np.indices((4, 4, 4)).reshape(3, -1).T[:60]))


def lennard_jones(positions):
    """Return 4ε[(σ/r)¹² − (σ/r)⁶] of all pairs as a matrix, ε = 1 eV, σ = 1 Å."""
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    np.fill_diagonal(distances, np.inf)
    return 4 * (distances**-12 - distances**-6)


def test_expansion_of_a_pair_potential_is_that_potential():
    atoms = Atoms("Ar4", random_positions(4, 3))
    calculator = LennardJones(sigma=1.0, epsilon=1.0, rc=LJ_CUTOFF)
    attribution = ExpansionAttributor(calculator, body_order=3).attribute(atoms)
    truth = lennard_jones(atoms.positions)[attribution.pairs.i, attribution.pairs.j]
    np.testing.assert_allclose(attribution.two_body, truth, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(attribution.three_body, 0, atol=1e-9)
    np.testing.assert_allclose(attribution.one_body, 0, atol=1e-12)
    assert attribution.by_body_order.sum() == pytest.approx(attribution.output)
    assert attribution.relevance_total == pytest.approx(attribution.output)


class Springs(Calculator):
    """Harmonic springs between all atoms: E = Σ ½ k r² with k_ij = i + j + 1."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (as ASE has it)

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        index = np.arange(len(atoms))
        k = (index[:, None] + index + 1) * (1 - np.eye(len(atoms)))
        apart = atoms.positions[:, None] - atoms.positions
        self.results["energy"] = 0.25 * (k * (apart**2).sum(-1)).sum()
        self.results["forces"] = -(k[:, :, None] * apart).sum(1)


def test_hessian_blocks_of_springs():
    atoms = Atoms("Ar4", random_positions(4, 3))
    attribution = HessianAttributor(Springs()).attribute(atoms)
    expected = (attribution.pairs.i + attribution.pairs.j + 1) * np.sqrt(3)
    np.testing.assert_allclose(attribution.strengths, expected, rtol=1e-7)


def test_partial_forces_of_coulomb_obey_newton():
    charges = torch.tensor([1.0, -0.5, 0.7, -1.2], dtype=torch.float64)
    positions = random_positions(4, 4)

    def atom_energies(x):
        distances = (x[:, None] - x + 10 * torch.eye(4)[:, :, None]).norm(dim=-1)
        inverse = (1 - torch.eye(4)) / distances
        return 0.5 * (charges[:, None] * charges * inverse).sum(1)

    forces = partial_forces(atom_energies, positions)
    i, j = np.triu_indices(4, 1)
    np.testing.assert_allclose(forces[i, j], -forces[j, i], atol=1e-12)
    apart = positions[j] - positions[i]
    expected = 0.5 * (charges[i] * charges[j]).numpy() / np.linalg.norm(apart, axis=1) ** 3
    np.testing.assert_allclose(forces[i, j], expected[:, None] * apart, rtol=1e-9)
    np.testing.assert_array_equal(partial_forces(atom_energies, positions, atom=2), forces[2])


def test_black_box_methods_take_any_calculator(ethanol):
    copper = bulk("Cu", cubic=True)
    hessian = mdxai.attributor(EMT(), method="hessian").attribute(copper)
    assert hessian.pairs.distances.max() < 2.6  # the minimum image
    assert np.ptp(hessian.strengths) < 1e-3 * hessian.strengths.max()  # fcc: all six are alike
    with pytest.raises(AttributionUnavailable, match="periodic"):
        mdxai.attributor(EMT(), method="expansion").attribute(copper)
    before = ethanol.get_forces().copy()
    mdxai.attributor(ethanol.calc, method="hessian").attribute(ethanol)
    assert not ethanol.calc.calculation_required(ethanol, ["forces"])
    np.testing.assert_array_equal(ethanol.get_forces(), before)


def test_difference_of_two_frames():
    calculator = mdxai.load_calculator("painn-ethanol", dtype="float64")
    explain = mdxai.attributor(calculator, method="walks", body_order=3)
    before, after = molecule("CH3CH2OH"), molecule("CH3CH2OH")
    after.set_distance(1, 2, 1.6, fix=0)  # stretch C–O
    after.positions[3] += [0, 9, 0]  # and take the hydroxyl H out of reach
    one, two = explain.attribute(before), explain.attribute(after)
    change = difference(two, one)
    assert change.output == pytest.approx(two.output - one.output)
    assert change.two_body.sum() == pytest.approx(two.two_body.sum() - one.two_body.sum())
    assert change.three_body.sum() == pytest.approx(two.three_body.sum() - one.three_body.sum())
    assert len(change.pairs) > len(two.pairs)
    c_o = np.flatnonzero((change.pairs.i == 1) & (change.pairs.j == 2)).item()
    assert change.pairs.distances[c_o] == pytest.approx(1.6)
    none = difference(one, one)
    assert not none.strengths.any()
    assert not none.atoms.any()
    flow = mdxai.attributor(calculator, method="flow").attribute(before)
    with pytest.raises(AttributionError, match="a difference needs two"):
        difference(flow, one)


@pytest.mark.parametrize("name", SOUND)
def test_partial_forces_of_networks(name):
    potential = mdxai.load_calculator(name, dtype="float64").potential
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    frame = Frame.from_atoms(atoms)
    partial = potential.partial_forces(frame)
    np.testing.assert_allclose(partial.sum(0), potential.evaluate(frame)[1], atol=1e-10)
    np.testing.assert_array_equal(potential.partial_forces(frame, atom=4), partial[4])
    moved = atoms.copy()
    step = 1e-4
    energies = []
    for sign in (1, -1):
        moved.positions[:] = atoms.positions
        moved.positions[2, 1] += sign * step
        energies.append(
            potential.predict(moved.numbers, moved.positions, frame.cell, frame.pbc).energies
        )
    numerical = -(energies[0] - energies[1]) / (2 * step)
    np.testing.assert_allclose(partial[:, 2, 1], numerical, atol=1e-6)


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
def test_nothing_within_reach(kind):
    potential = random_potential(kind, 31)
    for atoms in (Atoms("C"), Atoms("CO", [[0, 0, 0], [0, 0, 50]])):
        explain = WalkAttributor(potential, body_order=3)
        alone = explain.attribute(atoms)
        np.testing.assert_array_equal(alone.by_body_order[1:3], 0)
        assert alone.as_dict()["three_body"] == []
        (again,) = explain.attribute_many([atoms])
        np.testing.assert_allclose(again.by_body_order, alone.by_body_order)
    strength = explain.inclusive_strength(Atoms("CO", [[0, 0, 0], [0, 0, 1.2]]))
    pair = explain.attribute(Atoms("CO", [[0, 0, 0], [0, 0, 1.2]]))
    assert strength[0, 1] == pytest.approx(pair.two_body.item())
    assert explain.relevance_of_sets(Atoms("CO", [[0, 0, 0], [0, 0, 1.2]]), [[]]).tolist() == [0]


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


class InitialCharges(Calculator):
    """q_i q_j/r of the charges that the atoms carry."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        charges, energy = atoms.get_initial_charges(), 0.0
        for i in range(len(atoms)):
            for j in range(i):
                energy += charges[i] * charges[j] / atoms.get_distance(i, j)
        self.results = {"energy": energy, "forces": np.zeros((len(atoms), 3))}


def test_black_boxes_see_what_the_atoms_carry_and_the_running_calculator_is_left_alone():
    ions = Atoms("NaCl", [[0, 0, 0], [0, 0, 2.0]])
    ions.set_initial_charges([1, -1])
    ions.calc = InitialCharges()
    ions.get_potential_energy()
    attribution = mdxai.attributor(ions.calc, method="expansion").attribute(ions)
    assert attribution.two_body.item() == pytest.approx(-0.5)
    mdxai.attributor(ions.calc, method="hessian").attribute(ions)
    np.testing.assert_array_equal(ions.calc.atoms.positions, ions.positions)
    with pytest.raises(AttributionError, match="expected an ASE calculator, got None"):
        mdxai.attributor(None, method="hessian")


def test_expansion_leaves_constant_offsets_out():
    calculator = mdxai.load_calculator("painn-ethanol", dtype="float64")
    atoms = molecule("H2O")
    expansion = mdxai.attributor(calculator, method="expansion", body_order=3).attribute(atoms)
    walks = mdxai.attributor(calculator).attribute(atoms)
    assert expansion.output == pytest.approx(walks.output, abs=1e-8)
    assert np.abs(expansion.one_body).max() < 50


def test_automatic_and_flow_take_batches_and_single_walks_need_walks(ethanol):
    for method in ("auto", "flow"):
        explain = mdxai.attributor(ethanol.calc, method=method)
        (found,) = explain.attribute_many([ethanol])
        np.testing.assert_allclose(found.strengths, explain.attribute(ethanol).strengths, atol=1e-5)
    with pytest.raises(AttributionError, match='need an attributor of method="walks"'):
        all_walks(mdxai.attributor(ethanol.calc), ethanol)


def test_requests_that_make_no_sense(ethanol):
    explain = mdxai.attributor(ethanol.calc, method="walks")
    with pytest.raises(AttributionError, match="made of atom indices"):
        explain.relevance_of_sets(ethanol, [[0.5, 1.0]])
    with pytest.raises(AttributionError, match="must be of one size"):
        explain.relevance_of_sets(ethanol, [[0], [1, 2]])
    with pytest.raises(AttributionError, match="expected ASE Atoms or a Frame, got NoneType"):
        explain.attribute(None)
    for gamma in (np.inf, np.nan, "0.1", 1e30):
        with pytest.raises(AttributionError, match="gamma must be 0 or positive, up to 1000"):
            mdxai.attributor(ethanol.calc, gamma=gamma)
    with pytest.raises(AttributionError, match="dtype must be"):
        mdxai.attributor(ethanol.calc, method="hessian", dtype="float16")
    with pytest.raises(AttributionError, match="one molecule, its atoms in the same order"):
        difference(explain.attribute(molecule("CH3OCH3")), explain.attribute(ethanol))
    handed_back = mdxai.attributor(ethanol.calc, method="walks", max_bias=True)
    with pytest.raises(AttributionError, match="with the same rule"):
        difference(handed_back.attribute(ethanol), explain.attribute(ethanol))
    with pytest.raises(CalculatorError, match="device 'nowhere' cannot be used here"):
        mdxai.load_calculator("painn-ethanol", device="nowhere")


def test_published_models_refuse_elements_their_embedding_lacks():
    potential = random_potential("PaiNN", 34)
    for number in (0, 101):
        with pytest.raises(CalculatorError, match="takes atomic numbers 1 to"):
            WalkAttributor(potential).attribute(Atoms([number, 6], [[0, 0, 0], [0, 0, 2]]))
