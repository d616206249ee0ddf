"""Three atoms at once: all walks met in the middle, against enumeration and restricted passes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase import Atoms

import mdxai
from mdxai.attribution import Rule, WalkAttributor
from mdxai.attribution import network_attributors as attributors
from mdxai.attribution.subsets import DENSE_LIMIT, triples_within_reach

from .conftest import KINDS, SOUND, random_positions, random_potential, shaken
from .walk_enumeration import assert_equals_enumeration, by_set, schnetpack_inputs, walk_relevance

CELL = [[4.5, 0, 0], [0.5, 3.8, 0], [0, 0, 5]]  # in which atoms see their own images


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("blocks", "periodic"), [(2, False), (3, False), (2, True), (3, True)])
def test_three_atoms_equal_enumeration(kind, blocks, periodic):
    potential = random_potential(kind, 21 + blocks, n_interactions=blocks)
    atoms = Atoms("COH2"[: 4 - periodic], random_positions(4 - periodic, 22))
    if periodic:
        atoms.set_cell(CELL)
        atoms.pbc = True
    found = WalkAttributor(potential, Rule(0.1), body_order=3).attribute(atoms)
    inputs = schnetpack_inputs(atoms, potential.cutoff)
    sets = by_set(walk_relevance(potential.network.double(), inputs, 0.1, range(len(atoms))))
    scale = max(map(abs, sets.values()))
    expected = [sets[frozenset(trio)] for trio in found.triples.tolist()]
    np.testing.assert_allclose(found.three_body, expected, atol=1e-10 * scale, rtol=0)
    reached = set(map(frozenset, found.triples.tolist()))
    assert len(reached) > 0
    assert all(sets[frozenset(s)] == 0 for s in sets if len(s) == 3 and s not in reached)
    if not periodic:
        two = WalkAttributor(potential, Rule(0.1)).attribute(atoms)
        assert_equals_enumeration(two, potential, atoms, 0.1, 1e-10)
        np.testing.assert_allclose(found.two_body, two.two_body, atol=1e-12 * scale)
        np.testing.assert_allclose(found.atoms, two.atoms, atol=1e-12 * scale)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
@pytest.mark.parametrize("rule", [Rule(0.0), Rule(0.1, max_bias=True)])
def test_walks_of_any_depth_equal_passes_restricted_to_each_set(kind, blocks, rule):
    potential = random_potential(kind, blocks, n_interactions=blocks)
    atoms = Atoms("COH4", random_positions(6, 23))
    explain = WalkAttributor(potential, rule, body_order=3)
    found = explain.attribute(atoms)
    scale = np.abs(found.by_body_order).max()
    for trio, three in zip(found.triples, found.three_body, strict=True):
        inside = {k: explain.relevance_of_sets(atoms, list(itertools.combinations(trio, k)))
                  for k in (1, 2, 3)}  # fmt: skip
        expected = inside[3].sum() - inside[2].sum() + inside[1].sum()
        assert three == pytest.approx(expected, abs=1e-10 * scale)


@pytest.mark.parametrize(("kind", "blocks"), [*((kind, 3) for kind in KINDS), ("SchNet", 2)])
def test_three_atoms_of_molecules_side_by_side_equal_enumeration(kind, blocks, monkeypatch):
    potential = random_potential(kind, 24 + blocks, n_interactions=blocks)
    some = [
        Atoms("COH2", random_positions(4, 25, 0.9)), Atoms("C", [[0, 0, 0]]),
        Atoms("CO2", random_positions(3, 26, 0.9)), Atoms("H2", [[0, 0, 0], [0, 0, 0.8]]),
    ]  # fmt: skip
    explain = WalkAttributor(potential, Rule(0.1), body_order=3)
    together = explain.attribute_many(some)
    network = potential.network.double()
    assert [len(found.triples) > 0 for found in together] == [True, False, True, False]
    for atoms, found in zip(some, together, strict=True):
        inputs = schnetpack_inputs(atoms, potential.cutoff)
        sets = by_set(walk_relevance(network, inputs, 0.1, range(len(atoms))))
        scale = max(map(abs, sets.values()))
        expected = [sets[frozenset(trio)] for trio in found.triples.tolist()]
        np.testing.assert_allclose(found.three_body, expected, atol=1e-10 * scale, rtol=0)
    monkeypatch.setattr(attributors, "DEPTHS", ())
    for one, other in zip(together, explain.attribute_many(some), strict=True):
        np.testing.assert_array_equal(one.triples, other.triples)
        for part in ("one_body", "two_body", "three_body", "atoms", "by_body_order"):
            np.testing.assert_allclose(getattr(one, part), getattr(other, part), atol=1e-11)


@pytest.mark.parametrize("name", SOUND)
def test_both_ways_agree_for_trained_networks(name, monkeypatch):
    calculator = mdxai.load_calculator(name, dtype="float64")
    atoms = shaken(amplitude=0.1, seed=5)
    met = mdxai.attributor(calculator, body_order=3).attribute(atoms)
    monkeypatch.setattr(attributors, "DEPTHS", ())
    apart = mdxai.attributor(calculator, body_order=3).attribute(atoms)
    np.testing.assert_array_equal(met.triples, apart.triples)
    for part in ("one_body", "two_body", "three_body", "atoms", "by_body_order"):
        np.testing.assert_allclose(getattr(met, part), getattr(apart, part), rtol=0, atol=1e-11)


@pytest.mark.parametrize("n_pairs", [0, 1, 9, 60])
def test_triples_within_reach_are_those_about_each_atom(n_pairs):
    rng = np.random.default_rng(n_pairs)
    i, j = np.triu_indices(12, k=1)
    some = np.sort(rng.choice(len(i), n_pairs, replace=False))
    linked = set(zip(i[some].tolist(), j[some].tolist(), strict=True))
    expected = [
        trio
        for trio in itertools.combinations(range(12), 3)
        if sum(pair in linked for pair in itertools.combinations(trio, 2)) >= 2
    ]
    near = triples_within_reach(i[some], j[some])
    far = triples_within_reach(i[some] + DENSE_LIMIT, j[some] + DENSE_LIMIT)
    assert near.tolist() == [list(trio) for trio in expected]
    assert (far - DENSE_LIMIT).tolist() == near.tolist()
