"""Relevance of atoms and of pairs of atoms, by passes restricted to sets; no walk is enumerated.

R_S, the relevance of the walks that stay inside S, is one pass of the blocks restricted to S. All
pairs go through together: entry [i, j] of an (n_atoms, n_atoms, F) tensor is the coefficient of
atom i in the set {i, j}, and entry [i, i] that of the set {i}. The partner's coefficient is the
transpose, so one block costs the same few products as for a single atom.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdxai.attribution.blocks import LinearBlock


def atom_relevance(blocks: list[LinearBlock], top: Tensor, features: Tensor) -> Tensor:
    """Return the relevance arriving at each atom over all walks, (n_atoms,).

    Args:
        blocks: first to last.
        top: (n_atoms, F) coefficients of the readout.
        features: (n_atoms, F) embedding output h⁰.
    """
    c = top[:, None]
    for block in reversed(blocks):
        keep, message = block.keep_and_message(c)
        received = torch.einsum("ijf,if->jf", block.filters, message[:, 0])
        c = keep + block.lower(received[:, None])
    return (features * c[:, 0]).sum(-1)


def pair_relevance(blocks: list[LinearBlock], top: Tensor, features: Tensor) -> Tensor:
    """Return (n_atoms, n_atoms): [i, j] + [j, i] is R_{ij} for i ≠ j, and [i, i] is R_{i}.

    Arguments as for `atom_relevance`.
    """
    c = top[:, None]  # the same for every set: the topmost block works on n_atoms rows only
    for block in reversed(blocks[1:]):
        keep, received = _step(block, c)
        c = keep + block.lower(received)
    # Nothing lies below the first block but a dot product with h⁰, so its sender's side is applied
    # to h⁰ once per atom instead of to every set.
    keep, received = _step(blocks[0], c)
    stays = (keep * features[:, None]).sum(-1)
    moves = (received * blocks[0].raise_(features)[:, None]).sum(-1)
    return stays + moves


def _step(block: LinearBlock, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return what atom i keeps and what it receives from its partner j and its own images."""
    keep, message = block.keep_and_message(c)
    received = (block.filters * message).transpose(0, 1)
    own = block.filters.diagonal().t()  # (n_atoms, F): images of the atom itself, in small cells
    if own.any():
        off_diagonal = ~torch.eye(len(own), dtype=torch.bool, device=own.device)
        received = received + own[:, None] * message * off_diagonal[:, :, None]
    return keep, received


def exactly_two(relevance: Tensor, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
    """Split the result of `pair_relevance` into one-body (n_atoms,) and two-body (n_pairs,).

    two_body(i, j) = R_{ij} − R_i − R_j.
    """
    one = relevance.diagonal()
    return one, relevance[i, j] + relevance[j, i] - one[i] - one[j]
