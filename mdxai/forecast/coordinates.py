"""The coordinates along which a molecule is scanned, those equal by symmetry only once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mdxai.forecast.bonded_parts import BondedPart, bonded_parts
from mdxai.forecast.group_names import named_molecule
from mdxai.frame import Bools, Floats, Frame, Ints, Pairs, named_atoms
from mdxai.principles.motion.structure import bonds_of
from mdxai.principles.probes.configurations import all_pairs

Kind = Literal["stretch", "compression", "angle", "approach", "encounter"]
Groups = tuple[tuple[int, ...], tuple[int, ...]]
CONTACT = 4.0  # Å between the closest atoms of molecules that are neighbours
MOST_ENCOUNTERS = 12  # kinds of neighbouring molecules, the closest, that are scanned


@dataclass(frozen=True, slots=True)
class Coordinate:
    """A distance that is scanned.

    Attributes:
        kind: "stretch" of a bond, "compression" of a bond, "angle" that closes (two atoms bonded to
            a third approach each other), "approach" of any other two atoms, "encounter" of two
            molecules, whose geometric centres approach each other.
        atoms: the two atoms; for an angle the one in the middle too; all of two molecules.
        multiplicity: coordinates of the molecule that are equal to it by symmetry, itself included.
        shift: (3,) Å from the second atom's place, or centre, to its image.
        equivalent: the atoms of all of these, itself first.
        n_first: of an encounter, how many of the atoms are those of the first molecule; else 0.
    """

    kind: Kind
    atoms: tuple[int, ...]
    multiplicity: int
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    equivalent: tuple[tuple[int, ...], ...] = ()
    n_first: int = 0

    @property
    def groups(self) -> Groups:
        """The two atoms, or the atoms of the two molecules, whose distance is scanned."""
        return groups_of(self.atoms, self.n_first)

    def label(self, symbols: list[str]) -> str:
        """Return its name, such as "H6–C1–H8", "C0–C1" or "H2O(O0)–H2O(O3)"."""
        return named_coordinate(symbols, self.atoms, self.n_first)


def groups_of(atoms: tuple[int, ...], n_first: int) -> Groups:
    """Return the two groups of atoms that a coordinate is about; arguments as its attributes."""
    if n_first:
        return atoms[:n_first], atoms[n_first:]
    return (atoms[0],), (atoms[-1],)


def named_coordinate(symbols: list[str], atoms: tuple[int, ...], n_first: int) -> str:
    """Return the name of a coordinate; arguments as its attributes."""
    if not n_first:
        return named_atoms(symbols, atoms)
    return "–".join(named_molecule(symbols, group) for group in groups_of(atoms, n_first))


def coordinates_of(frame: Frame) -> list[Coordinate]:
    """Return the coordinates of a structure: every pair inwards, every bond outwards, and every
    two neighbouring molecules towards each other.

    What the molecular graph cannot tell apart is one coordinate; the closest stands for all. In a
    periodic cell pairs closer than 6 Å count. Molecules are neighbours where their closest atoms
    are within 4 Å, or one has no closer neighbour; of more than 12 kinds of neighbours the closest
    are taken.
    """
    pairs, bonded = all_pairs(frame), _adjacency(frame)
    every_colour = pair_colours(frame.numbers, bonded)
    colours = every_colour[pairs.i, pairs.j]
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
    return found + _encounters(frame, pairs, every_colour)


def _encounters(frame: Frame, pairs: Pairs, colours: Ints) -> list[Coordinate]:
    """Return the approaches of neighbouring molecules, the closest first.

    Their geometric centres, not those of mass: what moves these, and nothing else, is a rigid
    motion of both molecules, which strains no bond.
    """
    parts = [part for part in bonded_parts(frame) if part.is_molecule]
    parts.sort(key=lambda part: (sorted(colours[part.atoms, part.atoms]), part.atoms[0]))
    kinds = dict[tuple[int, ...], list[tuple[Groups, tuple[float, float, float]]]]()
    for a, b, k in _neighbours(frame, parts, pairs):
        one, other = parts[a], parts[b]
        kind = tuple(sorted(colours[np.ix_(one.atoms, other.atoms)].ravel().tolist()))
        groups = tuple(one.atoms.tolist()), tuple(other.atoms.tolist())
        kinds.setdefault(kind, []).append((groups, _centre_shift(frame, one, other, pairs, k)))
    found = []
    for equal in list(kinds.values())[:MOST_ENCOUNTERS]:
        groups, shift = equal[0]
        every = tuple((*a, *b) for (a, b), _ in equal)
        found.append(Coordinate("encounter", every[0], len(equal), shift, every, len(groups[0])))
    return found


def _neighbours(frame: Frame, parts: list[BondedPart], pairs: Pairs) -> list[tuple[int, int, int]]:
    """Return neighbouring molecules, the closest first: two of the parts, not both single atoms,
    and the pair of their closest atoms.
    """
    owner = np.full(frame.n_atoms, -1)
    for p, part in enumerate(parts):
        owner[part.atoms] = p
    low, high = np.sort(np.stack([owner[pairs.i], owner[pairs.j]]), axis=0)
    closest = dict[tuple[int, int], int]()
    nearest = np.full(len(parts), np.inf)
    for k in np.argsort(pairs.distances, kind="stable").tolist():
        a, b = int(low[k]), int(high[k])
        if a >= 0 and a != b and closest.setdefault((a, b), k) == k:
            nearest[[a, b]] = np.minimum(nearest[[a, b]], pairs.distances[k])
    return [
        (a, b, k) for (a, b), k in closest.items()
        if pairs.distances[k] <= max(CONTACT, nearest[a], nearest[b])
        and len(parts[a].atoms) + len(parts[b].atoms) > 2
    ]  # fmt: skip


def _centre_shift(
    frame: Frame, one: BondedPart, other: BondedPart, pairs: Pairs, k: int
) -> tuple[float, float, float]:
    """Return from the second centre's place to the image next to the first molecule, both centres
    taken of the places that atoms have in the frame; pair k is that of the closest atoms.
    """
    i, j, vector = int(pairs.i[k]), int(pairs.j[k]), pairs.vectors[k]
    if i not in one.atoms:
        i, j, vector = j, i, -vector
    from_i, to_j = (
        float(sign) * (part.shifts.mean(axis=0) - part.shifts[np.searchsorted(part.atoms, atom)])
        for part, atom, sign in ((one, i, -1), (other, j, 1))
    )
    x, y, z = (vector - (frame.positions[j] - frame.positions[i]) + from_i + to_j).tolist()
    return x, y, z


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
