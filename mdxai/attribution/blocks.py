"""Interaction blocks as linear maps between atoms: which rule goes where, per architecture.

At a fixed configuration relevance passes an interaction block by

    c_below[j] = keep(c[j]) + lower_j( Σ_i W_ij ∘ message(c[i]) )

with W_ij (F,) the filter of the edge j → i, a constant gate. Coefficients carry the atom they sit
on in their first axis and any number of independent problems in the second: (n_atoms, K, F).

             γ rule                                  plain gradient         constant gate
    SchNet   f2out[0]                                in2f, f2out[1]         filters
    PaiNN    interatomic_context_net[0],             the layers after       filters, ‖Vμ‖,
             intraatomic_context_net[0]              these                  ⟨Vμ, Wμ⟩
    both     every readout layer but the last        the last layer

PaiNN's vector features carry no relevance: all of it flows through the scalars.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mdxai.attribution.rules import GammaRule
from mdxai.calculators.edges import AllPairs, Edges, NeighbourEdges
from mdxai.calculators.energies import PaiNNBlock, SchNetBlock


@dataclass(frozen=True, slots=True)
class LinearBlock:
    """One interaction block at a fixed configuration.

    filters: (n_atoms, n_atoms, F), [i, j] for j → i, summed over periodic images.
    keep_and_message: (n_atoms, K, F) → what stays on the atom, what it hands to its neighbours.
    lower: (n_atoms, K, F) → (n_atoms, K, F), the sender's side of the block, backwards.
    raise_: (n_atoms, F) → (n_atoms, F), the same map forwards.
    """

    filters: Tensor
    keep_and_message: Callable[[Tensor], tuple[Tensor, Tensor]]
    lower: Callable[[Tensor], Tensor]
    raise_: Callable[[Tensor], Tensor]


def schnet_blocks(
    network: nn.Module, edges: Edges, tape: list[Any], gamma: float
) -> list[LinearBlock]:
    """Return SchNet's blocks, first to last, from what the forward pass left on the tape."""
    interactions: Any = network.representation.interactions  # type: ignore[union-attr]
    return [
        _schnet_block(module, edges, state, gamma)
        for module, state in zip(interactions, tape, strict=True)
    ]


def _schnet_block(module: Any, edges: Edges, state: SchNetBlock, gamma: float) -> LinearBlock:
    first, second = module.f2out
    rule = GammaRule.at(first, state.messages, gamma)
    to_filters = module.in2f.weight

    def keep_and_message(c: Tensor) -> tuple[Tensor, Tensor]:
        return c, rule.pull(c @ second.weight)

    return LinearBlock(
        filters=square_filters(edges, state.filters),
        keep_and_message=keep_and_message,
        lower=lambda s: s @ to_filters,
        raise_=lambda h: h @ to_filters.t(),
    )


def painn_blocks(
    network: nn.Module, edges: Edges, tape: list[Any], gamma: float
) -> list[LinearBlock]:
    """Return PaiNN's blocks, first to last, from what the forward pass left on the tape."""
    net: Any = network.representation
    return [
        _painn_block(interaction, mixing, edges, state, gamma)
        for interaction, mixing, state in zip(net.interactions, net.mixing, tape, strict=True)
    ]


def _painn_block(
    interaction: Any, mixing: Any, edges: Edges, state: PaiNNBlock, gamma: float
) -> LinearBlock:
    width = state.scalars.shape[1]
    first, second = interaction.interatomic_context_net
    sender = GammaRule.at(first, state.scalars, gamma)
    to_scalars = second.weight[:width]
    mix = _painn_mixing(mixing, state, gamma)

    def keep_and_message(c: Tensor) -> tuple[Tensor, Tensor]:
        mixed = c + mix(c)
        return mixed, mixed

    return LinearBlock(
        filters=square_filters(edges, state.filters),
        keep_and_message=keep_and_message,
        lower=lambda s: sender.pull(s @ to_scalars),
        raise_=lambda h: sender.push(h) @ to_scalars.t(),
    )


def _painn_mixing(mixing: Any, state: PaiNNBlock, gamma: float) -> Callable[[Tensor], Tensor]:
    """Return the mixing's update of q, backwards: (n_atoms, K, F) → (n_atoms, K, F)."""
    width = state.scalars.shape[1]
    first, second = mixing.intraatomic_context_net
    rule = GammaRule.at(first, state.context, gamma, explained=slice(width))
    plain, _, gated = second.weight.split(width, 0)
    products = state.products[:, None]

    def pull(c: Tensor) -> Tensor:
        return rule.pull(c @ plain + (c * products) @ gated)

    return pull


def square_filters(edges: Edges, filters: Tensor) -> Tensor:
    """(E, F) → (n_atoms, n_atoms, F): filters by receiver and sender, summed over images."""
    if isinstance(edges, AllPairs):
        return edges.square(filters)
    assert isinstance(edges, NeighbourEdges)
    n, width = edges.n_atoms, filters.shape[1]
    flat = filters.new_zeros(n * n, width)
    flat.index_add_(0, edges.receiver * n + edges.sender, filters)
    return flat.view(n, n, width)
