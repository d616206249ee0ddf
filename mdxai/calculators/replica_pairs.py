"""All pairs within each of several molecules of equal size: fixed shapes and no scatter."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mdxai.calculators.edges import Product, SpreadBothWays
from mdxai.frame import Floats


class ReplicaPairs:
    """Edges within molecules, stored as (n_molecules · n_each · n_each); none between molecules.

    No operation mixes molecules, so NaN in one never reaches another. As in `AllPairs`, pairs
    beyond the cutoff are included and have filters of exactly zero.

    Args:
        n_molecules: number of molecules.
        n_each: number of atoms of each.
        device: where index tensors live.
    """

    def __init__(self, n_molecules: int, n_each: int, device: torch.device) -> None:
        i, j = np.triu_indices(n_each, k=1)
        n_pairs, n_all = len(i), n_molecules * len(i)
        row_of = np.full((n_each, n_each), -1)
        row_of[i, j] = row_of[j, i] = np.arange(n_pairs)
        copies = np.arange(n_molecules)
        rows = np.where(row_of < 0, n_all, row_of + n_pairs * copies[:, None, None])
        self._incidence = np.zeros((n_each, n_pairs))
        self._incidence[i, np.arange(n_pairs)] = 1.0
        self._incidence[j, np.arange(n_pairs)] = -1.0
        self._shape = (n_molecules, n_each, n_each)
        self.n_atoms = n_molecules * n_each
        self.first = (i + n_each * copies[:, None]).ravel().astype(np.int64)
        self.second = (j + n_each * copies[:, None]).ravel().astype(np.int64)
        before = n_each * n_each * copies[:, None]
        self._row_of = torch.from_numpy(rows.ravel()).to(device)
        self._upper = torch.from_numpy((before + i * n_each + j).ravel()).to(device)
        self._lower = torch.from_numpy((before + j * n_each + i).ravel()).to(device)
        sign = np.sign(np.arange(n_each)[None, :] - np.arange(n_each)[:, None])
        self.orientation = torch.from_numpy(np.tile(sign.reshape(-1, 1), (n_molecules, 1)))
        self.orientation = self.orientation.to(device)

    def vectors(self, positions: Floats) -> Floats:
        """(n_atoms, 3) → (n_half, 3), from first to second atom."""
        return positions[self.second] - positions[self.first]

    def square(self, edges: Tensor) -> Tensor:
        """(E, K) → (n_molecules, n_each, n_each, K), row i receives from column j."""
        return edges.view(*self._shape, -1)

    def spread(self, half: Tensor) -> Tensor:
        return SpreadBothWays.apply(half, self._row_of, self._upper, self._lower)  # type: ignore[no-any-return]

    def weigh(self, filters: Tensor, x: Tensor, product: Product = torch.mul) -> Tensor:
        return product(self.square(filters), x.view(self._shape[0], 1, self._shape[1], -1))

    def collect(self, messages: Tensor) -> Tensor:
        return self.square(messages).sum(2).flatten(0, 1)

    def collect_directed(self, messages: Tensor, directions: Tensor) -> Tensor:
        receivers = (self.n_atoms, self._shape[1], -1)
        return torch.bmm(directions.view(*receivers).transpose(1, 2), messages.view(*receivers))

    def send_back(self, filters: Tensor, x: Tensor, product: Product = torch.mul) -> Tensor:
        return product(self.square(filters), x.view(self._shape[0], self._shape[1], 1, -1))

    def collect_back(self, messages: Tensor) -> Tensor:
        return self.square(messages).sum(1).flatten(0, 1)

    def both_ways(self, per_edge: Tensor) -> Tensor:
        flat = per_edge.reshape(-1)
        return flat.index_select(0, self._upper) + flat.index_select(0, self._lower)

    def sum_vectors(self, filters: Tensor, x: Tensor) -> Tensor:
        senders = x.view(self._shape[0], 1, self._shape[1], 3, -1)
        return (self.square(filters)[:, :, :, None] * senders).sum(2).flatten(0, 1)

    def convolve(self, filters: Tensor, maps: Tensor, x: Tensor) -> Tensor:
        (n_maps, rows), width = maps.shape[1:3], x.shape[-1]
        by_pair = filters.view(*self._shape, n_maps, 1, width)
        weighed = by_pair * x.view(self._shape[0], 1, self._shape[1], 1, rows, width)
        together = maps.reshape(self.n_atoms, -1, rows).transpose(1, 2)
        return torch.bmm(together, weighed.view(self.n_atoms, -1, width))

    def pull(self, slopes: Floats) -> Floats:
        by_molecule = slopes.reshape(self._shape[0], -1, 3)
        forces: Floats = (self._incidence @ by_molecule).reshape(-1, 3)
        return forces
