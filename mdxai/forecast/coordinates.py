"""The coordinates along which a molecule is scanned, those equal by symmetry only once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mdxai.frame import Bools, Floats, Frame, Ints, Pairs, named_atoms
from mdxai.principles.motion.structure import bonds_of
from mdxai.principles.probes.configurations import all_pairs

Kind = Literal["stretch", "compression", "angle", "approach"]


@dataclass(frozen=True, slots=True)
class Coordinate:
    """A distance that is scanned.

    Attributes:
        kind: "stretch" of a bond, "compression" of a bond, "angle" that closes (two atoms bonded to
            a third approach each other), "approach" of any other two atoms.
        atoms: the two atoms; for an angle the one in the middle too.
        multiplicity: coordinates of the molecule that are equal to it by symmetry, itself included.
        shift: (3,) Å from the second atom's place to its image.
        equivalent: the atoms of all of these, itself first.
    """

    kind: Kind
    atoms: tuple[int, ...]
    multiplicity: int
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    equivalent: tuple[tuple[int, ...], ...] = ()

    @property
    def ends(self) -> tuple[int, int]:
        """The two atoms whose distance is scanned."""
        return self.atoms[0], self.atoms[-1]

    def label(self, symbols: list[str]) -> str:
        """Return its name, such as "H6–C1–H8" or "C0–C1"."""
        return named_atoms(symbols, self.atoms)


def coordinates_of(frame: Frame) -> list[Coordinate]:
    """Return the coordinates of a structure: every pair inwards, every bond outwards.

    Pairs that the molecular graph cannot tell apart are one coordinate; the closest of them stands
    for all. In a periodic cell pairs closer than 6 Å count.
    """
    pairs, bonded = all_pairs(frame), _adjacency(frame)
    colours = pair_colours(frame.numbers, bonded)[pairs.i, pairs.j]
    found = []
    for colour in np.unique(colours):
        equal = np.flatnonzero(colours == colour)
        equal = equal[np.argsort(pairs.distances[equal], kind="stable")]
        shift = _shift(frame, pairs, int(equal[0]))
        every = tuple(_atoms(int(pairs.i[k]), int(pairs.j[k]), bonded) for k in equal)
        found += [
            Coordinate(kind, every[0], len(equal), shift, every)
            for kind in _kinds(every[0], bonded)
        ]
    return found


def _atoms(i: int, j: int, bonded: Bools) -> tuple[int, ...]:
    """Return a pair of atoms, with the one between them where they are bonded to the same."""
    between = np.flatnonzero(bonded[i] & bonded[j])
    return (i, j) if bonded[i, j] or not len(between) else (i, int(between[0]), j)


def _kinds(atoms: tuple[int, ...], bonded: Bools) -> tuple[Kind, ...]:
    if bonded[atoms[0], atoms[-1]]:
        return "stretch", "compression"
    return ("angle",) if len(atoms) > 2 else ("approach",)


def _adjacency(frame: Frame) -> Bools:
    bonded = np.zeros((frame.n_atoms, frame.n_atoms), dtype=bool)
    i, j = bonds_of(frame)
    bonded[i, j] = bonded[j, i] = True
    return bonded


def _shift(frame: Frame, pairs: Pairs, k: int) -> tuple[float, float, float]:
    straight: Floats = frame.positions[pairs.j[k]] - frame.positions[pairs.i[k]]
    x, y, z = (pairs.vectors[k] - straight).tolist()
    return x, y, z


def pair_colours(numbers: Ints, bonded: Bools) -> Ints:
    """Return a number for each pair (n_atoms, n_atoms), equal for pairs equal by graph symmetry.

    By refinement: two pairs stay equal as long as the multisets of pairs over every third atom are
    equal (Weisfeiler and Leman in two dimensions). It separates all that symmetry separates in the
    graphs of molecules, strongly regular ones excepted.

    Args:
        numbers: (n_atoms,) atomic numbers.
        bonded: (n_atoms, n_atoms) whether two atoms are bonded.
    """
    n = len(numbers)
    z = np.broadcast_to(numbers[:, None], (n, n))
    start = np.stack([z, z.T, bonded, np.eye(n, dtype=bool)], axis=-1).astype(np.int64)
    colours = _renumbered(start.reshape(n * n, -1)).reshape(n, n)
    while True:
        most = int(colours.max()) + 1
        over_third = np.sort(colours[:, None, :] * most + colours.T[None, :, :], axis=-1)
        both = np.concatenate([colours[..., None], over_third], axis=-1)
        finer = _renumbered(both.reshape(n * n, -1)).reshape(n, n)
        if int(finer.max()) + 1 == most:
            break
        colours = finer
    unordered = np.stack([np.minimum(colours, colours.T), np.maximum(colours, colours.T)], axis=-1)
    return _renumbered(unordered.reshape(n * n, -1)).reshape(n, n)


def _renumbered(rows: Ints) -> Ints:
    numbered: Ints = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    return numbered
