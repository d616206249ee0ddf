"""Edges along which atoms exchange messages: all pairs of a small molecule, or a neighbour list.

What depends on the distance alone, such as filters, is computed once per unordered pair ("half
edge"); messages belong to directed edges. The networks are written once, in terms of the operations
of `Edges`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from vesin import NeighborList

from mdxai.frame import Bools, Floats

Product = Callable[[Tensor, Tensor], Tensor]  # of filters (..., K) and features (..., F)


class Edges(Protocol):
    """Directed edges j → i and the half edges they belong to; E: number of directed edges."""

    n_atoms: int
    first: NDArray[np.int64]  # (n_half,) atom that each half edge starts from
    second: NDArray[np.int64]  # (n_half,) atom it points to
    orientation: Tensor  # (E, 1): +1 where the directed edge runs along its half edge, −1 against

    def spread(self, half: Tensor) -> Tensor:
        """(n_half, K) → (E, K): the value of a pair on both of its directed edges."""
        ...

    def weigh(self, filters: Tensor, x: Tensor, product: Product = torch.mul) -> Tensor:
        """(E, F), (n_atoms, F) → (E, F): messages filters_ij ∘ x_j, or of another product."""
        ...

    def collect(self, messages: Tensor) -> Tensor:
        """(E, F) → (n_atoms, F): Σ_j messages_ij."""
        ...

    def collect_directed(self, messages: Tensor, directions: Tensor) -> Tensor:
        """(E, F), (E, 3) → (n_atoms, 3, F): Σ_j directions_ij messages_ij."""
        ...

    def send_back(self, filters: Tensor, x: Tensor, product: Product = torch.mul) -> Tensor:
        """(E, F), (n_atoms, F) → (E, F): filters_ij ∘ x_i, on the way from receiver to sender."""
        ...

    def collect_back(self, messages: Tensor) -> Tensor:
        """(E, F) → (n_atoms, F): Σ_i messages_ij at the sender j."""
        ...

    def both_ways(self, per_edge: Tensor) -> Tensor:
        """(E,) → (n_half,): the sum of a half edge's two directions."""
        ...

    def sum_vectors(self, filters: Tensor, x: Tensor) -> Tensor:
        """(E, F), (n_atoms, 3, F) → (n_atoms, 3, F): Σ_j filters_ij ∘ x_j."""
        ...

    def convolve(self, filters: Tensor, maps: Tensor, x: Tensor) -> Tensor:
        """(E, R, F), (E, R, S, S), (n_atoms, S, F) → (n_atoms, S, F): Σ_jr mapsᵀ (filters ∘ x_j).

        filters_ijr weigh channels, maps_ijr [s2, s] take rows s2 of a sender to rows s.
        """
        ...

    def pull(self, slopes: Floats) -> Floats:
        """(n_half, 3) → (n_atoms, 3): forces from the gradient with respect to pair vectors."""
        ...


class SpreadBothWays(torch.autograd.Function):
    """Copy each row of a half-edge quantity to (i, j) and (j, i); zero on the diagonal.

    The gradient of a gather is a scatter, which is slow on a CPU. Every row goes to exactly two
    places, so two gathers and a sum give the same gradient.
    """

    @staticmethod
    def forward(ctx, half, row_of, upper, lower):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(upper, lower)
        padded = torch.cat([half, half.new_zeros(1, half.shape[1])])
        return padded.index_select(0, row_of)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        upper, lower = ctx.saved_tensors
        rows = gradient.contiguous()
        return rows.index_select(0, upper) + rows.index_select(0, lower), None, None, None


class AllPairs:
    """All pairs of a molecule; directed edges are stored as a (n_atoms·n_atoms) matrix.

    Pairs beyond the cutoff may be included: the cutoff function makes their filters exactly zero,
    and `torch.compile` needs fixed shapes. `select` drops them where shapes may vary.
    """

    def __init__(self, n_atoms: int, device: torch.device) -> None:
        i, j = (side.astype(np.int64) for side in np.triu_indices(n_atoms, k=1))
        row_of = np.full((n_atoms, n_atoms), len(i))
        row_of[i, j] = row_of[j, i] = np.arange(len(i))
        self._incidence = np.zeros((n_atoms, len(i)))
        self._incidence[i, np.arange(len(i))] = 1.0
        self._incidence[j, np.arange(len(j))] = -1.0
        sign = np.sign(np.arange(n_atoms)[None, :] - np.arange(n_atoms)[:, None])
        self.n_atoms = n_atoms
        self.first, self.second = i, j
        self._row_of = torch.from_numpy(row_of.ravel()).to(device)
        self._upper = torch.from_numpy(i * n_atoms + j).to(device)
        self._lower = torch.from_numpy(j * n_atoms + i).to(device)
        self.orientation = torch.from_numpy(sign.reshape(-1, 1)).to(device)

    def select(self, keep: Bools) -> AllPairs:
        """Return the same layout with only the half edges in `keep` (n_half,); others are zero."""
        some = copy.copy(self)
        some.first, some.second = self.first[keep], self.second[keep]
        some._incidence = self._incidence[:, keep]
        chosen = torch.from_numpy(np.flatnonzero(keep)).to(self._row_of.device)
        new_row = self._row_of.new_full((len(keep) + 1,), len(chosen))
        new_row[chosen] = torch.arange(len(chosen), device=chosen.device)
        some._row_of = new_row[self._row_of]
        some._upper, some._lower = self._upper[chosen], self._lower[chosen]
        return some

    def vectors(self, positions: Floats) -> Floats:
        """(n_atoms, 3) → (n_half, 3), from first to second atom."""
        return positions[self.second] - positions[self.first]

    def spread(self, half: Tensor) -> Tensor:
        return SpreadBothWays.apply(half, self._row_of, self._upper, self._lower)  # type: ignore[no-any-return]

    def square(self, edges: Tensor) -> Tensor:
        """(E, K) → (n_atoms, n_atoms, K), row i receives from column j."""
        return edges.view(self.n_atoms, self.n_atoms, -1)

    def weigh(self, filters: Tensor, x: Tensor, product: Product = torch.mul) -> Tensor:
        return product(self.square(filters), x)

    def collect(self, messages: Tensor) -> Tensor:
        return self.square(messages).sum(1)

    def collect_directed(self, messages: Tensor, directions: Tensor) -> Tensor:
        return torch.bmm(self.square(directions).transpose(1, 2), self.square(messages))

    def send_back(self, filters: Tensor, x: Tensor, product: Product = torch.mul) -> Tensor:
        return product(self.square(filters), x[:, None])

    def collect_back(self, messages: Tensor) -> Tensor:
        return self.square(messages).sum(0)

    def both_ways(self, per_edge: Tensor) -> Tensor:
        flat = per_edge.reshape(-1)
        return flat.index_select(0, self._upper) + flat.index_select(0, self._lower)

    def sum_vectors(self, filters: Tensor, x: Tensor) -> Tensor:
        return (self.square(filters)[:, :, None] * x).sum(1)

    def convolve(self, filters: Tensor, maps: Tensor, x: Tensor) -> Tensor:
        n, (_, n_maps, rows, _) = self.n_atoms, maps.shape
        weighed = filters.view(n, n, n_maps, 1, -1) * x[:, None]
        together = maps.reshape(n, -1, rows).transpose(1, 2)
        return torch.bmm(together, weighed.view(n, n * n_maps * rows, -1))

    def pull(self, slopes: Floats) -> Floats:
        return self._incidence @ slopes


class NeighbourEdges:
    """A neighbour list: directed edges are the half edges, then the same ones reversed.

    Args:
        first: (n_half,) atom that each half edge starts from.
        second: (n_half,) atom it points to.
        n_atoms: number of atoms.
        device: where index tensors live.
    """

    def __init__(
        self,
        first: NDArray[np.int64],
        second: NDArray[np.int64],
        n_atoms: int,
        device: torch.device,
    ) -> None:
        self.n_atoms = n_atoms
        self.first, self.second = first, second
        self.receiver = torch.from_numpy(np.concatenate([first, second])).to(device)
        self.sender = torch.from_numpy(np.concatenate([second, first])).to(device)
        signs = np.repeat([1, -1], len(first))[:, None]
        self.orientation = torch.from_numpy(signs).to(device)

    def spread(self, half: Tensor) -> Tensor:
        return torch.cat([half, half])

    def weigh(self, filters: Tensor, x: Tensor, product: Product = torch.mul) -> Tensor:
        return product(filters, x.index_select(0, self.sender))

    def collect(self, messages: Tensor) -> Tensor:
        total = messages.new_zeros(self.n_atoms, *messages.shape[1:])
        return total.index_add(0, self.receiver, messages)

    def collect_directed(self, messages: Tensor, directions: Tensor) -> Tensor:
        return self.collect(messages[:, None, :] * directions[:, :, None])

    def send_back(self, filters: Tensor, x: Tensor, product: Product = torch.mul) -> Tensor:
        return product(filters, x.index_select(0, self.receiver))

    def collect_back(self, messages: Tensor) -> Tensor:
        total = messages.new_zeros(self.n_atoms, *messages.shape[1:])
        return total.index_add(0, self.sender, messages)

    def both_ways(self, per_edge: Tensor) -> Tensor:
        ahead, back = per_edge.chunk(2)
        return ahead + back

    def sum_vectors(self, filters: Tensor, x: Tensor) -> Tensor:
        return self.collect(filters[:, None, :] * x.index_select(0, self.sender))

    def convolve(self, filters: Tensor, maps: Tensor, x: Tensor) -> Tensor:
        weighed = filters[:, :, None] * x.index_select(0, self.sender)[:, None]
        return self.collect(torch.bmm(maps.flatten(1, 2).transpose(1, 2), weighed.flatten(1, 2)))

    def pull(self, slopes: Floats) -> Floats:
        forces = np.empty((self.n_atoms, 3))
        for axis in range(3):
            forces[:, axis] = np.bincount(self.first, slopes[:, axis], self.n_atoms)
            forces[:, axis] -= np.bincount(self.second, slopes[:, axis], self.n_atoms)
        return forces


class VerletList:
    """Neighbour lists of a moving system, searched again (by vesin) only when the skin is used up.

    The order of the edges, and with it the rounding of sums over them, depends on the positions at
    the last search. These are stored, so that a restarted run can go on with the same bits.
    """

    MARGIN = 1e-3  # of the allowed displacement: vesin must never search again before we do

    def __init__(self, cutoff: float, skin: float = 0.5) -> None:
        self._cutoff, self._skin = cutoff, skin
        self._allowed = ((1 - self.MARGIN) * skin / 2) ** 2
        self._reference: tuple[Floats, Floats, Bools] | None = None
        self._search: NeighborList | None = None

    def find(
        self,
        positions: Floats,
        cell: Floats,
        pbc: Bools,
        device: torch.device,
    ) -> tuple[NeighbourEdges, Floats]:
        """Return the edges within the cutoff and their vectors (n_half, 3), Å."""
        if self._search is None or not self._covers(positions, cell, pbc):
            self._search = NeighborList(
                cutoff=self._cutoff, full_list=False, skin=self._skin, n_threads=1
            )
            self._reference = positions.copy(), cell.copy(), pbc.copy()
        i, j, vectors = self._search.compute(positions, cell, pbc, "ijD")
        edges = NeighbourEdges(i.astype(np.int64), j.astype(np.int64), len(positions), device)
        return edges, vectors

    def _covers(self, positions: Floats, cell: Floats, pbc: Bools) -> bool:
        assert self._reference is not None
        old_positions, old_cell, old_pbc = self._reference
        if old_positions.shape != positions.shape or not np.array_equal(pbc, old_pbc):
            return False
        moved = positions - old_positions
        farthest = np.einsum("ij,ij->i", moved, moved).max()
        return bool(farthest <= self._allowed and np.array_equal(cell, old_cell))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return positions, cell and pbc of the last search; empty before the first."""
        if self._reference is None:
            return {}
        return {name: x.copy() for name, x in zip(_REFERENCE, self._reference, strict=True)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue with the list that was searched at the positions in `state`."""
        self._search = self._reference = None
        if state:
            positions, cell, pbc = (state[name] for name in _REFERENCE)
            self.find(positions, cell, pbc, torch.device("cpu"))


_REFERENCE = ("positions", "cell", "pbc")
