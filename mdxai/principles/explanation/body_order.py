"""Body-order principles: interactions of more atoms carry less relevance."""

from __future__ import annotations

from itertools import pairwise

from mdxai.attribution import Attribution
from mdxai.frame import Frame
from mdxai.principles.explanation.ranking import WEAK
from mdxai.principles.principle import Cost, Deviation


def body_order_shares(attribution: Attribution) -> list[float]:
    """Return |by_body_order| as shares of its sum, or of 0.1 eV where that is more."""
    sizes = [abs(relevance) for relevance in attribution.by_body_order.tolist()]
    total = sum(sizes)
    scale = WEAK if total < WEAK else total  # NaN stays
    return [size / scale for size in sizes]


class BodyOrders:
    """By how much the share of a higher body order exceeds that of the order below it.

    Σ max(0, s_{n+1} − s_n) from two-body on; unresolved orders count as one order. Interactions
    weaken with the number of atoms involved. Source: Esders et al. 2025.
    """

    name = "body_orders"
    unit = "share"
    cost: Cost = "attribution"

    def deviate(self, frame: Frame, attribution: Attribution | None) -> Deviation | None:
        if attribution is None or len(attribution.by_body_order) < 3:
            return None
        rises = (b - a for a, b in pairwise(body_order_shares(attribution)[1:]))
        return Deviation(self.name, self.unit, sum(0.0 if r <= 0 else r for r in rises))


class BodyOrderDrift:
    """Half the sum of absolute changes of the body-order shares, between 0 and 1.

    The reference is the mean of the first 20 explained frames; the current shares are an
    exponential mean over the last 20.
    """

    name = "body_order_drift"
    unit = "share"
    cost: Cost = "attribution"
    FRAMES = 20

    def __init__(self) -> None:
        self._n = 0
        self._start: list[float] = []
        self._now: list[float] = []

    def deviate(self, frame: Frame, attribution: Attribution | None) -> Deviation | None:
        if attribution is None or len(attribution.by_body_order) < 2:
            return None
        shares = body_order_shares(attribution)
        self._n += 1
        weight = min(self._n, self.FRAMES)
        before = self._now or [0.0] * len(shares)
        self._now = [m + (s - m) / weight for m, s in zip(before, shares, strict=True)]
        if self._n <= self.FRAMES:
            self._start = self._now
            return None
        change = sum(abs(a - b) for a, b in zip(self._now, self._start, strict=True))
        return Deviation(self.name, self.unit, change / 2)
