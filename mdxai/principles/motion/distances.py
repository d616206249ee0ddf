"""Principles of distances: as in training, neither too close nor too far, and spread as before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase.geometry import complete_cell

from mdxai.attribution import Attribution
from mdxai.frame import DENSE_LIMIT, Floats, Frame, Ints
from mdxai.principles.frame_quantities import Contacts, frame_quantities
from mdxai.principles.motion.matter import matter_of
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.principles.running_statistics import Every
from mdxai.statistics import ElementPairChannels
from mdxai.statistics import _kernels as kernels

WIDTH = 0.05  # Å, of a bin, as in Fu et al.
REACH = 6.0  # Å, in cells and large systems
OVERLAP = 0.15  # Å beyond a physical radius, where atoms overlap
UNSTATED = (
    "the calculator does not state which distances its training data covers; give reference data"
)


def distance_histogram(frame: Frame, reach: float) -> Floats:
    """Return the counts of pair distances in bins of 0.05 Å; the last bin holds all beyond `reach`.

    An isolated small molecule counts all pairs, other systems those within reach.
    """
    whole = not frame.pbc.any() and frame.n_atoms <= DENSE_LIMIT
    distances = frame.pairs(np.inf if whole else reach).distances
    n_bins = round(reach / WIDTH)
    bins = np.minimum(distances / WIDTH, n_bins).astype(np.int64)
    return np.bincount(bins, minlength=n_bins + 1).astype(np.float64)


class DistanceDrift:
    """Change of the distribution of interatomic distances, ∫|h(r) − h₀(r)| dr.

    h(r) is the density of pair distances, averaged over part of the run, with ∫h dr = 1 (Fu et al.,
    TMLR 2023, arXiv 2210.07237: "h(r) MAE"). The integral is 0 for equal distributions and 2 for
    disjoint ones. h₀ comes from a reference trajectory, or from 0.5 to 2.5 ps of the run itself; h
    from the last full 2 ps. One frame in 10 fs is used. In cells and beyond 64 atoms only pairs
    within 6 Å (and half the cell) count, so that h is a distribution of neighbours like g(r).

    Args:
        first: a frame of the system.
        reference: frames that define h₀.

    Raises:
        PrincipleUnavailable: for a single atom.
    """

    name = "distance_drift"
    unit = "∫|Δh|"
    cost: Cost = "free"
    EVERY = 10.0  # fs between frames that are used
    SETTLED = 500.0  # fs, after which the reference part of the run begins
    STRETCH = 2000.0  # fs, averaged over

    def __init__(self, first: Frame, reference: Sequence[Frame] = ()) -> None:
        if first.n_atoms < 2:
            raise PrincipleUnavailable("a single atom has no distances")
        self._reach = _reach(first)
        self._usual: Floats | None = None
        if reference:
            self._usual = _density(
                np.sum([distance_histogram(f, self._reach) for f in reference], axis=0)
            )
        self._begin = first.time + (0.0 if reference else self.SETTLED)
        self._next = self._begin
        self._counts = np.zeros(round(self._reach / WIDTH) + 1)
        self._value: float | None = None

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        if not frame_quantities(frame).placed:
            return Deviation(self.name, self.unit, np.nan)
        if frame.time >= self._next - 1e-6:
            if frame.time - self._begin >= self.STRETCH - 1e-6:
                self._close(frame.time)
            self._counts += distance_histogram(frame, self._reach)
            self._next = max(self._next + self.EVERY, frame.time)
        return None if self._value is None else Deviation(self.name, self.unit, self._value)

    def _close(self, time: float) -> None:
        density = _density(self._counts)
        if self._usual is None:
            self._usual = density
        else:
            self._value = float(np.abs(density - self._usual).sum() * WIDTH)
        self._counts[:] = 0
        self._begin = time


class PairDistribution(DistanceDrift):
    """Change of the pair distribution of matter without molecules, ∫|h(r) − h₀(r)| dr.

    As `DistanceDrift` in every respect. But a crystal that melts or changes its phase has another
    distribution by right, so that a change only warns.

    Args:
        first: a frame of the matter.
        reference: frames that define h₀.

    Raises:
        PrincipleUnavailable: where there are molecules instead.
    """

    name = "pair_distribution"

    def __init__(self, first: Frame, reference: Sequence[Frame] = ()) -> None:
        if not _is_matter(first):
            raise PrincipleUnavailable("molecules are compared by distance_drift")
        super().__init__(first, reference)


def _is_matter(frame: Frame) -> bool:
    try:
        matter_of(frame)
    except PrincipleUnavailable:
        return False
    return True


def _density(counts: Floats) -> Floats:
    density: Floats = counts / (max(counts.sum(), 1.0) * WIDTH)
    return density


def _reach(first: Frame) -> float:
    if not first.pbc.any():
        return REACH if first.n_atoms > DENSE_LIMIT else 2 * REACH
    heights = 1 / np.linalg.norm(np.linalg.inv(complete_cell(first.cell)), axis=0)[first.pbc]
    return float(WIDTH * np.floor(min(REACH, heights.min() / 2) / WIDTH))


class _Limits:
    """A distance limit for every pair of a frame, from one per element pair."""

    _not_state = ("_of", "_limits")  # found again from the pairs of any frame

    def __init__(self, per_channel: Floats, channels: ElementPairChannels) -> None:
        self._per_channel = per_channel
        self._channels = channels
        self._of: Ints | None = None

    def of(self, pairs: Contacts) -> Floats:
        if self._of is not pairs.i:  # the pairs of a small system never change
            self._of = pairs.i
            self._limits: Floats = self._per_channel[self._channels.of(pairs.i, pairs.j)]
        return self._limits


class ClosestContact:
    """By how much two atoms are closer than any pair of their elements in training, Å.

    Below the shortest distance in the training data the network extrapolates, and need not be
    repulsive. A hole in the energy there pulls atoms together.

    Args:
        ranges: shortest and longest distance (Å) per element pair ("C-H"), from the card.
        first: a frame of the system.

    Attributes:
        unseen: element pairs of the system without a range in the card; they are not checked.

    Raises:
        PrincipleUnavailable: when there are no ranges, and when atoms of the first frame are closer
            than any matter is, so that lengths are in another unit.
    """

    name = "contact"
    unit = "Å"
    cost: Cost = "free"
    SELDOM = 10.0  # fs between frames that are used, in cells without upper ends of ranges

    def __init__(self, ranges: Mapping[str, tuple[float, float]], first: Frame) -> None:
        if not ranges:
            raise PrincipleUnavailable(UNSTATED)
        channels = ElementPairChannels(first.numbers)
        self.unseen = tuple(name for name in channels.names if name not in ranges)
        shortest = [ranges[name][0] if name in ranges else -np.inf for name in channels.names]
        self._shortest = _Limits(np.array(shortest), channels)
        self._when: Every | None = None
        if all(np.isinf(longest) for _, longest in ranges.values()):
            self._refuse_overlap(first)
            if not frame_quantities(first).small:
                self._when = Every(self.SELDOM)

    def _refuse_overlap(self, first: Frame) -> None:
        """Physical radii mean nothing to reduced units or to coarse grains."""
        value, atoms = self._worst(first)
        if value > OVERLAP:
            raise PrincipleUnavailable(
                f"atoms {atoms[0]} and {atoms[1]} of the first frame overlap, so physical radii "
                "are no limit here: reduced units, coarse grains or a wrong unit of length; give "
                "reference data"
            )

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        if self._when is not None and not self._when.due(frame.time):
            return None
        if not frame_quantities(frame).placed:
            return Deviation(self.name, self.unit, np.nan)
        return Deviation(self.name, self.unit, *self._worst(frame))

    def _worst(self, frame: Frame) -> tuple[float, tuple[int, ...]]:
        contacts = frame_quantities(frame).contacts
        return _worst(contacts, self._shortest.of(contacts), sign=-1.0)


class DistanceBeyondTraining:
    """By how much two atoms are farther apart than any pair of their elements in training, Å.

    The upper end of the range that `ClosestContact` checks: a bond breaks, a molecule unfolds. It
    is meaningful only for the molecule of the training data, so neither in a periodic cell nor
    where the first frame already exceeds the ranges.

    Args:
        ranges: shortest and longest distance (Å) per element pair ("C-H"), from the card.
        first: a frame of the system.

    Raises:
        PrincipleUnavailable: when the card states no ranges, for periodic systems, for more than 64
            atoms, and when the first frame already exceeds the ranges.
    """

    name = "beyond_training"
    unit = "Å"
    cost: Cost = "free"

    def __init__(self, ranges: Mapping[str, tuple[float, float]], first: Frame) -> None:
        if not ranges:
            raise PrincipleUnavailable(UNSTATED)
        if not frame_quantities(first).small:
            raise PrincipleUnavailable(
                "only distances within one small molecule have an upper limit"
            )
        channels = ElementPairChannels(first.numbers)
        longest = [ranges.get(name, (0.0, np.inf))[1] for name in channels.names]
        if np.isinf(longest).all():
            raise PrincipleUnavailable(UNSTATED)
        self._longest = _Limits(np.array(longest), channels)
        if self.deviate(first).value > 0:
            raise PrincipleUnavailable(
                "the first frame has distances longer than any in the training data, so the "
                "calculator was trained on another molecule"
            )

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        seen = frame_quantities(frame)
        if not seen.placed:
            return Deviation(self.name, self.unit, np.nan)
        worst = _worst(seen.contacts, self._longest.of(seen.contacts), sign=1.0)
        return Deviation(self.name, self.unit, *worst)


class UnlikeTraining:
    """By how much distances of the first frame exceed all of their elements in training, Å.

    A model is asked about another molecule, or about elements that it has never seen next to each
    other: whatever it answers was never tested. A pair of elements without a range counts with its
    whole distance. It stays as it is over the run, so it can only warn.

    Args:
        ranges: shortest and longest distance (Å) per element pair ("C-H").
        first: a frame of the system.

    Raises:
        PrincipleUnavailable: when no range has an upper end, and for a single atom.
    """

    name = "unlike_training"
    unit = "Å"
    cost: Cost = "free"

    def __init__(self, ranges: Mapping[str, tuple[float, float]], first: Frame) -> None:
        if all(np.isinf(longest) for _, longest in ranges.values()) and _covers(ranges, first):
            raise PrincipleUnavailable(UNSTATED)
        contacts = frame_quantities(first).contacts
        if not len(contacts.distances):
            raise PrincipleUnavailable("the first frame has no pairs of atoms within 4 Å")
        channels = ElementPairChannels(first.numbers)
        longest = np.array([ranges.get(name, (0.0, 0.0))[1] for name in channels.names])
        limits = _Limits(longest, channels).of(contacts)
        self._found = Deviation(self.name, self.unit, *_worst(contacts, limits, sign=1.0))

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        return self._found


def _covers(ranges: Mapping[str, tuple[float, float]], first: Frame) -> bool:
    """Whether every pair of elements of a system has a range."""
    return all(name in ranges for name in ElementPairChannels(first.numbers).names)


def _worst(pairs: Contacts, limits: Floats, *, sign: float) -> tuple[float, tuple[int, ...]]:
    """Return the largest positive sign · (distance − limit) and its atoms; (0, ()) if none is."""
    excess, worst = kernels.largest_excess(pairs.distances, limits, sign)
    if not excess > 0:
        return 0.0, ()
    return excess, (int(pairs.i[worst]), int(pairs.j[worst]))
