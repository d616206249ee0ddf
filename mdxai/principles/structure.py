"""Laws of structure: bonds that hold, atoms that keep their distance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs, neighbor_list

from mdxai.attribution import Attribution
from mdxai.frame import Frame, Ints
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.statistics import ElementPairChannels

CONTACT_RANGE = 4.0  # Å; contacts this far apart are no contacts


def bonds_of(frame: Frame) -> tuple[Ints, Ints]:
    """Return the bonds i < j of a frame: closer than 1.25 times the sum of ASE's covalent radii."""
    atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
    i, j = neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=1.25))
    keep = i < j
    return i[keep].astype(np.int64), j[keep].astype(np.int64)


class BondIntegrity:
    """Largest change of a bond length since the first frame, Å.

    max |‖x_i − x_j‖ − b_ij| over the bonds of the first frame (Fu et al., "Forces are not enough",
    TMLR 2023, arXiv 2210.07237), with b_ij the length in the first frame: start from a relaxed or
    at least a chemically sensible structure.

    Args:
        first: frame that defines bonds and their lengths.

    Raises:
        PrincipleUnavailable: when the first frame has no bonds.
    """

    name = "bond"
    unit = "Å"
    cost: Cost = "free"

    def __init__(self, first: Frame) -> None:
        self._i, self._j = bonds_of(first)
        if not len(self._i):
            raise PrincipleUnavailable("the first frame has no covalent bonds")
        self._length = self._lengths(first)

    def _lengths(self, frame: Frame) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        vectors = frame.positions[self._j] - frame.positions[self._i]
        if frame.pbc.any():
            from ase.geometry import find_mic

            vectors = find_mic(vectors, frame.cell, frame.pbc)[0]
        return np.linalg.norm(vectors, axis=1)

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        if not np.isfinite(frame.positions).all():
            return Deviation(self.name, self.unit, np.nan)
        change = np.abs(self._lengths(frame) - self._length)
        worst = int(np.argmax(change))
        atoms = (int(self._i[worst]), int(self._j[worst]))
        return Deviation(self.name, self.unit, float(change[worst]), atoms)


class ClosestContact:
    """How far two atoms are closer than any pair of their elements was in training, Å.

    Below the shortest distance seen in training the network extrapolates, and nothing forces it to
    repel. A hole there pulls atoms in.

    Args:
        ranges: shortest and longest distance (Å) per element pair ("C-H"), from the card.
        first: a frame of the system.

    Attributes:
        unseen: element pairs of the system for which the card states no range; not checked.

    Raises:
        PrincipleUnavailable: when the card states no ranges.
    """

    name = "contact"
    unit = "Å"
    cost: Cost = "free"

    def __init__(self, ranges: Mapping[str, tuple[float, float]], first: Frame) -> None:
        if not ranges:
            raise PrincipleUnavailable("the calculator does not state which distances it has seen")
        self._channels = ElementPairChannels(first.numbers)
        self.unseen = tuple(name for name in self._channels.names if name not in ranges)
        shortest = [ranges[name][0] if name in ranges else -np.inf for name in self._channels.names]
        self._shortest = np.array(shortest)

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        if not np.isfinite(frame.positions).all():
            return Deviation(self.name, self.unit, np.nan)
        pairs = frame.pairs(CONTACT_RANGE)
        if not len(pairs):
            return Deviation(self.name, self.unit, 0.0)
        excess = self._shortest[self._channels.of(pairs.i, pairs.j)] - pairs.distances
        worst = int(np.argmax(excess))
        if not excess[worst] > 0:
            return Deviation(self.name, self.unit, 0.0)
        atoms = (int(pairs.i[worst]), int(pairs.j[worst]))
        return Deviation(self.name, self.unit, float(excess[worst]), atoms)
