"""Channels against names, shortest paths and powers of the adjacency matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdxai.statistics import (
    BondClassChannels,
    ElementPairChannels,
    StatisticsError,
    element_pair_channels,
)


def test_element_pair_channels():
    channels = ElementPairChannels(np.array([6, 6, 8, 1, 1]))
    assert channels.names == ("H-H", "C-H", "H-O", "C-C", "C-O")
    i, j = np.array([0, 2, 3, 4]), np.array([1, 0, 4, 2])
    assert [channels.names[c] for c in channels.of(i, j)] == ["C-C", "C-O", "H-H", "H-O"]
    kept = element_pair_channels(np.array([6, 6, 8, 1, 1]))
    assert kept is element_pair_channels(np.array([6, 6, 8, 1, 1]))
    assert kept.names == channels.names


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.sets(st.sampled_from([(a, b) for b in range(n) for a in range(b)])),
    )
))  # fmt: skip
def test_bond_classes_equal_the_shortest_paths(graph):
    """Against powers of the adjacency matrix."""
    n, bonds = graph
    i, j = np.array(sorted(bonds), dtype=np.int64).reshape(-1, 2).T
    adjacency = np.eye(n, dtype=int)
    adjacency[i, j] = adjacency[j, i] = 1
    reach = [np.linalg.matrix_power(adjacency, k) > 0 for k in (1, 2, 3)]
    a, b = np.triu_indices(n, k=1)
    expected = 3 - sum(r[a, b].astype(int) for r in reach)
    channels = BondClassChannels(n, i, j)
    np.testing.assert_array_equal(channels.of(a, b), expected)
    np.testing.assert_array_equal(channels.of(b, a), expected)


def test_bonds_of_atoms_that_do_not_exist():
    with pytest.raises(StatisticsError, match="numbered 0…2"):
        BondClassChannels(3, np.array([0]), np.array([3]))
    bonds = BondClassChannels(4, np.array([0, 1]), np.array([1, 2]))
    with pytest.raises(StatisticsError, match="pairs name atoms 0 to 6, expected 0…3"):
        bonds.of(np.array([0]), np.array([6]))
