"""SO3net: harmonics, energies and relevance through all l, against schnetpack's own modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from schnetpack.nn import CosineCutoff, GaussianRBF
from schnetpack.representation import SO3net

import mdxai
from mdxai.attribution import FlowAttributor, Rule, WalkAttributor
from mdxai.attribution.so3_blocks import SO3Rules
from mdxai.calculators import CalculatorError, NetworkCalculator
from mdxai.calculators.batch import BatchPotential, Systems
from mdxai.calculators.harmonics import Harmonics
from mdxai.calculators.network import build_network
from mdxai.frame import Frame

from .conftest import ethanol_dynamics, random_network, random_positions, random_potential, shaken
from .test_potential import schnetpack_twin
from .walk_enumeration import by_set, schnetpack_inputs, walk_relevance


def four_atoms(seed=9):
    """Return formaldehyde, whose atoms are all within reach of each other."""
    return shaken("H2CO", amplitude=0.1, seed=seed)


@pytest.mark.parametrize("lmax", [1, 2, 3])
def test_harmonics_and_products_equal_schnetpack(lmax):
    net = SO3net(8, 1, lmax, GaussianRBF(5, 4.0), CosineCutoff(4.0)).double()
    ours = Harmonics.of(net)
    directions = torch.nn.functional.normalize(torch.randn(20, 3, dtype=torch.float64))
    torch.testing.assert_close(ours.at(directions), net.sphharm(directions), atol=1e-14, rtol=0)
    a, b = torch.randn(2, 7, ours.n_rows, 8, dtype=torch.float64)
    torch.testing.assert_close(ours.product(a, b), net.so3product(a, b), atol=1e-13, rtol=0)


@pytest.mark.parametrize(("lmax", "blocks"), [(1, 1), (2, 2), (3, 3)])
def test_energies_and_forces_equal_schnetpack(lmax, blocks):
    potential = random_potential("SO3net", 3, lmax=lmax, n_interactions=blocks)
    atoms, calculator = four_atoms(), NetworkCalculator(potential)
    reference = atoms.copy()
    reference.calc, atoms.calc = schnetpack_twin(calculator, torch.float64), calculator
    assert np.abs(reference.get_forces()).max() > 1e-3
    np.testing.assert_allclose(atoms.get_forces(), reference.get_forces(), atol=1e-12)
    assert atoms.get_potential_energy() == pytest.approx(
        reference.get_potential_energy(), abs=1e-12
    )


@pytest.mark.parametrize("sizes", [(4, 4), (3, 5)])
def test_batches_equal_single_systems(sizes):
    """Molecules of one size share fixed shapes; others a list of edges."""
    potential = random_potential("SO3net", 4)
    many = [Atoms("COHHH"[:n], random_positions(n, n)) for n in sizes]
    together = Systems(
        np.concatenate([m.numbers for m in many]),
        np.cumsum([0, *sizes]),
        np.concatenate([m.positions for m in many]),
        np.zeros((2, 3, 3)),
        np.zeros((2, 3), dtype=bool),
    )
    energies, forces = BatchPotential(potential, traces=False).predict(together)
    alone = [potential.evaluate(Frame.from_atoms(m)) for m in many]
    np.testing.assert_allclose(energies, [e for e, _ in alone], atol=1e-12)
    np.testing.assert_allclose(forces, np.concatenate([f for _, f in alone]), atol=1e-12)


def test_a_description_without_lmax_is_refused():
    _, description = random_network("SO3net", 0)
    with pytest.raises(CalculatorError, match="lacks lmax"):
        build_network({key: value for key, value in description.items() if key != "lmax"})


def test_a_pickled_model_is_loaded_with_its_lmax(tmp_path):
    network, _ = random_network("SO3net", 5, lmax=1)
    torch.save(network.float(), tmp_path / "best_model")
    calculator = mdxai.load_calculator(
        tmp_path / "best_model", trust_pickle=True, energy_unit="eV", length_unit="Ang"
    )
    assert calculator.card.network["lmax"] == 1
    atoms = four_atoms()
    atoms.calc = calculator
    reference = atoms.copy()
    reference.calc = schnetpack_twin(calculator, torch.float32)
    np.testing.assert_allclose(atoms.get_forces(), reference.get_forces(), atol=1e-5)
    assert len(mdxai.attributor(calculator).attribute(atoms).two_body) == 6


def test_the_product_shares_its_gradient_integrated_along_the_features():
    """Two nodes of Gauss and Legendre are exact for a polynomial of degree 2, and conserve it."""
    potential = random_potential("SO3net", 6)
    net = potential.network.representation
    tape = potential.activations(Frame.from_atoms(four_atoms())).tape
    block = SO3Rules(potential.network, Rule()).at(tape).blocks[0]
    state, c = tape.blocks[0], torch.randn(4, 9, 12, dtype=torch.float64)

    def update(y):
        p = net.mixings2[0](y + net.so3product(y, net.mixings1[0](y)))
        return (net.mixings3[0](p * state.gates) * c).sum()

    nodes, weights = np.polynomial.legendre.leggauss(2)
    expected = torch.zeros_like(state.received)
    for node, weight in zip(nodes, weights, strict=True):
        y = (state.received * (node + 1) / 2).requires_grad_()
        expected += torch.autograd.grad(update(y), y)[0] * weight / 2
    _, message = block.keep_and_message(c.flatten(1), lambda per_atom: per_atom)
    torch.testing.assert_close(message.view(4, 9, 12), expected, atol=1e-11, rtol=1e-10)
    given = (message * state.received.flatten(1)).sum()
    torch.testing.assert_close(given, update(state.received), atol=1e-10, rtol=1e-10)


def without_readout_biases(potential):
    for layer in potential.network.output_modules[0].outnet:
        layer.bias.zero_()
    return potential


@pytest.mark.parametrize("gamma", [0.0, 0.1])
def test_relevance_is_conserved_where_the_readout_has_no_biases(gamma):
    """No other bias takes a share: those of filters and gates belong to constants."""
    potential = without_readout_biases(random_potential("SO3net", 7))
    rule = Rule(gamma, max_bias=bool(gamma))
    for make in (WalkAttributor, FlowAttributor):
        explained = make(potential, rule).attribute(four_atoms())
        assert abs(explained.output) > 1e-2
        assert explained.residual == pytest.approx(0, abs=1e-9)
    scalars = WalkAttributor(potential, Rule(gamma, scalars_only=True)).attribute(four_atoms())
    assert abs(scalars.residual) > 1e-3


@pytest.mark.parametrize("seed", [8, 18])
def test_pairs_equal_enumeration_on_their_own_scale(seed):
    """Where pairs carry as much as single atoms."""
    potential = random_potential("SO3net", seed, n_interactions=2)
    atoms = four_atoms(seed)
    explained = WalkAttributor(potential, Rule(0.1), body_order=3).attribute(atoms)
    inputs = schnetpack_inputs(atoms, potential.cutoff)
    sets = by_set(walk_relevance(potential.network, inputs, 0.1, range(4)))
    pairs = zip(explained.pairs.i.tolist(), explained.pairs.j.tolist(), strict=True)
    two = np.array([sets[frozenset(pair)] for pair in pairs])
    assert np.abs(two).max() > 1e-2 * np.abs(explained.one_body).max()
    np.testing.assert_allclose(explained.two_body, two, atol=1e-10 * np.abs(two).max())
    three = np.array([sets[frozenset(trio)] for trio in explained.triples.tolist()])
    np.testing.assert_allclose(explained.three_body, three, atol=1e-10 * np.abs(three).max())


def test_scalars_alone_equal_enumeration_of_that_variant():
    potential = random_potential("SO3net", 10, n_interactions=2)
    atoms = four_atoms(10)
    inputs = schnetpack_inputs(atoms, potential.cutoff)
    truth = walk_relevance(potential.network, inputs, 0.1, range(4), scalars_only=True)
    sets, rule = by_set(truth), Rule(0.1, scalars_only=True)
    explained = WalkAttributor(potential, rule, body_order=3).attribute(atoms)
    pairs = zip(explained.pairs.i.tolist(), explained.pairs.j.tolist(), strict=True)
    two = np.array([sets[frozenset(pair)] for pair in pairs])
    np.testing.assert_allclose(explained.two_body, two, atol=1e-10 * np.abs(two).max())
    three = np.array([sets[frozenset(trio)] for trio in explained.triples.tolist()])
    np.testing.assert_allclose(explained.three_body, three, atol=1e-10 * np.abs(three).max())
    flow = FlowAttributor(potential, rule).attribute(atoms)
    for k, (i, j) in enumerate(zip(flow.pairs.i, flow.pairs.j, strict=True)):
        passing = [v for w, v in truth.items() if {w[1], w[2]} == {i, j}]
        assert flow.by_layer[1, k] == pytest.approx(sum(passing), abs=1e-11)
    other = WalkAttributor(potential, Rule(0.1)).attribute(atoms)
    assert not np.allclose(other.two_body, explained.two_body, rtol=1e-2)


def test_relevance_follows_permutations_rotations_shifts_and_copies():
    """Rotations to 1e-6 only: schnetpack rounds its Clebsch–Gordan coefficients to float32."""
    explain = WalkAttributor(random_potential("SO3net", 11))
    atoms = four_atoms(11)
    here = explain.attribute(atoms)
    scale = np.abs(here.two_body).max()
    order = np.array([2, 0, 3, 1])
    permuted = explain.attribute(atoms[order])
    np.testing.assert_allclose(permuted.atoms, here.atoms[order], atol=1e-10)
    np.testing.assert_allclose(np.sort(permuted.two_body), np.sort(here.two_body), atol=1e-10)
    far = atoms.copy()
    far.translate((50, 0, 0))
    double = explain.attribute(atoms + far)
    np.testing.assert_allclose(double.by_body_order, 2 * here.by_body_order, atol=1e-9)
    turned = atoms.copy()
    turned.rotate(73, (1, 2, 3))
    np.testing.assert_allclose(explain.attribute(turned).two_body, here.two_body, atol=1e-6 * scale)


def test_large_systems_equal_small_ones():
    """Beyond 40 atoms pairs are a list: thirteen far copies, each as one alone."""
    explain, atoms = WalkAttributor(random_potential("SO3net", 12)), four_atoms(12)
    one, many = explain.attribute(atoms), Atoms()
    for k in range(13):
        copy = atoms.copy()
        copy.translate((30.0 * k, 0, 0))
        many += copy
    all_of_them = explain.attribute(many)
    np.testing.assert_allclose(all_of_them.two_body, np.tile(one.two_body, 13), atol=1e-10)
    np.testing.assert_allclose(all_of_them.one_body, np.tile(one.one_body, 13), atol=1e-10)


def test_partial_forces_sum_to_the_forces():
    potential, atoms = random_potential("SO3net", 13), four_atoms(13)
    frame = Frame.from_atoms(atoms)
    partial = potential.partial_forces(frame)
    np.testing.assert_allclose(partial.sum(0), potential.evaluate(frame)[1], atol=1e-12)


def test_the_shipped_model_says_how_good_it_is():
    card = mdxai.load_calculator("so3net-ethanol").card
    assert card.network["lmax"] == 2
    assert 20 < card.errors["force_mae_mev_per_ang"] < 50  # from 200 frames


def test_trained_network_equals_enumeration_on_ethanol():
    calculator = mdxai.load_calculator("so3net-ethanol", dtype="float64")
    atoms = shaken(amplitude=0.1, seed=2)
    explained = mdxai.attributor(calculator).attribute(atoms)
    inputs = schnetpack_inputs(atoms, calculator.card.cutoff)
    scale = np.abs(explained.two_body).max()
    for pair in [(0, 1), (2, 3), (4, 8)]:
        sets = by_set(walk_relevance(calculator.model, inputs, 0.1, pair))
        here = (explained.pairs.i == pair[0]) & (explained.pairs.j == pair[1])
        assert explained.two_body[here].item() == pytest.approx(
            sets[frozenset(pair)], abs=1e-10 * scale
        )


def test_a_monitored_run_is_explained_recorded_and_bit_identical(tmp_path):
    """Explanation principles judge it, its record gives the explanations back, bonds come first."""
    bare, watched = (ethanol_dynamics("so3net-ethanol", 300.0) for _ in range(2))
    monitor = mdxai.Monitor(watched, tmp_path / "run", attribute_every=5)
    watched.attach(monitor, interval=1)
    with monitor:
        watched.run(60)
    bare.run(60)
    np.testing.assert_array_equal(bare.atoms.positions, watched.atoms.positions)
    run = mdxai.open_run(tmp_path / "run")
    kept = run.attribution(60)
    again = mdxai.attributor(watched.atoms.calc).attribute(watched.atoms)
    np.testing.assert_allclose(kept.strengths, again.strengths, atol=1e-5)
    assert "attribution" not in monitor.verdict.unavailable
    judged = run.to_dataframe()
    for principle in ("residual", "bond_order", "body_orders"):
        assert np.isfinite(judged[principle].dropna()).any(), principle
    bonded = again.pairs.distances < 1.6
    strength = np.abs(again.two_body)
    assert np.median(strength[bonded]) > 2 * np.median(strength[~bonded])
