"""Interaction blocks as linear maps between atoms: which rule goes where, per architecture.

At a fixed configuration relevance passes an interaction block by

    c_below[j] = keep(c[j]) + lower_j( Σ_i W_ij ∘ message(c[i]) )

with W_ij (F,) the filter of the edge j → i, a constant gate.

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

from mdxai.attribution.rules import Place, Rule, RuledLayer, RuledLayers
from mdxai.calculators.energies import PaiNNBlock, SchNetBlock


@dataclass(frozen=True, slots=True)
class LinearBlock:
    """One interaction block at a fixed configuration.

    Backwards, coefficients may have any shape (..., F) into which a `Place` puts per-atom tensors;
    forwards, features are (n_atoms, F).

    filters: (E, F) of the directed edges. keep_and_message: coefficients → what stays on the atom,
    what it hands to its neighbours. lower: what stays, what arrives → coefficients below. raise_:
    the sender's side, forwards. absorb: own features, received sum → the block's output, forwards.
    """

    filters: Tensor
    keep_and_message: Callable[[Tensor, Place], tuple[Tensor, Tensor]]
    lower: Callable[[Tensor, Tensor, Place], Tensor]
    raise_: Callable[[Tensor], Tensor]
    absorb: Callable[[Tensor, Tensor], Tensor]


class SchNetRules:
    """The rules of a SchNet, from its weights as they are now."""

    def __init__(self, network: nn.Module, rule: Rule) -> None:
        net: Any = network.representation
        self._modules = list(net.interactions)
        self._outward = RuledLayers([block.f2out[0] for block in self._modules], rule)

    def at(self, states: list[SchNetBlock]) -> list[LinearBlock]:
        """Return the blocks, first to last, at what the forward pass left of each."""
        outward = self._outward.at([state.outward for state in states])
        return [_schnet_block(*parts) for parts in zip(self._modules, outward, states, strict=True)]


def _schnet_block(module: Any, outward: RuledLayer, state: SchNetBlock) -> LinearBlock:
    to_filters, to_features = module.in2f.weight, module.f2out[1].weight
    return LinearBlock(
        filters=state.filters,
        keep_and_message=lambda c, place: (c, outward.pull(c @ to_features, place)),
        lower=lambda kept, received, place: (received @ to_filters).add_(kept),
        raise_=lambda h: h @ to_filters.t(),
        absorb=lambda own, received: own + outward.push(received) @ to_features.t(),
    )


class PaiNNRules:
    """The rules of a PaiNN, from its weights as they are now."""

    def __init__(self, network: nn.Module, rule: Rule) -> None:
        net: Any = network.representation
        width = net.n_atom_basis
        inter = [module.interatomic_context_net for module in net.interactions]
        intra = [module.intraatomic_context_net for module in net.mixing]
        self._senders = RuledLayers([layers[0] for layers in inter], rule)
        self._mixers = RuledLayers([layers[0] for layers in intra], rule, slice(width))
        self._after = [
            (send[1].weight[:width], mix[1].weight) for send, mix in zip(inter, intra, strict=True)
        ]

    def at(self, states: list[PaiNNBlock]) -> list[LinearBlock]:
        """Return the blocks, first to last, at what the forward pass left of each."""
        senders = self._senders.at([state.sender for state in states])
        mixers = self._mixers.at([state.mixer for state in states])
        return [
            _painn_block(to_scalars, sender, mixing, mixer, state)
            for (to_scalars, mixing), sender, mixer, state in zip(
                self._after, senders, mixers, states, strict=True
            )
        ]


def _painn_block(
    to_scalars: Tensor, sender: RuledLayer, mixing: Tensor, mixer: RuledLayer, state: PaiNNBlock
) -> LinearBlock:
    plain, _, gated = mixing.split(len(to_scalars), 0)  # type: ignore[no-untyped-call]

    def keep_and_message(c: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        hidden = c @ plain + (c * place(state.products)) @ gated
        mixed = c + mixer.pull(hidden, place)
        return mixed, mixed

    def absorb(own: Tensor, received: Tensor) -> Tensor:
        q = own + received
        hidden = mixer.push(q)
        result: Tensor = q + hidden @ plain.t() + state.products * (hidden @ gated.t())
        return result

    return LinearBlock(
        filters=state.filters,
        keep_and_message=keep_and_message,
        lower=lambda kept, received, place: sender.pull(received @ to_scalars, place).add_(kept),
        raise_=lambda h: sender.push(h) @ to_scalars.t(),
        absorb=absorb,
    )
