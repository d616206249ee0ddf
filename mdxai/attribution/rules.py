"""LRP rules of dense layers, written as linear maps at a fixed input.

At a fixed configuration a rule turns a layer into a linear map; relevance passes backwards through
the transposed map. Gradient × input of the modified layer is the relevance (Schnake et al., TPAMI
2021, arXiv 2006.03589; generalised γ rule as published with GNN-LRP for schnetpack).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mdxai.attribution.lrp_rule import Rule
from mdxai.calculators.forward import DenseState

TINY = 1e-6  # outputs smaller than this pass no relevance, as in the published rule

Place = Callable[[Tensor], Tensor]  # (n_atoms, F) → the shape that features or coefficients have


def per_atom_place(per_atom: Tensor) -> Tensor:
    """Leave per-atom tensors as they are: the `Place` of features (..., n_atoms, F)."""
    return per_atom


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

    def push(self, x: Tensor, place: Place) -> Tensor:
        """Apply the same map forwards: (..., n_in) → (..., n_out)."""
        above = x @ self.weight.t()
        if self.strength is not None:
            above.addcmul_(place(self.signs), (x * place(self.inputs)) @ self.strength.t())
        return above.mul_(place(self.ratio))


class RuledLayers:
    """The generalised, sign-aware γ rule of dense layers y = act(W x + b).

    Where y > 0 positive contributions are raised by γ, where y < 0 negative ones:

        d = (1 + γ/2)(W x + b) + σ (γ/2)(|W||x| + |b|),   y = d · (y/d).detach(),   σ = sign(y)

    so that ∂y/∂x = (y/d) [ (1 + γ/2) W + (γ/2) σ |W| sign(x) ]. The bias keeps its share; with
    `max_bias` b is left out of d and σ is the sign of W x.

    All layers are processed together, as columns of one matrix, because for a small molecule the
    overhead of an operation exceeds its arithmetic.

    Args:
        layers: schnetpack's Dense layers.
        rule: γ and variant.
        n_explained: for each layer the number of inputs, from the first, that carry relevance;
            the others are constants. Default: all.
    """

    def __init__(
        self, layers: Sequence[Any], rule: Rule, n_explained: Sequence[int] | None = None
    ) -> None:
        self._rule = rule
        self._widths = [layer.out_features for layer in layers]
        self._n_inputs = [layer.in_features for layer in layers]
        self._n_explained = n_explained or self._n_inputs
        half = rule.gamma / 2
        weights, pools = (
            [factor * w for w in some]
            for factor, some in (
                (1 + half, [layer.weight for layer in layers]),
                (half, [layer.weight.abs() for layer in layers]),
            )
        )
        # Transposed in memory, which is fastest for small products.
        self._forwards, self._pools = ([w.t().contiguous() for w in ws] for ws in (weights, pools))
        bias = torch.cat([layer.bias for layer in layers])
        self._bias_pool = half * bias.abs() * (not rule.max_bias)
        self._weights, self._strengths = (
            [w[:, :n] for w, n in zip(ws, self._n_explained, strict=True)]
            for ws in (weights, pools)
        )

    def at(self, states: Sequence[DenseState]) -> list[RuledLayer]:
        """Return each layer linearised at its state."""
        x = torch.cat([state.x for state in states], 1)
        if self._rule.max_bias:
            d = self._each(x, self._forwards)
        else:
            d = torch.cat([state.z for state in states], 1).mul_(1 + self._rule.gamma / 2)
        signs = d.sign()
        if self._rule.gamma:
            d.addcmul_(signs, self._each(x.abs(), self._pools).add_(self._bias_pool))
        y = torch.cat([state.y for state in states], 1)
        ratio = nn.functional.hardshrink(y, TINY).div_(d)
        # 0/0 where nothing arrives; ∞ where an output comes from the bias alone under `max_bias`
        ratio.nan_to_num_(posinf=0.0, neginf=0.0)
        strengths = self._strengths if self._rule.gamma else [None] * len(states)
        ratios, sides = (torch.split(t, self._widths, 1) for t in (ratio, signs))
        return list(map(RuledLayer, self._weights, strengths, ratios, sides, self._signs_of(x)))

    def _each(self, x: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Return each layer's inputs, side by side in x, through its map."""
        parts = zip(torch.split(x, self._n_inputs, 1), maps, strict=True)
        return torch.cat([part @ each for part, each in parts], 1)

    def _signs_of(self, x: Tensor) -> list[Tensor]:
        parts = zip(torch.split(x.sign(), self._n_inputs, 1), self._n_explained, strict=True)
        return [part if part.shape[1] == n else part[:, :n] for part, n in parts]
