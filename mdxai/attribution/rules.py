"""LRP rules of a dense layer, as the linear maps they are at a fixed input.

At a fixed configuration a rule turns a layer into a linear map; relevance passes backwards through
its transpose. Gradient × input of the modified layer is the relevance (Schnake et al., TPAMI 2021,
arXiv 2006.03589; generalised γ rule as published with GNN-LRP for schnetpack).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mdxai.calculators.energies import DenseState

TINY = 1e-6  # outputs smaller than this pass no relevance, as in the published rule

Place = Callable[[Tensor], Tensor]  # (n_atoms, F) → the shape that coefficients of atom sets have


@dataclass(frozen=True, slots=True)
class Rule:
    """Which rule a dense layer follows.

    gamma: γ; 0 is LRP-0 with the quotient rule. max_bias: hand the bias' share back to the inputs
    (as published with Bonneau, Lederer et al., Nat. Commun. 16, 9898): the denominator leaves the
    bias out and is the larger of the two that the γ rule chooses from.

    Raises:
        ValueError: for a negative γ.
    """

    gamma: float = 0.1  # the published default for potentials (Bonneau et al.)
    max_bias: bool = False

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise ValueError(f"gamma must be 0 or positive, got {self.gamma}")


@dataclass(frozen=True, slots=True)
class RuledLayer:
    """A dense layer under the rule at a fixed input, as a linear map.

    weight: (n_out, n_in) (1 + γ/2) W; strength: (γ/2) |W|, None for γ = 0. ratio: (n_atoms, n_out)
    y/d; signed: σ y/d; inputs: (n_atoms, n_in) signs of x.
    """

    weight: Tensor
    strength: Tensor | None
    ratio: Tensor
    signed: Tensor
    inputs: Tensor

    def pull(self, c: Tensor, place: Place) -> Tensor:
        """Pass coefficients back through the layer: (..., n_out) → (..., n_in)."""
        below = (c * place(self.ratio)) @ self.weight
        if self.strength is None:
            return below
        return below.addcmul_((c * place(self.signed)) @ self.strength, place(self.inputs))

    def push(self, x: Tensor) -> Tensor:
        """Apply the same map forwards: (n_atoms, n_in) → (n_atoms, n_out)."""
        above = self.ratio * (x @ self.weight.t())
        if self.strength is None:
            return above
        return above.addcmul_(self.signed, (x * self.inputs) @ self.strength.t())


class RuledLayers:
    """The generalised, sign-aware γ rule of dense layers y = act(W x + b) of one shape.

    Where y > 0 positive contributions are raised by γ, where y < 0 negative ones:

        d = (1 + γ/2)(W x + b) + σ (γ/2)(|W||x| + |b|),   y = d · (y/d).detach(),   σ = sign(y)

    so that ∂y/∂x = (y/d) [ (1 + γ/2) W + (γ/2) σ |W| sign(x) ]. The bias keeps its share; with
    `max_bias` b is left out of d and σ is the sign of W x.

    Args:
        layers: schnetpack's Dense layers; they pass through the rule side by side.
        rule: γ and variant.
        explained: the inputs that carry relevance; the others are constants.
    """

    def __init__(self, layers: Sequence[Any], rule: Rule, explained: slice = slice(None)) -> None:
        weight = torch.stack([layer.weight for layer in layers])
        bias = torch.stack([layer.bias for layer in layers])[:, None]
        up, half = 1 + rule.gamma / 2, rule.gamma / 2
        self._rule, self._up, self._explained = rule, up, explained
        self._act = layers[0].activation
        self._weight, self._bias = up * weight, up * bias
        self._strength, self._bias_strength = half * weight.abs(), half * bias.abs()
        self._used = self._weight[..., explained].unbind()
        strengths = self._strength[..., explained].unbind()
        self._used_strength = strengths if rule.gamma else [None] * len(strengths)

    def at(self, states: Sequence[DenseState]) -> list[RuledLayer]:
        """Fix each layer at what went through it."""
        x = torch.stack([state.x for state in states])
        y = torch.stack([state.y for state in states])
        if self._rule.max_bias:
            d = torch.bmm(x, self._weight.transpose(1, 2))
        else:
            d = self._up * torch.stack([state.z for state in states])
        signs = d.sign()
        if self._rule.gamma:
            bias = torch.zeros_like(self._bias) if self._rule.max_bias else self._bias_strength
            pool = torch.baddbmm(bias, x.abs(), self._strength.transpose(1, 2))
            d.addcmul_(signs, pool)
        ratio = nn.functional.hardshrink(y, TINY) / d
        # 0/0 where nothing arrives; ∞ where an output comes from the bias alone under `max_bias`
        ratio.nan_to_num_(posinf=0.0, neginf=0.0)
        parts = (self._used, self._used_strength, ratio.unbind(), (ratio * signs).unbind(),
                 x[..., self._explained].sign().unbind())  # fmt: skip
        return [RuledLayer(*layer) for layer in zip(*parts, strict=True)]


def pull_readout(outnet: nn.Sequential, fixed: Sequence[RuledLayer], n_atoms: int) -> Tensor:
    """Return ∂(Σ atomwise output)/∂features, (n_atoms, F).

    Every layer but the last follows its rule, fixed; the last, linear one keeps its plain gradient.
    """
    last: Any = outnet[-1]
    c: Tensor = last.weight.sum(0).expand(n_atoms, -1)
    for layer in reversed(fixed):
        c = layer.pull(c, lambda per_atom: per_atom)
    return c
