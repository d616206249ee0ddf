"""Per-atom energies of schnetpack's SO3net, arranged for speed and for attribution.

As in `forward`, weights and layers are schnetpack's. A message is the Clebsch–Gordan product of the
sender's features with W_l(r) Y_lm. For each l and edge the harmonics make an (S, S) map between
rows, the same for all blocks, so that a block is a product with filters and one with these maps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mdxai.calculators.edges import Edges
from mdxai.calculators.forward import Tape, read_out
from mdxai.calculators.harmonics import Harmonics


class SO3Block(NamedTuple):
    """filters: (E, lmax + 1, F), times the cutoff function; harmonics: (E, S); maps: (E, lmax + 1,
    S, S) of the harmonics; received: (n_atoms, S, F) y; mixed: (n_atoms, S, F), y through the
    first mixing; gates: (n_atoms, S, F), in the last block (n_atoms, 1, F).
    """

    filters: Tensor
    harmonics: Tensor
    maps: Tensor
    received: Tensor
    mixed: Tensor
    gates: Tensor


def so3net_energies(
    harmonics: Harmonics, network: nn.Module, numbers: Tensor, edges: Edges, vectors: Tensor
) -> tuple[Tensor, Tape]:
    """Return per-atom energies (n_atoms,) in the network's unit, offsets excluded, and the tape.

    Args:
        harmonics: of the network's lmax, in its dtype.
        network: schnetpack potential with an SO3net representation.
        numbers: (n_atoms,) atomic numbers.
        edges: which atoms exchange messages.
        vectors: (n_half, 3) from first to second atom of each half edge, network's length unit.
    """
    net: Any = network.representation
    filters, at_edges = _filters(net, harmonics, edges, vectors)
    maps = harmonics.maps_of(at_edges)
    features = net.embedding(numbers)
    x = nn.functional.pad(features[:, None], (0, 0, 0, harmonics.n_rows - 1))
    blocks: list[SO3Block] = []
    for k, weights in enumerate(filters):
        if k == 0:
            received = _from_scalars(harmonics, edges, weights, at_edges, features)
        else:
            received = edges.convolve(weights, maps, x)
        is_last = k == len(filters) - 1  # only its scalars are used
        update, mixed, gates = _on_atoms(net, k, harmonics, received, scalars=is_last)
        blocks.append(SO3Block(weights, at_edges, maps, received, mixed, gates))
        x = x[:, : update.shape[1]] + update
    energies, through = read_out(network, x[:, 0])
    return energies, Tape(features, blocks, through)


def _filters(
    net: Any, harmonics: Harmonics, edges: Edges, vectors: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Return each block's filters (E, lmax + 1, F), and the harmonics (E, S) of the edges.

    The cutoff function is the last column of the basis; it multiplies the filters' bias.
    """
    distances = (vectors * vectors).sum(1).sqrt()[:, None]
    envelope = net.cutoff_fn(distances)
    basis = torch.cat([net.radial_basis(distances[:, 0]) * envelope, envelope], dim=1)
    layers = [conv.filternet for conv in net.so3convs]
    weights = torch.cat([torch.cat([d.weight, d.bias[:, None]], dim=1) for d in layers])
    ahead = harmonics.at(vectors / distances)
    half = torch.cat([basis @ weights.t(), ahead], dim=1)
    both = edges.spread(half)
    *filters, at_edges = torch.split(both, [*(len(d.weight) for d in layers), ahead.shape[1]], 1)
    signs = edges.orientation.to(ahead.dtype) ** harmonics.degrees  # Y_lm(−r) = (−1)^l Y_lm(r)
    by_degree = [w.view(-1, harmonics.lmax + 1, net.n_atom_basis) for w in filters]
    return by_degree, at_edges * signs


def _from_scalars(
    harmonics: Harmonics, edges: Edges, filters: Tensor, at_edges: Tensor, x: Tensor
) -> Tensor:
    """Return what atoms receive in the first block, where features (n_atoms, F) have l = 0."""
    carried = at_edges * harmonics.coupling[:, 0].diagonal()
    rows = torch.split(carried, [2 * k + 1 for k in range(harmonics.lmax + 1)], dim=1)
    parts = [
        edges.collect_directed(edges.weigh(weights, x), some)
        for weights, some in zip(filters.unbind(1), rows, strict=True)
    ]
    return torch.cat(parts, dim=1)


def _on_atoms(
    net: Any, block: int, harmonics: Harmonics, y: Tensor, *, scalars: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the update (n_atoms, S, F), or only its scalars (n_atoms, 1, F), y through the first
    mixing, and the gates.
    """
    mixed = net.mixings1[block](y)
    if scalars:
        couples = harmonics.coupling[..., 0].diagonal()[:, None]
        product = y[:, :1] + (couples * y * mixed).sum(1, keepdim=True)
    else:
        product = y + harmonics.product(y, mixed)
    product = net.mixings2[block](product)
    scaling = net.gatings[block].scaling
    if scalars:
        width = scaling.in_features
        gates = nn.functional.linear(product, scaling.weight[:width], scaling.bias[:width])
        gates = torch.sigmoid(gates)
    else:
        raw = scaling(product[:, 0]).view(len(y), harmonics.lmax + 1, -1)
        gates = harmonics.of_rows(torch.sigmoid(raw))
    return net.mixings3[block](product * gates), mixed, gates
