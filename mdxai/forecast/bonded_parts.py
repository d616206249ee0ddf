"""The parts of a system that bonds, or forces, hold together: molecules, chains, crystals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase.geometry import find_mic

from mdxai.frame import Bools, Floats, Frame, Ints
from mdxai.principles.motion.structure import bonds_of

APART = 1e-3  # Å: two ways to the same atom that differ by more lead to different images of it


@dataclass(frozen=True, slots=True)
class BondedPart:
    """Atoms that are connected.

    Attributes:
        atoms: (n,) indices, ascending.
        shifts: (n, 3) Å, from an atom's place to its image that is connected with the first atom.
        repeats: (m, 3) Å, from an atom to images of itself that it is connected with; empty for a
            molecule, several times the same direction for a chain.
    """

    atoms: Ints
    shifts: Floats
    repeats: Floats

    @property
    def is_molecule(self) -> bool:
        """Whether it ends on all sides."""
        return not len(self.repeats)

    def whole(self, positions: Floats) -> Floats:
        """Return places (n, 3) of its atoms side by side, of positions (n_atoms, 3), Å."""
        placed: Floats = positions[self.atoms] + self.shifts
        return placed


def bonded_parts(frame: Frame) -> list[BondedPart]:
    """Return what bonds connect, by their first atoms."""
    i, j = bonds_of(frame)
    crossings = _closest(frame, i, j) - (frame.positions[j] - frame.positions[i])
    return _connected(frame.n_atoms, zip(i.tolist(), j.tolist(), crossings, strict=True))


def joined_parts(frame: Frame, parts: list[BondedPart], joined: Bools) -> list[BondedPart]:
    """Return parts that are made of others, which are joined at their closest atoms.

    Args:
        frame: of the parts.
        parts: all of a frame.
        joined: (n_parts, n_parts) which of them are connected.
    """
    owner, shifts = np.empty(frame.n_atoms, dtype=np.int64), np.empty((frame.n_atoms, 3))
    for p, part in enumerate(parts):
        owner[part.atoms], shifts[part.atoms] = p, part.shifts
    i, j = np.triu_indices(frame.n_atoms, k=1)
    linked = joined[owner[i], owner[j]] & (owner[i] != owner[j])
    i, j = i[linked], j[linked]
    vectors = _closest(frame, i, j)
    crossings = vectors - (frame.positions[j] + shifts[j] - frame.positions[i] - shifts[i])
    closest = dict[tuple[int, int], int]()
    for k in np.argsort(np.linalg.norm(vectors, axis=1), kind="stable").tolist():
        closest.setdefault((int(owner[i[k]]), int(owner[j[k]])), k)
    links = ((p, q, crossings[k]) for (p, q), k in closest.items())
    return [_merged(parts, group) for group in _connected(len(parts), links)]


def _merged(parts: list[BondedPart], group: BondedPart) -> BondedPart:
    """Return the atoms of those parts that a group of their numbers stands for."""
    members = [parts[p] for p in group.atoms.tolist()]
    atoms = np.concatenate([part.atoms for part in members])
    shifts = np.concatenate(
        [part.shifts + shift for part, shift in zip(members, group.shifts, strict=True)]
    )
    order = np.argsort(atoms)
    repeats = np.concatenate([group.repeats, *(part.repeats for part in members)])
    return BondedPart(atoms[order], shifts[order], repeats)


def _closest(frame: Frame, i: Ints, j: Ints) -> Floats:
    """Return (n, 3) Å, from atoms i to the closest images of atoms j."""
    straight: Floats = frame.positions[j] - frame.positions[i]
    if not (frame.pbc.any() and len(straight)):
        return straight
    closest: Floats = find_mic(straight, frame.cell, frame.pbc)[0]
    return closest


def _connected(n: int, links: Iterable[tuple[int, int, Floats]]) -> list[BondedPart]:
    """Return what links connect of n places: i, j, and from j to the image that i is linked to."""
    partners: list[list[tuple[int, Floats]]] = [[] for _ in range(n)]
    for a, b, crossing in links:
        partners[a].append((b, crossing))
        partners[b].append((a, -crossing))
    seen, parts = set[int](), list[BondedPart]()
    for first in range(n):
        if first not in seen:
            parts.append(_part(first, partners))
            seen.update(parts[-1].atoms.tolist())
    return parts


def _part(first: int, partners: list[list[tuple[int, Floats]]]) -> BondedPart:
    places, repeats, ahead = {first: np.zeros(3)}, list[Floats](), [first]
    while ahead:
        a = ahead.pop()
        for b, crossing in partners[a]:
            place = places[a] + crossing
            if b not in places:
                places[b] = place
                ahead.append(b)
            elif np.abs(place - places[b]).max() > APART:
                repeats.append(place - places[b])
    atoms = sorted(places)
    return BondedPart(
        np.array(atoms, dtype=np.int64), np.array([places[a] for a in atoms]),
        np.array(repeats).reshape(-1, 3),
    )  # fmt: skip
