"""Principles of connectivity: bonds keep their length, neither break nor form, or are exchanged.

Bonds with metals and within networks are not checked (`Bonds`): their neighbours may change.
`BondChanges` says when a bond counts as broken, formed or exchanged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mdxai.attribution import Attribution
from mdxai.frame import BOLTZMANN, Floats, Frame, Ints
from mdxai.principles.allowed_reactions import AllowedBonds
from mdxai.principles.frame_quantities import CONTACT_RANGE, frame_quantities
from mdxai.principles.motion.bond_changes import BROKEN, LOOK, BondChanges, RadiiSums
from mdxai.principles.motion.networks import METALS, covalent_network_of
from mdxai.principles.motion.structure import (
    Bonds,
    bonds_of,
    is_bond_of_hydrogen,
)
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.principles.running_statistics import Every
from mdxai.statistics import _kernels as kernels


class BondIntegrity:
    """Largest change of a bond length from the reference, Å.

    max |‖x_i − x_j‖ − b_ij| over the bonds of the first frame (Fu et al., "Forces are not enough",
    TMLR 2023, arXiv 2210.07237). b_ij is the mean length in a reference trajectory; without one it
    is the length in the first frame, which must then be relaxed or at least chemically sensible.
    `Bonds` says which bonds count. A bond that has stretched because one of its atoms has a new
    partner is not broken but exchanged: `Reaction` reports it.

    The largest of n thermal deviations grows as σ√(2 ln n) (extreme values of a normal
    distribution). Beyond 64 bonds that growth is taken off, with σ² = k_B T / 15 eV/Å², a weak
    bond's.

    Args:
        first: frame that defines the bonds.
        reference: frames that define the bond lengths; the first frame by default.
        allowed: bonds that may break.
        changes: what has become of the bonds; by default followed here.

    Raises:
        PrincipleUnavailable: when the first frame has no covalent bonds.
    """

    name = "bond"
    unit = "Å"
    cost: Cost = "free"
    NOTABLE = 0.3  # Å; smaller changes are vibrations, and nobody asks for their cause
    FEW = 64  # bonds, for which limits are meant
    STIFFNESS = 15.0  # eV/Å²

    def __init__(
        self,
        first: Frame,
        reference: Sequence[Frame] = (),
        allowed: AllowedBonds | None = None,
        changes: BondChanges | None = None,
    ) -> None:
        self._changes = changes or BondChanges(first, allowed)
        self._bonds = self._changes.bonds_to_keep()
        lengths = [self._bonds.lengths(frame) for frame in reference or (first,)]
        self._length = np.mean(lengths, axis=0)
        self._growth = _growth(len(self._bonds.i), self.FEW) / np.sqrt(self.STIFFNESS)
        heat = frame_quantities(first).temperature if first.has_velocities else 0.0
        self._first_heat = heat if np.isfinite(heat) else 0.0

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        if not frame_quantities(frame).placed:
            return Deviation(self.name, self.unit, np.nan)
        change, worst = self._bonds.largest_change(frame, self._length)
        if change > self.NOTABLE:
            change, worst = self._unexplained(frame)
        if self._growth:
            bath = frame.thermostat
            heat = self._first_heat if bath is None else bath.temperature
            change = max(change - self._growth * np.sqrt(BOLTZMANN * max(heat, 0.0)), 0.0)
        return Deviation(self.name, self.unit, float(change), self._bonds.atoms(worst))

    def _unexplained(self, frame: Frame) -> tuple[float, int]:
        """Return the largest change among bonds that were not exchanged for another."""
        change = np.abs(self._bonds.lengths(frame) - self._length)
        change[self._changes.replaced(frame, change > self.NOTABLE)] = 0.0
        worst = int(np.argmax(change))
        return float(change[worst]), worst


def _growth(n: int, few: int) -> float:
    """Return how many σ the largest of n deviations lies beyond that of a few; 0 for no more."""
    return float(np.sqrt(2 * np.log(n)) - np.sqrt(2 * np.log(few))) if n > few else 0.0


class _OfBondChanges(ABC):
    """A number of bonds that have changed."""

    name: str
    unit = "bonds"
    cost: Cost = "free"

    def __init__(
        self,
        first: Frame,
        allowed: AllowedBonds | None = None,
        changes: BondChanges | None = None,
    ) -> None:
        self._changes = changes or BondChanges(first, allowed)
        self._allowed = allowed
        self._require(first)

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        if not frame_quantities(frame).placed:
            return Deviation(self.name, self.unit, np.nan)
        self._changes.look(frame)
        return self._count(frame, self._changes)

    def _require(self, first: Frame) -> None:
        """Raise PrincipleUnavailable where there is nothing to count; bonds by default."""
        self._changes.bonds_to_keep()

    @abstractmethod
    def _count(self, frame: Frame, changes: BondChanges) -> Deviation:
        """Return the deviation of a frame from the changes up to it."""


class BrokenBonds(_OfBondChanges):
    """Number of bonds of the first frame that are broken: beyond 1.6 times the sum of the radii.

    C–C bonds break at 2.43 Å, C–H at 1.71 Å, O–H at 1.55 Å. A broken bond counts until it is
    shorter than 1.25 times that sum again, and not where it was exchanged for another (`Reaction`).
    The atoms named are those of the most stretched bond.

    Args:
        first: frame that defines the bonds.
        allowed: bonds that may break.
        changes: what has become of the bonds; by default followed here.

    Raises:
        PrincipleUnavailable: when it has no covalent bonds.
    """

    name = "broken_bonds"

    def _count(self, frame: Frame, changes: BondChanges) -> Deviation:
        count = int(np.count_nonzero(changes.broken))
        if not count:
            return Deviation(self.name, self.unit, 0.0)
        worst = int(np.argmax(np.where(changes.broken, changes.lengths(frame), 0.0)))
        return Deviation(self.name, self.unit, float(count), changes.bonds_to_keep().atoms(worst))


class Reaction(_OfBondChanges):
    """Number of bonds of the first frame that were exchanged for another.

    A bond of the first frame is stretched beyond 1.25 times the sum of the radii, and one of its
    atoms has formed a bond that was not there: a proton has moved on, a group was substituted. That
    is chemistry, whether the model has it right or not; `Stability` calls such a run reacted. So is
    a molecule that dissociates on a metal, or that forms of atoms bound to one (`BondChanges`). The
    atoms named are the old partner, the atom that moved, and its new partner.

    Args:
        first: frame that defines the bonds.
        allowed: bonds that may break and form; their exchange is not counted.
        changes: what has become of the bonds; by default followed here.

    Raises:
        PrincipleUnavailable: when it has no covalent bonds.
    """

    name = "reaction"

    def _require(self, first: Frame) -> None:
        if not self._changes.may_associate:
            super()._require(first)

    def _count(self, frame: Frame, changes: BondChanges) -> Deviation:
        count = float(np.count_nonzero(changes.exchanged) + np.count_nonzero(changes.associated))
        return Deviation(self.name, self.unit, count, changes.shift)


class FormedBonds(_OfBondChanges):
    """Number of bonds absent in the first frame: closer than 1.15 times the sum of the radii.

    A new bond counts until it is longer than 1.25 times that sum, and not where it replaces another
    (`Reaction`). The atoms named are those of the shortest new bond, relative to the sum of its
    radii.

    Args:
        first: frame that defines the bonds.
        allowed: bonds that may form.
        changes: what has become of the bonds; by default followed here.

    Raises:
        PrincipleUnavailable: when fewer than two atoms are non-metals outside of networks.
    """

    name = "formed_bonds"

    def _require(self, first: Frame) -> None:
        free = ~(np.isin(first.numbers, list(METALS)) | covalent_network_of(first))
        if np.count_nonzero(free) < 2:
            raise PrincipleUnavailable("fewer than two atoms can form a covalent bond")

    def _count(self, frame: Frame, changes: BondChanges) -> Deviation:
        if not len(changes.i):
            return Deviation(self.name, self.unit, 0.0)
        counted = changes.spare
        if self._allowed:
            counted = counted & ~self._allowed.allow(changes.i, changes.j)
        if not counted.any():
            return Deviation(self.name, self.unit, 0.0)
        shortest = int(np.argmin(np.where(counted, changes.formed_lengths, np.inf)))
        atoms = (int(changes.i[shortest]), int(changes.j[shortest]))
        return Deviation(self.name, self.unit, float(np.count_nonzero(counted)), atoms)


class Fragments:
    """Number of fragments beyond those of the first frame.

    Fragments are the connected components of the graph of all pairs closer than 1.6 times the sum
    of their covalent radii; a hydrogen is linked to its nearest heavier atom only, so that hydrogen
    bonds come and go unnoticed. Where no bond has broken, those that were replaced (`BondChanges`)
    still link, so that no reaction makes a fragment; all atoms of a network always do. The atoms
    named are those of the smallest fragment.

    Args:
        first: frame that defines the number of fragments.
        allowed: bonds that may break; the fragments they leave count as one.
        changes: what has become of the bonds; by default followed here.

    Raises:
        PrincipleUnavailable: when it has no covalent bonds.
    """

    name = "fragments"
    unit = "pieces"
    cost: Cost = "free"

    _not_state = ("_near", "_near_of")

    def __init__(
        self,
        first: Frame,
        allowed: AllowedBonds | None = None,
        changes: BondChanges | None = None,
    ) -> None:
        bonds = Bonds(first)
        self._changes = changes or BondChanges(first, allowed)
        self._sums, self._numbers = RadiiSums(first.numbers), first.numbers
        may_break = allowed.allow(bonds.i, bonds.j) if allowed else np.zeros(len(bonds.i), bool)
        network = np.flatnonzero(covalent_network_of(first))
        self._always = (
            np.concatenate([bonds.i[may_break], network[:-1]]),
            np.concatenate([bonds.j[may_break], network[1:]]),
        )
        self._near, self._near_of = b"", first.numbers[:0]  # a mask of pairs, and what it is for
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
        if pairs.i is self._near_of and near.tobytes() == self._near and not self._replaces():
            return self._found
        self._near, self._near_of = near.tobytes(), pairs.i
        i, j = self._links(frame, np.flatnonzero(near))
        graph = i.tobytes() + j.tobytes()
        if graph != self._graph:
            self._graph = graph
            self._found = self._count(i, j, frame.n_atoms)
        return self._found

    def _replaces(self) -> bool:
        return bool(self._changes.exchanged.any())

    def _links(self, frame: Frame, near: Ints) -> tuple[Ints, Ints]:
        """Return the atoms that are linked, two by two."""
        pairs = frame_quantities(frame).contacts
        i, j = pairs.i[near], pairs.j[near]
        lengths = pairs.distances[near] / self._sums.of(pairs)[near]
        own = is_bond_of_hydrogen(self._numbers, i, j, lengths)
        links = [(i[own], j[own]), self._always]
        if self._pieces is not None and not self._changes.broken.any():
            bonds, replaced = self._changes.bonds_to_keep(), self._changes.replaced(frame)
            links.append((bonds.i[replaced], bonds.j[replaced]))
        first, second = zip(*links, strict=True)
        return np.concatenate(first), np.concatenate(second)

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
    Hydrogens without a heavy atom within 2.5 Å in the first frame (H₂) are not checked, and one
    bound to another hydrogen (within 1 Å) is not lost, as when H₂ leaves a metal.

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
    PAIRED = 1.0  # Å; H₂ is 0.74 Å long, and the hydrogens of a group are 1.5 Å apart

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

    def _pair_off(self, frame: Frame, nearest: Floats) -> None:
        """Shorten the distances of hydrogens that are bound to another hydrogen."""
        pairs = frame_quantities(frame).contacts
        paired = (pairs.distances < self.PAIRED) & self._light[pairs.i] & self._light[pairs.j]
        for atoms in (pairs.i[paired], pairs.j[paired]):
            nearest[atoms] = np.minimum(nearest[atoms], pairs.distances[paired])

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        if self._look.due(frame.time):
            self._found = self._farthest(frame)
        return self._found

    def _farthest(self, frame: Frame) -> Deviation:
        if not frame_quantities(frame).placed:
            return Deviation(self.name, self.unit, np.nan)
        nearest = self._nearest(frame)
        if (nearest[self._watched] > self.LOST).any():
            self._pair_off(frame, nearest)
        nearest = nearest[self._watched]
        worst = int(nearest.argmax())
        value = max(float(nearest[worst]) - self._start, 0.0)
        return Deviation(self.name, self.unit, value, (int(self._watched[worst]),))
