"""SO3net as linear maps between atoms.

With S rows for all l and m, y_i = Σ_j A_ij x_j, B the Clebsch–Gordan product and σ the gates,

    x_i ← x_i + M₃ σ_i ∘ M₂ (y_i + B(y_i, M₁ y_i)).

Between atoms this is linear in the features of all l: filters times harmonics times coefficients
are a constant map A_ij of (S, F). Gates are constants. What is not linear is B, of degree 2 in the
atom's own y. Its relevance follows from the gradient integrated along t·y, t from 0 to 1, which is
half of ∂B/∂y: each term is shared equally by its two factors, and y keeps what it contributes by
itself, so that nothing is lost or counted twice. The γ rule applies in the readout only, because
no other layer has an activation.

With `Rule.scalars_only` rows of l > 0 are constants, in messages as in B: relevance passes
through l = 0 alone, and what they contribute belongs to the residual.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mdxai.attribution.blocks import Filters, LinearBlock, LinearNetwork, Readout
from mdxai.attribution.lrp_rule import Rule
from mdxai.attribution.rules import Place, RuledLayers
from mdxai.calculators.forward import Tape
from mdxai.calculators.harmonics import Harmonics
from mdxai.calculators.so3net import SO3Block


class SO3Rules:
    """The rules of an SO3net with its present weights."""

    def __init__(self, network: nn.Module, rule: Rule) -> None:
        net: Any = network.representation
        self._harmonics = Harmonics.of(net)
        self._scalars_only = rule.scalars_only
        self._readout = Readout(network)
        self._layers = RuledLayers(self._readout.ruled, rule)
        mixings = zip(net.mixings1, net.mixings2, net.mixings3, strict=True)
        self._mixings = [tuple(layer.weight for layer in three) for three in mixings]

    def at(self, tape: Tape) -> LinearNetwork:
        """Return the network linearised at a forward pass."""
        n_atoms, width = tape.features.shape
        top = self._readout.at(self._layers.at(tape.readout), n_atoms)
        features = tape.features
        make: Callable[..., LinearBlock] = _scalar_block
        if not self._scalars_only:
            others = (self._harmonics.n_rows - 1) * width
            top, features = (nn.functional.pad(x, (0, others)) for x in (top, features))
            make = _block
        blocks = []
        for weights, state in zip(self._mixings, tape.blocks, strict=True):
            blocks.append(make(self._harmonics, weights, state))
        return LinearNetwork(blocks, top, features)


def _split(x: Tensor, *sizes: int) -> Tensor:
    """(..., F) → (..., *sizes), where one may be −1; also of no rows at all."""
    known = -math.prod(sizes) if -1 in sizes else 1
    return x.view(*x.shape[:-1], *(x.shape[-1] // known if n == -1 else n for n in sizes))


def _filters(harmonics: Harmonics, state: SO3Block) -> Filters:
    """Return the maps A of the edges, as filters beside the maps of their harmonics."""
    n_maps, width = state.filters.shape[1:]
    rows = torch.cat([state.filters.flatten(1), state.maps.flatten(1)], dim=1)

    def parts(rows: Tensor) -> tuple[Tensor, Tensor]:
        weights, maps = torch.split(rows, [n_maps * width, rows.shape[-1] - n_maps * width], -1)
        s = harmonics.n_rows
        return _split(weights, n_maps, 1, width), _split(maps, n_maps, s, s)

    def forth(rows: Tensor, x: Tensor) -> Tensor:
        weights, maps = parts(rows)
        weighed = weights * _split(x, 1, -1, width)
        return (maps.flatten(-3, -2).mT @ weighed.flatten(-3, -2)).flatten(-2)

    def back(rows: Tensor, c: Tensor) -> Tensor:
        weights, maps = parts(rows)
        weighed = weights * _split(c, 1, -1, width)
        return (maps.mT.flatten(-3, -2).mT @ weighed.flatten(-3, -2)).flatten(-2)

    return Filters(rows, forth, back, partial(_summable, harmonics, state))


def _summable(harmonics: Harmonics, state: SO3Block) -> Filters:
    """Return the same maps as filters times harmonics, (E, S·F), on which A depends linearly."""
    width, coupling = state.filters.shape[2], harmonics.coupling
    per_row = harmonics.of_rows(state.filters) * state.harmonics[:, :, None]
    onwards = coupling.flatten(0, 1).t()  # [s, (s1, s2)]
    backwards = coupling.permute(1, 0, 2).flatten(1)  # [s2, (s1, s)]

    def times(map_: Tensor, rows: Tensor, x: Tensor) -> Tensor:
        weighed = _split(rows, -1, 1, width) * _split(x, 1, -1, width)
        return (map_ @ weighed.flatten(-3, -2)).flatten(-2)

    return Filters(per_row.flatten(1), partial(times, onwards), partial(times, backwards))


@dataclass(frozen=True, slots=True)
class _Product:
    """y + ½ (∂B/∂y) · at a fixed y, per atom.

    by_mixed: (n_atoms, S·S, F), Σ_s2 C[s1, s2, s] (M₁ y)_s2 at [s1, s]. by_own: the same of y, at
    [s2, s].
    """

    by_mixed: Tensor
    by_own: Tensor
    mixing: Tensor

    @classmethod
    def at(cls, harmonics: Harmonics, mixing: Tensor, state: SO3Block) -> _Product:
        """Return the product's linear map at a forward pass."""
        s, half = harmonics.n_rows, 0.5 * harmonics.coupling
        by_mixed = half.transpose(1, 2).reshape(s * s, s) @ state.mixed
        by_own = half.permute(1, 2, 0).reshape(s * s, s) @ state.received
        return cls(by_mixed, by_own, mixing)

    def pull(self, u: Tensor, place: Place) -> Tensor:
        """(..., S, F) → (..., S, F), from the product back to y."""
        s, width = u.shape[-2:]
        own, mixed = (
            (_split(place(gates.flatten(1)), s, s, width) * u[..., None, :, :]).sum(-2)
            for gates in (self.by_mixed, self.by_own)
        )
        return own.add_(u).add_(mixed @ self.mixing)

    def push(self, y: Tensor, place: Place) -> Tensor:
        """(..., S, F) → (..., S, F), from y to the product."""
        s, width = y.shape[-2:]
        own, mixed = (
            _split(place(g.flatten(1)), s, s, width) for g in (self.by_mixed, self.by_own)
        )
        through = y @ self.mixing.t()
        own, mixed = ((g * x[..., None, :]).sum(-3) for g, x in ((own, y), (mixed, through)))
        return y + own + mixed


def _block(
    harmonics: Harmonics, weights: tuple[Tensor, Tensor, Tensor], state: SO3Block
) -> LinearBlock:
    first, second, third = weights
    width = first.shape[0]
    if state.gates.shape[1] == 1:
        message = _from_scalars_alone(harmonics, weights, state)
    else:
        product = _Product.at(harmonics, first, state)
        gates = state.gates.flatten(1)

        def message(c: Tensor, place: Place) -> Tensor:
            u = (_split(c, -1, width) @ third).flatten(-2).mul_(place(gates))
            return product.pull(_split(u, -1, width) @ second, place).flatten(-2)

    def absorb(own: Tensor, received: Tensor, place: Place) -> Tensor:
        p = product.push(_split(received, -1, width), place) @ second.t()
        return own + ((p * _split(place(gates), -1, width)) @ third.t()).flatten(-2)

    return LinearBlock(
        filters=_filters(harmonics, state),
        keep_and_message=lambda c, place: (c, message(c, place)),
        lower=lambda kept, received, place: received.add_(kept),
        raise_=lambda h, place: h,
        absorb=absorb,
    )


def _from_scalars_alone(
    harmonics: Harmonics, weights: tuple[Tensor, Tensor, Tensor], state: SO3Block
) -> Callable[[Tensor, Place], Tensor]:
    """Return the last block's message: only coefficients of its scalars are not zero."""
    first, second, third = weights
    width = first.shape[0]
    halves = 0.5 * harmonics.coupling[..., 0].diagonal()[:, None]
    gates = state.gates[:, 0]
    own, mixed = (halves * state.mixed).flatten(1), (halves * state.received).flatten(1)

    def message(c: Tensor, place: Place) -> Tensor:
        u = ((c[..., :width] @ third) * place(gates)) @ second
        each = u[..., None, :]
        back = (_split(place(mixed), -1, width) * each) @ first
        back += _split(place(own), -1, width) * each
        back[..., 0, :] += u
        return back.flatten(-2)

    return message


def _scalar_block(
    harmonics: Harmonics, weights: tuple[Tensor, Tensor, Tensor], state: SO3Block
) -> LinearBlock:
    """Return a block through whose l = 0 alone relevance passes."""
    first, second, third = weights
    half = 0.5 * harmonics.coupling[0, 0, 0]
    gates = state.gates[:, 0]
    own, mixed = 1 + half * state.mixed[:, 0], half * state.received[:, 0]

    def message(c: Tensor, place: Place) -> Tensor:
        u = ((c @ third) * place(gates)) @ second
        return u * place(own) + (u * place(mixed)) @ first

    def absorb(kept: Tensor, y: Tensor, place: Place) -> Tensor:
        p = place(own) * y + place(mixed) * (y @ first.t())
        return kept + (place(gates) * (p @ second.t())) @ third.t()

    carried = state.harmonics[:, :1] * harmonics.coupling[0, 0, 0]
    return LinearBlock(
        filters=Filters(state.filters[:, 0] * carried),
        keep_and_message=lambda c, place: (c, message(c, place)),
        lower=lambda kept, received, place: received.add_(kept),
        raise_=lambda h, place: h,
        absorb=absorb,
    )
