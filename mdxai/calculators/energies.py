"""Per-atom energies of schnetpack's SchNet and PaiNN, arranged for speed and for attribution.

The weights and layers are schnetpack's; only the order of the arithmetic is ours: filters once per
unordered pair, no scatter where all pairs are present. Tests hold both to schnetpack's own forward
pass. With a `tape`, each block leaves there what attribution needs to retrace it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mdxai.calculators.edges import Edges

AtomEnergies = Callable[..., Tensor]


class SchNetBlock(NamedTuple):
    """filters: (E, F) with the cutoff; messages: (n_atoms, F) summed, entering f2out."""

    filters: Tensor
    messages: Tensor


class PaiNNBlock(NamedTuple):
    """filters: (E, F) of the scalar messages, with the cutoff; scalars: (n_atoms, F) entering the
    interatomic net; context: (n_atoms, 2F) entering the intraatomic net; products: (n_atoms, F),
    ⟨Vμ, Wμ⟩ which gates the mixing.
    """

    filters: Tensor
    scalars: Tensor
    context: Tensor
    products: Tensor


def readout(network: nn.Module) -> nn.Sequential:
    """Return the atomwise network that turns features into energies."""
    return network.output_modules[0].outnet  # type: ignore[no-any-return, index, union-attr]


def schnet_energies(
    network: nn.Module,
    numbers: Tensor,
    edges: Edges,
    vectors: Tensor,
    tape: list[Any] | None = None,
) -> Tensor:
    """Return per-atom energies (n_atoms,) in the network's unit, offsets excluded.

    Args:
        network: schnetpack potential with a SchNet representation.
        numbers: (n_atoms,) atomic numbers.
        edges: which atoms exchange messages.
        vectors: (n_half, 3) from first to second atom of each half edge, network's length unit.
        tape: receives a SchNetBlock for each block, then the final features (n_atoms, F).
    """
    net: Any = network.representation
    distances = (vectors * vectors).sum(1).sqrt()
    basis, envelope = net.radial_basis(distances), net.cutoff_fn(distances)[:, None]
    x = net.embedding(numbers)
    all_filters = _schnet_filters(net, edges, basis, envelope)
    for block, filters in zip(net.interactions, all_filters, strict=True):
        messages = edges.sum_scalars(filters, block.in2f(x))
        x = x + block.f2out(messages)
        if tape is not None:
            tape.append(SchNetBlock(filters, messages))
    if tape is not None:
        tape.append(x)
    return readout(network)(x).squeeze(-1)  # type: ignore[no-any-return]


def _schnet_filters(net: Any, edges: Edges, basis: Tensor, envelope: Tensor) -> tuple[Tensor, ...]:
    """Return each block's filters (E, F) with the cutoff; their first layers as one product."""
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
    tape: list[Any] | None = None,
) -> Tensor:
    """Return per-atom energies (n_atoms,), as `schnet_energies`, for a PaiNN representation.

    `tape` receives a PaiNNBlock for each block, then the final scalar features (n_atoms, F).
    """
    net: Any = network.representation
    width = net.n_atom_basis
    distances = (vectors * vectors).sum(1).sqrt()[:, None]
    basis, directions = _painn_geometry(net, edges, vectors, distances)
    filter_weights = _painn_filter_weights(net)
    q, mu = net.embedding(numbers), None
    for interaction, mixing, weights in zip(
        net.interactions, net.mixing, filter_weights, strict=True
    ):
        x = interaction.interatomic_context_net(q).split(width, -1)
        filters = basis @ weights[0].t()
        scalars = q
        q = q + edges.sum_scalars(filters, x[0])
        update = edges.sum_directed(basis @ weights[1].t(), x[1], directions)
        if mu is not None:
            update = update + mu + edges.sum_vectors(basis @ weights[2].t(), x[2][:, None] * mu)
        q, mu, context, products = _painn_mixing(mixing, q, update)
        if tape is not None:
            tape.append(PaiNNBlock(filters, scalars, context, products))
    if tape is not None:
        tape.append(q)
    return readout(network)(q).squeeze(-1)  # type: ignore[no-any-return]


def _painn_geometry(
    net: Any, edges: Edges, vectors: Tensor, distances: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the radial basis times cutoff with the cutoff as last column, which multiplies the
    filters' bias, (E, n_rbf + 1), and unit vectors (E, 3).
    """
    envelope = net.cutoff_fn(distances)
    radial = net.radial_basis(distances[:, 0])
    basis = edges.spread(torch.cat([radial * envelope, envelope], dim=1))
    return basis, edges.spread_odd(vectors / distances)


def _painn_filter_weights(net: Any) -> list[tuple[Tensor, ...]]:
    """Return per block the weights (F, n_rbf + 1), bias last, of the three filter parts."""
    filter_net, width = net.filter_net, net.n_atom_basis
    weights = torch.cat([filter_net.weight, filter_net.bias[:, None]], dim=1)
    parts = list(torch.split(weights, width))
    if net.share_filters:
        parts = parts * net.n_interactions
    return [tuple(parts[k : k + 3]) for k in range(0, len(parts), 3)]


def _painn_mixing(mixing: Any, q: Tensor, mu: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    width = q.shape[-1]
    v, w = mixing.mu_channel_mix(mu).split(width, -1)
    norms = ((v * v).sum(1) + mixing.epsilon).sqrt()
    context = torch.cat([q, norms], dim=-1)
    dq, dmu, dqmu = mixing.intraatomic_context_net(context).split(width, -1)
    products = (v * w).sum(1)
    return q + dq + dqmu * products, mu + dmu[:, None] * w, context, products


def atom_energies_of(network: nn.Module) -> AtomEnergies:
    """Return the energy function for a network's architecture.

    Raises:
        ValueError: for a representation that is neither SchNet nor PaiNN.
    """
    kind = type(network.representation).__name__
    functions: dict[str, AtomEnergies] = {"SchNet": schnet_energies, "PaiNN": painn_energies}
    if kind not in functions:
        raise ValueError(f"representation {kind} is not supported; expected SchNet or PaiNN")
    return functions[kind]
