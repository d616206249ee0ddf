"""Channels times distance bins: what every accumulator here shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mdxai.frame import Floats

State = dict[str, NDArray[Any]]


class StatisticsError(ValueError):
    """Samples or accumulators that do not fit together."""


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

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.channels), self.n_bins

    @property
    def inverse_width(self) -> float:
        return self.n_bins / self.upper

    @property
    def edges(self) -> Floats:
        return np.linspace(0.0, self.upper, self.n_bins + 1, dtype=np.float64)

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
        """Raise StatisticsError where another accumulator has other channels or bins."""
        if self != other:
            raise StatisticsError(
                f"accumulators to be merged need the same channels and bins, got {self} and {other}"
            )

    def require_known(self, unknown: int) -> None:
        """Raise StatisticsError for what a kernel returned; 0 is fine."""
        if unknown < 0:
            raise StatisticsError("channels, distances and values need the same length")
        if unknown > 0:
            raise StatisticsError(
                f"{unknown} samples have a channel outside 0…{len(self.channels) - 1}; they were "
                "not counted. Use −1 for samples of no channel"
            )


def as_bins(channels: Sequence[str], upper: float, n_bins: int) -> Bins:
    """Return bins with plain Python types, so that equality means what it says."""
    return Bins(tuple(channels), float(upper), int(n_bins))
