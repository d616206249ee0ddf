"""The rule of layer-wise relevance propagation that a user chooses."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

from mdxai.attribution.attribution import AttributionError

LARGEST_GAMMA = 1e3  # beyond it the sums that γ weighs cancel to noise in float32


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule that dense layers follow.

    gamma: γ; 0 is LRP-0 with the quotient rule. max_bias: return the bias's share to the inputs
    (as published with Bonneau, Lederer et al., Nat. Commun. 16, 9898): the denominator leaves the
    bias out and is the larger of the two that the γ rule chooses from. scalars_only: take SO3net's
    features of l > 0 as constants, as PaiNN's vectors always are.

    Raises:
        AttributionError: for a negative γ or one above 1000.
    """

    gamma: float = 0.1  # the published default for potentials (Bonneau et al.)
    max_bias: bool = False
    scalars_only: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.gamma, Real) and 0 <= self.gamma <= LARGEST_GAMMA):
            raise AttributionError(f"gamma must be from 0 to {LARGEST_GAMMA:g}, got {self.gamma!r}")
