"""What became of a run, in one word."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Stability(StrEnum):
    """What became of a run; of several, the gravest, which comes last here.

    stable: no finding. suspect: only warnings. reacted: bonds changed as chemistry allows. melted:
    a solid lost its order. broken: the model is, because its forces are not the gradient of its
    energy. unstable: physics was violated. inconclusive: fewer than two frames, or
    a file whose end is lost.
    """

    INCONCLUSIVE = "inconclusive"
    STABLE = "stable"
    SUSPECT = "suspect"
    REACTED = "reacted"
    MELTED = "melted"
    BROKEN = "broken"
    UNSTABLE = "unstable"

    @classmethod
    def of_finding(cls, severity: str) -> Self:
        """Return what a run with a finding of this severity is."""
        return cls("suspect" if severity == "warn" else severity)

    @property
    def is_failure(self) -> bool:
        """Whether the run cannot be used."""
        return self in (Stability.BROKEN, Stability.UNSTABLE)

    @property
    def rank(self) -> int:
        """How grave it is, from 0."""
        return _RANKS[self]


PHYSICS = (Stability.REACTED, Stability.MELTED)  # may happen, unless the user forbids it
_RANKS = {outcome: rank for rank, outcome in enumerate(Stability)}
