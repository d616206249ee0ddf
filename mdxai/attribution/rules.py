"""LRP rules of a dense layer, as the linear maps they are at a fixed input.

At a fixed configuration a rule turns a layer into a linear map; relevance passes backwards through
its transpose. Gradient × input of the modified layer is the relevance (Schnake et al., TPAMI 2021,
arXiv 2006.03589; generalised γ rule as published with GNN-LRP for schnetpack).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

TINY = 1e-6  # outputs smaller than this pass no relevance, as in the published rule


@dataclass(frozen=True, slots=True)
class GammaRule:
    """Generalised, sign-aware γ rule of y = act(W x + b); γ = 0 is LRP-0 with the quotient rule.

    Where y > 0 positive contributions are raised by γ, where y < 0 negative ones:

        d = (1 + γ/2)(W x + b) + sign(y) (γ/2)(|W||x| + |b|),   y = d · (y/d).detach()

    so that ∂y/∂x = (y/d) [ (1 + γ/2) W + (γ/2) sign(y) |W| sign(x) ]. The bias keeps its share.

    ratio: (n_atoms, n_out) y/d. signs: (n_atoms, n_out) of y. inputs: (n_atoms, n_in) signs of x.
    weight: (n_out, n_in).
    """

    gamma: float
    weight: Tensor
    ratio: Tensor
    signs: Tensor
    inputs: Tensor

    @classmethod
    def at(
        cls, layer: nn.Module, x: Tensor, gamma: float, explained: slice = slice(None)
    ) -> GammaRule:
        """Fix the rule of schnetpack's Dense `layer` at inputs x (n_atoms, n_in).

        Only the inputs in `explained` carry relevance; the others are constants.
        """
        weight, bias = layer.weight, layer.bias
        z = nn.functional.linear(x, weight, bias)  # type: ignore[arg-type]
        y = layer.activation(z)  # type: ignore[operator]
        signs = torch.where(y.abs() > TINY, y.sign(), 0.0)
        d = (1 + gamma / 2) * z
        if gamma:
            d = d + gamma / 2 * signs * nn.functional.linear(x.abs(), weight.abs(), bias.abs())  # type: ignore[operator]
        ratio = torch.where(signs != 0, y / d, 0.0).nan_to_num()
        return cls(gamma, weight[:, explained], ratio, signs, x[:, explained].sign())  # type: ignore[index]

    def pull(self, c: Tensor) -> Tensor:
        """Pass coefficients back: (n_atoms, ..., n_out) → (n_atoms, ..., n_in)."""
        c = c * _like(self.ratio, c)
        below = (1 + self.gamma / 2) * (c @ self.weight)
        if self.gamma:
            signed = (c * _like(self.signs, c)) @ self.weight.abs()
            below = below.addcmul_(signed, _like(self.inputs, c), value=self.gamma / 2)
        return below

    def push(self, x: Tensor) -> Tensor:
        """Apply the same map forwards: (n_atoms, n_in) → (n_atoms, n_out)."""
        above = (1 + self.gamma / 2) * (x @ self.weight.t())
        if self.gamma:
            signed = (x * self.inputs) @ self.weight.abs().t()
            above = above.addcmul_(signed, self.signs, value=self.gamma / 2)
        return above * self.ratio


def _like(per_atom: Tensor, c: Tensor) -> Tensor:
    return per_atom if c.dim() == 2 else per_atom[:, None]


def pull_readout(outnet: nn.Sequential, features: Tensor, gamma: float) -> Tensor:
    """Return ∂(Σ atomwise output)/∂features under the rules, (n_atoms, F).

    Every layer but the last follows the γ rule; the last, linear one keeps its plain gradient.
    """
    layers = list(outnet)
    rules = []
    x = features
    for layer in layers[:-1]:
        rules.append(GammaRule.at(layer, x, gamma))
        x = layer(x)
    c = layers[-1].weight.sum(0).expand(len(features), -1)  # type: ignore[operator]
    for rule in reversed(rules):
        c = rule.pull(c)
    return c
