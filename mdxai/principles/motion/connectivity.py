"""Principles of connectivity: bonds neither break nor form, molecules and X–H bonds stay intact.

Bonds with metals are not checked, because neighbours of a metal atom may change. Lengths are in
units of the sum of ASE's covalent radii, so that the same limits hold for all elements. Between the
length that forms a bond and the length that breaks it, a pair keeps its state, so that vibrations
count as no change. One frame in 2 fs is checked: no bond breaks faster, and `BondIntegrity` checks
every frame.
"""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mdxai.attribution import Attribution
from mdxai.frame import Bools, Floats, Frame, Ints
from mdxai.principles.allowed_reactions import AllowedBonds
from mdxai.principles.frame_quantities import CONTACT_RANGE, Contacts, frame_quantities
from mdxai.principles.motion.structure import BONDED, METALS, Bonds, bonds_of
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.principles.running_statistics import Every
from mdxai.statistics import _kernels as kernels

FORMED = 1.15  # times the sum of covalent radii: atoms closer than this form a bond
BROKEN = 1.6  # times that sum: beyond this a bond is broken
LOOK = 2.0  # fs between frames that are checked


class _Sums:
    """The sum of covalent radii of every pair, Å; −inf for metals, which are never bonded."""

    _not_state = ("_of", "_sums")  # found again from the pairs of any frame

    def __init__(self, numbers: Ints) -> None:
        self._radii = covalent_radii[numbers].astype(np.float64)
        self._radii[np.isin(numbers, list(METALS))] = -np.inf
        self._of: Ints | None = None

    def of(self, pairs: Contacts | Bonds) -> Floats:
        if self._of is not pairs.i:  # a small system has the same pairs in every frame
            self._of = pairs.i
            self._sums: Floats = self._radii[pairs.i] + self._radii[pairs.j]
        return self._sums


class BrokenBonds:
    """Number of bonds of the first frame that are broken: beyond 1.6 times the sum of the radii.

    C–C bonds break at 2.43 Å, C–H at 1.71 Å, O–H at 1.55 Å. A broken bond counts until it is
    shorter than 1.25 times that sum again. The atoms named are those of the most stretched bond.

    Args:
        first: frame that defines the bonds.
        allowed: bonds that may break.

    Raises:
        PrincipleUnavailable: when it has no covalent bonds.
    """

    name = "broken_bonds"
    unit = "bonds"
    cost: Cost = "free"

    def __init__(self, first: Frame, allowed: AllowedBonds | None = None) -> None:
        self._bonds = Bonds(first, allowed)
        self._sums = _Sums(first.numbers).of(self._bonds)
        self._broken = np.zeros(len(self._bonds.i), dtype=bool)
        self._look = Every(LOOK)

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        if self._look.due(frame.time):
            self._found = self._count(frame)
        return self._found

    def _count(self, frame: Frame) -> Deviation:
        if not frame_quantities(frame).placed:
            return Deviation(self.name, self.unit, np.nan)
        if self._bonds.largest_stretch(frame, self._sums) <= BONDED:  # the usual case
            self._broken[:] = False
            return Deviation(self.name, self.unit, 0.0)
        stretch = self._bonds.lengths(frame) / self._sums
        self._broken = (stretch > BROKEN) | (self._broken & (stretch > BONDED))
        count = int(np.count_nonzero(self._broken))
        if not count:
            return Deviation(self.name, self.unit, 0.0)
        worst = int(np.argmax(np.where(self._broken, stretch, 0.0)))
        return Deviation(self.name, self.unit, float(count), self._bonds.atoms(worst))


class FormedBonds:
    """Number of bonds absent in the first frame: closer than 1.15 times the sum of the radii.

    A new bond counts until it is longer than 1.25 times that sum. The atoms named are those of the
    shortest new bond, relative to the sum of its radii.

    Args:
        first: frame that defines the bonds.
        allowed: bonds that may form.

    Raises:
        PrincipleUnavailable: when fewer than two atoms are non-metals.
    """

    name = "formed_bonds"
    unit = "bonds"
    cost: Cost = "free"

    def __init__(self, first: Frame, allowed: AllowedBonds | None = None) -> None:
        if np.count_nonzero(~np.isin(first.numbers, list(METALS))) < 2:
            raise PrincipleUnavailable("fewer than two atoms can form a covalent bond")
        self._sums, self._allowed = _Sums(first.numbers), allowed
        self._n_atoms = first.n_atoms
        pairs = frame_quantities(first).contacts
        self._known = self._keys(pairs, self._near(pairs))
        self._formed = self._known[:0]
        self._sound, self._of = (
            b"",
            first.numbers[:0],
        )  # close pairs of a sound frame, and the pairs that this mask is for
        self._look = Every(LOOK)

    def _near(self, pairs: Contacts) -> Bools:
        near: Bools = pairs.distances < BONDED * self._sums.of(pairs)
        return near

    def _keys(self, pairs: Contacts, near: Bools | Ints) -> Ints:
        return pairs.i[near] * self._n_atoms + pairs.j[near]

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        if self._look.due(frame.time):
            self._found = self._count(frame)
        return self._found

    def _count(self, frame: Frame) -> Deviation:
        if not frame_quantities(frame).placed:
            return Deviation(self.name, self.unit, np.nan)
        pairs = frame_quantities(frame).contacts
        close = self._near(pairs)
        if pairs.i is self._of and close.tobytes() == self._sound:  # the usual case
            self._formed = self._known[:0]
            return Deviation(self.name, self.unit, 0.0)
        near = np.flatnonzero(close)
        keys = self._keys(pairs, near)
        if keys.tobytes() == self._known.tobytes():
            self._sound, self._of = close.tobytes(), pairs.i
            self._formed = self._known[:0]
            return Deviation(self.name, self.unit, 0.0)
        new = ~np.isin(keys, self._known)
        if self._allowed:
            new &= ~self._allowed.allow(pairs.i[near], pairs.j[near])
        near, keys = near[new], keys[new]
        ratio = pairs.distances[near] / self._sums.of(pairs)[near]
        bonded = (ratio < FORMED) | np.isin(keys, self._formed)
        self._formed = keys[bonded]
        if not bonded.any():
            return Deviation(self.name, self.unit, 0.0)
        worst = near[np.argmin(ratio)]
        atoms = (int(pairs.i[worst]), int(pairs.j[worst]))
        return Deviation(self.name, self.unit, float(np.count_nonzero(bonded)), atoms)


class Fragments:
    """Number of fragments beyond those of the first frame.

    Fragments are the connected components of the graph of all pairs closer than 1.6 times the sum
    of their covalent radii, so an atom that moves from one partner to another makes none. The atoms
    named are those of the smallest fragment.

    Args:
        first: frame that defines the number of fragments.
        allowed: bonds that may break; the fragments they leave count as one.

    Raises:
        PrincipleUnavailable: when it has no covalent bonds.
    """

    name = "fragments"
    unit = "pieces"
    cost: Cost = "free"

    def __init__(self, first: Frame, allowed: AllowedBonds | None = None) -> None:
        bonds = Bonds(first)
        self._sums = _Sums(first.numbers)
        may_break = allowed.allow(bonds.i, bonds.j) if allowed else np.zeros(len(bonds.i), bool)
        self._always = bonds.i[may_break], bonds.j[may_break]
        self._near, self._of = (
            b"",
            first.numbers[:0],
        )  # close pairs, and the pairs that this mask is for
        self._graph = b""
        self._pieces: int | None = None
        self._found = Deviation(self.name, self.unit, 0.0)
        self._look = Every(LOOK)
        self.deviate(first)

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        if not frame_quantities(frame).placed:
            return Deviation(self.name, self.unit, np.nan)
        if not self._look.due(frame.time):
            return self._found
        pairs = frame_quantities(frame).contacts
        near = pairs.distances < BROKEN * self._sums.of(pairs)
        if pairs.i is self._of and near.tobytes() == self._near:
            return self._found
        self._near, self._of = near.tobytes(), pairs.i
        i, j = (
            np.concatenate([ends[near], always])
            for ends, always in zip((pairs.i, pairs.j), self._always, strict=True)
        )
        graph = i.tobytes() + j.tobytes()
        if graph != self._graph:
            self._graph = graph
            self._found = self._count(i, j, frame.n_atoms)
        return self._found

    def _count(self, i: Ints, j: Ints, n_atoms: int) -> Deviation:
        graph = coo_array((np.ones(len(i)), (i, j)), shape=(n_atoms, n_atoms))
        pieces, labels = connected_components(graph, directed=False)
        if self._pieces is None:
            self._pieces = pieces
        more = max(pieces - self._pieces, 0)
        smallest = np.flatnonzero(labels == np.argmin(np.bincount(labels)))
        atoms = tuple(smallest.tolist()) if more else ()
        return Deviation(self.name, self.unit, float(more), atoms)


class LoneHydrogen:
    """By how much a hydrogen is farther from its nearest heavy atom than any at the start, Å.

    A hydrogen more than 2.5 Å from every heavy atom is lost (the criterion of MLIPAudit). A bound
    one is at about 1.1 Å, so a lost one deviates by 1.4 Å. Distances beyond 4 Å count as 4 Å.
    Hydrogens without a heavy atom within 2.5 Å in the first frame (H₂) are not checked.

    Args:
        first: frame to compare with.
        allowed: bonds that may break: their hydrogens are not checked.

    Raises:
        PrincipleUnavailable: when no hydrogen is bound to a heavy atom.
    """

    name = "lone_hydrogen"
    unit = "Å"
    cost: Cost = "free"
    LOST = 2.5  # Å

    def __init__(self, first: Frame, allowed: AllowedBonds | None = None) -> None:
        self._light = first.numbers == 1
        nearest = self._nearest(first)
        watched = self._light & (nearest <= self.LOST)
        if allowed:
            i, j = bonds_of(first)
            free = allowed.allow(i, j)
            watched[np.concatenate([i[free], j[free]])] = False
        self._watched = np.flatnonzero(watched)
        if not len(self._watched):
            raise PrincipleUnavailable("no hydrogen is bound to a heavy atom")
        self._start = float(nearest[self._watched].max())
        self._look = Every(LOOK)

    def _nearest(self, frame: Frame) -> Floats:
        """Return the distance of each hydrogen to the nearest heavy atom, at most 4 Å."""
        pairs = frame_quantities(frame).contacts
        nearest = np.full(frame.n_atoms, CONTACT_RANGE)
        kernels.nearest_heavy(pairs.i, pairs.j, pairs.distances, self._light, nearest)
        return nearest

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        if self._look.due(frame.time):
            self._found = self._farthest(frame)
        return self._found

    def _farthest(self, frame: Frame) -> Deviation:
        if not frame_quantities(frame).placed:
            return Deviation(self.name, self.unit, np.nan)
        nearest = self._nearest(frame)[self._watched]
        worst = int(nearest.argmax())
        value = max(float(nearest[worst]) - self._start, 0.0)
        return Deviation(self.name, self.unit, value, (int(self._watched[worst]),))
