"""Which atoms belong to matter without molecules: crystals, melts, surfaces, wires."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
from ase.data import covalent_radii
from ase.geometry import complete_cell

from mdxai.frame import Bools, Floats, Frame, Ints
from mdxai.neighbour_search import cell_list

LINKED = 1.25  # times the sum of covalent radii
METALS = frozenset(
    [3, 4, 11, 12, 13, *range(19, 32), *range(37, 51), *range(55, 85), *range(87, 119)]
)
ORGANIC = (1, 6, 7, 8, 9)  # bound to each other they make molecules, whatever these are bound to


def network_of(frame: Frame) -> Bools:
    """Return which atoms are part of a network of bonds that repeats through the periodic cell.

    Such a network never ends: walking along its bonds one comes to an image of the atom that one
    began with. Silicon, salt, quartz and slabs of them are networks; molecules, and crystals of
    them, are not. Atoms and groups that merely hang on it, like the hydrogens of a polymer, are no
    part of it. Names play no role, and bonds to metals count.

    Returns:
        (n_atoms,); all false without a periodic cell.
    """
    return _networks(frame)[0]


def covalent_network_of(frame: Frame) -> Bools:
    """Return which atoms are part of a network that is not made of molecules bound to metals.

    Bonds among H, C, N, O and F are those of molecules, also where a metal holds these together: a
    molecule that lies on a slab, the linkers of a metal–organic framework, the nitrate of a salt.
    Where such bonds repeat by themselves (diamond), and for all other elements, it is `network_of`.

    Returns:
        (n_atoms,); all false without a periodic cell.
    """
    return _networks(frame)[1]


class _Last(threading.local):
    """The networks of a thread's last frame, which several principles ask about."""

    kept: tuple[Frame, tuple[Bools, Bools]] | None = None


_last = _Last()


def _networks(frame: Frame) -> tuple[Bools, Bools]:
    """Return the atoms of networks, and those of networks without molecules bound to metals."""
    kept = _last.kept
    if kept is None or kept[0] is not frame:
        network = _network_of(_links(frame))
        metal = np.isin(frame.numbers, list(METALS))
        covalent = network
        if (network & metal).any():
            own = _network_of(_links(frame, ~metal))
            covalent = network & (own | ~np.isin(frame.numbers, ORGANIC))
        kept = _last.kept = (frame, (network, covalent))
    return kept[1]


def _network_of(links: list[list[Link]]) -> Bools:
    inside = np.zeros(len(links), dtype=bool)
    links = _without_dangling(links)
    for atom in range(len(links)):
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
    search = cell_list()(cutoff=reach, full_list=True)
    i, j, shifts, distances = search.compute(
        frame.positions, complete_cell(frame.cell), frame.pbc, "ijSd"
    )
    return i.astype(np.int64), j.astype(np.int64), shifts, distances


Link = tuple[int, tuple[int, int, int]]  # the other atom, and in which image of the cell


def _links(frame: Frame, of: Bools | None = None) -> list[list[Link]]:
    """Return the bonds of each atom, every image counted; of some atoms, those among themselves."""
    links: list[list[Link]] = [[] for _ in range(frame.n_atoms)]
    if not frame.pbc.any() or not np.isfinite(frame.positions).all():
        return links
    reach = LINKED * covalent_radii[frame.numbers]
    i, j, shifts, distances = neighbours(frame, 2 * float(reach.max()))
    near = distances < reach[i] + reach[j]
    if of is not None:
        near &= of[i] & of[j]
    for a, b, shift in zip(i[near].tolist(), j[near].tolist(), shifts[near].tolist(), strict=True):
        links[a].append((b, tuple(shift)))
    return links


def _without_dangling(links: list[list[Link]]) -> list[list[Link]]:
    """Take away atoms with one bond only, again and again."""
    ends = deque(atom for atom in range(len(links)) if len(links[atom]) == 1)
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
