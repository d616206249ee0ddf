"""Histograms of distances, bond lengths and angles, and the radial distribution function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mdxai.frame import Floats, Frame, Ints
from mdxai.statistics import _kernels as kernels
from mdxai.statistics.bins import Bins, State, StatisticsError, as_bins
from mdxai.statistics.channels import Channels


class BinnedCounts:
    """Number of samples per (channel, bin), bins uniform from 0 to `upper` (Å, or ° for angles).

    Attributes:
        bins: channels and bins.
        count: (n_channels, n_bins).
    """

    def __init__(self, channels: Sequence[str], upper: float, n_bins: int = 240) -> None:
        self.bins = as_bins(channels, upper, n_bins)
        self.count: Ints = np.zeros(self.bins.shape, dtype=np.int64)
        self._skipped: Ints = np.zeros(3, dtype=np.int64)

    @property
    def not_finite(self) -> int:
        """Number of samples that are NaN or infinite."""
        return int(self._skipped[1])

    @property
    def density(self) -> Floats:
        """Share of a channel's samples per bin width, (n_channels, n_bins); NaN where empty.

        Samples outside the bins do not count: it integrates to 1.
        """
        total = self.count.sum(axis=1, keepdims=True)
        share: Floats = np.full(self.bins.shape, np.nan)
        np.divide(self.count, total, out=share, where=total > 0)
        return share * self.bins.inverse_width

    def update(self, channels: Ints, positions: Floats) -> None:
        """Add samples: channel indices and positions on the axis, each (n,).

        Raises:
            StatisticsError: for different lengths or a channel that does not exist.
        """
        unknown = kernels.count_bins(
            channels, positions, self.bins.inverse_width, self.count, self._skipped
        )
        self.bins.require_known(unknown)

    def merge(self, other: BinnedCounts) -> None:
        """Add another accumulator's samples, exactly.

        Raises:
            StatisticsError: for different channels or bins.
        """
        self.bins.require_same(other.bins)
        self.count += other.count
        self._skipped += other._skipped

    def state(self) -> State:
        """Return arrays (fit for numpy.savez) from which `from_state` makes the same counts."""
        return self.bins.state() | {"count": self.count.copy(), "skipped": self._skipped.copy()}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """Return the accumulator whose `state` this is."""
        bins = Bins.from_state(state)
        self = cls(bins.channels, bins.upper, bins.n_bins)
        self.count[:] = state["count"]
        self._skipped[:] = state["skipped"]
        return self


class RadialDistribution:
    """g(r) of periodic systems and h(r) of molecules, per channel.

    g(r) = counts / Σ_frames (N_pairs · V_shell / V): 1 for an ideal gas, with V_shell =
    4π(r₂³ − r₁³)/3 and N_pairs the channel's unordered pairs of different atoms.
    h(r) = counts / (n_frames · N_pairs · Δr): density of a channel's pair distances, 1/Å.

    Args:
        channels: numbers pairs of atoms.
        n_atoms: number of atoms.
        r_max: upper edge, Å; at most half the smallest height of a periodic cell.
        n_bins: number of bins.
    """

    def __init__(self, channels: Channels, n_atoms: int, r_max: float, n_bins: int = 240) -> None:
        self.counts = BinnedCounts(channels.names, r_max, n_bins)
        self._channels = channels
        self._n_atoms = n_atoms
        self.n_pairs: Ints = _pairs_per_channel(channels, n_atoms)
        self.n_frames = 0
        self._inverse_volumes = 0.0  # Σ 1/V, Å⁻³

    def update(self, frame: Frame) -> None:
        """Add the pair distances of a frame.

        Raises:
            StatisticsError: for another number of atoms, positions that are not finite, or an
                r_max beyond half a periodic cell.
        """
        r_max = self.counts.bins.upper
        if frame.n_atoms != self._n_atoms or not np.isfinite(frame.positions).all():
            raise StatisticsError(
                f"expected {self._n_atoms} atoms at finite positions, got {frame.n_atoms} atoms, "
                f"{int((~np.isfinite(frame.positions)).sum())} coordinates not finite"
            )
        i, j, distances = half_pairs(frame, r_max)
        self.counts.update(self._channels.of(i, j), distances)
        self.n_frames += 1
        if frame.pbc.all():
            self._inverse_volumes += 1 / abs(np.linalg.det(frame.cell))
        else:
            self._inverse_volumes = np.nan

    @property
    def g(self) -> Floats:
        """Radial distribution function, (n_channels, n_bins).

        NaN without frames, for channels without pairs, and unless all frames are periodic in three
        directions.
        """
        shells: Floats = 4 / 3 * np.pi * np.diff(self.counts.bins.edges**3)
        ideal: Floats = self._inverse_volumes * np.outer(self.n_pairs, shells)
        return _ratio(self.counts.count, ideal)

    @property
    def h(self) -> Floats:
        """Density of pair distances, (n_channels, n_bins), 1/Å; NaN without frames or pairs."""
        width = 1 / self.counts.bins.inverse_width
        pairs = np.repeat(self.n_pairs[:, None], self.counts.bins.n_bins, axis=1)
        expected: Floats = self.n_frames * width * pairs.astype(np.float64)
        return _ratio(self.counts.count, expected)

    def merge(self, other: RadialDistribution) -> None:
        """Add another accumulator's frames, exactly.

        Raises:
            StatisticsError: for different channels, bins or numbers of pairs.
        """
        if not np.array_equal(self.n_pairs, other.n_pairs):
            raise StatisticsError("distributions to be merged need the same pairs of atoms")
        self.counts.merge(other.counts)
        self.n_frames += other.n_frames
        self._inverse_volumes += other._inverse_volumes


def half_pairs(frame: Frame, cutoff: float) -> tuple[Ints, Ints, Floats]:
    """Return i, j and distances (Å) of all pairs within `cutoff`, each once, in any order.

    Faster than `Frame.pairs` in large periodic cells: where the cutoff is at most half of every
    periodic height, a pair has one image at most, so nothing needs sorting.

    Raises:
        StatisticsError: for a longer cutoff in a periodic cell.
    """
    if not frame.pbc.any():
        pairs = frame.pairs(cutoff)
        return pairs.i, pairs.j, pairs.distances
    from vesin import NeighborList

    # Only along periodic rows: a slab's cell may have no third one.
    inverse = np.linalg.norm(np.linalg.pinv(frame.cell)[:, frame.pbc], axis=0)
    lowest = float(1 / inverse.max())
    if not cutoff <= 0.5 * lowest * (1 + 1e-12):
        raise StatisticsError(
            f"distances up to {cutoff:g} Å in a cell of height {lowest:g} Å would count images of "
            f"a pair twice; choose at most {lowest / 2:g} Å, or a larger cell"
        )
    search = NeighborList(cutoff=cutoff, full_list=False)
    i, j, distances = search.compute(frame.positions, frame.cell, frame.pbc, "ijd")
    return i.view(np.int64), j.view(np.int64), distances


def bond_lengths(frame: Frame, i: Ints, j: Ints) -> Floats:
    """Return the lengths of bonds, (n_bonds,) Å, at the shortest image."""
    return np.linalg.norm(_vectors(frame, i, j), axis=1)


def bond_angles(frame: Frame, i: Ints, j: Ints, k: Ints) -> Floats:
    """Return the angles i–j–k at j, (n_angles,) degrees.

    atan2(|a × b|, a·b): accurate also near 0° and 180°, where arccos is not.
    """
    a, b = _vectors(frame, j, i), _vectors(frame, j, k)
    sine = np.linalg.norm(np.cross(a, b), axis=1)
    angles: Floats = np.degrees(np.arctan2(sine, np.einsum("ij,ij->i", a, b)))
    return angles


def angles_of_bonds(i: Ints, j: Ints) -> tuple[Ints, Ints, Ints]:
    """Return all angles between two bonds (first, middle, last), first < last, by middle."""
    ends, others = np.concatenate([i, j]), np.concatenate([j, i])
    triples = [
        (a, middle, b)
        for middle in np.unique(ends)
        for a in others[ends == middle]
        for b in others[ends == middle]
        if a < b
    ]
    first, middle, last = np.array(triples, dtype=np.int64).reshape(-1, 3).T
    return first, middle, last


def _vectors(frame: Frame, i: Ints, j: Ints) -> Floats:
    vectors: Floats = frame.positions[j] - frame.positions[i]
    if frame.pbc.any():
        from ase.geometry import find_mic

        vectors = find_mic(vectors, frame.cell, frame.pbc)[0]
    return vectors


def _pairs_per_channel(channels: Channels, n_atoms: int) -> Ints:
    """Count pairs of different atoms row by row, so that memory grows with atoms, not pairs."""
    n_pairs = np.zeros(len(channels.names), dtype=np.int64)
    everyone = np.arange(n_atoms, dtype=np.int64)
    for atom in range(n_atoms - 1):
        later = everyone[atom + 1 :]
        channel = channels.of(np.full(len(later), atom, dtype=np.int64), later)
        n_pairs += np.bincount(channel[channel >= 0], minlength=len(n_pairs))
    return n_pairs


def _ratio(counts: Ints, expected: Floats) -> Floats:
    result: Floats = np.full(counts.shape, np.nan)
    return np.divide(counts, expected, out=result, where=expected > 0)
