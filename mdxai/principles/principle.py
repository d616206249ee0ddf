"""A physical principle as a number per frame: 0 when obeyed. Thresholds live in mdxai.stability.verdict."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from mdxai.attribution import Attribution
from mdxai.errors import MdxaiError
from mdxai.frame import Frame

Cost = Literal["free", "attribution", "probe"]


class Deviation(NamedTuple):  # made a dozen times a step, and of all immutable kinds the fastest
    """How far one frame is from one principle, in `unit`; `atoms` are those that break it most."""

    principle: str
    unit: str
    value: float
    atoms: tuple[int, ...] = ()


class Principle(Protocol):
    """One principle. It may remember earlier frames; it never evaluates the running calculator.

    cost: "free": numbers of the frame are enough. "attribution": needs the frame's explanation.
    "probe": evaluates a twin of the calculator, which takes as long as many steps of MD.
    """

    name: str
    unit: str
    cost: Cost

    def deviate(self, frame: Frame, attribution: Attribution | None) -> Deviation | None:
        """Return the deviation, or None where this frame cannot tell (no attribution, say)."""
        ...


class PrincipleUnavailable(MdxaiError, ValueError):
    """A principle that cannot be checked in this run, with the reason."""
