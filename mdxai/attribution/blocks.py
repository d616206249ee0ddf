"""Interaction blocks as linear maps between atoms, and which rule applies where.

At a fixed configuration relevance passes an interaction block by

    c_below[j] = keep(c[j]) + lower_j( Σ_i W_ijᵀ message(c[i]) )

with W_ij the filter of the edge j → i, a constant: for SchNet and PaiNN a gate, W_ij ∘ message.

             γ rule                                  plain gradient         constant gate
    SchNet   f2out[0]                                in2f, f2out[1]         filters
    PaiNN    interatomic_context_net[0],             the layers after       filters, ‖Vμ‖,
             intraatomic_context_net[0]              these                  ⟨Vμ, Wμ⟩
    both     every readout layer but the last        the last layer

PaiNN's vector features carry no relevance: all of it flows through the scalars. SO3net is declared
in `so3_blocks`. An architecture is declared by `Rules`: a forward pass with a tape in, linear maps
out. Methods know nothing else of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mdxai.attribution.lrp_rule import Rule
from mdxai.attribution.rules import Place, RuledLayer, RuledLayers, per_atom_place
from mdxai.calculators.forward import PaiNNBlock, SchNetBlock, Tape, readout


@dataclass(frozen=True, slots=True)
class Filters:
    """What an edge does to features and coefficients: a linear map, the same for every set.

    rows: (E, K) of the directed edges, zero where nothing passes. forth: rows (..., K), features of
    the sender (..., F) → (..., F). back: rows, coefficients at the receiver → those at the sender.
    Both broadcast. summable: makes filters whose rows may be added, for images of one pair; None
    where these may.
    """

    rows: Tensor
    forth: Callable[[Tensor, Tensor], Tensor] = torch.mul
    back: Callable[[Tensor, Tensor], Tensor] = torch.mul
    summable: Callable[[], Filters] | None = None


@dataclass(frozen=True, slots=True)
class LinearBlock:
    """One interaction block at a fixed configuration.

    Coefficients, backwards, and features, forwards, may have any shape (..., F) to which a `Place`
    broadcasts per-atom tensors. F counts all that an atom's features hold.

    filters: of the directed edges. keep_and_message: coefficients → what stays on the atom,
    what it passes to its neighbours. lower: what stays, what arrives → coefficients below. raise_:
    the sender's side, forwards. absorb: own features, received sum → the block's output, forwards.
    """

    filters: Filters
    keep_and_message: Callable[[Tensor, Place], tuple[Tensor, Tensor]]
    lower: Callable[[Tensor, Tensor, Place], Tensor]
    raise_: Callable[[Tensor, Place], Tensor]
    absorb: Callable[[Tensor, Tensor, Place], Tensor]


@dataclass(frozen=True, slots=True)
class LinearNetwork:
    """A network at one configuration as a chain of linear maps.

    blocks: first to last. top: (n_atoms, F) coefficients of the readout. features: (n_atoms, F)
    embedding output h⁰.
    """

    blocks: list[LinearBlock]
    top: Tensor
    features: Tensor


class Rules(Protocol):
    """What an architecture declares to be explained: its rules with the present weights."""

    def at(self, tape: Tape) -> LinearNetwork:
        """Return the network linearised at a forward pass."""
        ...


class SchNetRules:
    """The rules of a SchNet with its present weights."""

    def __init__(self, network: nn.Module, rule: Rule) -> None:
        net: Any = network.representation
        self._modules = list(net.interactions)
        layers = [block.f2out[0] for block in self._modules]
        self._top = Readout(network)
        self._layers = RuledLayers(layers + self._top.ruled, rule)

    def at(self, tape: Tape) -> LinearNetwork:
        """Return the network linearised at a forward pass."""
        states = tape.blocks
        fixed = self._layers.at([state.outward for state in states] + tape.readout)
        parts = zip(self._modules, fixed, states, strict=False)
        top = self._top.at(fixed[len(states) :], len(tape.features))
        return LinearNetwork([_schnet_block(*part) for part in parts], top, tape.features)


def _schnet_block(module: Any, outward: RuledLayer, state: SchNetBlock) -> LinearBlock:
    to_filters, to_features = module.in2f.weight, module.f2out[1].weight
    return LinearBlock(
        filters=Filters(state.filters),
        keep_and_message=lambda c, place: (c, outward.pull(c @ to_features, place)),
        lower=lambda kept, received, place: (received @ to_filters).add_(kept),
        raise_=lambda h, place: h @ to_filters.t(),
        absorb=lambda own, received, place: own + outward.push(received, place) @ to_features.t(),
    )


class PaiNNRules:
    """The rules of a PaiNN with its present weights."""

    def __init__(self, network: nn.Module, rule: Rule) -> None:
        net: Any = network.representation
        width = net.n_atom_basis
        inter = [module.interatomic_context_net for module in net.interactions]
        intra = [module.intraatomic_context_net for module in net.mixing]
        self._top = Readout(network)
        ruled = [layers[0] for layers in inter + intra] + self._top.ruled
        widths = [width] * (2 * len(inter)) + [layer.in_features for layer in self._top.ruled]
        self._layers = RuledLayers(ruled, rule, widths)  # the mixer's other inputs are constants
        self._after = [
            (send[1].weight[:width], *mix[1].weight.split(width)[::2])
            for send, mix in zip(inter, intra, strict=True)
        ]

    def at(self, tape: Tape) -> LinearNetwork:
        """Return the network linearised at a forward pass."""
        states = tape.blocks
        n = len(states)
        inside = [state.sender for state in states] + [state.mixer for state in states]
        fixed = self._layers.at(inside + tape.readout)
        parts = zip(self._after, fixed[:n], fixed[n : 2 * n], states, strict=True)
        top = self._top.at(fixed[2 * n :], len(tape.features))
        return LinearNetwork([_painn_block(*part) for part in parts], top, tape.features)


def _painn_block(
    after: tuple[Tensor, Tensor, Tensor], sender: RuledLayer, mixer: RuledLayer, state: PaiNNBlock
) -> LinearBlock:
    to_scalars, plain, gated = after

    def keep_and_message(c: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        hidden = c @ plain + (c * place(state.products)) @ gated
        mixed = c + mixer.pull(hidden, place)
        return mixed, mixed

    def absorb(own: Tensor, received: Tensor, place: Place) -> Tensor:
        q = own + received
        hidden = mixer.push(q, place)
        result: Tensor = q + hidden @ plain.t() + place(state.products) * (hidden @ gated.t())
        return result

    return LinearBlock(
        filters=Filters(state.filters),
        keep_and_message=keep_and_message,
        lower=lambda kept, received, place: sender.pull(received @ to_scalars, place).add_(kept),
        raise_=lambda h, place: sender.push(h, place) @ to_scalars.t(),
        absorb=absorb,
    )


class Readout:
    """The readout of every architecture. Its last layer, which is linear, keeps its plain gradient.

    ruled: the layers before it, which follow the rule.
    """

    def __init__(self, network: nn.Module) -> None:
        *self.ruled, last = readout(network)
        self._start: Tensor = last.weight.sum(0)  # type: ignore[operator]

    def at(self, fixed: Sequence[RuledLayer], n_atoms: int) -> Tensor:
        """Return ∂(Σ atomwise output)/∂features, (n_atoms, F)."""
        c = self._start.repeat(n_atoms, 1)
        for layer in reversed(fixed):
            c = layer.pull(c, per_atom_place)
        return c
