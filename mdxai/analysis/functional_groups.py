"""Functional groups of molecules, from which atoms are bonded, for many molecules side by side.

Every atom belongs to one group; hydrogen to that of its heavier neighbour. What counts is how many
neighbours an atom has and of which elements, which thermal motion does not change: a carbon beside
an oxygen without other neighbours is a carbonyl, one with four neighbours alkyl, with three and
nothing better alkene, with two beside another such carbon alkyne. Only aromatic rings and double
bonds to nitrogen are told by classes of bonds. Where several groups apply the last of these counts:
single atoms' groups (alkyl to halogen), nitrile, nitro, ketone, aldehyde, amide, ester, carboxyl,
aromatic ring. So a carbamate is an ester with an amine, and furan an aromatic ring.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from mdxai.analysis.bond_kinds import AROMATIC, BONDED, DOUBLE
from mdxai.frame import Bools, Ints

GROUPS = (
    "alkyl", "alkene", "alkyne", "aromatic ring", "hydroxyl", "ether", "aldehyde", "ketone",
    "carboxyl", "ester", "amide", "amine", "imine", "nitrile", "nitro", "halogen", "thiol",
    "sulfide", "other",
)  # fmt: skip
_OF = {name: k for k, name in enumerate(GROUPS)}
OTHER = _OF["other"]
HALOGENS = (9, 17, 35, 53)


@dataclass(frozen=True, slots=True)
class Groups:
    """Functional groups of atoms.

    kinds: (n_atoms,) index into `GROUPS`. fragments: (n_atoms,) which connected atoms of one kind
    an atom belongs to, numbered through.
    """

    kinds: Ints
    fragments: Ints


def functional_groups(numbers: Ints, i: Ints, j: Ints, bonds: Ints) -> Groups:
    """Return the functional group of each atom.

    Args:
        numbers: (n_atoms,) of all molecules, one after the other.
        i: (n_pairs,) first atoms of pairs.
        j: (n_pairs,) second atoms.
        bonds: (n_pairs,) their classes, from `pair_kinds`.
    """
    rows = np.isin(bonds, BONDED)
    bonded = _Bonded(numbers, i[rows], j[rows], bonds[rows])
    kinds = _kinds(bonded)
    hydrogen = np.flatnonzero((numbers == 1) & (bonded.degree > 0))
    kinds[hydrogen] = kinds[bonded.heaviest_neighbour[hydrogen]]
    same = kinds[i[rows]] == kinds[j[rows]]
    links = csr_array(
        (np.ones(same.sum()), (i[rows][same], j[rows][same])), shape=(len(numbers),) * 2
    )
    return Groups(kinds, connected_components(links, directed=False)[1].astype(np.int64))


class _Bonded:
    """Bonds as directed pairs: `to` each atom from its neighbours `of`."""

    def __init__(self, numbers: Ints, i: Ints, j: Ints, bonds: Ints) -> None:
        self.numbers = numbers
        self.to, self.of = np.concatenate([i, j]), np.concatenate([j, i])
        self.bonds = np.concatenate([bonds, bonds])
        self.degree = np.bincount(self.to, minlength=len(numbers))

    def count(self, neighbours: Bools, bonds: Bools | None = None) -> Ints:
        """Return how many of its neighbours are among `neighbours` (n_atoms,), for each atom."""
        rows = neighbours[self.of] if bonds is None else neighbours[self.of] & bonds
        found: Ints = np.bincount(self.to[rows], minlength=len(self.numbers))
        return found

    def has(self, neighbours: Bools) -> Bools:
        """Return whether any of its neighbours is among `neighbours`, for each atom."""
        found: Bools = self.count(neighbours) > 0
        return found

    def is_(self, number: int, degree: int) -> Bools:
        """Return which atoms are of an element and have so many neighbours."""
        found: Bools = (self.numbers == number) & (self.degree == degree)
        return found

    @property
    def heaviest_neighbour(self) -> Ints:
        """Of each atom; −1 without any."""
        found = np.full(len(self.numbers), -1)
        order = np.argsort(self.numbers[self.of], kind="stable")
        found[self.to[order]] = self.of[order]
        return found


def _kinds(b: _Bonded) -> Ints:
    """Return the kind of every atom but hydrogen. What comes later wins."""
    everyone = np.ones(len(b.numbers), dtype=bool)
    aromatic = b.count(everyone, b.bonds == AROMATIC) > 0
    carbonyl = b.is_(6, 3) & b.has(b.is_(8, 1)) & ~aromatic
    kinds = np.full(len(b.numbers), OTHER)
    for name, atoms in (*_simple(b, aromatic, carbonyl), *_carbonyls(b, aromatic, carbonyl)):
        kinds[atoms] = _OF[name]
    kinds[aromatic] = _OF["aromatic ring"]
    return kinds


def _simple(b: _Bonded, aromatic: Bools, carbonyl: Bools) -> Iterator[tuple[str, Bools]]:
    carbon, hydrogen, oxygen = b.numbers == 6, b.numbers == 1, b.is_(8, 2)
    yield "alkyl", b.is_(6, 4)
    yield "alkene", b.is_(6, 3) | (b.is_(6, 2) & ~b.has(b.is_(8, 1)))  # not carbon dioxide
    yield "alkyne", b.is_(6, 2) & b.has(b.is_(6, 2))
    yield "amine", b.is_(7, 3) | b.is_(7, 4)
    unsaturated = b.is_(6, 3) & ~aromatic & ~carbonyl
    imine = b.is_(7, 2) & b.has(unsaturated) & ~aromatic
    yield "imine", imine | (unsaturated & (b.count(imine, b.bonds == DOUBLE) > 0))
    yield "hydroxyl", oxygen & (b.count(hydrogen) == 1)
    yield "ether", oxygen & (b.count(carbon) == 2)
    yield "thiol", b.is_(16, 2) & (b.count(hydrogen) == 1)
    yield "sulfide", b.is_(16, 2) & (b.count(carbon) == 2)
    yield "halogen", np.isin(b.numbers, HALOGENS) & (b.degree == 1)
    nitrogen = b.is_(7, 1) & b.has(b.is_(6, 2))
    yield "nitrile", nitrogen | (b.is_(6, 2) & b.has(nitrogen))
    nitro = b.is_(7, 3) & (b.count(b.is_(8, 1)) == 2)
    yield "nitro", nitro | (b.is_(8, 1) & b.has(nitro))


def _carbonyls(b: _Bonded, aromatic: Bools, carbonyl: Bools) -> Iterator[tuple[str, Bools]]:
    hydrogen, bridging, end = b.numbers == 1, b.is_(8, 2), b.is_(8, 1)
    acid = carbonyl & (b.has(bridging & b.has(hydrogen)) | (b.count(end) == 2))
    ester = carbonyl & b.has(bridging) & ~acid
    amide = carbonyl & b.has(b.is_(7, 3)) & ~acid & ~ester
    rest = carbonyl & ~acid & ~ester & ~amide
    aldehyde = rest & b.has(hydrogen)
    ketone = rest & (b.count(b.numbers == 6) == 2)
    yield "ketone", ketone | (end & b.has(ketone | (aromatic & (b.numbers == 6))))
    yield "aldehyde", aldehyde | (end & b.has(aldehyde))
    yield "amide", amide | ((end | b.is_(7, 3)) & b.has(amide))
    yield "ester", ester | ((end | bridging) & b.has(ester))
    yield "carboxyl", acid | ((end | bridging) & b.has(acid))
