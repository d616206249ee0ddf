"""Equivalent atoms, residual and precision, of made-up explanations and of real models."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from ase.build import molecule

import mdxai
from mdxai.frame import Frame
from mdxai.principles import (
    BodyOrders,
    BondClasses,
    BondOrderRanking,
    Equivalence,
    ExplanationPrecision,
    Residual,
)
from mdxai.principles.explanation.health import equivalent_atoms
from mdxai.principles.motion.structure import bonds_of

from .conftest import SOUND, ethanol_with
from .explained_frames import explained, shaken


def test_equivalent_atoms_of_ethanol_and_benzene():
    ethanol = equivalent_atoms(Frame.from_atoms(ethanol_with(None)))
    assert sorted(np.bincount(ethanol)) == [1, 1, 1, 1, 2, 3]
    benzene = equivalent_atoms(Frame.from_atoms(molecule("C6H6")))
    assert sorted(np.bincount(benzene)) == [6, 6]


@pytest.mark.parametrize("name", ["CH3CH2OH", "C6H6", "isobutane", "H2", "C60", "Si2H6"])
def test_equivalent_atoms_are_those_of_networkx(name):
    frame = Frame.from_atoms(molecule(name))
    graph = nx.Graph()
    graph.add_nodes_from((a, {"z": str(z)}) for a, z in enumerate(frame.numbers))
    graph.add_edges_from(zip(*map(np.ndarray.tolist, bonds_of(frame)), strict=True))
    hashes = nx.weisfeiler_lehman_subgraph_hashes(graph, node_attr="z", iterations=len(graph))
    theirs = np.array([hashes[a][-1] for a in range(len(graph))])
    ours = equivalent_atoms(frame)
    assert np.array_equal(ours[:, None] == ours, theirs[:, None] == theirs)


def test_an_atom_treated_unlike_its_equivalents_is_found():
    frame = shaken(6, amplitude=0.02)
    kind = equivalent_atoms(frame)
    odd = int(np.flatnonzero(np.bincount(kind)[kind] == 3)[0])
    rng = np.random.default_rng(0)
    fair, unfair = Equivalence(frame), Equivalence(frame)
    alike, apart = [], []
    for _ in range(400):
        relevance = rng.normal(scale=0.1, size=9)
        alike.append(fair.deviate(frame, explained(frame, lambda *_: 1.0, atoms=relevance)))
        relevance[odd] += 0.3
        apart.append(unfair.deviate(frame, explained(frame, lambda *_: 1.0, atoms=relevance)))
    assert max(d.value for d in alike if d is not None) < 0.01
    assert apart[-1].atoms == (odd,)
    assert 0.1 < apart[-1].value < 0.2


@pytest.mark.parametrize("name", SOUND)
def test_real_models_explain_well_enough(name, monkeypatch):
    calculator = mdxai.load_calculator(name)
    explain = mdxai.attributor(calculator)
    frame = shaken(7, amplitude=0.05)
    attribution = explain.attribute(frame)
    assert 0 < ExplanationPrecision(calculator.potential).deviate(frame).value < 1e-4
    coarse, exact = calculator.potential, calculator.potential.twin(torch.float64)
    for parameter in coarse.network.parameters():  # as if stored in half precision
        parameter.copy_(parameter.half().float())
    monkeypatch.setattr(coarse, "twin", lambda dtype: exact)
    principle = ExplanationPrecision(coarse)
    assert principle.deviate(frame).value > 1e-4
    assert Residual().deviate(frame, attribution).value < 0.2
    assert BondOrderRanking(BondClasses(frame)).deviate(frame, attribution).value < 0.1
    assert BodyOrders().deviate(frame, attribution).value < 0.1
