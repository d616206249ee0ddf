"""Principles of structure: bonds keep their length, distances stay within those of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from ase.neighborlist import natural_cutoffs, neighbor_list

from mdxai.attribution import Attribution
from mdxai.frame import Floats, Frame, Ints
from mdxai.principles.allowed_reactions import AllowedBonds
from mdxai.principles.frame_quantities import Contacts, frame_quantities
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.statistics import ElementPairChannels
from mdxai.statistics import _kernels as kernels

METALS = frozenset(
    [3, 4, 11, 12, 13, *range(19, 32), *range(37, 51), *range(55, 85), *range(87, 119)]
)


def bonds_of(frame: Frame) -> tuple[Ints, Ints]:
    """Return the bonds i < j of a frame: closer than 1.25 times the sum of ASE's covalent radii."""
    atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
    if not np.isfinite(frame.positions).all():
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing
    i, j = neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=1.25))
    keep = i < j
    return i[keep].astype(np.int64), j[keep].astype(np.int64)


class Bonds:
    """The covalent bonds of a frame, without bonds to metals, whose neighbours may change.

    Args:
        first: the frame.
        allowed: bonds that may break; they are left out too.

    Attributes:
        i, j: (n_bonds,), i < j.

    Raises:
        PrincipleUnavailable: when there are none.
    """

    def __init__(self, first: Frame, allowed: AllowedBonds | None = None) -> None:
        i, j = bonds_of(first)
        metal = np.isin(first.numbers, list(METALS))
        keep = ~(metal[i] | metal[j])
        if allowed:
            keep &= ~allowed.allow(i, j)
        if not keep.any():
            but = " but those that may break" if allowed and allowed.allow(i, j).any() else ""
            but = " but those with metals, whose neighbours may change" if metal.any() else but
            raise PrincipleUnavailable(f"the first frame has no covalent bonds{but}")
        self.i, self.j = i[keep], j[keep]
        n = first.n_atoms  # indices into the list of all pairs of a small system
        self._rows = self.i * (2 * n - self.i - 1) // 2 + self.j - self.i - 1

    def lengths(self, frame: Frame) -> Floats:
        """Return (n_bonds,) lengths, Å."""
        seen = frame_quantities(frame)
        if seen.small:
            known: Floats = seen.contacts.distances[self._rows]
            return known
        vectors = frame.positions[self.j] - frame.positions[self.i]
        if frame.pbc.any():
            vectors = find_mic(vectors, frame.cell, frame.pbc)[0]
        lengths: Floats = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        return lengths

    def largest_change(self, frame: Frame, reference: Floats) -> tuple[float, int]:
        """Return the largest deviation of a length from `reference` (n_bonds,), Å, and its bond."""
        change: tuple[float, int] = kernels.largest_change(*self._values(frame), reference)
        return change

    def largest_stretch(self, frame: Frame, reference: Floats) -> float:
        """Return the largest length in units of `reference` (n_bonds,), Å."""
        stretch: float = kernels.largest_ratio(*self._values(frame), reference)[0]
        return stretch

    def _values(self, frame: Frame) -> tuple[Floats, Ints]:
        """Return distances, Å, and the indices of the bonds among them."""
        seen = frame_quantities(frame)
        if seen.small:
            return seen.contacts.distances, self._rows
        return self.lengths(frame), np.arange(len(self.i))

    def atoms(self, bond: int) -> tuple[int, int]:
        """Return the two atoms of a bond."""
        return int(self.i[bond]), int(self.j[bond])


class BondIntegrity:
    """Largest change of a bond length from the reference, Å.

    max |‖x_i − x_j‖ − b_ij| over the bonds of the first frame (Fu et al., "Forces are not enough",
    TMLR 2023, arXiv 2210.07237). b_ij is the mean length in a reference trajectory; without one it
    is the length in the first frame, which must then be relaxed or at least chemically sensible.
    Bonds with metals are not checked, because neighbours of a metal atom may change.

    Args:
        first: frame that defines the bonds.
        reference: frames that define the bond lengths; the first frame by default.
        allowed: bonds that may break.

    Raises:
        PrincipleUnavailable: when the first frame has no covalent bonds.
    """

    name = "bond"
    unit = "Å"
    cost: Cost = "free"

    def __init__(
        self,
        first: Frame,
        reference: Sequence[Frame] = (),
        allowed: AllowedBonds | None = None,
    ) -> None:
        self._bonds = Bonds(first, allowed)
        lengths = [self._bonds.lengths(frame) for frame in reference or (first,)]
        self._length = np.mean(lengths, axis=0)

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        if not frame_quantities(frame).placed:
            return Deviation(self.name, self.unit, np.nan)
        change, worst = self._bonds.largest_change(frame, self._length)
        return Deviation(self.name, self.unit, change, self._bonds.atoms(worst))


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
        PrincipleUnavailable: when the card states no ranges.
    """

    name = "contact"
    unit = "Å"
    cost: Cost = "free"

    def __init__(self, ranges: Mapping[str, tuple[float, float]], first: Frame) -> None:
        if not ranges:
            raise PrincipleUnavailable(
                "the calculator does not state which distances its training data covers"
            )
        channels = ElementPairChannels(first.numbers)
        self.unseen = tuple(name for name in channels.names if name not in ranges)
        shortest = [ranges[name][0] if name in ranges else -np.inf for name in channels.names]
        self._shortest = _Limits(np.array(shortest), channels)

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        seen = frame_quantities(frame)
        if not seen.placed:
            return Deviation(self.name, self.unit, np.nan)
        worst = _worst(seen.contacts, self._shortest.of(seen.contacts), sign=-1.0)
        return Deviation(self.name, self.unit, *worst)


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
            raise PrincipleUnavailable(
                "the calculator does not state which distances its training data covers"
            )
        if not frame_quantities(first).small:
            raise PrincipleUnavailable(
                "only distances within one small molecule have an upper limit"
            )
        channels = ElementPairChannels(first.numbers)
        longest = [ranges.get(name, (0.0, np.inf))[1] for name in channels.names]
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


def _worst(pairs: Contacts, limits: Floats, *, sign: float) -> tuple[float, tuple[int, ...]]:
    """Return the largest positive sign · (distance − limit) and its atoms; (0, ()) if none is."""
    excess, worst = kernels.largest_excess(pairs.distances, limits, sign)
    if not excess > 0:
        return 0.0, ()
    return excess, (int(pairs.i[worst]), int(pairs.j[worst]))
