"""What the monitor costs, and how it keeps to a share of the wall time."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Cost:
    """Wall time since the first frame, s: all of it, the monitor's own, and of that attribution.

    Attributes:
        n_attributions: explained frames.
        resumed_at: MD steps at which the run went on after an interruption.
        stretch: by how much the intervals of explanations and probes are stretched at present.
    """

    total: float = 0.0
    monitor: float = 0.0
    attribution: float = 0.0
    n_attributions: int = 0
    resumed_at: list[int] = field(default_factory=list)
    stretch: int = 1

    @property
    def share(self) -> float:
        """The monitor's share of the wall time."""
        return self.monitor / self.total if self.total > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return what verdict.json holds of it."""
        return asdict(self) | {"share": self.share}


class Overhead:
    """Stretches intervals by powers of two until the monitor takes no more than its share.

    The share of the last stretch of the run counts, not that since the start, so it follows a
    machine that gets busier. When it falls below a third of what is allowed, intervals shrink
    again. What is explained then depends on the clock: records of equal runs differ.

    Args:
        most: share of the wall time allowed, between 0 and 1; None never stretches.
        cost: what is measured, and where the stretch is kept.

    Raises:
        ValueError: for a share that is none.
    """

    LARGEST = 1024
    SECONDS = 2.0  # between reviews
    FRAMES = 20

    def __init__(self, most: float | None, cost: Cost) -> None:
        if most is not None and not 0 < most < 1:
            raise ValueError(f"max_overhead must be between 0 and 1, or None, got {most}")
        self._most, self._cost = most, cost
        self._n = 0
        self._before = (cost.total, cost.monitor)

    def due(self, step: int, every: int) -> bool:
        """Whether something done every so many steps is to be done at this step; 0: never."""
        return every > 0 and step % (every * self._cost.stretch) == 0

    def review(self) -> None:
        """Look at the cost so far; called once per frame."""
        if self._most is None:
            return
        self._n += 1
        total, monitor = (
            now - then
            for now, then in zip((self._cost.total, self._cost.monitor), self._before, strict=True)
        )
        if self._n < self.FRAMES * self._cost.stretch or total < self.SECONDS:
            return
        share = monitor / total
        if share > self._most:
            self._cost.stretch = min(2 * self._cost.stretch, self.LARGEST)
        elif share < self._most / 3:
            self._cost.stretch = max(self._cost.stretch // 2, 1)
        self._n = 0
        self._before = (self._cost.total, self._cost.monitor)
