"""Channels and distance bins, which all accumulators of this package share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mdxai.errors import MdxaiError
from mdxai.frame import Floats
from mdxai.statistics._kernels import CannotCompile

State = dict[str, NDArray[Any]]


class StatisticsError(MdxaiError, ValueError):
    """Samples or accumulators do not fit together, or an argument is out of range."""


@dataclass(frozen=True, slots=True)
class Bins:
    """Named channels and uniform bins from 0 to `upper` (Å, or ° for angles).

    Raises:
        StatisticsError: without channels, or for an upper edge or number of bins that is not > 0.
    """

    channels: tuple[str, ...]
    upper: float
    n_bins: int

    def __post_init__(self) -> None:
        if not (0 < self.upper < np.inf and self.n_bins > 0 and len(self.channels) > 0):
            raise StatisticsError(
                f"expected at least one channel, r_max > 0 and n_bins > 0, got "
                f"{len(self.channels)} channels, r_max={self.upper}, n_bins={self.n_bins}"
            )
        if len(set(self.channels)) < len(self.channels):
            raise StatisticsError(f"channel names must differ, got {', '.join(self.channels)}")

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.channels), self.n_bins

    @property
    def inverse_width(self) -> float:
        return self.n_bins / self.upper

    @property
    def edges(self) -> Floats:
        """(n_bins + 1,), Å; each edge is the smallest number that falls into the bin above it."""
        return _edges(self.n_bins, self.inverse_width)

    @property
    def centers(self) -> Floats:
        centers: Floats = (self.edges[1:] + self.edges[:-1]) / 2
        return centers

    def state(self) -> State:
        """Return arrays from which `from_state` makes the same bins."""
        return {"channels": np.array(self.channels), "bins": np.array([self.upper, self.n_bins])}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        upper, n_bins = state["bins"]
        return cls(tuple(str(name) for name in state["channels"]), float(upper), int(n_bins))

    def require_same(self, other: Bins) -> None:
        """Raise StatisticsError if another accumulator has different channels or bins."""
        if self != other:
            raise StatisticsError(
                f"accumulators must have the same channels and bins, got {self} and {other}"
            )

    def require_known(self, unknown: int) -> None:
        """Raise StatisticsError for the error count that a kernel returned; 0 is no error."""
        if unknown < 0:
            raise StatisticsError("channels, distances and values must have the same length")
        if unknown > 0:
            raise StatisticsError(
                f"{unknown} samples have a channel outside 0…{len(self.channels) - 1}; they were "
                "not counted. Use −1 for samples that belong to no channel"
            )


@lru_cache(maxsize=32)
def _edges(n_bins: int, inverse_width: float) -> Floats:
    order = np.arange(n_bins + 1)
    edges: Floats = order / inverse_width
    for _ in range(2):  # rounding moves an edge by at most one unit in the last place
        edges = np.where(edges * inverse_width < order, np.nextafter(edges, np.inf), edges)
        below = np.nextafter(edges, -np.inf)
        edges = np.where(below * inverse_width >= order, below, edges)
    edges[0] = 0.0
    edges.setflags(write=False)
    return edges


def as_bins(channels: Sequence[str], upper: float, n_bins: int) -> Bins:
    """Return bins made of plain Python types, so that equal bins compare equal."""
    if n_bins != int(n_bins):
        raise StatisticsError(f"n_bins must be a whole number, got {n_bins}")
    return Bins(tuple(channels), float(upper), int(n_bins))


def run(kernel: Callable[..., int], channels: Any, *rest: Any) -> int:
    """Run a kernel on samples and return what it returns.

    Raises:
        StatisticsError: for samples that are not one-dimensional real arrays, or channels that are
            not integers.
    """
    try:
        if channels.dtype.kind not in "iu":
            raise TypeError
        return kernel(channels, *rest)
    except (AttributeError, TypeError, CannotCompile) as error:
        kinds = ", ".join(
            f"{getattr(a, 'ndim', '?')}-dimensional {getattr(a, 'dtype', type(a).__name__)}"
            for a in (channels, *rest[:2])
        )
        raise StatisticsError(
            "channels must be integers, distances and values real numbers, each a one-dimensional "
            f"NumPy array; got {kinds}"
        ) from error
