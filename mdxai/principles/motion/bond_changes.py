"""What has become of the bonds of the first frame: whole, broken, or exchanged for others."""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii
from scipy.sparse import coo_array

from mdxai.frame import Bools, Floats, Frame, Ints
from mdxai.principles.allowed_reactions import AllowedBonds
from mdxai.principles.frame_quantities import Contacts, frame_quantities
from mdxai.principles.motion.networks import METALS, covalent_network_of
from mdxai.principles.motion.structure import (
    BONDED,
    Bonds,
    bonds_of,
    is_bond_of_hydrogen,
)
from mdxai.principles.principle import PrincipleUnavailable
from mdxai.principles.running_statistics import Every

FORMED = 1.15  # times the sum of covalent radii: atoms closer than this form a bond
BROKEN = 1.6  # times that sum: beyond this a bond is broken
PARTNER = 1.5  # times that sum: in a transition state an atom is this close to its new partner
COLLAPSED = 0.7  # times that sum: no bond is that short, triple bonds are at 0.78
LOOK = 2.0  # fs between frames that are checked
OPENING = 0.1  # Å, twice the vibration of a double bond at 300 K
SETTLING = 100.0  # fs; vibrations of adsorbed atoms take as long


class RadiiSums:
    """The sum of covalent radii of every pair, Å; −inf for metals, which are never bonded."""

    _not_state = ("_of", "_sums")  # found again from the pairs of any frame

    def __init__(self, numbers: Ints) -> None:
        self._radii = covalent_radii[numbers].astype(np.float64)
        self._radii[np.isin(numbers, list(METALS))] = -np.inf
        self._of: Ints | None = None

    def of(self, pairs: Contacts | Bonds) -> Floats:
        """Return the sum of each pair."""
        if self._of is not pairs.i:  # a small system has the same pairs in every frame
            self._of = pairs.i
            self._sums: Floats = self._radii[pairs.i] + self._radii[pairs.j]
        return self._sums


class Surface:
    """The metal that other atoms are bound to."""

    def __init__(self, numbers: Ints) -> None:
        self._metal: Bools = np.isin(numbers, list(METALS))
        self.is_there = bool(self._metal.any())
        self._radii = covalent_radii[numbers].astype(np.float64)

    def partners(self, frame: Frame) -> tuple[Ints, Floats]:
        """Return the nearest metal (−1: none) of all non-metals, and how far, in sums of radii.

        A metal within 0.7 counts as none: that is no bond but a collapse.
        """
        partner = np.full(len(self._metal), -1)
        nearest = np.full(len(self._metal), np.inf)
        if not self.is_there:
            return partner, nearest
        pairs = frame_quantities(frame).contacts
        mixed = np.flatnonzero(self._metal[pairs.i] != self._metal[pairs.j])
        i, j = pairs.i[mixed], pairs.j[mixed]
        lengths = pairs.distances[mixed] / (self._radii[i] + self._radii[j])
        farthest_first = np.argsort(-lengths)  # what is written last stays
        i, j, lengths = i[farthest_first], j[farthest_first], lengths[farthest_first]
        atom, metal = np.where(self._metal[i], (j, i), (i, j))
        partner[atom], nearest[atom] = metal, lengths
        none = nearest < COLLAPSED
        partner[none], nearest[none] = -1, np.inf
        return partner, nearest

    def holds(self, frame: Frame, bonds: Bonds, settled: Bools) -> Bools:
        """Return the bonds (n_bonds,) of which a metal binds both atoms.

        settled: (n_bonds,) bonds that have been broken for long.
        """
        _, nearest = self.partners(frame)
        limit = np.where(settled, BONDED, PARTNER)
        found: Bools = (nearest[bonds.i] < limit) & (nearest[bonds.j] < limit)
        return found


class BondChanges:
    """Follows the bonds of the first frame, and those that form.

    Lengths are in units of the sum of ASE's covalent radii. A bond breaks beyond 1.6 and is whole
    again within 1.25; a new one forms within 1.15 and ends beyond 1.25. In between a pair keeps its
    state, so that vibrations count as no change. One frame in 2 fs is looked at: no bond breaks
    faster.

    A bond is *replaced* where one of its atoms has come within 1.5 of a new partner, as in the
    transition state of a proton transfer or a substitution; within 1.25 where both had a common
    partner in the first frame, so that a bent angle is none. Matter that collapses looks similar,
    so the account must balance: that atom has one new partner and has lost one old; no atom
    involved has more than one bond beyond those of the first frame, or a partner within 0.7; and
    no other bond has broken.

    On a metal a bond is replaced where both of its atoms are bound to the metal instead: within 1.5
    while it breaks, within 1.25 once it has been broken for 100 fs (atoms swing about the places
    that they have fallen into), and not within 0.7. The way back, two atoms bound to a
    metal in the first frame that form a bond with each other, is *associated*.

    Args:
        first: frame that defines the bonds.
        allowed: bonds that may break and form.

    Attributes:
        broken: (n_bonds,) bonds that have broken without being replaced.
        exchanged: (n_bonds,) bonds that were replaced by one that has formed.
        shift: the first such exchange: old partner, atom that moved, new partner; or ().
        i, j, lengths: of bonds that have formed, whatever their part in an exchange.
        spare: (n_formed,) whether a formed bond replaces none and is not associated.
        associated: (n_formed,) formed bonds between atoms that were bound to a metal.
    """

    _not_state = ("_sound", "_sound_of")

    def __init__(self, first: Frame, allowed: AllowedBonds | None = None) -> None:
        self._n_atoms, self._numbers, self._allowed = first.n_atoms, first.numbers, allowed
        self._network = covalent_network_of(first)
        self._sums = RadiiSums(first.numbers)
        self._bonds, self._why_none = _bonds_to_keep(first, allowed)
        n_bonds = 0 if self._bonds is None else len(self._bonds.i)
        self._bond_sums = (
            np.empty(0) if self._bonds is None else RadiiSums(first.numbers).of(self._bonds)
        )
        pairs = frame_quantities(first).contacts
        self._known = self._keys(pairs, np.flatnonzero(self._close(pairs)))
        own_i, own_j = bonds_of(first)
        self._own = np.sort(own_i * self._n_atoms + own_j)
        self._angles = _ends_of_angles(own_i, own_j, self._n_atoms)
        self._surface = Surface(first.numbers)
        self._apart_since = np.full(n_bonds, np.inf)
        self._first_lengths = np.empty(0) if self._bonds is None else self._bonds.lengths(first)
        self._held, lengths = self._surface.partners(first)
        self._held[(lengths > BONDED) | self._network] = -1
        self._usual_count = self._coordination(own_i, own_j)
        self.broken = np.zeros(n_bonds, dtype=bool)
        self.exchanged = np.zeros(n_bonds, dtype=bool)
        self.shift: tuple[int, ...] = ()
        self._none_formed()
        self._sound, self._sound_of = b"", first.numbers[:0]
        self._look = Every(LOOK)

    def bonds_to_keep(self) -> Bonds:
        """Return the bonds that are followed.

        Raises:
            PrincipleUnavailable: where there are none.
        """
        if self._bonds is None:
            raise PrincipleUnavailable(self._why_none)
        return self._bonds

    @property
    def may_associate(self) -> bool:
        """Whether two atoms or more were bound to a metal in the first frame."""
        return int(np.count_nonzero(self._held >= 0)) > 1

    def react(self, frame: Frame) -> bool:
        """Whether bonds were exchanged or formed on a metal, or begin to break on one."""
        if self.exchanged.any() or self.associated.any():
            return True
        bonds = self._bonds
        if bonds is None or not self._surface.is_there:
            return False
        opening = bonds.lengths(frame) - self._first_lengths > OPENING
        return bool((opening & self._surface.holds(frame, bonds, self._settled(frame))).any())

    def look(self, frame: Frame) -> None:
        """Take in a frame, where one is due; all its positions are finite."""
        if not self._look.due(frame.time):
            return
        self._follow_formed(frame)
        self._follow_broken(frame)

    def lengths(self, frame: Frame) -> Floats:
        """Return (n_bonds,) lengths in units of the sum of the radii."""
        lengths: Floats = self.bonds_to_keep().lengths(frame) / self._bond_sums
        return lengths

    def _follow_broken(self, frame: Frame) -> None:
        self.shift = ()
        bonds = self._bonds
        if bonds is None:
            self._associate()
            return
        usual = bonds.largest_stretch(frame, self._bond_sums) <= BONDED
        if usual and not len(self.i):
            self.broken[:] = self.exchanged[:] = False
            self._apart_since[:] = np.inf
            return
        lengths = self.lengths(frame)
        self._apart_since[lengths <= BROKEN] = np.inf
        self._apart_since[(lengths > BROKEN) & np.isinf(self._apart_since)] = frame.time
        apart = (lengths > BROKEN) | ((self.broken | self.exchanged) & (lengths > BONDED))
        self.broken = apart & ~self.replaced(frame) if apart.any() else apart
        self._match(frame, bonds, lengths)
        self._associate()

    def _match(self, frame: Frame, bonds: Bonds, lengths: Floats) -> None:
        """Find the bonds of which an atom has formed another bond instead."""
        partner, new_length = np.full(self._n_atoms, -1), np.full(self._n_atoms, np.inf)
        sound = np.flatnonzero(self.formed_lengths >= COLLAPSED)
        for k in sound[np.argsort(-self.formed_lengths[sound])]:  # the shortest is what stays
            for atom, other in ((self.i[k], self.j[k]), (self.j[k], self.i[k])):
                partner[atom], new_length[atom] = other, self.formed_lengths[k]
        gained = (partner[bonds.i] >= 0) | (partner[bonds.j] >= 0)
        handed_on = np.zeros(len(lengths), dtype=bool)  # a hydrogen has one bond: the shorter
        for ends in (bonds.i, bonds.j):
            handed_on |= (self._numbers[ends] == 1) & (lengths > new_length[ends])
        if (lengths > BONDED).any():
            on_metal = self._surface.holds(frame, bonds, self._settled(frame))
            gained |= on_metal
            metals, _ = self._surface.partners(frame)
            for end in np.concatenate([bonds.i[on_metal], bonds.j[on_metal]]):
                partner[end] = metals[end] if partner[end] < 0 else partner[end]
        self.exchanged = (gained & (lengths > BONDED)) | handed_on
        if self.broken.any():  # then nothing that formed beside it is taken for chemistry
            self.exchanged[:] = False
        ends = np.zeros(self._n_atoms, dtype=bool)
        ends[bonds.i[self.exchanged]] = ends[bonds.j[self.exchanged]] = True
        self.spare = ~(ends[self.i] | ends[self.j])
        if self.exchanged.any():
            worst = int(np.argmax(np.where(self.exchanged, lengths, 0.0)))
            # Where both ends have a new partner, the lighter one is said to have moved.
            moved, left = sorted(
                bonds.atoms(worst), key=lambda atom: (partner[atom] < 0, self._numbers[atom])
            )
            self.shift = (left, moved, int(partner[moved]))

    def _associate(self) -> None:
        """Find the formed bonds between atoms that came from a metal."""
        once = self._coordination(self.i, self.j) == 1
        free = (self._held >= 0) & once
        self.associated = free[self.i] & free[self.j] & (self.formed_lengths >= COLLAPSED)
        if self._allowed:
            self.associated &= ~self._allowed.allow(self.i, self.j)
        if self.broken.any():
            self.associated[:] = False
        self.spare &= ~self.associated
        if self.associated.any() and not self.exchanged.any():
            k = int(np.argmax(self.associated))
            atom, other = int(self.i[k]), int(self.j[k])
            self.shift = (int(self._held[atom]), atom, other)

    def replaced(self, frame: Frame, stretched: Bools | None = None) -> Bools:
        """Return which bonds (n_bonds,) have an atom that is close to a new partner.

        Args:
            frame: where to look.
            stretched: (n_bonds,) bonds that a metal may replace although they are within 1.25, as
                short multiple bonds are when they have long begun to break.
        """
        bonds = self.bonds_to_keep()
        pairs = frame_quantities(frame).contacts
        ratio = pairs.distances / self._sums.of(pairs)
        near = np.flatnonzero((ratio < PARTNER) & (ratio > 0))
        i, j, ratio = pairs.i[near], pairs.j[near], ratio[near]
        own = is_bond_of_hydrogen(self._numbers, i, j, ratio)
        i, j, ratio = i[own], j[own], ratio[own]
        bonded = ratio < BONDED
        crowded = self._coordination(i[bonded], j[bonded]) > self._usual_count + 1
        keys = i * self._n_atoms + j
        collapsed = ratio < COLLAPSED
        crowded[i[collapsed]] = crowded[j[collapsed]] = True
        new = ~np.isin(keys, self._own) & ~crowded[i] & ~crowded[j]
        new &= bonded | ~np.isin(keys, self._angles)
        lengths = self.lengths(frame)
        lost = lengths > BONDED
        losses = self._coordination(bonds.i[lost], bonds.j[lost])
        balanced = (self._coordination(i[new], j[new]) == 1) & (losses <= 1)
        found: Bools = lost & (balanced[bonds.i] | balanced[bonds.j])
        opening = lost if stretched is None else lost | stretched
        return found | (opening & self._surface.holds(frame, bonds, self._settled(frame)))

    def _settled(self, frame: Frame) -> Bools:
        """Return which bonds (n_bonds,) have been broken for long."""
        settled: Bools = frame.time - self._apart_since > SETTLING
        return settled

    def _coordination(self, i: Ints, j: Ints) -> Ints:
        return np.bincount(np.concatenate([i, j]), minlength=self._n_atoms)

    def _close(self, pairs: Contacts) -> Bools:
        close: Bools = pairs.distances < BONDED * self._sums.of(pairs)
        return close

    def _keys(self, pairs: Contacts, near: Ints) -> Ints:
        keys: Ints = pairs.i[near] * self._n_atoms + pairs.j[near]
        return keys

    def _none_formed(self) -> None:
        self._formed = np.empty(0, dtype=np.int64)
        self.i, self.j = self._formed, self._formed
        self.formed_lengths, self.spare = np.empty(0), np.empty(0, dtype=bool)
        self.associated = self.spare

    def _follow_formed(self, frame: Frame) -> None:
        pairs = frame_quantities(frame).contacts
        close = self._close(pairs)
        if pairs.i is self._sound_of and close.tobytes() == self._sound:  # the usual case
            self._none_formed()
            return
        near = np.flatnonzero(close)
        keys = self._keys(pairs, near)
        if keys.tobytes() == self._known.tobytes():
            self._sound, self._sound_of = close.tobytes(), pairs.i
            self._none_formed()
            return
        self._note_formed(pairs, near, keys)

    def _note_formed(self, pairs: Contacts, near: Ints, keys: Ints) -> None:
        i, j = pairs.i[near], pairs.j[near]
        lengths = pairs.distances[near] / self._sums.of(pairs)[near]
        own = is_bond_of_hydrogen(self._numbers, i, j, lengths)
        new = own & ~np.isin(keys, self._own) & ~(self._network[i] & self._network[j])
        new &= (lengths < FORMED) | np.isin(keys, self._formed)
        self._formed, self.i, self.j = keys[new], i[new], j[new]
        self.formed_lengths = lengths[new]
        self.spare = np.ones(len(self._formed), dtype=bool)
        self.associated = ~self.spare


def _bonds_to_keep(first: Frame, allowed: AllowedBonds | None) -> tuple[Bonds | None, str]:
    try:
        return Bonds(first, allowed), ""
    except PrincipleUnavailable as reason:
        return None, str(reason)


def _ends_of_angles(i: Ints, j: Ints, n_atoms: int) -> Ints:
    """Return the keys a·n + b, a < b, of atoms with a common partner."""
    bonds = coo_array((np.ones(len(i)), (i, j)), shape=(n_atoms, n_atoms)).tocsr()
    bonds = bonds + bonds.T
    ends = (bonds @ bonds).tocoo()
    upper = ends.row < ends.col
    keys: Ints = np.sort(ends.row[upper].astype(np.int64) * n_atoms + ends.col[upper])
    return keys
