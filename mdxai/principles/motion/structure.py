"""Principles of structure: bonds keep their length, distances stay within those of training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import covalent_radii
from ase.geometry import find_mic

from mdxai.attribution import Attribution
from mdxai.frame import Floats, Frame, Ints
from mdxai.principles.allowed_reactions import AllowedBonds
from mdxai.principles.frame_quantities import frame_quantities
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.statistics import _kernels as kernels

BONDED = 1.25  # times the sum of covalent radii: atoms closer than this are bonded
METALS = frozenset(
    [3, 4, 11, 12, 13, *range(19, 32), *range(37, 51), *range(55, 85), *range(87, 119)]
)


def bonds_of(frame: Frame) -> tuple[Ints, Ints]:
    """Return the bonds i < j of a frame: closer than 1.25 times the sum of ASE's covalent radii.

    Each pair of atoms counts once, at its shortest image. Without all positions there are none.
    """
    if not np.isfinite(frame.positions).all():
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing
    reach = BONDED * covalent_radii[frame.numbers]
    pairs = frame.pairs(2 * float(reach.max(initial=0.0)))
    bonded = pairs.distances < reach[pairs.i] + reach[pairs.j]
    return pairs.i[bonded], pairs.j[bonded]


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
