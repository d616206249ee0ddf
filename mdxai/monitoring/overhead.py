"""The cost of monitoring, and how it is kept below a share of the wall time."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Cost:
    """Wall time since the first frame, s: in total, of the monitor, and of attribution within it.

    Attributes:
        start: s, part of total and of monitor: the setup at the first frame.
        n_attributions: explained frames.
        resumed_at: MD steps at which the run was resumed after an interruption.
        stretch: current factor by which the intervals of explanations and probes are lengthened.
    """

    start: float = 0.0
    total: float = 0.0
    monitor: float = 0.0
    attribution: float = 0.0
    n_attributions: int = 0
    resumed_at: list[int] = field(default_factory=list)
    stretch: int = 1

    @property
    def share(self) -> float:
        """The monitor's share of the wall time after the setup."""
        total = self.total - self.start
        return (self.monitor - self.start) / total if total > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it as verdict.json contains it."""
        return asdict(self) | {"share": self.share}


class OverheadWarning(UserWarning):
    """The monitor takes more than its share of the wall time even with few explanations."""


class Overhead:
    """Lengthens intervals by powers of two until the monitor keeps to its share of the wall time.

    The share is that since the last review, not since the start, so it adapts to a machine that
    gets busier. Below a third of the allowed share, intervals are shortened again. If the work in
    every frame exceeds the share by itself, an OverheadWarning is issued once. With a limit, the
    choice of explained frames depends on the clock, so the records of identical runs differ.

    Args:
        most: allowed share of the wall time, between 0 and 1; None for no limit.
        cost: the measured cost, which also stores the stretch.

    Raises:
        ValueError: for a share outside 0 to 1.
    """

    LARGEST = 1024
    SECONDS = 2.0  # between reviews
    FRAMES = 20
    RARE = 16  # stretch from which the cost of explanations is negligible

    def __init__(self, most: float | None, cost: Cost) -> None:
        if most is not None and not 0 < most < 1:
            raise ValueError(f"max_overhead must be between 0 and 1, or None, got {most}")
        self._most, self._cost = most, cost
        self._told = False
        self.begin()

    def begin(self) -> None:
        """Start counting now, after the setup."""
        self._n = 0
        self._before = (self._cost.total, self._cost.monitor, self._cost.attribution)

    def due(self, step: int, every: int) -> bool:
        """Whether something done every `every` steps is due at this step; 0 means never."""
        return every > 0 and step % (every * self._cost.stretch) == 0

    def review(self) -> None:
        """Adapt the stretch to the cost so far; called once per frame."""
        if self._most is None:
            return
        self._n += 1
        cost = self._cost
        now = (cost.total, cost.monitor, cost.attribution)
        total, monitor, attribution = (a - b for a, b in zip(now, self._before, strict=True))
        if self._n < self.FRAMES * self._cost.stretch or total < self.SECONDS:
            return
        share, always = monitor / total, (monitor - attribution) / total
        if cost.stretch >= self.RARE and always > self._most and not self._told:
            self._tell(always)
        if share > self._most:
            cost.stretch = min(2 * cost.stretch, self.LARGEST)
        elif share < self._most / 3:
            cost.stretch = max(cost.stretch // 2, 1)
        self.begin()

    def _tell(self, always: float) -> None:
        self._told = True
        warnings.warn(
            f"checking and recording alone take {always:.1%} of the wall time, but max_overhead "
            f"allows {self._most:.1%}; attach the monitor at a larger interval",
            OverheadWarning,
            stacklevel=4,
        )
