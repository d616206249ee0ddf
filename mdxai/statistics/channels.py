"""Channels: the classes into which statistics sort pairs of atoms."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mdxai.calculators.card import pair_key
from mdxai.frame import Ints, iter_element_pairs
from mdxai.statistics.bins import StatisticsError


class ElementPairChannels:
    """Numbers the element pairs of a molecule, so that pairs of atoms can be binned by them.

    Attributes:
        names: ("C-C", "C-H", …), symbols in alphabetical order.
    """

    def __init__(self, numbers: Ints) -> None:
        kinds, self._kind_of = np.unique(numbers, return_inverse=True)
        table: NDArray[np.int64] = np.full((len(kinds), len(kinds)), -1, dtype=np.int64)
        index = {int(z): k for k, z in enumerate(kinds)}
        names: list[str] = []
        for a, b in iter_element_pairs(numbers):
            table[index[a], index[b]] = table[index[b], index[a]] = len(names)
            names.append(pair_key(chemical_symbols[a], chemical_symbols[b]))
        self.names = tuple(names)
        self._row_of, self._table = self._kind_of * len(kinds), table.ravel()

    def of(self, i: Ints, j: Ints) -> Ints:
        """Return the channel of each pair of atoms, (n_pairs,)."""
        channels: Ints = self._table[self._row_of[i] + self._kind_of[j]]
        return channels


@lru_cache(maxsize=32)
def _element_pair_channels(numbers: bytes) -> ElementPairChannels:
    return ElementPairChannels(np.frombuffer(numbers, dtype=np.int64))


def element_pair_channels(numbers: Ints) -> ElementPairChannels:
    """Return the channels of a molecule; those of the most recent molecules are cached.

    Args:
        numbers: (n_atoms,) atomic numbers.
    """
    return _element_pair_channels(np.asarray(numbers, dtype=np.int64).tobytes())


class BondClassChannels:
    """Sorts pairs by the number of bonds on the shortest path between them.

    Memory grows with the number of atoms, not with that of pairs.

    Args:
        n_atoms: number of atoms.
        i: first atom of each bond, (n_bonds,).
        j: second atom of each bond, (n_bonds,).

    Raises:
        StatisticsError: for a bond to an atom that does not exist, or of an atom to itself.
    """

    names = ("bonded", "1-3", "1-4", "non-bonded")

    def __init__(self, n_atoms: int, i: Ints, j: Ints) -> None:
        first, second = np.asarray(i, dtype=np.int64), np.asarray(j, dtype=np.int64)
        ends = np.concatenate([first, second])
        if len(first) != len(second) or np.any((ends < 0) | (ends >= n_atoms)):
            raise StatisticsError(f"bonds need two atoms each, numbered 0…{n_atoms - 1}")
        if np.any(first == second):
            raise StatisticsError("an atom cannot be bonded to itself; remove such bonds")
        neighbors: list[set[int]] = [set() for _ in range(n_atoms)]
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            neighbors[a].add(b)
            neighbors[b].add(a)
        near = [
            (atom * n_atoms + other, steps)
            for atom in range(n_atoms)
            for other, steps in _within_three(neighbors, atom).items()
        ]
        keys = np.array([key for key, _ in near], dtype=np.int64)
        order = np.argsort(keys)
        # The sentinel makes every search end inside the table.
        self._keys = np.append(keys[order], np.int64(n_atoms) ** 2)
        self._steps = np.append(np.array([s for _, s in near], dtype=np.int64)[order], 4)
        self._n_atoms = n_atoms

    def of(self, i: Ints, j: Ints) -> Ints:
        """Return the channel of each pair of atoms, (n_pairs,).

        Raises:
            StatisticsError: for an atom that does not exist.
        """
        ends = np.concatenate([np.atleast_1d(i), np.atleast_1d(j)])
        if ends.size and not 0 <= ends.min() <= ends.max() < self._n_atoms:
            raise StatisticsError(
                f"pairs name atoms {ends.min()} to {ends.max()}, expected 0…{self._n_atoms - 1}"
            )
        wanted = np.asarray(i) * self._n_atoms + j
        place = np.searchsorted(self._keys, wanted)
        found = self._keys[place] == wanted
        return np.where(found, self._steps[place], 4) - 1


def _within_three(neighbors: list[set[int]], start: int) -> dict[int, int]:
    """Return the atoms one to three bonds away, with the number of bonds to each."""
    steps = {start: 0}
    shell = {start}
    for step in (1, 2, 3):
        shell = {b for a in shell for b in neighbors[a] if b not in steps}
        steps |= dict.fromkeys(shell, step)
    del steps[start]
    return steps
