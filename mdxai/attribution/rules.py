"""LRP rules of a dense layer, as the linear maps they are at a fixed input.

At a fixed configuration a rule turns a layer into a linear map; relevance passes backwards through
its transpose. Gradient × input of the modified layer is the relevance (Schnake et al., TPAMI 2021,
arXiv 2006.03589; generalised γ rule as published with GNN-LRP for schnetpack).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from mdxai.attribution.attribution import AttributionError
from mdxai.calculators.energies import DenseState

LARGEST_GAMMA = 1e3  # beyond it float32 loses the sums that γ weighs against each other
TINY = 1e-6  # outputs smaller than this pass no relevance, as in the published rule

Place = Callable[[Tensor], Tensor]  # (n_atoms, F) → the shape that coefficients of atom sets have


@dataclass(frozen=True, slots=True)
class Rule:
    """Which rule a dense layer follows.

    gamma: γ; 0 is LRP-0 with the quotient rule. max_bias: hand the bias' share back to the inputs
    (as published with Bonneau, Lederer et al., Nat. Commun. 16, 9898): the denominator leaves the
    bias out and is the larger of the two that the γ rule chooses from.

    Raises:
        AttributionError: for a negative γ.
    """

    gamma: float = 0.1  # the published default for potentials (Bonneau et al.)
    max_bias: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.gamma, Real) and 0 <= self.gamma <= LARGEST_GAMMA):
            raise AttributionError(
                f"gamma must be 0 or positive, up to {LARGEST_GAMMA:g}, got {self.gamma!r}"
            )


@dataclass(frozen=True, slots=True)
class RuledLayer:
    """A dense layer under the rule at a fixed input, as a linear map.

    weight: (n_out, n_in) (1 + γ/2) W; strength: (γ/2) |W|, None for γ = 0. ratio: (n_atoms, n_out)
    y/d; signs: (n_atoms, n_out) σ; inputs: (n_atoms, n_in) signs of x.
    """

    weight: Tensor
    strength: Tensor | None
    ratio: Tensor
    signs: Tensor
    inputs: Tensor

    def pull(self, c: Tensor, place: Place) -> Tensor:
        """Pass coefficients back through the layer: (..., n_out), overwritten → (..., n_in)."""
        below = c.mul_(place(self.ratio)) @ self.weight
        if self.strength is None:
            return below
        return below.addcmul_(c.mul_(place(self.signs)) @ self.strength, place(self.inputs))

    def push(self, x: Tensor) -> Tensor:
        """Apply the same map forwards: (n_atoms, n_in) → (n_atoms, n_out)."""
        above = x @ self.weight.t()
        if self.strength is not None:
            above.addcmul_(self.signs, (x * self.inputs) @ self.strength.t())
        return above.mul_(self.ratio)


class RuledLayers:
    """The generalised, sign-aware γ rule of dense layers y = act(W x + b).

    Where y > 0 positive contributions are raised by γ, where y < 0 negative ones:

        d = (1 + γ/2)(W x + b) + σ (γ/2)(|W||x| + |b|),   y = d · (y/d).detach(),   σ = sign(y)

    so that ∂y/∂x = (y/d) [ (1 + γ/2) W + (γ/2) σ |W| sign(x) ]. The bias keeps its share; with
    `max_bias` b is left out of d and σ is the sign of W x.

    The layers pass through the rule side by side, narrower ones padded with zeros.

    Args:
        layers: schnetpack's Dense layers.
        rule: γ and variant.
        n_explained: only the first so many inputs carry relevance, the others are constants.
    """

    def __init__(self, layers: Sequence[Any], rule: Rule, n_explained: int | None = None) -> None:
        self._rule, self._n_explained = rule, n_explained
        self._widths = [layer.out_features for layer in layers]
        self._n_inputs = [layer.in_features for layer in layers]
        weight = torch.stack(
            [_padded(self._padded(layer.weight.t()).t(), max(self._n_inputs)) for layer in layers]
        )
        bias = torch.stack([self._padded(layer.bias[None]) for layer in layers])
        half = rule.gamma / 2
        self._weight, self._strength = (1 + half) * weight, half * weight.abs()
        # Forwards in the order in memory that small products are fastest in.
        self._forwards, self._pool = (w.mT.contiguous() for w in (self._weight, self._strength))
        self._bias_pool = half * bias.abs() * (not rule.max_bias)
        shapes = list(zip(self._widths, self._n_inputs, strict=True))
        self._used = [
            w[:n, :m][:, :n_explained] for w, (n, m) in zip(self._weight, shapes, strict=True)
        ]
        self._used_strength = [
            w[:n, :m][:, :n_explained] if rule.gamma else None
            for w, (n, m) in zip(self._strength, shapes, strict=True)
        ]

    def at(self, states: Sequence[DenseState]) -> list[RuledLayer]:
        """Fix each layer at what went through it."""
        x = torch.stack([_padded(state.x, max(self._n_inputs)) for state in states])
        y = torch.stack([self._padded(state.y) for state in states])
        if self._rule.max_bias:
            d = torch.bmm(x, self._forwards)
        else:
            z = torch.stack([self._padded(state.z) for state in states])
            d = z.mul_(1 + self._rule.gamma / 2)
        signs = d.sign()
        if self._rule.gamma:
            d.addcmul_(signs, torch.baddbmm(self._bias_pool, x.abs(), self._pool))
        ratio = nn.functional.hardshrink(y, TINY).div_(d)
        # 0/0 where nothing arrives; ∞ where an output comes from the bias alone under `max_bias`
        ratio.nan_to_num_(posinf=0.0, neginf=0.0)
        fixed = [tensor.unbind() for tensor in (ratio, signs, x.sign())]
        maps = zip(self._used, self._used_strength, *fixed, strict=True)
        return [
            RuledLayer(w, v, _cut(r, len(w)), _cut(s, len(w)), _cut(t, w.shape[1]))
            for w, v, r, s, t in maps
        ]

    def _padded(self, rows: Tensor) -> Tensor:
        return _padded(rows, max(self._widths))


def _cut(rows: Tensor, width: int) -> Tensor:
    return rows if rows.shape[-1] == width else rows[:, :width]


def _padded(rows: Tensor, width: int) -> Tensor:
    missing = width - rows.shape[-1]
    return nn.functional.pad(rows, (0, missing)) if missing else rows
