"""Radial functions by which the strength of an interaction falls as a power of the distance.

Interactions of atoms that share no electrons fall as inverse powers of their distance: charges as
1/r, dipoles as r⁻³, dispersion as r⁻⁶. Networks with Gaussians learn a faster, exponential decay,
and Esders et al. 2025 suggest architectures that fall as physics does. With

    x(r) = 1 / √(1 + (r/a)²),   a soft inverse distance: 1 at r = 0, a/r at large r,

the basis holds the Bernstein polynomials of x, and the envelope a power of x. Gaussians alone would
not do, nor a basis alone: a filter with a bias stays constant where the basis is zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mdxai.calculators import schnetpack_parts as schnetpack

CORE = 1.5  # Å, about a bond: distances of 0.9 to 5 Å then spread over more than half of 0 … 1
DECAY = 3.0  # of groups without charge: dipole and dipole; also of the stiffness between charges
MOST = 100  # functions, whose heights before they are scaled stay above 0 in float32


def soft_inverse(distances: Tensor, core: Tensor) -> tuple[Tensor, Tensor]:
    """Return x = 1/√(1 + (r/a)²) and 1 − x, each without cancellation."""
    square = (distances / core) ** 2
    x = torch.rsqrt(1 + square)
    return x, square * x * x / (1 + x)


class InversePowers(nn.Module):
    """Radial basis φ_k(r) = x^k (1 − x)^(n−k) / ((k/n)^k (1 − k/n)^(n−k)), k = 1 … n.

    Each is a bump of height 1 at x = k/n, and falls as r⁻ᵏ beyond it. Together they span inverse
    powers 1 to n of √(r² + a²). Taken one by one these powers look so alike between 1 and 5 Å that
    weights cannot be learned; Bernstein polynomials are their well-conditioned form, as in
    SpookyNet (Unke et al. 2021), which has them in exp(−γr). k = 0, which does not fall, is left
    out.

    Args:
        n_rbf: number of functions, 2 to 100.
        core: a, in the network's unit of length.
    """

    core: Tensor
    powers: Tensor
    tops: Tensor

    def __init__(self, n_rbf: int, core: float = CORE) -> None:
        super().__init__()
        self.n_rbf = n_rbf
        powers = range(1, n_rbf + 1)
        self.register_buffer("core", torch.tensor(float(core)))
        self.register_buffer("powers", torch.tensor(powers, dtype=torch.float32))
        tops = [(k / n_rbf) ** k * (1 - k / n_rbf) ** (n_rbf - k) for k in powers]
        self.register_buffer("tops", torch.tensor(tops))

    def forward(self, distances: Tensor) -> Tensor:
        """(…) → (…, n_rbf)."""
        x, rest = soft_inverse(distances[..., None], self.core)
        return x**self.powers * rest ** (self.n_rbf - self.powers) / self.tops


class PowerLawCutoff(nn.Module):
    """Envelope (√2 x)^p · f(r), 1 at r = a but for f; filters fall as r⁻ᵖ or faster.

    f is schnetpack's cosine cutoff. Representations scale atoms by such fixed powers, too, r⁻⁴ for
    pairs in FCHL (Faber et al. 2018).

    Args:
        cutoff: where filters end, in the network's unit of length.
        decay: p.
        core: a.
    """

    cutoff: Tensor
    core: Tensor
    decay: Tensor

    def __init__(self, cutoff: float, decay: float = DECAY, core: float = CORE) -> None:
        super().__init__()
        self.register_buffer("cutoff", torch.tensor([float(cutoff)]))
        self.register_buffer("core", torch.tensor(float(core)))
        self.register_buffer("decay", torch.tensor(float(decay)))

    def forward(self, distances: Tensor) -> Tensor:
        """(…) → (…)."""
        x, _ = soft_inverse(distances, self.core)
        ends: Tensor = schnetpack.cosine_cutoff(distances, self.cutoff)
        return (math.sqrt(2) * x) ** self.decay * ends
