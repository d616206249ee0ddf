"""A physical principle as a number per frame, 0 when obeyed; `mdxai.stability` sets its limits."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from mdxai.attribution import Attribution
from mdxai.errors import MdxaiError
from mdxai.frame import Frame

Cost = Literal["free", "attribution", "probe"]


class Deviation(NamedTuple):  # the fastest immutable type: a step makes a dozen of these
    """By how much a frame violates a principle, in `unit`; `atoms` violate it most."""

    principle: str
    unit: str
    value: float
    atoms: tuple[int, ...] = ()


class Principle(Protocol):
    """One principle. It may keep data of earlier frames but never evaluates the running calculator.

    cost: "free": needs only the frame. "attribution": needs its explanation too. "probe": evaluates
    a twin of the calculator, which takes as long as many steps of MD.
    """

    name: str
    unit: str
    cost: Cost

    def deviate(self, frame: Frame, attribution: Attribution | None) -> Deviation | None:
        """Return the deviation; None if this frame gives none, such as one without attribution."""
        ...


class PrincipleUnavailable(MdxaiError, ValueError):
    """A principle that cannot be checked in this run, with the reason."""
