"""A guard: a potential of pairs that is zero in the training domain and holds atoms inside it.

Atoms closer than in training repel each other, and bonds longer than in training are pulled back.
With x = r₀/r − 1 below a shortest distance r₀ and x = r/r₁ − 1 beyond a longest bond r₁, a pair
holds A x³ / (x + 0.05), for x > 0. That is C² at the joint, where the cube rules, and A x² further
out, so that the curvature stays bounded and the time step need not be shorter.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from ase.cell import Cell
from ase.data import chemical_symbols, covalent_radii

from mdxai.errors import MdxaiError
from mdxai.frame import DENSE_LIMIT, Bools, Floats, Ints, formula_in_order, upper_triangle
from mdxai.neighbour_search import cell_list

SOFT = 0.05  # overlap within which the guard sets in
OVERLAP = 0.55  # of the sum of covalent radii; no bond or contact is as short
GONE, MET = 1.6, 1.15  # of that sum: no bond any more; surely a bond
ROOM = 3.0  # times the longest bond of a wall, which a periodic cell is at least high


class GuardError(MdxaiError, ValueError):
    """A guard that cannot be made, or does not fit the system."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Where a guard begins, and how strong it is. Element pairs are named as in "C-H".

    Attributes:
        shortest: distance (Å) below which two atoms repel; for pairs that are not named 0.55 of the
            sum of their covalent radii.
        contacts: the same of two atoms of the molecule that are not bonded, where data tell.
        longest: bond length (Å) beyond which the wall stands.
        numbers: atomic numbers of the molecule with walls and contacts; empty without.
        bonds: its bonds with walls, pairs of atoms.
        bonded: all its bonds, whose atoms are no contacts.
        repulsion: eV; A between atoms that are too close.
        wall: eV; A of a bond that is too long.
        source: where the distances come from, in words.
    """

    shortest: Mapping[str, float] = field(default_factory=dict)
    contacts: Mapping[str, float] = field(default_factory=dict)
    longest: Mapping[str, float] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()
    bonds: tuple[tuple[int, int], ...] = ()
    bonded: tuple[tuple[int, int], ...] = ()
    repulsion: float = 10.0
    wall: float = 60.0
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("repulsion", "wall"):
            if not 0 <= getattr(self, name) < np.inf:
                raise GuardError(f"{name} must be 0 eV or more, got {getattr(self, name)!r}")
        lengths = [*self.shortest.values(), *self.contacts.values(), *self.longest.values()]
        if not all(0 < length < np.inf for length in lengths):
            raise GuardError(f"expected distances of a guard above 0 Å, got {sorted(lengths)}")

    @classmethod
    def from_plain(cls, stated: Mapping[str, Any]) -> Self:
        """Return the guard that a card states."""
        lists = {
            name: tuple((int(a), int(b)) for a, b in stated.get(name, ()))
            for name in ("bonds", "bonded")
        }
        numbers = tuple(int(z) for z in stated.get("numbers", ()))
        return cls(**{**stated, **lists, "numbers": numbers})

    def __str__(self) -> str:
        walls = f", {self.wall:g} eV walls on {len(self.bonds)} bonds" if self.bonds else ""
        bare = len(self.bonded) - len(self.bonds)
        if bare:
            walls += f", no walls on {bare} bonds whose longest length is not known"
        return f"guard of {self.repulsion:g} eV{walls}, from {self.source or 'stated distances'}"


@dataclass(frozen=True, slots=True)
class GuardAction:
    """What a guard does to one structure, for the pairs on which it acts.

    i, j: (n,) atoms. vectors: (n, 3) from i to j, Å. energies: (n,) eV. slopes: (n,) dE/dr, eV/Å.
    """

    i: Ints
    j: Ints
    vectors: Floats
    energies: Floats
    slopes: Floats

    @property
    def energy(self) -> float:
        """Energy of all pairs, eV."""
        return float(self.energies.sum())

    @property
    def pulls(self) -> Floats:
        """(n, 3) force on i, eV/Å; that on j is its opposite."""
        lengths = np.linalg.norm(self.vectors, axis=1)
        pulls: Floats = (self.slopes / lengths)[:, None] * self.vectors
        return pulls

    @property
    def virial(self) -> Floats:
        """(3, 3) Σ r ⊗ ∂E/∂r, eV."""
        virial: Floats = self.vectors.T @ self.pulls
        return virial

    def add_to(self, atoms: Floats, forces: Floats) -> None:
        """Add half of each energy to both atoms of a pair (n_atoms,), and forces (n_atoms, 3)."""
        pulls = self.pulls
        for ends, sign in ((self.i, 1.0), (self.j, -1.0)):
            np.add.at(atoms, ends, 0.5 * self.energies)
            np.add.at(forces, ends, sign * pulls)

    def partial_forces(self, n_atoms: int) -> Floats:
        """(n_atoms, n_atoms, 3) −∂E_i/∂r_j, eV/Å, where each atom of a pair has half its energy."""
        forces, half = np.zeros((n_atoms, n_atoms, 3)), 0.5 * self.pulls
        for owner in (self.i, self.j):
            np.add.at(forces, (owner, self.i), half)
            np.add.at(forces, (owner, self.j), -half)
        return forces


class GuardTerm:
    """A guard prepared for one system.

    Walls and contacts count for the molecule that the guard names, and for copies of it one after
    the other; other systems, such as fragments, have the repulsion of element pairs alone.

    Args:
        guard: where it begins, and how strong it is.
        numbers: (n_atoms,) atomic numbers of the system.
    """

    def __init__(self, guard: Guard, numbers: Ints) -> None:
        self._guard, self._n_atoms, self._numbers = guard, len(numbers), numbers
        kinds, self._kind = np.unique(numbers, return_inverse=True)
        self._radii = covalent_radii[numbers]
        self._shortest = _table(guard.shortest, kinds)
        closest = dict(guard.shortest) | dict(guard.contacts)
        self._contacts = _table(closest, kinds)
        self._first, self._second = self._named(guard.bonds, numbers)
        pairs = zip(numbers[self._first], numbers[self._second], strict=True)
        self._longest = np.array([guard.longest[_pair(a, b)] for a, b in pairs])
        first, second = self._named(guard.bonded, numbers)
        self._bonded = np.sort(first * self._n_atoms + second)
        self._is_named = bool(len(guard.numbers)) and self._copies(numbers) > 0
        self._reach = float(np.maximum(self._shortest, self._contacts).max())
        self._checked: bytes | None = None
        self._dense = self._n_atoms <= DENSE_LIMIT
        if self._dense:
            i, j = upper_triangle(self._n_atoms)
            far = np.full((self._n_atoms, self._n_atoms), np.inf)
            far[self._first, self._second] = self._longest
            self._i, self._j, self._near, self._far = i, j, self._closest(i, j), far[i, j]
            self._near2, self._far2 = self._near**2, self._far**2

    def _copies(self, numbers: Ints) -> int:
        """Return how many molecules of the guard's, one after the other, the system is."""
        own = np.array(self._guard.numbers, dtype=np.int64)
        n, rest = divmod(len(numbers), max(len(own), 1))
        return n if len(own) and not rest and np.array_equal(np.tile(own, n), numbers) else 0

    @property
    def _is_reordered(self) -> bool:
        """Whether the system has the atoms of the guard's molecules in another order."""
        own, numbers = self._guard.numbers, self._numbers
        n, rest = divmod(len(numbers), max(len(own), 1))
        if not own or rest or self._is_named:
            return False
        return np.array_equal(np.sort(np.tile(own, n)), np.sort(numbers))

    def _named(self, bonds: tuple[tuple[int, int], ...], numbers: Ints) -> tuple[Ints, Ints]:
        """Return the atoms of bonds, lower first, in every copy of the molecule."""
        one = np.sort(np.array(bonds, dtype=np.int64).reshape(-1, 2), axis=1)
        shifts = len(self._guard.numbers) * np.arange(self._copies(numbers))
        every = (one[None] + shifts[:, None, None]).reshape(-1, 2)
        return every[:, 0], every[:, 1]

    def _closest(self, i: Ints, j: Ints) -> Floats:
        """Return below which distance pairs of atoms repel, Å."""
        kinds = self._kind[i], self._kind[j]
        shortest: Floats = self._shortest[kinds]
        if not self._is_named:
            return shortest
        low, high = np.minimum(i, j), np.maximum(i, j)
        bonded = np.isin(low * self._n_atoms + high, self._bonded) & (i != j)
        return np.where(bonded, shortest, self._contacts[kinds])

    def check(self, positions: Floats, cell: Floats, pbc: Bools) -> None:
        """Refuse a structure whose atoms are in another order, or bonded otherwise.

        Raises:
            GuardError: for the same elements in another order, or where a bond with a wall is gone
                and atoms without a bond are bonded.
        """
        if self._is_reordered:
            theirs, ours = formula_in_order(self._guard.numbers), formula_in_order(self._numbers)
            raise GuardError(
                f"the guard is for {theirs}, its atoms in that order, and the structure is {ours}: "
                "give the molecule and the order of atoms that the guard was made for, or make "
                "another with this structure"
            )
        if not len(self._first):
            return
        reach = self._nearest_images(positions[self._second] - positions[self._first], cell, pbc)
        spans = self._radii[self._first] + self._radii[self._second]
        gone = np.flatnonzero(np.linalg.norm(reach, axis=1) > GONE * spans)
        i, j, vectors = self._neighbours(positions, cell, pbc)
        near = np.linalg.norm(vectors, axis=1) < MET * (self._radii[i] + self._radii[j])
        low, high = np.minimum(i, j), np.maximum(i, j)
        new = np.flatnonzero(near & ~np.isin(low * self._n_atoms + high, self._bonded))
        if len(gone) and len(new):
            a, b = int(self._first[gone[0]]), int(self._second[gone[0]])
            raise GuardError(
                f"the guard has a wall on the bond of atoms {a} and {b}, which are not bonded in "
                f"this structure, where {i[new[0]]} and {j[new[0]]} are; expected the molecule and "
                "the order of atoms that the guard was made for: make another with this structure"
            )

    def act(self, positions: Floats, cell: Floats, pbc: Bools) -> GuardAction | None:
        """Return what the guard does; None where it does nothing.

        Args:
            positions: (n_atoms, 3) Å, all finite.
            cell: (3, 3) rows, Å.
            pbc: (3,) whether periodic along each row.

        Raises:
            GuardError: for walls in a cell that is less than three bonds high.
        """
        if self._dense and not pbc.any():
            return self.act_on_all(positions[None])[0]
        i, j, vectors = self._neighbours(positions, cell, pbc)
        lengths = np.linalg.norm(vectors, axis=1)
        near = self._closest(i, j)
        close = lengths < near
        first, second = self._first, self._second
        reach = self._nearest_images(positions[second] - positions[first], cell, pbc)
        long = np.linalg.norm(reach, axis=1) > self._longest
        if not (close.any() or long.any()):
            return None
        ends = np.concatenate([i[close], first[long]]), np.concatenate([j[close], second[long]])
        limits = near[close], self._longest[long]
        return self._action(*ends, np.concatenate([vectors[close], reach[long]]), *limits)

    def act_on_all(self, positions: Floats) -> list[GuardAction | None]:
        """The same of many structures of a small molecule in free space (n, n_atoms, 3), Å.

        None for one with positions that are not finite.
        """
        vectors = positions[:, self._j] - positions[:, self._i]
        squares = np.einsum("nkx,nkx->nk", vectors, vectors)
        inside = (squares >= self._near2) & (squares <= self._far2)
        if inside.all():
            return [None] * len(positions)
        return [
            None if here.all() or not np.isfinite(square).all() else self._picked(vector, square)
            for vector, square, here in zip(vectors, squares, inside, strict=True)
        ]

    def _picked(self, vectors: Floats, squares: Floats) -> GuardAction:
        close, long = np.flatnonzero(squares < self._near2), np.flatnonzero(squares > self._far2)
        k = np.concatenate([close, long])
        return self._action(self._i[k], self._j[k], vectors[k], self._near[close], self._far[long])

    def _action(self, i: Ints, j: Ints, vectors: Floats, near: Floats, far: Floats) -> GuardAction:
        """Return what the guard does to pairs: first those that are too close, then long bonds."""
        lengths = np.linalg.norm(vectors, axis=1)
        r, n = lengths[: len(near)], len(near)
        with np.errstate(divide="ignore", invalid="ignore"):  # atoms on top of each other
            close, down = _overlap(near / r - 1, self._guard.repulsion)
            long, up = _overlap(lengths[n:] / far - 1, self._guard.wall)
            slopes = np.concatenate([-down * near / r**2, up / far])
        return GuardAction(i, j, vectors, np.concatenate([close, long]), slopes)

    def _neighbours(self, positions: Floats, cell: Floats, pbc: Bools) -> tuple[Ints, Ints, Floats]:
        """Return pairs within reach, every image of a pair and of an atom itself on its own."""
        search = cell_list()(cutoff=self._reach, full_list=False)
        i, j, vectors = search.compute(positions, cell, pbc, "ijD")
        order = np.lexsort((*vectors.T, j, i))  # the same bits whatever order they were found in
        return i[order].astype(np.int64), j[order].astype(np.int64), vectors[order]

    def _nearest_images(self, vectors: Floats, cell: Floats, pbc: Bools) -> Floats:
        """Return vectors (n, 3) to the nearest image, right for those below half the cell."""
        if not pbc.any() or not len(vectors):
            return vectors
        whole = np.asarray(Cell(cell).complete())
        inverse = np.linalg.inv(whole)
        if self._checked != (key := cell.tobytes() + pbc.tobytes()):
            height = float((1 / np.linalg.norm(inverse, axis=0))[pbc].min())
            if height < ROOM * float(self._longest.max()):
                raise GuardError(
                    f"the cell is {height:.2f} Å high, and walls on bonds of up to "
                    f"{self._longest.max():.2f} Å expect {ROOM:g} times that; repeat the cell, or "
                    "make the guard without a structure"
                )
            self._checked = key
        turns = np.round(vectors @ inverse) * pbc
        nearest: Floats = vectors - turns @ whole
        return nearest


def _overlap(x: Floats, strength: float) -> tuple[Floats, Floats]:
    """Return A x³ / (x + s) and its derivative with respect to x, for x ≥ 0."""
    x = np.maximum(x, 0.0)  # below by rounding
    energy: Floats = strength * x**3 / (x + SOFT)
    slope: Floats = strength * x**2 * (2 * x + 3 * SOFT) / (x + SOFT) ** 2
    return energy, slope


def _pair(a: int, b: int) -> str:
    return "-".join(sorted((chemical_symbols[a], chemical_symbols[b])))


def _table(distances: Mapping[str, float], kinds: Ints) -> Floats:
    """Return a distance for each pair of kinds, Å; where none is stated, that of overlap."""
    table: Floats = OVERLAP * (covalent_radii[kinds][:, None] + covalent_radii[kinds][None, :])
    for (a, x), (b, y) in itertools.product(enumerate(kinds.tolist()), repeat=2):
        table[a, b] = distances.get(_pair(x, y), table[a, b])
    return table
