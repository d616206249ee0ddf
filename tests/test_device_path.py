"""What runs on a device stays there: on tensors without values every copy to the host fails.

A tensor on torch's device "meta" has a shape and no values. Reading one (`item`, `bool`, `tolist`),
copying it to the CPU, or joining it with a tensor that was made there is an error.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import molecule

from mdxai.attribution import Rule
from mdxai.attribution.flow import pair_flow
from mdxai.attribution.network_attributors import NetworkRules
from mdxai.attribution.subsets import (
    EdgePairs,
    Links,
    Tuples,
    each_pair_once,
    pair_layout,
    restricted_relevance,
    triples_within_reach,
)
from mdxai.attribution.walk_sums import walk_relevance
from mdxai.calculators.architectures import atom_energies_of
from mdxai.calculators.edges import AllPairs, NeighbourEdges
from mdxai.calculators.network import build_network
from mdxai.calculators.replica_pairs import ReplicaPairs
from mdxai.frame import Frame

NOWHERE = torch.device("meta")
KINDS = ("SchNet", "PaiNN")  # SO3net tabulates harmonics from values, once, when it is prepared


def network_of(kind):
    description = {
        "type": kind, "n_atom_basis": 8, "n_interactions": 3, "n_rbf": 5, "cutoff": 5.0,
    }  # fmt: skip
    return build_network(description).to(NOWHERE).requires_grad_(False)


def ethanol():
    return Frame.from_atoms(molecule("CH3CH2OH"))


def list_of_pairs():
    pairs = ethanol().pairs(5.0)
    return NeighbourEdges(pairs.i, pairs.j, 9, NOWHERE)


def images_too():
    """Two of the pairs twice, as in a small cell."""
    pairs = ethanol().pairs(5.0)
    i, j = (np.concatenate([ends, ends[:2]]) for ends in (pairs.i, pairs.j))
    return NeighbourEdges(i, j, 9, NOWHERE)


EDGES = {
    "all pairs": lambda: AllPairs(9, NOWHERE),
    "a neighbour list": list_of_pairs,
    "images": images_too,
    "replicas": lambda: ReplicaPairs(4, 9, NOWHERE),
}


def evaluated(network, edges):
    """Return the tape of a force call: energies, and their gradient."""
    numbers = torch.empty(edges.n_atoms, dtype=torch.int64, device=NOWHERE)
    vectors = torch.empty(len(edges.first), 3, device=NOWHERE).requires_grad_()
    energies, tape = atom_energies_of(network)(network, numbers, edges, vectors)
    (gradient,) = torch.autograd.grad(energies.sum(), vectors)
    assert gradient.shape == vectors.shape
    return tape


def explained(network, edges, tape):
    """Explain by every way that the edges allow."""
    linear = NetworkRules(network, Rule(0.1)).at(tape)
    flows, atoms = pair_flow(linear.blocks, edges, linear.top, linear.features)
    assert flows.shape[1] == len(edges.first)
    assert atoms.shape == (edges.n_atoms,)
    if isinstance(edges, ReplicaPairs):  # which are explained replica by replica
        return
    links = Links(edges)
    layouts = [pair_layout(links, NOWHERE)]
    if isinstance(edges, NeighbourEdges) and each_pair_once(edges):
        layouts.append(EdgePairs(edges))
    for layout in layouts:
        gates = layout.gates(linear.blocks)
        restricted_relevance(linear.blocks, gates, linear.top, linear.features, layout)
    triples = Tuples(links, triples_within_reach(edges.first, edges.second), NOWHERE)
    gates = [links.filters(block.filters) for block in linear.blocks]
    rows = restricted_relevance(linear.blocks, gates, linear.top, linear.features, triples)
    assert rows.shape[1] == 3
    walk_relevance(linear, [links.square(each) for each in gates], slice(0, edges.n_atoms))


@pytest.mark.parametrize("which", EDGES)
@pytest.mark.parametrize("kind", KINDS)
def test_forces_and_explanations_read_nothing_back(kind, which):
    network, edges = network_of(kind), EDGES[which]()
    tape = evaluated(network, edges)
    with torch.inference_mode():
        explained(network, edges, tape)


FAULTS = {
    "item": lambda x: x * x.sum().item(),
    "bool": lambda x: x if x.sum() > 0 else -x,
    "a copy": lambda x: x.cpu().to(NOWHERE),
    "numpy": lambda x: torch.from_numpy(x.numpy()),
    "a tensor made on the CPU": lambda x: x * torch.ones(x.shape),
    "a mask": lambda x: x[x > 0],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_hidden_copy_is_found(fault, monkeypatch):
    network, edges = network_of("SchNet"), list_of_pairs()
    tape = evaluated(network, edges)
    send_back = NeighbourEdges.send_back
    monkeypatch.setattr(
        NeighbourEdges, "send_back", lambda *given, **more: FAULTS[fault](send_back(*given, **more))
    )
    with torch.inference_mode(), pytest.raises((RuntimeError, TypeError), match=r"meta|Meta"):
        explained(network, edges, tape)
