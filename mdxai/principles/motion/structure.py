"""The bonds of a frame, and those of them that are to stay."""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii
from ase.geometry import find_mic

from mdxai.frame import Bools, Floats, Frame, Ints
from mdxai.principles.allowed_reactions import AllowedBonds
from mdxai.principles.frame_quantities import frame_quantities
from mdxai.principles.motion.networks import METALS, covalent_network_of
from mdxai.principles.principle import PrincipleUnavailable
from mdxai.statistics import _kernels as kernels

BONDED = 1.25  # times the sum of covalent radii: atoms closer than this are bonded
HALFWAY = 1.4  # times that sum: a hydrogen between two atoms is this close to the nearer one


def bonds_of(frame: Frame) -> tuple[Ints, Ints]:
    """Return the bonds i < j of a frame: closer than 1.25 times the sum of ASE's covalent radii.

    Each pair of atoms counts once, at its shortest image. A hydrogen is bonded to its nearest
    heavier atom only, and within 1.4 times that sum, as halfway between two: a hydrogen bond,
    however strong, is no bond of the molecule. Without all positions there are none.
    """
    if not np.isfinite(frame.positions).all():
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing
    reach = 2 * HALFWAY * float(covalent_radii[frame.numbers].max(initial=0.0))
    pairs = frame.pairs(reach)
    own = are_bonds(frame.numbers, pairs.i, pairs.j, pairs.distances)
    return pairs.i[own], pairs.j[own]


def are_bonds(numbers: Ints, i: Ints, j: Ints, distances: Floats, longest: float = BONDED) -> Bools:
    """Return which pairs are bonds, as `bonds_of` tells, (n_pairs,).

    Args:
        numbers: (n_atoms,) atomic numbers.
        i: (n_pairs,) first atoms.
        j: (n_pairs,) second atoms.
        distances: (n_pairs,) Å.
        longest: bond of two heavier atoms, in units of the sum of their covalent radii.
    """
    radii, light = covalent_radii[numbers], numbers == 1
    lengths = distances / (radii[i] + radii[j])
    near = np.flatnonzero(lengths < np.where(light[i] != light[j], HALFWAY, longest))
    bonded = np.zeros(len(lengths), dtype=bool)
    bonded[near] = is_bond_of_hydrogen(numbers, i[near], j[near], lengths[near])
    return bonded


def is_bond_of_hydrogen(numbers: Ints, i: Ints, j: Ints, lengths: Floats) -> Bools:
    """Return which of close pairs may be bonds: of a hydrogen's heavier partners, the nearest.

    Args:
        numbers: (n_atoms,) atomic numbers.
        i: (n_pairs,) first atoms.
        j: (n_pairs,) second atoms.
        lengths: (n_pairs,) in units of the sum of the radii.
    """
    light = numbers == 1
    mixed = light[i] != light[j]
    hydrogen = np.where(light[i], i, j)
    nearest = np.full(len(numbers), np.inf)
    np.minimum.at(nearest, hydrogen[mixed], lengths[mixed])
    own: Bools = ~mixed | (lengths <= nearest[hydrogen])
    return own


class Bonds:
    """The covalent bonds of a frame that are to stay.

    Those are all but bonds to metals and bonds within a network that crystals, liquids and surfaces
    are made of (`covalent_network_of`), whose neighbours may change.

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
        network = covalent_network_of(first)
        within = network[i] & network[j]
        keep = ~(metal[i] | metal[j]) & ~within
        if allowed:
            keep &= ~allowed.allow(i, j)
        if not keep.any():
            but = " but those that may break" if allowed and allowed.allow(i, j).any() else ""
            but = " but those with metals, whose neighbours may change" if metal.any() else but
            but = " but those of its network, whose neighbours may change" if within.any() else but
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
