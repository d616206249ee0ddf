"""Per-atom energies of schnetpack's SchNet and PaiNN, arranged for speed and for attribution.

Weights and layers are schnetpack's; only the order of the arithmetic differs: filters are computed
once per unordered pair, and no scatter is needed where all pairs are present. Tests compare both
with schnetpack's own forward pass. Each also returns a `Tape` with what attribution needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mdxai.calculators.edges import Edges


class DenseState(NamedTuple):
    """Input and output of a dense layer, y = act(z) with z = W x + b; rows are atoms."""

    x: Tensor
    z: Tensor
    y: Tensor


class SchNetBlock(NamedTuple):
    """filters: (E, F), times the cutoff function; outward: state of f2out[0]."""

    filters: Tensor
    outward: DenseState


class PaiNNBlock(NamedTuple):
    """filters: (E, F) of the scalar messages, times the cutoff function; sender, mixer: states of
    the first layers of the interatomic and the intraatomic net; products: (n_atoms, F), ⟨Vμ, Wμ⟩,
    which gates the mixing.
    """

    filters: Tensor
    sender: DenseState
    mixer: DenseState
    products: Tensor


class Tape(NamedTuple):
    """What attribution needs of a forward pass: features (n_atoms, F) of the embedding, blocks
    first to last, and the states of all readout layers but the last. pair_energies: one tensor
    (n_half,) for each pair potential that is added to the network.
    """

    features: Tensor
    blocks: Sequence[Any]
    readout: list[DenseState]
    pair_energies: tuple[Tensor, ...] = ()


AtomEnergies = Callable[[nn.Module, Tensor, Edges, Tensor], tuple[Tensor, Tape]]


def readout(network: nn.Module) -> nn.Sequential:
    """Return the atomwise network that turns features into energies."""
    return network.output_modules[0].outnet  # type: ignore[no-any-return, index, union-attr]


def schnet_energies(
    network: nn.Module,
    numbers: Tensor,
    edges: Edges,
    vectors: Tensor,
) -> tuple[Tensor, Tape]:
    """Return per-atom energies (n_atoms,) in the network's unit, offsets excluded, and the tape.

    Args:
        network: schnetpack potential with a SchNet representation.
        numbers: (n_atoms,) atomic numbers.
        edges: which atoms exchange messages.
        vectors: (n_half, 3) from first to second atom of each half edge, network's length unit.
    """
    net: Any = network.representation
    distances = (vectors * vectors).sum(1).sqrt()
    basis, envelope = net.radial_basis(distances), net.cutoff_fn(distances)[:, None]
    x = features = net.embedding(numbers)
    blocks = []
    all_filters = _schnet_filters(net, edges, basis, envelope)
    for block, filters in zip(net.interactions, all_filters, strict=True):
        messages = edges.collect(edges.weigh(filters, block.in2f(x)))
        outward = through_layer(block.f2out[0], messages)
        x = x + block.f2out[1](outward.y)
        blocks.append(SchNetBlock(filters, outward))
    energies, through = read_out(network, x)
    return energies, Tape(features, blocks, through)


def through_layer(layer: Any, x: Tensor) -> DenseState:
    """Return input and output of a dense layer."""
    z = nn.functional.linear(x, layer.weight, layer.bias)
    return DenseState(x, z, layer.activation(z))


def read_out(network: nn.Module, x: Tensor) -> tuple[Tensor, list[DenseState]]:
    """Return per-atom energies of features (n_atoms, F), and the states of layers but the last."""
    *hidden, last = readout(network)
    through = []
    for layer in hidden:
        through.append(through_layer(layer, x))
        x = through[-1].y
    return last(x).squeeze(-1), through


def _schnet_filters(net: Any, edges: Edges, basis: Tensor, envelope: Tensor) -> tuple[Tensor, ...]:
    """Return each block's filters (E, F), times the cutoff; all first layers in one product."""
    first, second = zip(*(block.filter_network for block in net.interactions), strict=True)
    weight = torch.cat([layer.weight for layer in first])
    bias = torch.cat([layer.bias for layer in first])
    hidden = first[0].activation(nn.functional.linear(basis, weight, bias))
    parts = torch.split(hidden, first[0].out_features, dim=-1)
    filters = torch.cat([layer(part) for layer, part in zip(second, parts, strict=True)], dim=-1)
    return torch.split(edges.spread(filters * envelope), second[0].out_features, dim=-1)


def painn_energies(
    network: nn.Module,
    numbers: Tensor,
    edges: Edges,
    vectors: Tensor,
) -> tuple[Tensor, Tape]:
    """Return per-atom energies (n_atoms,) and the tape, as `schnet_energies`, for PaiNN."""
    net: Any = network.representation
    width = net.n_atom_basis
    filters, directions = _painn_filters(net, edges, vectors)
    q = features = net.embedding(numbers)
    mu, blocks = None, []
    parts = zip(net.interactions, net.mixing, filters, strict=True)
    for k, (interaction, mixing, (to_q, to_mu, from_mu)) in enumerate(parts, 1):
        sender = through_layer(interaction.interatomic_context_net[0], q)
        x = interaction.interatomic_context_net[1](sender.y).split(width, -1)
        q = q + edges.collect(edges.weigh(to_q, x[0]))
        update = edges.collect_directed(edges.weigh(to_mu, x[1]), directions)
        if mu is not None:
            update = update + mu + edges.sum_vectors(from_mu, x[2][:, None] * mu)
        is_last = k == net.n_interactions  # its vectors would not be used
        q, mu, mixer, products = _painn_mixing(mixing, q, update, vectors=not is_last)
        blocks.append(PaiNNBlock(to_q, sender, mixer, products))
    energies, through = read_out(network, q)
    return energies, Tape(features, blocks, through)


def _painn_filters(net: Any, edges: Edges, vectors: Tensor) -> tuple[list[list[Tensor]], Tensor]:
    """Return each block's three filters (E, F), and unit vectors (E, 3).

    The cutoff function is the last column of the basis; it multiplies the filters' bias.
    """
    distances = (vectors * vectors).sum(1).sqrt()[:, None]
    envelope = net.cutoff_fn(distances)
    radial = net.radial_basis(distances[:, 0])
    half = torch.cat([radial * envelope, envelope, vectors / distances], dim=1)
    basis, directions = torch.split(edges.spread(half), [radial.shape[1] + 1, 3], dim=1)
    layer = net.filter_net
    weights = torch.cat([layer.weight, layer.bias[:, None]], dim=1)
    filters = [basis @ part.t() for part in torch.split(weights, net.n_atom_basis)]
    if net.share_filters:
        filters = filters * net.n_interactions
    blocks = [filters[k : k + 3] for k in range(0, len(filters), 3)]
    return blocks, directions * edges.orientation.to(directions.dtype)


def _painn_mixing(
    mixing: Any, q: Tensor, mu: Tensor, *, vectors: bool
) -> tuple[Tensor, Tensor | None, DenseState, Tensor]:
    width = q.shape[-1]
    v, w = mixing.mu_channel_mix(mu).split(width, -1)
    norms = ((v * v).sum(1) + mixing.epsilon).sqrt()
    mixer = through_layer(mixing.intraatomic_context_net[0], torch.cat([q, norms], dim=-1))
    dq, dmu, dqmu = mixing.intraatomic_context_net[1](mixer.y).split(width, -1)
    products = (v * w).sum(1)
    mixed = mu + dmu[:, None] * w if vectors else None
    return q + dq + dqmu * products, mixed, mixer, products
