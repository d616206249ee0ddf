"""All walks of a small molecule through two or three blocks at once, met in the middle.

The relevance of the walk i → j → l → k, from the readout down to the embedding, is

    R_ijlk = W_jlᵀ message₂(C_ij)[j] · raise₂(H_kl)[l],

with C_ij the coefficients that the top block passes from i to j, and H_kl what the first block
passes upwards from k to l. Both are known for pairs, so that no dense layer is applied to more than
n² rows, whatever the order: what is left are scalar products. A set's relevance is the sum over the
walks within it. Of molecules side by side each is met by itself: there are no walks between them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mdxai.attribution.blocks import Filters, LinearBlock, LinearNetwork
from mdxai.attribution.rules import Place
from mdxai.frame import Floats, Ints

DEPTHS = (2, 3)  # numbers of blocks
AT_ONCE = 250_000  # numbers of an intermediate result, which stay in a processor's cache


class WalkSums:
    """Relevance of the walks of a molecule, by the atoms that they visit.

    Args:
        staying: (n_atoms, n_atoms, n_atoms) eV, [j, i, k] of walks i → j → k; of three blocks those
            that stay on j in the middle one.
        moving: (n_atoms, n_atoms, n_atoms, n_atoms) eV, [l, j, i, k] of walks i → j → l → k that
            move in the middle one; empty for two blocks.
    """

    def __init__(self, staying: Floats, moving: Floats) -> None:
        self._n_atoms = len(staying)
        self._parts = [part for part in (staying, moving) if part.size]

    def split(self, i: Ints, j: Ints) -> tuple[Floats, Floats, Floats]:
        """Return R of single atoms, of the pairs i, j, and the whole's by atom of the embedding."""
        n, everyone = self._n_atoms, np.arange(self._n_atoms)
        atoms: Floats = np.sum([part.reshape(-1, n).sum(axis=0) for part in self._parts], axis=0)
        return self.of_sets(everyone[:, None]), self.of_sets(np.stack([i, j], axis=1)), atoms

    def of_sets(self, sets: Ints) -> Floats:
        """Return R_S (n_sets,), eV, of sets of atoms (n_sets, k)."""
        found = np.zeros(len(sets))
        for part in self._parts:
            visits = np.indices((sets.shape[1],) * part.ndim).reshape(part.ndim, -1)
            found += part[tuple(sets[:, visit] for visit in visits)].sum(axis=1)
        return found


def walk_relevance(
    linear: LinearNetwork, filters: list[Filters], atoms: slice
) -> tuple[Tensor, Tensor]:
    """Return the relevance of all walks of a molecule, as `WalkSums` takes it.

    Args:
        linear: a network of two or three blocks.
        filters: of each block, rows (n_atoms·n_atoms, K) by receiver and sender, zero beyond the
            cutoff.
        atoms: those of the molecule, among all that the network was linearised for.
    """

    def place(per_atom: Tensor) -> Tensor:
        return per_atom[atoms]

    blocks, top, features = linear.blocks, linear.top[atoms], linear.features[atoms]
    n = len(top)
    gates = [replace(each, rows=each.rows.view(n, n, -1)) for each in filters]
    down = _downwards(blocks[-1], gates[-1], top, place)
    up = _upwards(blocks[0], gates[0], features, place)
    if len(blocks) == 2:
        return _staying(down, up), down.new_empty(0)
    kept, message = blocks[1].keep_and_message(down, place)
    return _staying(kept, up), _moving(message, gates[1], blocks[1].raise_(up, place))


def _downwards(block: LinearBlock, gates: Filters, top: Tensor, place: Place) -> Tensor:
    """Return [i, j], the coefficients (F,) that the block passes from i down to j."""
    kept, message = block.keep_and_message(top, place)
    return block.lower(_diagonal(kept), gates.back(gates.rows, message[:, None]), place)


def _upwards(block: LinearBlock, gates: Filters, features: Tensor, place: Place) -> Tensor:
    """Return [k, l], the features (F,) that the block passes from k up to l."""
    received = gates.forth(gates.rows, block.raise_(features, place))
    return block.absorb(_diagonal(features), received.transpose(0, 1), place)


def _diagonal(per_atom: Tensor) -> Tensor:
    """(n_atoms, F) → (n_atoms, n_atoms, F), zero between different atoms."""
    return torch.diag_embed(per_atom.t()).permute(1, 2, 0).contiguous()


def _staying(down: Tensor, up: Tensor) -> Tensor:
    """Return [j, i, k] = down[i, j] · up[k, j]."""
    return torch.bmm(down.transpose(0, 1), up.permute(1, 2, 0))


def _moving(message: Tensor, gates: Filters, raised: Tensor) -> Tensor:
    """Return [l, j, i, k] = gates[j, l]ᵀ message[i, j] · raised[k, l]."""
    n, width = len(message), message.shape[2]
    found = message.new_empty(n, n, n, n)
    to_l, by_j = raised.permute(1, 2, 0), message.transpose(0, 1)
    some = max(1, AT_ONCE // max(n * n * width, 1))
    for start in range(0, n, some):
        rows = gates.rows[start : start + some].transpose(0, 1)  # [l, j]
        sent = gates.back(rows[:, :, None], by_j[start : start + some])
        met = torch.bmm(sent.flatten(1, 2), to_l)
        found[:, start : start + some] = met.view(n, -1, n, n)
    return found
