"""Statistics of a run in constant memory: a running median, and means over blocks of time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mdxai.frame import Floats


class RunningMedian:
    """Median of a positive quantity that follows slow changes and ignores single outliers.

    It starts as the median of the first `warm_up` values. Then every value raises or lowers it by
    the fraction `rate`: stochastic approximation (Robbins and Monro 1951) of its logarithm.
    Non-finite values are ignored.
    """

    WARM_UP = 100

    def __init__(self, *, warm_up: int = WARM_UP, rate: float = 0.01) -> None:
        self._first: list[float] = []
        self._warm_up = warm_up
        self._rate = rate
        self._median = np.nan

    @property
    def ready(self) -> bool:
        """Whether `warm_up` values were added."""
        return len(self._first) >= self._warm_up

    @property
    def value(self) -> float:
        """The median so far; NaN before it is ready."""
        return self._median

    def add(self, value: float) -> None:
        """Add one value."""
        if not math.isfinite(value):
            return
        if not self.ready:
            self._first.append(value)
            self._median = float(np.median(self._first)) if self.ready else np.nan
        elif value > self._median:
            self._median *= 1 + self._rate
        elif value < self._median:
            self._median /= 1 + self._rate


class Every:
    """Selects frames that are at least `interval` fs apart."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last = np.nan

    def due(self, time: float) -> bool:
        """Return whether the frame at `time`, fs, is selected; one at an earlier time always is."""
        if 0 <= time - self._last < self._interval - 1e-6:
            return False
        self._last = time
        return True


class BlockMeans:
    """Means of a few quantities over equal blocks of time.

    When `CAPACITY` blocks are full, neighbours merge and the block length doubles. Frames further
    apart than this length form one block each.

    Args:
        n_values: number of quantities.
        length: of a block at first, fs.
    """

    CAPACITY = 64
    BATCHES = 16

    def __init__(self, n_values: int, length: float) -> None:
        self.length = length
        self._blocks = np.empty((self.CAPACITY, 1 + n_values))  # time, then the values
        self._n = 0
        self._sum = [0.0] * (1 + n_values)
        self._count = 0
        self._start: float | None = None

    @property
    def times(self) -> Floats:
        """(n_blocks,) mean time of each full block, fs."""
        return self._blocks[: self._n, 0]

    @property
    def means(self) -> Floats:
        """(n_blocks, n_values) means of each full block."""
        return self._blocks[: self._n, 1:]

    @property
    def span(self) -> float:
        """Time from the first full block to the last, fs."""
        return float(self.times[-1] - self.times[0]) if self._n else 0.0

    def add(self, time: float, values: Sequence[float] | Floats) -> bool:
        """Add the values at a time (fs); return whether they begin a new block."""
        if self._start is None:
            self._start = time
        full = time - self._start >= self.length - 1e-6
        if full:
            self._close(time)
        sums = self._sum
        sums[0] += time
        for k, value in enumerate(values, start=1):
            sums[k] += value
        self._count += 1
        return full

    def _close(self, time: float) -> None:
        assert self._start is not None
        self._blocks[self._n] = [total / self._count for total in self._sum]
        self._sum = [0.0] * len(self._sum)
        self._count = 0
        self._n += 1
        late = time - self._start >= 2 * self.length
        self._start = time if late else self._start + self.length
        if self._n == self.CAPACITY:
            self._n //= 2
            self._blocks[: self._n] = self._blocks.reshape(self._n, 2, -1).mean(axis=1)
            self.length *= 2

    def batches(self) -> Floats | None:
        """Return the means of 16 successive equal parts of the run, (16, n_values).

        None before 16 blocks. Their scatter over √16 is the standard error of the mean; it also
        holds for correlated samples if a part is longer than their correlation time.
        """
        size = self._n // self.BATCHES
        if size == 0:
            return None
        recent = self.means[self._n - size * self.BATCHES :]
        batches: Floats = recent.reshape(self.BATCHES, size, -1).mean(axis=1)
        return batches

    def slope(self) -> float:
        """Return the Theil–Sen slope of the first quantity, per fs.

        It is the median of the slopes through all pairs of blocks (Sen 1968, J. Am. Stat. Assoc.
        63, 1379); up to 29 % of the blocks may be outliers.
        """
        i, j = np.triu_indices(self._n, k=1)
        rise = self.means[j, 0] - self.means[i, 0]
        return float(np.median(rise / (self.times[j] - self.times[i])))
