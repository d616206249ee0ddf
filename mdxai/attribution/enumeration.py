"""Relevance of every single walk, for small molecules: there are n_atoms^(layers+1) walks.

It comes from the same linear blocks as the relevance of sets. Walks are extended by one atom at a
time from the readout; walks with a common upper part share its computation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mdxai.attribution.attribution import AttributionError, AttributionUnavailable, as_frame
from mdxai.attribution.blocks import Filters
from mdxai.attribution.network_attributors import WalkAttributor
from mdxai.attribution.rules import per_atom_place
from mdxai.frame import Floats, Frame, Ints

MAX_WALKS = 5_000_000


@dataclass(frozen=True, slots=True)
class Walks:
    """Relevance of single walks.

    atoms: (n_walks, n_layers + 1) from the embedding to the readout. relevance: (n_walks,) eV.
    """

    atoms: Ints
    relevance: Floats

    def strongest(self, k: int) -> Walks:
        """Return the k walks of largest |R_w|, strongest first."""
        order = np.argsort(-np.abs(self.relevance), kind="stable")[:k]
        return Walks(self.atoms[order], self.relevance[order])

    def absolute_strength(self) -> Floats:
        """Return (n_atoms, n_atoms) Σ|R_w| over the walks that contain both i and j, eV; on the
        diagonal over those that contain i. Unlike signed sums it cannot cancel.
        """
        n_atoms = int(self.atoms.max(initial=-1)) + 1
        visits = np.zeros((len(self.atoms), n_atoms))
        np.put_along_axis(visits, self.atoms, 1.0, axis=1)
        strength: Floats = visits.T @ (visits * np.abs(self.relevance)[:, None])
        return strength


def all_walks(attributor: WalkAttributor, frame: Frame | Atoms) -> Walks:
    """Return the relevance of every walk of a small molecule; 0 for steps beyond the cutoff.

    Pair potentials that are added to a network, ZBL or a guard, have no walks.

    Raises:
        AttributionError: for an attributor of another method.
        AttributionUnavailable: for more than five million walks.
    """
    if not isinstance(attributor, WalkAttributor):
        raise AttributionError(
            f'single walks need an attributor of method="walks", got {attributor.method!r}'
        )
    frame = as_frame(frame)
    network, gates = attributor.linearised(frame)
    n, length = frame.n_atoms, len(network.blocks) + 1
    if n**length > MAX_WALKS:
        raise AttributionUnavailable(
            f"{n} atoms and {length - 1} blocks make {n**length:,} walks, more than {MAX_WALKS:,}; "
            "set relevances (body_order) need no enumeration"
        )
    with torch.inference_mode():
        values = _extend(network.blocks, gates, network.top, network.features)
    downwards = np.indices((n,) * length).reshape(length, -1).T
    return Walks(downwards[:, ::-1].copy(), attributor.in_ev(values.reshape(-1)))


def _extend(blocks: list, gates: list[Filters], top: Tensor, features: Tensor) -> Tensor:  # type: ignore[type-arg]
    """Return (n_atoms, …, n_atoms) relevance by atoms of the walk, readout first.

    c holds (n_prefixes, n_atoms, F): the coefficients of walks' upper parts, by lowest atom.
    """
    n = len(top)
    everyone = torch.eye(n, dtype=torch.bool, device=top.device)[:, :, None]

    c = top[None]
    for block, filters in zip(reversed(blocks), reversed(gates), strict=True):
        kept, message = block.keep_and_message(c, per_atom_place)
        # from atom [1] to atom [2]
        sent = filters.back(filters.rows.view(n, n, -1), message[:, :, None])
        stays = torch.where(everyone, kept[:, :, None], 0.0)
        c = block.lower(stays.reshape(-1, n, stays.shape[-1]), sent.flatten(0, 1), per_atom_place)
    return (c * features).sum(-1)
