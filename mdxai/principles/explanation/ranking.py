"""Ranking principles: a stronger bond carries more relevance, a non-bonded pair the least."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from ase.data import covalent_radii

from mdxai.attribution import Attribution
from mdxai.frame import Floats, Frame, Ints
from mdxai.principles.bond_enthalpies import SINGLE
from mdxai.principles.motion.structure import bonds_of
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.statistics import ElementPairChannels

CLASSES = np.array([0.0, 1.0, 1.5, 2.0, 3.0])  # none, single, aromatic, double, triple
PAULING = 0.71  # Å
WEAK = 0.1  # eV, 4 k_B T at 300 K, a fortieth of a C–H bond: shares of less say nothing
TIE = 0.01  # eV: bonds that differ by less carry the same
MOST_AT_ONCE = 2000  # comparisons made one by one; beyond this, sorting is faster


def pauling_orders(frame: Frame) -> tuple[Ints, Ints, Floats]:
    """Return the bonds i < j of a frame and their orders, 10^((r₁ − r)/0.71 Å).

    r₁ is the sum of the covalent radii (Cordero et al. 2008, as in ASE). Source: Pauling, J. Am.
    Chem. Soc. 69, 542 (1947). Relax the structure first: 0.1 Å changes the order of a single bond
    by 0.3 to 0.4.
    """
    i, j = bonds_of(frame)
    vectors = frame.positions[j] - frame.positions[i]
    if frame.pbc.any():
        from ase.geometry import find_mic

        vectors = find_mic(vectors, frame.cell, frame.pbc)[0]
    single = covalent_radii[frame.numbers[i]] + covalent_radii[frame.numbers[j]]
    orders: Floats = 10 ** ((single - np.linalg.norm(vectors, axis=1)) / PAULING)
    return i, j, orders


def discordance(strengths: Floats, classes: Floats, tie: float = 0.0) -> tuple[int, int]:
    """Return how many pairs of samples of different class are wrongly ordered, and of how many.

    Strengths that differ by `tie` or less are not wrongly ordered.

    1 − 2·wrong/all is Goodman and Kruskal's γ, or Kendall's τ without ties in the classes.
    """
    return _wrong_and_all(strengths, _comparisons(classes), tie)


Comparisons = list[tuple[Ints, Ints]]  # rows of a lower class, rows of a higher one


def _comparisons(classes: Floats, among: Ints | None = None) -> Comparisons:
    rows = np.arange(len(classes)) if among is None else among
    parts = [rows[classes[rows] == value] for value in np.unique(classes[rows])]
    return list(combinations(parts, 2))


def _one_by_one(comparisons: Comparisons) -> tuple[Ints, Ints] | None:
    """Return all combinations of a lower and a higher row; None if there are too many."""
    if sum(len(low) * len(high) for low, high in comparisons) > MOST_AT_ONCE:
        return None
    none = np.empty(0, dtype=np.int64)
    return (
        np.concatenate([none, *(np.repeat(low, len(high)) for low, high in comparisons)]),
        np.concatenate([none, *(np.tile(high, len(low)) for low, high in comparisons)]),
    )


def _wrong_and_all(strengths: Floats, comparisons: Comparisons, tie: float) -> tuple[int, int]:
    wrong = total = 0
    for low, high in comparisons:
        weaker = np.sort(strengths[low])
        wrong += int(
            (len(low) - np.searchsorted(weaker, strengths[high] + tie, side="right")).sum()
        )
        total += len(low) * len(high)
    return wrong, total


@dataclass(frozen=True, slots=True)
class PairKinds:
    """Bond classes of the pairs of an explanation, and which pairs are to be compared.

    classes: (n_pairs,) bond classes. bonded: rows of bonds. comparisons: rows of the same element
    pair that differ in class. one_by_one: the same as two columns of rows, if there are few.
    single: rows of single bonds and their element pairs. counts: (n_channels,) number of single
    bonds; NaN if there are none.
    """

    classes: Floats
    bonded: Ints
    comparisons: Comparisons
    one_by_one: tuple[Ints, Ints] | None
    single: tuple[Ints, Ints]
    counts: Floats

    def discordance(self, strengths: Floats) -> tuple[int, int]:
        """Return how many comparisons strengths (n_pairs,) order wrongly, and of how many."""
        if self.one_by_one is None:
            return _wrong_and_all(strengths, self.comparisons, TIE)
        low, high = self.one_by_one
        return int(np.count_nonzero(strengths[low] > strengths[high] + TIE)), len(low)


class BondClasses:
    """Bond class of every pair of atoms: 0 (none), 1, 1.5, 2 or 3.

    Args:
        first: frame that defines the bonds and, by Pauling's formula, their orders.

    Attributes:
        i, j: (n_bonds,) atoms of the bonds.
        names: of the element pairs.

    Raises:
        PrincipleUnavailable: when the frame has no bonds.
    """

    _not_state = ("_last",)  # follows from the pairs of the next explanation

    def __init__(self, first: Frame) -> None:
        self.i, self.j, orders = pauling_orders(first)
        if not len(self.i):
            raise PrincipleUnavailable("the first frame has no covalent bonds")
        nearest = np.abs(orders[:, None] - CLASSES[1:]).argmin(axis=1)
        self._channels = ElementPairChannels(first.numbers)
        self.names = self._channels.names
        self._n = first.n_atoms
        keys = self.i * self._n + self.j
        order = np.argsort(keys)
        self._keys, self._classes = keys[order], CLASSES[1:][nearest][order]
        self._last: tuple[Ints, Ints, Ints, PairKinds] | None = None

    def of(self, attribution: Attribution) -> PairKinds:
        """Return the kinds of its pairs; the last answer is cached."""
        i, j, last = attribution.pairs.i, attribution.pairs.j, self._last
        if last is not None and i is last[0] and j is last[1]:  # from the same neighbour list
            return last[3]
        wanted = i * self._n + j
        known = last is not None and np.array_equal(wanted, last[2])
        kinds = last[3] if known and last else self._kinds(attribution, wanted)
        self._last = i, j, wanted, kinds
        return kinds

    def _kinds(self, attribution: Attribution, wanted: Ints) -> PairKinds:
        rows = np.searchsorted(self._keys, wanted).clip(max=len(self._keys) - 1)
        classes: Floats = np.where(self._keys[rows] == wanted, self._classes[rows], 0.0)
        channels = self._channels.of(attribution.pairs.i, attribution.pairs.j)
        comparisons: Comparisons = []
        for k in np.unique(channels):
            comparisons += _comparisons(classes, np.flatnonzero(channels == k))
        single = np.flatnonzero(classes == 1.0)
        counts = np.bincount(channels[single], minlength=len(self.names)).astype(np.float64)
        counts[counts == 0] = np.nan
        few = _one_by_one(comparisons)
        bonded = np.flatnonzero(classes > 0)
        return PairKinds(classes, bonded, comparisons, few, (single, channels[single]), counts)


class BondOrderRanking:
    """Share of comparisons in which the weaker bond of the same elements has more strength.

    For every element pair, |two-body relevance| should rank triple before double before aromatic
    before single bonds before non-bonded pairs. 0 if every stronger bond carries more, ½ if
    strength says nothing about bonding; (1 − τ)/2 in terms of Kendall's rank correlation without
    ties. Strengths that differ by 0.01 eV or less tie, and are not wrong. Names the atoms of the
    bond with the least strength. Source: Esders et al. 2025.

    Args:
        classes: of the pairs of atoms; fixed, so bonds must not break or form.
    """

    name = "bond_order"
    unit = "share"
    cost: Cost = "attribution"

    def __init__(self, classes: BondClasses) -> None:
        self._classes = classes

    def deviate(self, frame: Frame, attribution: Attribution | None) -> Deviation | None:
        if attribution is None:
            return None
        kinds, strengths = self._classes.of(attribution), attribution.profile.strengths
        wrong, total = kinds.discordance(strengths)
        if not total:
            return None
        if not math.isfinite(strengths.sum()):
            return Deviation(self.name, self.unit, np.nan)
        weakest = kinds.bonded[strengths[kinds.bonded].argmin()]
        atoms = (int(attribution.pairs.i[weakest]), int(attribution.pairs.j[weakest]))
        return Deviation(self.name, self.unit, float(wrong / total), atoms)


def bonded_strengths(classes: BondClasses, attribution: Attribution) -> Floats:
    """Return the mean strength (eV) of each element pair's single bonds; NaN if it has none."""
    kinds = classes.of(attribution)
    rows, channels = kinds.single
    strengths = attribution.profile.strengths[rows]
    sums = np.bincount(channels, strengths, minlength=len(kinds.counts))
    means: Floats = sums / kinds.counts
    return means


class SpeciesRanking:
    """Share of comparisons in which the bonds of lower enthalpy have more strength.

    Compares the mean |two-body relevance| of the single bonds of each element pair with average
    bond enthalpies. Kinds of bonds whose enthalpies differ by less than a tenth are not compared:
    averages do not order them reliably.

    Args:
        classes: of the pairs of atoms.
        first: a frame of the system.

    Raises:
        PrincipleUnavailable: when fewer than two kinds of bonds can be compared.
    """

    name = "species_ranking"
    unit = "share"
    cost: Cost = "attribution"

    def __init__(self, classes: BondClasses, first: Frame) -> None:
        self._classes = classes
        present = {
            "-".join(sorted((first.symbols[a], first.symbols[b])))
            for a, b in zip(classes.i, classes.j, strict=True)
        }
        names = classes.names
        ordered = [
            (names.index(weak), names.index(strong))
            for weak in present & SINGLE.keys()
            for strong in present & SINGLE.keys()
            if SINGLE[strong] > 1.1 * SINGLE[weak]
        ]
        if not ordered:
            raise PrincipleUnavailable(
                "no two kinds of bonds have known enthalpies that differ by more than a tenth"
            )
        self._ordered = ordered

    def deviate(self, frame: Frame, attribution: Attribution | None) -> Deviation | None:
        if attribution is None:
            return None
        strengths = bonded_strengths(self._classes, attribution).tolist()
        compared = [(strengths[weak], strengths[strong]) for weak, strong in self._ordered]
        known = [weak > strong for weak, strong in compared if not math.isnan(weak + strong)]
        return Deviation(self.name, self.unit, sum(known) / len(known)) if known else None


class SpeciesDrift:
    """Largest relative change of an element pair's bonded strength since the start of the run.

    max(0, |⟨s⟩_now − ⟨s⟩_start| − σ)/max(⟨s⟩_start, 0.1 eV) with ⟨s⟩_start and σ the mean and the
    standard deviation of the first 20 explained frames and ⟨s⟩_now an exponential mean over the
    last 20. The model does not change during a run, so the relevance of the same bonds should not
    either, beyond what they vary by from frame to frame. Where a bond carries next to nothing, a
    third of it is nothing, too. Names the atoms of the bond that changed most.
    """

    name = "species_drift"
    unit = "1"
    cost: Cost = "attribution"
    FRAMES = 20

    def __init__(self, classes: BondClasses) -> None:
        self._classes, self._n = classes, 0
        self._start = self._now = self._squares = np.zeros(len(classes.names))
        self._bonds: dict[tuple[int, int], float] = {}  # mean strengths at the start, eV

    def deviate(self, frame: Frame, attribution: Attribution | None) -> Deviation | None:
        if attribution is None:
            return None
        strengths = bonded_strengths(self._classes, attribution)
        self._n += 1
        if self._n <= self.FRAMES:
            self._learn(strengths, attribution)
            return None
        # If all bonds of a kind are beyond the cutoff, other principles report that they broke.
        known = ~np.isnan(strengths)
        self._now = self._now + np.where(known, strengths - self._now, 0.0) / self.FRAMES
        usual = np.sqrt(self._squares / (self.FRAMES - 1))
        change = np.abs(self._now - self._start) - usual
        change = np.where(change < 0, 0.0, change) / np.maximum(self._start, WEAK)
        if np.isnan(change[~np.isnan(self._start)]).any():
            return Deviation(self.name, self.unit, np.nan)
        if np.isnan(change).all():
            return Deviation(self.name, self.unit, 0.0)
        worst = int(np.nanargmax(change))
        return Deviation(
            self.name, self.unit, float(change[worst]), self._example(worst, attribution)
        )

    def _learn(self, strengths: Floats, attribution: Attribution) -> None:
        change = strengths - self._start
        self._start = self._now = self._start + change / self._n
        self._squares = self._squares + change * (strengths - self._start)
        for bond, strength in self._each(attribution, None):
            before = self._bonds.get(bond, 0.0)
            self._bonds[bond] = before + (strength - before) / self._n

    def _each(
        self, attribution: Attribution, channel: int | None
    ) -> Iterator[tuple[tuple[int, int], float]]:
        """Yield the single bonds of an element pair, or of all, and their strengths, eV."""
        rows, channels = self._classes.of(attribution).single
        pairs, strengths = attribution.pairs, attribution.profile.strengths
        for row, kind in zip(rows.tolist(), channels.tolist(), strict=True):
            if channel is None or kind == channel:
                yield (int(pairs.i[row]), int(pairs.j[row])), float(strengths[row])

    def _example(self, channel: int, attribution: Attribution) -> tuple[int, ...]:
        changes = {
            bond: abs(strength - self._bonds.get(bond, 0.0))
            for bond, strength in self._each(attribution, channel)
        }
        return max(changes, key=lambda bond: changes[bond], default=())
