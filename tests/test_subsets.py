"""Relevance of sets of atoms and three-body relevance, against enumerated walks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

import mdxai
from mdxai.attribution import (
    FlowAttributor,
    Rule,
    WalkAttributor,
    all_walks,
)

from .conftest import (
    KINDS,
    SOUND,
    random_positions,
    random_potential,
    shaken,
)
from .walk_enumeration import by_set, schnetpack_inputs, walk_relevance


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
    """On ethanol, for the walks within C–C–O and within C–O–H."""
    calculator = mdxai.load_calculator(name, dtype="float64")
    atoms = shaken(amplitude=0.1, seed=5)
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
def test_pairs_stored_as_a_list_and_as_a_matrix_agree(kind):
    """Pairs of more than 40 atoms are a list: far copies must repeat what the matrix gives."""
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
def test_atoms_without_neighbours_have_no_two_and_three_body_relevance(kind):
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
