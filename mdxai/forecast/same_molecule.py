"""Whether two structures are the same molecule, and which atom of one is which of the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mdxai.frame import Frame
from mdxai.principles.motion.structure import bonds_of


def list_bonds(frame: Frame) -> list[tuple[int, int]]:
    """Return the bonds of a structure, lower atom first."""
    return list(zip(*(np.asarray(ends).tolist() for ends in bonds_of(frame)), strict=True))


def bond_graph(numbers: Iterable[int], bonds: Iterable[Any]) -> Any:
    """Return the graph of a molecule: its atoms with their elements, and its bonds."""
    import networkx as nx  # half a second, and seldom needed

    graph = nx.Graph()
    graph.add_nodes_from((k, {"z": z}) for k, z in enumerate(numbers))
    graph.add_edges_from(bonds)
    return graph


def graph_of(frame: Frame) -> Any:
    """Return the graph of a structure."""
    return bond_graph(frame.numbers.tolist(), list_bonds(frame))


def renumbering(one: Any, other: Any) -> Mapping[int, int] | None:
    """Return which atom of another graph each atom of one is; None for another molecule.

    The same molecule has the same elements and bonds. Atoms keep their numbers where they can.
    """
    import networkx as nx
    from networkx.algorithms.isomorphism import GraphMatcher, categorical_node_match

    if nx.utils.graphs_equal(one, other):
        return {atom: atom for atom in one}
    match = GraphMatcher(one, other, categorical_node_match("z", 0))
    found: Mapping[int, int] | None = match.mapping if match.is_isomorphic() else None
    return found
