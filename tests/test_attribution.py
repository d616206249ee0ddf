"""Exact relevance against brute-force walk enumeration, and the principles it has to obey."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from hypothesis import given, settings
from hypothesis import strategies as st
from schnetpack import properties
from schnetpack.interfaces.ase_interface import AtomsConverter
from schnetpack.transform import ASENeighborList

import mdxai
from mdxai.attribution import AttributionUnavailable, Rule, WalkAttributor
from mdxai.frame import Frame

from .conftest import SOUND, random_positions, random_potential
from .walk_enumeration import by_set, walk_relevance

KINDS = ("SchNet", "PaiNN")


def schnetpack_inputs(atoms, cutoff):
    inputs = AtomsConverter(ASENeighborList(cutoff), dtype=torch.float64)(atoms)
    i, j = inputs[properties.idx_i], inputs[properties.idx_j]
    positions = inputs[properties.R]
    inputs[properties.Rij] = positions[j] - positions[i] + inputs[properties.offsets]
    return inputs


def assert_equals_enumeration(attribution, potential, atoms, gamma, rtol):
    inputs = schnetpack_inputs(atoms, potential.cutoff)
    relevance = walk_relevance(potential.network.double(), inputs, gamma, range(len(atoms)))
    sets = by_set(relevance)
    scale = max(abs(value) for value in sets.values())
    pairs = attribution.pairs
    two = [sets[frozenset(p)] for p in zip(pairs.i.tolist(), pairs.j.tolist(), strict=True)]
    one = [sets[frozenset([a])] for a in range(len(atoms))]
    np.testing.assert_allclose(attribution.two_body, two, atol=rtol * scale, rtol=0)
    np.testing.assert_allclose(attribution.one_body, one, atol=rtol * scale, rtol=0)
    arriving = np.zeros(len(atoms))
    for walk, value in relevance.items():
        arriving[walk[0]] += value
    np.testing.assert_allclose(attribution.atoms, arriving, atol=10 * rtol * scale, rtol=0)
    higher = sum(value for atoms_of, value in sets.items() if len(atoms_of) > 2)
    assert attribution.by_body_order[-1] == pytest.approx(higher, abs=10 * rtol * scale)
    beyond = {frozenset(p) for p in zip(pairs.i.tolist(), pairs.j.tolist(), strict=True)}
    missed = [v for s, v in sets.items() if len(s) == 2 and s not in beyond]
    assert all(value == 0 for value in missed)  # pairs out of reach have no walk


@settings(max_examples=12, deadline=None)
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
    """On real ethanol, the walks within a few pairs: the rest of the molecule is out of play."""
    calculator = mdxai.load_calculator(name, dtype="float64")
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=2)
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
def test_orders_sum_to_the_total_and_the_residual_closes_the_books(name):
    calculator = mdxai.load_calculator(name)
    atoms = molecule("CH3CH2OH")
    atoms.calc = calculator
    attribution = mdxai.attributor(calculator).attribute(atoms)
    assert attribution.by_body_order.sum() == pytest.approx(attribution.relevance_total, abs=1e-12)
    output = atoms.get_potential_energy() - len(atoms) * calculator.card.offset_per_atom
    assert attribution.output == pytest.approx(output, abs=1e-5)
    assert attribution.residual == pytest.approx(output - attribution.atoms.sum(), abs=1e-5)


@pytest.mark.parametrize("name", SOUND)
def test_permuting_rotating_and_shifting(name):
    attributor = mdxai.attributor(mdxai.load_calculator(name, dtype="float64"))
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=4)
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
    one = molecule("CH3CH2OH")
    far = one.copy()
    far.translate((100, 0, 0))
    single, double = attributor.attribute(one), attributor.attribute(one + far)
    np.testing.assert_allclose(double.by_body_order, 2 * single.by_body_order, atol=1e-9)
    assert double.output == pytest.approx(2 * single.output)


@pytest.mark.parametrize("name", SOUND)
def test_bonds_carry_the_strongest_relevance(name):
    """What a chemist expects of a sound model: the C–C and C–O bonds come before any non-bond."""
    atoms = molecule("CH3CH2OH")
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


def test_unknown_models_get_a_clear_error():
    with pytest.raises(AttributionUnavailable, match="'emt' is not a SchNet or PaiNN"):
        mdxai.attributor(EMT())


def test_negative_gamma_is_refused(ethanol):
    with pytest.raises(ValueError, match="gamma must be 0 or positive, up to 1000, got -1"):
        mdxai.attributor(ethanol.calc, gamma=-1)


def test_compiled_attribution_equals_eager():
    compiled, eager = (
        mdxai.load_calculator("schnet-ethanol", compile=flag) for flag in (True, False)
    )
    atoms = molecule("CH3CH2OH")
    explanations = []
    for calculator in (compiled, eager):
        explain = mdxai.attributor(calculator, method="walks")
        atoms.calc = calculator
        atoms.get_forces()
        explanations.append(explain.attribute(atoms))
        assert (explain._pass is not None) == (calculator is compiled)
    ours, theirs = explanations
    for name in ("strengths", "one_body", "by_body_order", "atoms"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=2e-6)
