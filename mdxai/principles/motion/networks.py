"""Which atoms belong to matter without molecules: crystals, melts, surfaces, wires."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
from ase.data import covalent_radii
from ase.geometry import complete_cell

from mdxai.frame import Bools, Floats, Frame, Ints

LINKED = 1.25  # times the sum of covalent radii


def network_of(frame: Frame) -> Bools:
    """Return which atoms are part of a network of bonds that repeats through the periodic cell.

    Such a network never ends: walking along its bonds one comes to an image of the atom that one
    began with. Silicon, salt, quartz and slabs of them are networks; molecules, and crystals of
    them, are not. Atoms and groups that merely hang on it, like the hydrogens of a polymer, are no
    part of it. Names play no role, and bonds to metals count.

    Returns:
        (n_atoms,); all false without a periodic cell.
    """
    kept = _last.kept
    if kept is None or kept[0] is not frame:
        kept = _last.kept = (frame, _network_of(frame))
    return kept[1]


class _Last(threading.local):
    """The network of a thread's last frame, which several principles ask about."""

    kept: tuple[Frame, Bools] | None = None


_last = _Last()


def _network_of(frame: Frame) -> Bools:
    inside = np.zeros(frame.n_atoms, dtype=bool)
    if not frame.pbc.any() or not np.isfinite(frame.positions).all():
        return inside
    links = _without_dangling(_links(frame), frame.n_atoms)
    for atom in range(frame.n_atoms):
        if links[atom] and not inside[atom]:
            component, endless = _walk(links, atom)
            inside[component] = endless
            for member in () if endless else component:
                links[member] = []  # seen
    return inside


def neighbours(frame: Frame, reach: float) -> tuple[Ints, Ints, Ints, Floats]:
    """Return all neighbours within `reach` (Å), every image counted.

    Returns:
        first and second atoms (n,), in which image of the cell the second is (n, 3), and distances
        (n,), Å; each pair both ways.
    """
    from vesin import NeighborList

    search = NeighborList(cutoff=reach, full_list=True)
    i, j, shifts, distances = search.compute(
        frame.positions, complete_cell(frame.cell), frame.pbc, "ijSd"
    )
    return i.astype(np.int64), j.astype(np.int64), shifts, distances


Link = tuple[int, tuple[int, int, int]]  # the other atom, and in which image of the cell


def _links(frame: Frame) -> list[list[Link]]:
    """Return the bonds of each atom, every image counted."""
    reach = LINKED * covalent_radii[frame.numbers]
    i, j, shifts, distances = neighbours(frame, 2 * float(reach.max()))
    near = distances < reach[i] + reach[j]
    links: list[list[Link]] = [[] for _ in range(frame.n_atoms)]
    for a, b, shift in zip(i[near].tolist(), j[near].tolist(), shifts[near].tolist(), strict=True):
        links[a].append((b, tuple(shift)))
    return links


def _without_dangling(links: list[list[Link]], n_atoms: int) -> list[list[Link]]:
    """Take away atoms with one bond only, again and again."""
    ends = deque(atom for atom in range(n_atoms) if len(links[atom]) == 1)
    while ends:
        atom = ends.popleft()
        for other, _ in links[atom]:
            links[other] = [link for link in links[other] if link[0] != atom]
            if len(links[other]) == 1:
                ends.append(other)
        links[atom] = []
    return links


def _walk(links: list[list[Link]], start: int) -> tuple[list[int], bool]:
    """Return the atoms connected to one, and whether an image of itself is among them."""
    image = {start: (0, 0, 0)}
    border, endless = [start], False
    while border:
        atom = border.pop()
        a, b, c = image[atom]
        for other, (u, v, w) in links[atom]:
            there = (a + u, b + v, c + w)
            if other not in image:
                image[other] = there
                border.append(other)
            elif image[other] != there:
                endless = True
    return list(image), endless
