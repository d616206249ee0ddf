"""Running moments of a pair quantity per channel and distance bin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mdxai.frame import Floats, Ints
from mdxai.statistics import _kernels as kernels
from mdxai.statistics.bins import Bins, State, as_bins, run


class BinnedMoments:
    """Count, mean, variance, minimum and maximum per (channel, distance bin).

    Bins are uniform from 0 to `r_max` (Å). Samples that are not finite, lie outside the bins or
    have channel −1 are left out of the moments and counted.

    Each bin sums deviations from its running mean over up to 1,024 samples, then merges them into
    its moments by the formula of Chan, Golub and LeVeque (1983) with compensated sums. The relative
    error of the variance stays below 10⁻¹² for 10¹⁰ samples (see docs/statistics.md). Dividing
    a stream into different calls gives the same bits; merging in another order agrees to rounding.
    Counts, minima and maxima are always exact.

    Attributes:
        channels: names, (n_channels,).
        bin_edges: (n_bins + 1,), Å.

    Raises:
        StatisticsError: without channels, or for r_max or n_bins that are not > 0.
    """

    def __init__(self, channels: Sequence[str], r_max: float, n_bins: int = 240) -> None:
        self.bins = as_bins(channels, r_max, n_bins)
        self.channels = self.bins.channels
        self.bin_edges: Floats = self.bins.edges
        self._inverse_width = self.bins.inverse_width
        self.reset()

    def reset(self) -> None:
        """Remove all samples."""
        n_cells = self.bins.shape[0] * self.bins.shape[1]
        self._flat = _cache_aligned(n_cells * 8)
        self._cells = self._flat.reshape(n_cells, 8)
        self._cells[:, kernels.LOW] = np.inf
        self._cells[:, kernels.HIGH] = -np.inf
        self._squares = np.zeros((n_cells, 2))
        self._skipped = np.zeros(3, dtype=np.int64)

    @property
    def outside(self) -> int:
        """Number of samples outside the bins."""
        return int(self._skipped[0])

    @property
    def not_finite(self) -> int:
        """Number of samples that are NaN or infinite, in value or distance."""
        return int(self._skipped[1])

    @property
    def unassigned(self) -> int:
        """Number of samples of channel −1."""
        return int(self._skipped[2])

    @property
    def bin_centers(self) -> Floats:
        return self.bins.centers

    @property
    def count(self) -> Ints:
        """Number of samples, (n_channels, n_bins)."""
        total = self._cells[:, kernels.COUNT] + self._cells[:, kernels.PENDING]
        return total.astype(np.int64).reshape(self.bins.shape)

    @property
    def mean(self) -> Floats:
        """Mean, (n_channels, n_bins), unit of the values; 0 where empty."""
        cells = self._folded()[0]
        mean: Floats = cells[:, kernels.CENTER] + cells[:, kernels.REST]
        return mean.reshape(self.bins.shape)

    @property
    def variance(self) -> Floats:
        """Population variance; NaN where empty."""
        cells, squares = self._folded()
        count = cells[:, kernels.COUNT]
        spread: Floats = np.full(count.shape, np.nan)
        np.divide(squares.sum(axis=1), count, out=spread, where=count > 0)
        return spread.reshape(self.bins.shape)

    @property
    def minimum(self) -> Floats:
        """Smallest sample; inf where empty."""
        return self._cells[:, kernels.LOW].reshape(self.bins.shape)

    @property
    def maximum(self) -> Floats:
        """Largest sample; −inf where empty."""
        return self._cells[:, kernels.HIGH].reshape(self.bins.shape)

    def _folded(self) -> tuple[Floats, Floats]:
        """Return copies without pending sums, so that reading does not change later results."""
        cells, squares = self._cells.copy(), self._squares.copy()
        kernels.fold_all(cells, squares)
        return cells, squares

    def update(self, channels: Ints, distances: Floats, values: Floats) -> None:
        """Add samples: channel indices, distances (Å) and values, each (n,).

        Raises:
            StatisticsError: for different lengths (no sample is added), or a channel that does not
                exist (the other samples are added).
        """
        unknown = run(
            kernels.update_moments,
            channels, distances, values, self._inverse_width, len(self.channels), self.bins.n_bins,
            self._flat, self._squares, self._skipped,
        )  # fmt: skip
        if unknown != 0:
            self.bins.require_known(unknown)

    def merge(self, other: BinnedMoments) -> None:
        """Add another accumulator's samples (Chan, Golub and LeVeque 1983).

        Raises:
            StatisticsError: for different channels or bins.
        """
        self.bins.require_same(other.bins)
        kernels.fold_all(self._cells, self._squares)
        kernels.merge_moments(self._cells, self._squares, *other._folded())
        self._skipped += other._skipped

    def state(self) -> State:
        """Return arrays (fit for numpy.savez) from which `from_state` continues bit by bit."""
        return self.bins.state() | {
            "cells": self._cells.copy(),
            "squares": self._squares.copy(),
            "skipped": self._skipped.copy(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """Return the accumulator whose `state` this is."""
        bins = Bins.from_state(state)
        self = cls(bins.channels, bins.upper, bins.n_bins)
        self._cells[:] = state["cells"]
        self._squares[:] = state["squares"]
        self._skipped[:] = state["skipped"]
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_state, (self.state(),)


def _cache_aligned(n: int) -> Floats:
    """Return n zeros that start at a cache line, so that no cell spans two lines."""
    raw = np.zeros(n + 8)
    start = (-raw.ctypes.data % 64) // 8
    return raw[start : start + n]
