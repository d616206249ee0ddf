"""What the monitor costs, and how it keeps to a share of the wall time."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Cost:
    """Wall time since the first frame, s: all of it, the monitor's own, and of that attribution.

    Attributes:
        start: s, of total and of monitor: setting up at the first frame, once.
        n_attributions: explained frames.
        resumed_at: MD steps at which the run went on after an interruption.
        stretch: by how much the intervals of explanations and probes are stretched at present.
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
        """The monitor's share of the wall time, once it is set up."""
        total = self.total - self.start
        return (self.monitor - self.start) / total if total > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return what verdict.json holds of it."""
        return asdict(self) | {"share": self.share}


class OverheadWarning(UserWarning):
    """The monitor takes more of the wall time than it was allowed, however little it explains."""


class Overhead:
    """Stretches intervals by powers of two until the monitor takes no more than its share.

    The share of the last stretch of the run counts, not that since the start, so it follows a
    machine that gets busier. When it falls below a third of what is allowed, intervals shrink
    again. Where what is done in every frame takes more than the share by itself, an OverheadWarning
    says so, once. What is explained then depends on the clock: records of equal runs differ.

    Args:
        most: share of the wall time allowed, between 0 and 1; None never stretches.
        cost: what is measured, and where the stretch is kept.

    Raises:
        ValueError: for a share that is none.
    """

    LARGEST = 1024
    SECONDS = 2.0  # between reviews
    FRAMES = 20
    RARE = 16  # stretch from which on explanations no longer count

    def __init__(self, most: float | None, cost: Cost) -> None:
        if most is not None and not 0 < most < 1:
            raise ValueError(f"max_overhead must be between 0 and 1, or None, got {most}")
        self._most, self._cost = most, cost
        self._told = False
        self.begin()

    def begin(self) -> None:
        """Count from now on: what it took to set up is spent."""
        self._n = 0
        self._before = (self._cost.total, self._cost.monitor, self._cost.attribution)

    def due(self, step: int, every: int) -> bool:
        """Whether something done every so many steps is to be done at this step; 0: never."""
        return every > 0 and step % (every * self._cost.stretch) == 0

    def review(self) -> None:
        """Look at the cost so far; called once per frame."""
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
            f"checking and recording alone take {always:.1%} of the wall time, and max_overhead "
            f"allows {self._most:.1%}; attach the monitor at a larger interval",
            OverheadWarning,
            stacklevel=4,
        )
