"""Relevance of sets of atoms, from passes restricted to the sets; no walk is enumerated.

R_S, the relevance of the walks that stay inside S, takes one pass of the blocks restricted to S.
All sets are computed together. A layout defines where the coefficients of (set, atom) are stored
and how messages pass between the atoms of a set:

    DensePairs   every pair of a small molecule, every single atom and the whole, as a matrix
    LinkedPairs  the pairs within reach, every single atom and the whole, as a list
    EdgePairs    the same in the order of the edges, for molecules side by side
    Tuples       any sets of one size
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mdxai.attribution.blocks import Filters, LinearBlock
from mdxai.attribution.rules import per_atom_place
from mdxai.calculators.edges import AllPairs, Edges, NeighbourEdges
from mdxai.frame import Floats, Ints

DENSE_LIMIT = 40  # atoms; beyond this most pairs lie outside the cutoff
ROWS_AT_ONCE = 50_000  # coefficients (set, atom) of one pass over tuples; bounds its memory


class Links:
    """Which atom receives from which, each ordered pair once: all images of an edge are one link.

    receiver, sender: (n_links,) on the CPU. several: (n_links,) whether a link has several images.
    """

    def __init__(self, edges: Edges) -> None:
        self.n_atoms = n = edges.n_atoms
        self._merge: Tensor | None = None
        if isinstance(edges, AllPairs):
            rows = np.arange(n * n)
            self.keys, counts = rows, np.ones(n * n, int)
        else:
            assert isinstance(edges, NeighbourEdges)
            receiver = np.concatenate([edges.first, edges.second])
            rows = receiver * n + np.concatenate([edges.second, edges.first])
            if n <= DENSE_LIMIT:
                self.keys, counts = np.arange(n * n), np.bincount(rows, minlength=n * n)
            else:
                self.keys, rows, counts = np.unique(rows, return_inverse=True, return_counts=True)
            self._merge = torch.from_numpy(rows).to(edges.receiver.device)
        self.receiver, self.sender = np.divmod(self.keys, n)
        self.several = counts > 1
        self.dense = n <= DENSE_LIMIT
        self.own = bool(((self.receiver == self.sender) & (counts > 0)).any()) and (
            self._merge is not None
        )

    def filters(self, of_edges: Filters) -> Filters:
        """Return filters with rows of the links, (n_links, K), images summed."""
        if self._merge is None:
            return of_edges
        if of_edges.summable is not None and self.several.any():
            of_edges = of_edges.summable()
        rows = of_edges.rows
        merged = rows.new_zeros(len(self.keys), rows.shape[1]).index_add_(0, self._merge, rows)
        return replace(of_edges, rows=merged)

    def square(self, of_links: Filters, start: int = 0, stop: int | None = None) -> Filters:
        """Return filters of links among some atoms as rows (n·n, K) by receiver and sender.

        Args:
            of_links: from `filters`.
            start: first atom.
            stop: atom to stop before; default all atoms.
        """
        n = (self.n_atoms if stop is None else stop) - start
        if n == self.n_atoms and len(self.keys) == n * n:
            return of_links
        atoms = np.arange(start, start + n)
        found = self.find(np.repeat(atoms, n), np.tile(atoms, n))
        there = np.flatnonzero(found >= 0)
        rows = of_links.rows
        square = rows.new_zeros(n * n, rows.shape[1])
        to, of = (torch.from_numpy(x).to(rows.device) for x in (there, found[there]))
        square[to] = rows.index_select(0, of)
        return replace(of_links, rows=square)

    def find(self, receiver: Ints, sender: Ints) -> Ints:
        """Return the rows of links, −1 for atoms beyond the cutoff."""
        keys = receiver * self.n_atoms + sender
        rows = np.searchsorted(self.keys, keys).clip(max=max(len(self.keys) - 1, 0))
        return np.where(self.keys[rows] == keys, rows, -1) if len(self.keys) else 0 * keys - 1


class Layout(Protocol):
    """Sets of atoms whose restricted passes run together."""

    def place(self, per_atom: Tensor) -> Tensor:
        """(n_atoms, F) → a shape that broadcasts to the coefficients of (set, atom)."""
        ...

    def receive(self, filters: Filters, messages: Tensor) -> Tensor:
        """Return what each (set, atom) receives from the set's atoms; filters are of links."""
        ...

    def dot(self, coefficients: Tensor, per_atom: Tensor) -> Tensor:
        """Return coefficients · per_atom for each (set, atom)."""
        ...

    def meet(self, filters: Filters, messages: Tensor, per_atom: Tensor) -> Tensor:
        """Return receive(filters, messages) · per_atom for each (set, atom)."""
        ...


def restricted_relevance(
    blocks: list[LinearBlock],
    filters: list[Filters],
    top: Tensor,
    features: Tensor,
    layout: Layout,
) -> Tensor:
    """Return the relevance arriving at each (set, atom); summed over its atoms it is R_S.

    Args:
        blocks: first to last.
        filters: of each block, of links.
        top: (n_atoms, F) coefficients of the readout.
        features: (n_atoms, F) embedding output h⁰.
        layout: the sets.
    """
    # The topmost block's own side is the same for every set, so n_atoms rows are enough.
    kept, message = blocks[-1].keep_and_message(top, per_atom_place)
    kept, message = layout.place(kept), layout.place(message)
    for k in range(len(blocks) - 1, 0, -1):
        received = layout.receive(filters[k], message)
        c = blocks[k].lower(kept, received, layout.place)
        kept, message = blocks[k - 1].keep_and_message(c, layout.place)
    # Below the first block there is only a dot product with h⁰, so its sender's side is applied to
    # h⁰ once per atom instead of to every set.
    moves = layout.meet(filters[0], message, blocks[0].raise_(features, per_atom_place))
    return layout.dot(kept, features) + moves


class DensePairs:
    """Coefficients (n_atoms, n_atoms + 1, F): [i, j] is atom i in the set {i, j}, [i, i] that in
    {i}, the last column that in the whole molecule. The partner's coefficient is the transpose.
    """

    def __init__(self, links: Links) -> None:
        self._links = links

    def gates(self, blocks: list[LinearBlock]) -> list[Filters]:
        """Return each block's filters as `receive` takes them."""
        return [self._links.filters(block.filters) for block in blocks]

    def place(self, per_atom: Tensor) -> Tensor:
        return per_atom.unsqueeze(1)

    def receive(self, filters: Filters, messages: Tensor) -> Tensor:
        n = self._links.n_atoms
        rows, back = filters.rows.view(n, n, -1), filters.back
        in_sets = messages if messages.shape[1] == 1 else messages[:, :n]
        received = messages.new_empty(n, n + 1, messages.shape[2])
        inside = received[:, :n]
        if back is torch.mul:
            torch.mul(rows, in_sets, out=inside.transpose(0, 1))
        else:
            inside.copy_(back(rows, in_sets).transpose(0, 1))
        if self._links.own:  # each atom of a pair also receives from its own images
            apart = ~torch.eye(n, dtype=torch.bool, device=rows.device)[:, :, None]
            inside += back(rows.diagonal().t()[:, None], in_sets) * apart
        torch.sum(back(rows, messages[:, -1:]), 0, out=received[:, n])
        return received

    def dot(self, coefficients: Tensor, per_atom: Tensor) -> Tensor:
        return torch.bmm(coefficients, per_atom.unsqueeze(2)).squeeze(2)

    def meet(self, filters: Filters, messages: Tensor, per_atom: Tensor) -> Tensor:
        n = self._links.n_atoms
        if self._links.own or messages.shape[1] == 1:
            return self.dot(self.receive(filters, messages), per_atom)
        # [i, j]: filter of j → i, times the features of j
        gates = filters.forth(filters.rows.view(n, n, -1), per_atom)
        met = gates.new_empty(n, n + 1)
        torch.sum(gates * messages[:, :n], -1, out=met[:, :n].t())
        torch.sum(torch.bmm(gates, messages[:, n, :, None])[:, :, 0], 0, out=met[:, n])
        return met

    def split(self, relevance: Floats, i: Ints, j: Ints) -> tuple[Floats, Floats, Floats]:
        """Return R of single atoms, of the pairs i, j, and the whole's by atom."""
        n = self._links.n_atoms
        return relevance.diagonal(), relevance[i, j] + relevance[j, i], relevance[:, n]


class LinkedPairs:
    """Coefficients (n_pairs·2 + 2·n_atoms, F): ordered pairs within reach, single atoms, the whole.

    Row (i, j) is atom i in the set {i, j}.
    """

    def __init__(self, links: Links, device: torch.device) -> None:
        def on_device(indices: Ints) -> Tensor:
            return torch.from_numpy(indices).to(device)

        apart = np.flatnonzero(links.receiver != links.sender)
        i, j, everyone = links.receiver[apart], links.sender[apart], np.arange(links.n_atoms)
        self._links, self._apart = links, apart
        self._n_ordered, self._n_atoms = len(apart), links.n_atoms
        self._link, self._self_link = on_device(apart), on_device(links.find(everyone, everyone))
        self._reverse = on_device(np.searchsorted(apart, links.find(j, i)))
        self._atom = on_device(np.concatenate([i, everyone, everyone]))
        self._receiver, self._sender = on_device(links.receiver), on_device(links.sender)

    def gates(self, blocks: list[LinearBlock]) -> list[Filters]:
        """Return each block's filters as `receive` takes them."""
        return [self._links.filters(block.filters) for block in blocks]

    def place(self, per_atom: Tensor) -> Tensor:
        return per_atom.index_select(0, self._atom)

    def receive(self, filters: Filters, messages: Tensor) -> Tensor:
        n, m = self._n_ordered, self._n_atoms
        received = torch.empty_like(messages)
        rows, back = filters.rows, filters.back
        gates = rows if len(rows) == n else rows.index_select(0, self._link)
        torch.index_select(back(gates, messages[:n]), 0, self._reverse, out=received[:n])
        received[n:] = 0
        if self._links.own:
            own = rows[self._self_link] * (self._self_link >= 0)[:, None]
            received[: n + m] += back(own.index_select(0, self._atom[: n + m]), messages[: n + m])
        sent = back(rows, messages[n + m :].index_select(0, self._receiver))
        received[n + m :].index_add_(0, self._sender, sent)
        return received

    def dot(self, coefficients: Tensor, per_atom: Tensor) -> Tensor:
        return (coefficients * self.place(per_atom)).sum(-1)

    def meet(self, filters: Filters, messages: Tensor, per_atom: Tensor) -> Tensor:
        return self.dot(self.receive(filters, messages), per_atom)

    def split(self, relevance: Floats, i: Ints, j: Ints) -> tuple[Floats, Floats, Floats]:
        """Return R of single atoms, of the pairs i, j, and the whole's by atom."""
        n, m = self._n_ordered, self._n_atoms
        ahead, back = (np.searchsorted(self._apart, self._links.find(*p)) for p in ((i, j), (j, i)))
        return relevance[n : n + m], relevance[ahead] + relevance[back], relevance[n + m :]


class EdgePairs:
    """Coefficients (n_edges + 2·n_atoms, F): the atoms of every half edge, single atoms, the whole.

    For molecules side by side, without images: each pair of atoms is one half edge, so that filters
    and messages stay in the order of the edges and nothing has to be looked up. Row e < n_half is
    the first atom of half edge e in its pair, row n_half + e the second.
    """

    def __init__(self, edges: NeighbourEdges) -> None:
        everyone = torch.arange(edges.n_atoms, device=edges.receiver.device)
        self._edges = edges
        self._n_half, self._n_atoms = len(edges.first), edges.n_atoms
        self._atom = torch.cat([edges.receiver, everyone, everyone])

    def gates(self, blocks: list[LinearBlock]) -> list[Filters]:
        """Return each block's filters as `receive` takes them."""
        return [block.filters for block in blocks]

    def place(self, per_atom: Tensor) -> Tensor:
        return per_atom.index_select(0, self._atom)

    def receive(self, filters: Filters, messages: Tensor) -> Tensor:
        rows, back = filters.rows, filters.back
        half, whole = self._n_half, 2 * self._n_half + self._n_atoms
        received = torch.empty_like(messages)
        if back is torch.mul:
            torch.mul(rows[:half], messages[:half], out=received[half : 2 * half])
            torch.mul(rows[half:], messages[half : 2 * half], out=received[:half])
        else:
            received[half : 2 * half] = back(rows[:half], messages[:half])
            received[:half] = back(rows[half:], messages[half : 2 * half])
        received[2 * half :] = 0
        sent = back(rows, messages[whole:].index_select(0, self._edges.receiver))
        received[whole:].index_add_(0, self._edges.sender, sent)
        return received

    def dot(self, coefficients: Tensor, per_atom: Tensor) -> Tensor:
        product: Tensor = torch.linalg.vecdot(coefficients, self.place(per_atom))
        return product

    def meet(self, filters: Filters, messages: Tensor, per_atom: Tensor) -> Tensor:
        half, whole = self._n_half, 2 * self._n_half + self._n_atoms
        gates = filters.forth(filters.rows, per_atom.index_select(0, self._edges.sender))
        met = messages.new_zeros(len(messages))
        met[:half] = torch.linalg.vecdot(gates[half:], messages[half : 2 * half])
        met[half : 2 * half] = torch.linalg.vecdot(gates[:half], messages[:half])
        sent = messages[whole:].index_select(0, self._edges.receiver)
        met[whole:].index_add_(0, self._edges.sender, torch.linalg.vecdot(gates, sent))
        return met

    def split(self, relevance: Floats, i: Ints, j: Ints) -> tuple[Floats, Floats, Floats]:
        """Return R of single atoms, of the pairs i, j (those of the edges), and the whole's by
        atom.
        """
        half, n = self._n_half, self._n_atoms
        both = relevance[:half] + relevance[half : 2 * half]
        return relevance[2 * half : 2 * half + n], both, relevance[2 * half + n :]


class Tuples:
    """Coefficients (n_sets, k, F) of each atom in any sets of k atoms, given as (n_sets, k)."""

    def __init__(self, links: Links, sets: Ints, device: torch.device) -> None:
        rows = links.find(sets[:, :, None], sets[:, None, :])
        self._atoms = torch.from_numpy(sets).to(device)
        self._rows = torch.from_numpy(np.where(rows < 0, len(links.keys), rows)).to(device)

    def place(self, per_atom: Tensor) -> Tensor:
        return per_atom[self._atoms]

    def receive(self, filters: Filters, messages: Tensor) -> Tensor:
        padded = torch.cat([filters.rows, filters.rows.new_zeros(1, filters.rows.shape[1])])
        return filters.back(padded[self._rows], messages[:, :, None]).sum(1)

    def dot(self, coefficients: Tensor, per_atom: Tensor) -> Tensor:
        return (coefficients * self.place(per_atom)).sum(-1)

    def meet(self, filters: Filters, messages: Tensor, per_atom: Tensor) -> Tensor:
        return self.dot(self.receive(filters, messages), per_atom)


def each_pair_once(edges: Edges) -> bool:
    """Return whether the half edges are pairs i < j of different atoms, each once, and sorted."""
    first, second = edges.first, edges.second
    keys = first * edges.n_atoms + second
    return bool((first < second).all() and (keys[1:] > keys[:-1]).all())


def pair_layout(links: Links, device: torch.device) -> DensePairs | LinkedPairs:
    """Return the layout of all pairs that suits the number of atoms."""
    return DensePairs(links) if links.dense else LinkedPairs(links, device)


def in_chunks(sets: Ints) -> Iterator[Ints]:
    """Yield sets (n_sets, k) in chunks that bound the memory of a pass."""
    size = max(1, ROWS_AT_ONCE // max(sets.shape[1] ** 2, 1))
    for start in range(0, len(sets), size):
        yield sets[start : start + size]


def triples_within_reach(i: Ints, j: Ints) -> Ints:
    """Return sorted triples (n, 3) in which walks exist: one atom linked to the two others.

    Args:
        i: (n_pairs,) first atoms of linked pairs, each pair once.
        j: (n_pairs,) their second atoms.
    """
    n = max(i.max(initial=-1), j.max(initial=-1)) + 1
    if n > DENSE_LIMIT:
        return _triples_about_each_atom(i, j)
    linked, triples = np.zeros((n, n), dtype=np.int64), _all_triples(int(n))
    linked[i, j] = linked[j, i] = 1
    a, b, c = triples.T
    found: Ints = triples[linked[a, b] + linked[a, c] + linked[b, c] >= 2]
    return found


@lru_cache(maxsize=8)
def _all_triples(n: int) -> Ints:
    """Return all (n_triples, 3) of n atoms, in order."""
    triples = np.array(list(combinations(range(n), 3)), dtype=np.int64).reshape(-1, 3)
    triples.setflags(write=False)
    return triples


def _triples_about_each_atom(i: Ints, j: Ints) -> Ints:
    centre, other = np.concatenate([i, j]), np.concatenate([j, i])
    order = np.argsort(centre, kind="stable")
    groups = np.split(other[order], np.flatnonzero(np.diff(centre[order])) + 1)
    found = [np.empty((0, 3), dtype=np.int64)]
    for atom, neighbours in zip(np.unique(centre), groups, strict=True):
        a, b = np.triu_indices(len(neighbours), k=1)
        trio = np.stack([np.full(len(a), atom), neighbours[a], neighbours[b]], axis=1)
        found.append(np.sort(trio, axis=1))
    return np.unique(np.concatenate(found), axis=0)
