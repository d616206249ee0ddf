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
        messages = edges.collect(edges.weigh(filters, block.in2f(x)))
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
    filters, directions = _painn_filters(net, edges, vectors)
    q, mu = net.embedding(numbers), None
    blocks = zip(net.interactions, net.mixing, filters, strict=True)
    for k, (interaction, mixing, (to_q, to_mu, from_mu)) in enumerate(blocks, 1):
        x = interaction.interatomic_context_net(q).split(width, -1)
        scalars = q
        q = q + edges.collect(edges.weigh(to_q, x[0]))
        update = edges.collect_directed(edges.weigh(to_mu, x[1]), directions)
        if mu is not None:
            update = update + mu + edges.sum_vectors(from_mu, x[2][:, None] * mu)
        is_last = k == net.n_interactions  # nobody reads the vectors it would give
        q, mu, context, products = _painn_mixing(mixing, q, update, vectors=not is_last)
        if tape is not None:
            tape.append(PaiNNBlock(to_q, scalars, context, products))
    if tape is not None:
        tape.append(q)
    return readout(network)(q).squeeze(-1)  # type: ignore[no-any-return]


def _painn_filters(net: Any, edges: Edges, vectors: Tensor) -> tuple[list[list[Tensor]], Tensor]:
    """Return each block's three filters (E, F), and unit vectors (E, 3).

    The cutoff stands as a last column beside the radial basis: it multiplies the filters' bias.
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
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    width = q.shape[-1]
    v, w = mixing.mu_channel_mix(mu).split(width, -1)
    norms = ((v * v).sum(1) + mixing.epsilon).sqrt()
    context = torch.cat([q, norms], dim=-1)
    dq, dmu, dqmu = mixing.intraatomic_context_net(context).split(width, -1)
    products = (v * w).sum(1)
    mixed = mu + dmu[:, None] * w if vectors else None
    return q + dq + dqmu * products, mixed, context, products


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
