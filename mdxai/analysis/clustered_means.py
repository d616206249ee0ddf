"""Means over pairs with the standard error of molecules; cells do not grow with the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mdxai.frame import Floats, Ints

State = dict[str, NDArray[Any]]
_COUNT, _TOTAL, _SIGNED, _MOLECULES, _NN, _NS, _SS = range(7)


class ClusteredMeans:
    """Mean of samples per channel and bin, and its standard error over molecules.

    Samples of one molecule are not independent, so a molecule is one observation: with N_m samples
    of sum S_m the mean is the ratio ΣS/ΣN, whose variance is M/(M − 1) Σ(S_m − mean·N_m)²/(ΣN)²
    (Cochran, Sampling Techniques, 1977, section 6.3; the variance between clusters). A cell holds
    the sums that this takes: ΣN, ΣS, M, ΣN², ΣNS, ΣS², and the sum of signed values.

    Args:
        n_bins: of every channel. Channels are added when first seen.
    """

    def __init__(self, n_bins: int) -> None:
        self.n_bins = n_bins
        self.names: list[str] = []
        self._cells = np.zeros((0, n_bins, 7))

    def add(
        self, names: Sequence[str], channels: Ints, bins: Ints, values: Floats, molecules: Ints
    ) -> None:
        """Add samples of whole molecules: all of a molecule in one call.

        Args:
            names: of the channels.
            channels: (n,) index into `names`; −1 for samples of none.
            bins: (n,); samples outside 0 … n_bins − 1 are left out.
            values: (n,) signed; means are of their absolute values.
            molecules: (n,) index of each sample's molecule.
        """
        rows = self._rows(names)
        use = (channels >= 0) & (bins >= 0) & (bins < self.n_bins) & np.isfinite(values)
        cell = rows[channels[use]] * self.n_bins + bins[use]
        of, molecule = values[use], molecules[use]
        n_cells = len(self.names) * self.n_bins
        keys, place = np.unique(molecule * n_cells + cell, return_inverse=True)
        n = np.bincount(place, minlength=len(keys)).astype(np.float64)
        s = np.bincount(place, np.abs(of), minlength=len(keys))
        signed = np.bincount(place, of, minlength=len(keys))
        sums = np.stack([n, s, signed, np.ones(len(keys)), n * n, n * s, s * s], axis=1)
        np.add.at(self._cells.reshape(n_cells, 7), keys % n_cells, sums)

    def merge(self, other: ClusteredMeans) -> None:
        """Add what another one holds of other molecules."""
        rows = self._rows(other.names)
        self._cells[rows] += other._cells

    @property
    def count(self) -> Ints:
        """Samples, (n_channels, n_bins)."""
        return self._cells[..., _COUNT].astype(np.int64)

    @property
    def molecules(self) -> Ints:
        """Molecules with samples, (n_channels, n_bins)."""
        return self._cells[..., _MOLECULES].astype(np.int64)

    @property
    def mean(self) -> Floats:
        """Mean absolute value, (n_channels, n_bins); NaN where empty."""
        return self._per_sample(_TOTAL)

    @property
    def signed(self) -> Floats:
        """Mean of the signed values, (n_channels, n_bins); NaN where empty."""
        return self._per_sample(_SIGNED)

    @property
    def error(self) -> Floats:
        """Standard error of the mean over molecules; NaN with fewer than two."""
        n, m = self._cells[..., _COUNT], self._cells[..., _MOLECULES]
        mean = self.mean
        nn, ns, ss = (self._cells[..., k] for k in (_NN, _NS, _SS))
        squares = np.maximum(ss - 2 * mean * ns + mean**2 * nn, 0.0)
        error: Floats = np.full(n.shape, np.nan)
        known = m > 1
        error[known] = np.sqrt((m[known] / (m[known] - 1)) * squares[known]) / n[known]
        return error

    def row(self, name: str) -> int | None:
        """Return the row of a channel; None if it has not been seen."""
        return self.names.index(name) if name in self.names else None

    def state(self) -> State:
        """Return arrays from which `from_state` continues."""
        return {"names": np.array(self.names, dtype=str), "cells": self._cells.copy()}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """Return the means whose `state` this is."""
        self = cls(state["cells"].shape[1])
        self.names, self._cells = [str(n) for n in state["names"]], state["cells"].copy()
        return self

    def _per_sample(self, column: int) -> Floats:
        n = self._cells[..., _COUNT]
        mean: Floats = np.full(n.shape, np.nan)
        return np.divide(self._cells[..., column], n, out=mean, where=n > 0)

    def _rows(self, names: Sequence[str]) -> Ints:
        new = [name for name in names if name not in self.names]
        if new:
            self.names += new
            self._cells = np.concatenate([self._cells, np.zeros((len(new), self.n_bins, 7))])
        return np.array([self.names.index(name) for name in names], dtype=np.int64)
