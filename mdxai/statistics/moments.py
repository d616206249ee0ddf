"""Running moments of a pair quantity per channel and distance bin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mdxai.calculators.card import pair_key
from mdxai.frame import Floats, Ints, iter_element_pairs
from mdxai.statistics._kernels import update_moments


class BinnedMoments:
    """Count, mean, variance, minimum and maximum per (channel, distance bin).

    Bins are uniform from 0 to `r_max` (Å). Samples that are not finite are counted and left out.

    Attributes:
        channels: names, (n_channels,).
        bin_edges: (n_bins + 1,), Å.
        count: (n_channels, n_bins). mean: the same shape, unit of the values; 0 where empty.
        outside, not_finite: numbers of samples left out.
    """

    def __init__(self, channels: Sequence[str], r_max: float, n_bins: int = 240) -> None:
        if not (r_max > 0 and n_bins > 0 and len(channels) > 0):
            raise ValueError(
                f"expected at least one channel, r_max > 0 and n_bins > 0, got {len(channels)} "
                f"channels, r_max={r_max}, n_bins={n_bins}"
            )
        self.channels = tuple(channels)
        self.bin_edges: Floats = np.linspace(0.0, r_max, n_bins + 1)
        self.reset()

    def reset(self) -> None:
        """Forget every sample."""
        shape = (len(self.channels), len(self.bin_edges) - 1)
        self.count = np.zeros(shape, dtype=np.int64)
        self.mean = np.zeros(shape)
        self._m2 = np.zeros(shape)
        self._low = np.full(shape, np.inf)
        self._high = np.full(shape, -np.inf)
        self._skipped = np.zeros(2, dtype=np.int64)

    @property
    def outside(self) -> int:
        return int(self._skipped[0])

    @property
    def not_finite(self) -> int:
        return int(self._skipped[1])

    @property
    def bin_centers(self) -> Floats:
        centers: Floats = (self.bin_edges[1:] + self.bin_edges[:-1]) / 2
        return centers

    @property
    def variance(self) -> Floats:
        """Population variance; NaN where empty."""
        spread: Floats = np.full(self.mean.shape, np.nan)
        return np.divide(self._m2, self.count, out=spread, where=self.count > 0)

    @property
    def minimum(self) -> Floats:
        """Smallest sample; inf where empty."""
        return self._low

    @property
    def maximum(self) -> Floats:
        """Largest sample; −inf where empty."""
        return self._high

    def update(self, channels: Ints, distances: Floats, values: Floats) -> None:
        """Add samples: channel indices, distances (Å) and values, each (n,)."""
        n_bins = self.count.shape[1]
        update_moments(
            channels, distances, values, n_bins / self.bin_edges[-1],
            self.count, self.mean, self._m2, self._low, self._high, self._skipped,
        )  # fmt: skip

    def merge(self, other: BinnedMoments) -> None:
        """Add another accumulator's samples (Chan, Golub and LeVeque 1983).

        Raises:
            ValueError: for different channels or bins.
        """
        if self.channels != other.channels or not np.array_equal(self.bin_edges, other.bin_edges):
            raise ValueError("accumulators to be merged need the same channels and bins")
        total = self.count + other.count
        share = np.divide(other.count, total, out=np.zeros(self.mean.shape), where=total > 0)
        delta = other.mean - self.mean
        self._m2 += other._m2 + delta**2 * self.count * share
        self.mean += delta * share
        self.count = total
        np.minimum(self._low, other._low, out=self._low)
        np.maximum(self._high, other._high, out=self._high)
        self._skipped += other._skipped


class ElementPairChannels:
    """Numbers the element pairs of a molecule, so that pairs of atoms can be binned by them.

    Attributes:
        names: ("C-C", "C-H", …), symbols in alphabetical order.
    """

    def __init__(self, numbers: Ints) -> None:
        kinds, self._kind_of = np.unique(numbers, return_inverse=True)
        self._table: NDArray[np.int64] = np.full((len(kinds), len(kinds)), -1, dtype=np.int64)
        index = {int(z): k for k, z in enumerate(kinds)}
        names: list[str] = []
        for a, b in iter_element_pairs(numbers):
            self._table[index[a], index[b]] = self._table[index[b], index[a]] = len(names)
            names.append(pair_key(chemical_symbols[a], chemical_symbols[b]))
        self.names = tuple(names)

    def of(self, i: Ints, j: Ints) -> Ints:
        """Return the channel of each pair of atoms, (n_pairs,)."""
        return self._table[self._kind_of[i], self._kind_of[j]]
