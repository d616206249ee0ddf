"""Profiles averaged over a window of time, their errors, and how two of them differ."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from mdxai.frame import Floats, Ints
from mdxai.statistics.bins import Bins, StatisticsError
from mdxai.statistics.moments import BinnedMoments


class BlockProfile:
    """Mean strength against distance and its standard error, from blocks of time.

    Samples within a block may be correlated, so the error of the mean m is computed from the
    scatter of block means x̄_b of n_b samples each,

        SE² = B/(B − 1) · Σ n_b² (x̄_b − m)² / (Σ n_b)²,

    which is valid if blocks are longer than the autocorrelation time. Memory does not grow with the
    number of blocks.
    """

    def __init__(self, channels: Sequence[str], r_max: float, n_bins: int = 240) -> None:
        self.total = BinnedMoments(channels, r_max, n_bins)
        self._weight: Floats = np.zeros(self.bins.shape)  # Σ n_b²
        self._center: Floats = np.zeros(self.bins.shape)  # mean of x̄_b, weighted by n_b²
        self._scatter: Floats = np.zeros(self.bins.shape)  # Σ n_b² (x̄_b − center)²
        self.n_blocks: Ints = np.zeros(self.bins.shape, dtype=np.int64)

    @property
    def bins(self) -> Bins:
        return self.total.bins

    def add(self, block: BinnedMoments) -> None:
        """Add a block of time.

        Raises:
            StatisticsError: for different channels or bins.
        """
        self.total.merge(block)
        count, mean = block.count, block.mean
        weight = count.astype(np.float64) ** 2
        delta = np.where(weight > 0, mean - self._center, 0.0)
        total = self._weight + weight
        share = np.divide(weight, total, out=np.zeros(total.shape), where=total > 0)
        self._scatter += delta**2 * self._weight * share
        self._center += delta * share
        self._weight = total
        self.n_blocks += weight > 0

    @property
    def mean(self) -> Floats:
        """Mean per bin, (n_channels, n_bins); NaN where empty."""
        return np.where(self.total.count > 0, self.total.mean, np.nan)

    @property
    def standard_error(self) -> Floats:
        """Error of the mean per bin; NaN if fewer than two blocks have samples in it."""
        b = self.n_blocks
        about_mean = self._scatter + self._weight * (self.total.mean - self._center) ** 2
        error: Floats = np.full(self.bins.shape, np.nan)
        count = self.total.count.astype(np.float64)
        np.divide(about_mean * b, (b - 1) * count**2, out=error, where=b > 1)
        return np.sqrt(error)


class Window:
    """The samples of the last τ fs, in a ring of blocks: memory does not grow with the run.

    Blocks end at multiples of τ/n_blocks; the window consists of the last n_blocks complete blocks.

    Args:
        channels: names.
        r_max: upper edge of the bins, Å.
        span: τ, fs; τ/n_blocks should exceed the autocorrelation time of the strengths.
        n_bins: number of distance bins.
        n_blocks: at least 2; a single block gives no error.
        reference: a profile to which each completed block is added, or None.
    """

    def __init__(
        self,
        channels: Sequence[str],
        r_max: float,
        span: float,
        *,
        n_bins: int = 240,
        n_blocks: int = 10,
        reference: BlockProfile | None = None,
    ) -> None:
        if not (0 < span < math.inf and n_blocks >= 2 and n_blocks == int(n_blocks)):
            raise StatisticsError(
                f"expected a span > 0 fs and an integer n_blocks ≥ 2, got {span} and {n_blocks}"
            )
        self._new = (tuple(channels), r_max, n_bins)
        self._step = span / n_blocks
        self._n_blocks = n_blocks
        self._ring: deque[tuple[int, BinnedMoments]] = deque(maxlen=n_blocks)
        self._current: tuple[int, BinnedMoments] | None = None
        self.reference = reference

    def update(self, time: float, channels: Ints, distances: Floats, values: Floats) -> bool:
        """Add one frame at `time` (fs): channel indices, distances (Å) and values, each (n,).

        Returns:
            Whether a block has ended, so that `profile` has changed.

        Raises:
            StatisticsError: for a time before the current block, or one that is not finite.
        """
        if not math.isfinite(time):
            raise StatisticsError(f"expected a finite time, got {time}")
        position = time / self._step
        index = math.floor(position + 1e-12 * abs(position))
        ended = self._current is not None and index > self._current[0]
        if self._current is None:
            self._current = (index, BinnedMoments(*self._new))
        elif index < self._current[0]:
            raise StatisticsError(f"time runs backwards: {time} fs is in a block that has ended")
        elif ended:
            self._keep(self._current, index)
            self._current = (index, BinnedMoments(*self._new))
        self._current[1].update(channels, distances, values)
        return ended

    def _keep(self, block: tuple[int, BinnedMoments], index: int) -> None:
        """Keep a completed block; drop those that are too old for the window at block `index`."""
        self._ring.append(block)
        if self.reference is not None:
            self.reference.add(block[1])
        while self._ring and self._ring[0][0] < index - self._n_blocks:
            self._ring.popleft()

    @property
    def profile(self) -> BlockProfile:
        """Profile of the complete blocks of the last τ fs."""
        profile = BlockProfile(*self._new)
        for _, block in self._ring:
            profile.add(block)
        return profile


@dataclass(frozen=True, slots=True)
class BinChange:
    """One bin of a change: channel, edges (Å), means before and after, z and share of Σ z²."""

    channel: str
    left: float
    right: float
    before: float
    after: float
    z: float
    share: float


@dataclass(frozen=True, slots=True)
class Change:
    """How a profile differs from its reference.

    z: (n_channels, n_bins), difference of the means over its error, as a standard normal deviate.
    The ratio is Student's t with Welch's degrees of freedom, and z has the same tail probability,
    so that a mean from few blocks is not taken for a precise one. NaN if either profile has fewer
    than two blocks.
    """

    bins: Bins
    before: Floats
    after: Floats
    z: Floats

    @property
    def share(self) -> Floats:
        """z²/Σ z², (n_channels, n_bins), each bin's part in the change; 0 where z is NaN."""
        squared = np.nan_to_num(self.z, nan=0.0, posinf=1e150, neginf=-1e150) ** 2
        total = squared.sum()
        result: Floats = squared / total if total > 0 else squared
        return result

    def largest(self, n: int = 5) -> list[BinChange]:
        """Return the n bins with the largest share in the change."""
        share, edges = self.share, self.bins.edges
        order = np.argsort(-share, axis=None)[:n]
        rows = zip(*np.unravel_index(order, share.shape), strict=True)
        return [
            BinChange(
                self.bins.channels[c], float(edges[b]), float(edges[b + 1]),
                float(self.before[c, b]), float(self.after[c, b]),
                float(self.z[c, b]), float(share[c, b]),
            )
            for c, b in rows if share[c, b] > 0
        ]  # fmt: skip

    @classmethod
    def between(cls, window: BlockProfile, reference: BlockProfile) -> Self:
        """Compare a window with a reference that does not contain it.

        Raises:
            StatisticsError: for different channels or bins.
        """
        window.bins.require_same(reference.bins)
        return cls(window.bins, reference.mean, window.mean, z_scores(window, reference))


def z_scores(window: BlockProfile, reference: BlockProfile) -> Floats:
    """Return `Change.z` alone, (n_channels, n_bins)."""
    from scipy.special import ndtri, stdtr

    a, b = window.standard_error**2, reference.standard_error**2
    difference = window.mean - reference.mean
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(difference == 0, 0.0, difference / np.sqrt(a + b))
        freedom = (a + b) ** 2 / (a**2 / (window.n_blocks - 1) + b**2 / (reference.n_blocks - 1))
        size = -ndtri(stdtr(freedom, -np.abs(t)))
        size = np.where(a + b == 0, np.abs(t), size)
        known = (window.n_blocks > 1) & (reference.n_blocks > 1)
        z: Floats = np.where(known, np.copysign(size, t), np.nan)
    return z
