"""Principles of matter without molecules: crystals, melts, surfaces, wires, clusters.

Its atoms vibrate far and change neighbours, so no single bond tells whether it is sound. What tells
is its order, whether it holds together, how it is packed, and its density. Each principle looks at
one frame in the period stated, which bounds its cost.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
from ase.data import covalent_radii
from ase.geometry import complete_cell
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from mdxai.attribution import Attribution
from mdxai.calculators.reference_data import has_vacuum
from mdxai.frame import Floats, Frame, Ints, Pairs
from mdxai.principles.frame_quantities import frame_quantities
from mdxai.principles.motion.networks import METALS, neighbours, network_of
from mdxai.principles.motion.structure import BONDED, bonds_of
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.principles.running_statistics import Every

FEWEST = 8  # atoms that make matter


def matter_of(frame: Frame) -> Ints:
    """Return the atoms of matter without molecules, by their bonds, not their names.

    Those are the atoms of a network (`network_of`), metal atoms, and atoms without any bond, such
    as argon's.

    Raises:
        PrincipleUnavailable: for fewer than 8 of them, and where positions are not finite.
    """
    if not np.isfinite(frame.positions).all():
        raise PrincipleUnavailable("the first frame has positions that are not finite")
    i, j = bonds_of(frame)
    alone = np.bincount(np.concatenate([i, j]), minlength=frame.n_atoms) == 0
    atoms = np.flatnonzero(network_of(frame) | alone | np.isin(frame.numbers, list(METALS)))
    if len(atoms) < FEWEST:
        raise PrincipleUnavailable(
            f"fewer than {FEWEST} atoms belong to a crystal, a melt, a surface or a cluster"
        )
    return atoms


class Packing:
    """How the atoms of matter lie in the first frame.

    Attributes:
        atoms: (n,) indices of the atoms.
        spacing: usual distance of nearest neighbours, Å.
    """

    def __init__(self, first: Frame) -> None:
        self.atoms = matter_of(first)
        near = np.full(first.n_atoms, np.inf)
        for reach in (4.0, 8.0):
            pairs = self.pairs(first, reach)
            for ends in (pairs.i, pairs.j):
                np.minimum.at(near, ends, pairs.distances)
            if np.isfinite(near[self.atoms]).mean() > 0.5:
                break
        nearest = near[self.atoms]
        if not np.isfinite(nearest).mean() > 0.5:
            raise PrincipleUnavailable("its atoms are too far apart to touch")
        self.spacing = float(np.median(nearest[np.isfinite(nearest)]))

    def pairs(self, frame: Frame, reach: float) -> Pairs:
        """Return the pairs of these atoms within `reach`, Å."""
        pairs = frame.pairs(reach)
        member = np.zeros(frame.n_atoms, dtype=bool)
        member[self.atoms] = True
        return pairs.select(member[pairs.i] & member[pairs.j])

    def order(self, frame: Frame) -> tuple[float, float]:
        """Return how alike the directions of all neighbours are: Q, and Q in units of chance.

        Q_l = √(4π/(2l+1) Σ_m |⟨Y_lm⟩|²), the larger of l = 4 and 6, over the vectors between
        neighbours (Steinhardt, Nelson and Ronchetti, Phys. Rev. B 28, 784, 1983): 0.4 to 0.8 for a
        crystal, 0.11 for liquid argon. Chance gives 1/√n with n vectors.
        """
        vectors = self.pairs(frame, 1.3 * self.spacing).vectors
        if len(vectors) == 0:
            return 0.0, 0.0
        unit = vectors / np.linalg.norm(vectors, axis=1)[:, None]
        # Addition theorem: Q_l² is the mean of P_l(cos) over all pairs of vectors; a few suffice.
        some = unit[:: max(1, len(unit) // 600)]
        cosine = np.clip(some @ some.T, -1, 1)
        square = max(
            (35 * cosine**4 - 30 * cosine**2 + 3).mean() / 8,
            (231 * cosine**6 - 315 * cosine**4 + 105 * cosine**2 - 5).mean() / 16,
        )
        order = float(np.sqrt(max(square, 0.0)))
        return order, order * math.sqrt(len(some))


class Lindemann:
    """Root mean square displacement of atoms from their mean places, over their spacing.

    √⟨|u_i − ⟨u_i⟩|²⟩ / d: of the element that moves least, the median over its atoms, so that
    neither a wandering vacancy nor a mobile sublattice counts as melting. Crystals melt at 0.10 to
    0.19 (Lindemann, Phys. Z. 11, 609, 1910; Saija, Prestipino and Giaquinta, J. Chem. Phys. 124,
    244504, 2006); in a melt atoms diffuse and the value grows with the window. That is 0.5 ps at
    first, then twice as long each time, up to 8 ps; one frame in 10 fs is used. Motion as a
    whole is taken off, and so are changes of the cell.

    Args:
        first: a frame of a crystal.

    Raises:
        PrincipleUnavailable: when the first frame is no crystal.
    """

    name = "lindemann"
    unit = "d"
    cost: Cost = "free"
    EVERY, WINDOW, LONGEST = 10.0, 500.0, 8000.0  # fs
    ORDERED, UNLIKELY = 0.25, 1.9  # of `Packing.order`: Q, and in units of chance

    def __init__(self, first: Frame) -> None:
        self._packing = Packing(first)
        order, likelihood = self._packing.order(first)
        if not (order > self.ORDERED and likelihood > self.UNLIKELY):
            raise PrincipleUnavailable("the first frame is no crystal, so nothing can melt")
        self._elements = first.numbers[self._packing.atoms]
        self._look = Every(self.EVERY)
        self._window = self.WINDOW
        self._value: float | None = None
        self._begin(first)

    def _begin(self, frame: Frame) -> None:
        self._since, self._n = frame.time, 0
        self._last = frame.positions[self._packing.atoms].copy()
        self._moved = np.zeros_like(self._last)  # from the first frame of the window on
        self._start = self._last.copy()
        self._sum, self._squares = np.zeros_like(self._last), np.zeros(len(self._last))
        self._last_cell = frame.cell.copy()

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        if not frame_quantities(frame).placed:
            return Deviation(self.name, self.unit, np.nan)
        if self._look.due(frame.time):
            self._add(frame)
            if frame.time - self._since >= self._window - 1e-6:
                self._close()
                self._window = min(2 * self._window, self.LONGEST)
                self._begin(frame)
        return None if self._value is None else Deviation(self.name, self.unit, self._value)

    def _add(self, frame: Frame) -> None:
        here = frame.positions[self._packing.atoms]
        cell = complete_cell(frame.cell)
        # Steps in units of the cell: what a barostat does to it moves no atom from its place.
        step = here @ np.linalg.inv(cell) - self._last @ np.linalg.inv(
            complete_cell(self._last_cell)
        )
        step[:, frame.pbc] -= np.round(step[:, frame.pbc])
        self._moved += step @ cell
        self._last, self._last_cell = here.copy(), frame.cell.copy()
        apart = self._without_rigid_motion(frame)
        self._n += 1
        self._sum += apart
        self._squares += (apart * apart).sum(axis=1)

    def _without_rigid_motion(self, frame: Frame) -> Floats:
        """Return displacements from the first frame of the window, (n, 3) Å."""
        moved = self._moved
        if (np.abs(moved).max(axis=1) == 0).any():  # atoms that are held
            return moved
        moved = moved - moved.mean(axis=0)
        if frame.pbc.any():
            return moved
        before = self._start - self._start.mean(axis=0)
        turned: Floats = (before + moved) @ _rotation(before + moved, before) - before
        return turned

    def _close(self) -> None:
        mean = self._sum / self._n
        square = np.maximum(self._squares / self._n - (mean * mean).sum(axis=1), 0.0)
        rms = np.sqrt(square) / self._packing.spacing
        moving = rms > 0
        medians = [
            float(np.median(rms[moving & (self._elements == z)]))
            for z in np.unique(self._elements[moving])
        ]
        self._value = min(medians, default=0.0)


def _rotation(points: Floats, target: Floats) -> Floats:
    """Return R for which points · R is closest to the target (Kabsch, Acta Cryst. A 32, 922)."""
    left, _, right = np.linalg.svd(points.T @ target)
    turn = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation: Floats = left @ turn @ right
    return rotation


class _Excess(ABC):
    """By how much a frame exceeds the first one, looked at every so often."""

    name: str
    unit: str
    EVERY: float  # fs
    cost: Cost = "free"

    def __init__(self, usual: float) -> None:
        self._look = Every(self.EVERY)
        self._usual = usual
        self._found = Deviation(self.name, self.unit, 0.0)

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        if not frame_quantities(frame).placed:
            return Deviation(self.name, self.unit, np.nan)
        if self._look.due(frame.time):
            measured, atoms = self._measure(frame)
            beyond = max(measured - self._usual, 0.0)
            self._found = Deviation(self.name, self.unit, beyond, atoms if beyond else ())
        return self._found

    @abstractmethod
    def _measure(self, frame: Frame) -> tuple[float, tuple[int, ...]]:
        """Return what is compared, and the atoms that it is about."""


class Detached(_Excess):
    """Share of matter that is no longer part of its largest piece, beyond that of the first frame.

    Pieces are connected by neighbours closer than 1.6 times the spacing in the first frame, which
    no solid or liquid exceeds. Single atoms may evaporate; where half of the matter is in pieces it
    has exploded. One frame in 20 fs is looked at. The atoms named are those of the largest other
    piece.

    Args:
        first: a frame of the matter.

    Raises:
        PrincipleUnavailable: for fewer than 8 of its atoms.
    """

    name = "detached"
    unit = "share"
    EVERY, REACH, NAMED = 20.0, 1.6, 8

    def __init__(self, first: Frame) -> None:
        self._packing = Packing(first)
        super().__init__(self._measure(first)[0])

    def _measure(self, frame: Frame) -> tuple[float, tuple[int, ...]]:
        packing = self._packing
        pairs = packing.pairs(frame, self.REACH * packing.spacing)
        shape = (frame.n_atoms, frame.n_atoms)
        graph = coo_array((np.ones(len(pairs)), (pairs.i, pairs.j)), shape=shape)
        labels = connected_components(graph, directed=False)[1][packing.atoms]
        sizes = np.bincount(labels)
        order = np.argsort(-sizes, kind="stable")
        other = packing.atoms[labels == order[1]] if len(order) > 1 else ()
        named = tuple(int(a) for a in other[: self.NAMED])
        return 1 - float(sizes[order[0]]) / len(labels), named


class Crowding(_Excess):
    """By how many neighbours an atom has more than fit around it.

    Neighbours are closer than 1.25 times the sum of the covalent radii. Twelve equal spheres touch
    one (Schütte and van der Waerden, Math. Ann. 125, 325, 1952); more count where the first frame
    has more. A potential without a repulsive wall lets atoms pile up. One frame in 10 fs is looked
    at.

    Args:
        first: a frame of the matter.

    Raises:
        PrincipleUnavailable: for fewer than 8 of its atoms.
    """

    name = "crowding"
    unit = "atoms"
    EVERY, KISSING = 10.0, 12

    def __init__(self, first: Frame) -> None:
        matter_of(first)
        self._radii = covalent_radii[first.numbers]
        super().__init__(max(self._measure(first)[0], self.KISSING))

    def _measure(self, frame: Frame) -> tuple[float, tuple[int, ...]]:
        """Return the most neighbours of an atom, and the atom; images of one atom count each."""
        i, j, _, distances = neighbours(frame, BONDED * 2 * float(self._radii.max()))
        near = distances < BONDED * (self._radii[i] + self._radii[j])
        counts = np.bincount(i[near], minlength=frame.n_atoms)
        worst = int(np.argmax(counts))
        return float(counts[worst]), (worst,)


class Void(_Excess):
    """Growth of the largest hole in matter that fills its cell, over the spacing of its atoms.

    The radius of the largest sphere without an atom's centre in it, on a grid, less that of the
    first frame. One frame in 100 fs is looked at.

    Args:
        first: a frame of the matter.

    Raises:
        PrincipleUnavailable: where the first frame has a vacuum, holds other atoms, or does not
            repeat in all directions.
    """

    name = "void"
    unit = "d"
    EVERY = 100.0
    VACUUM = 1.3  # spacings; the largest hole of the loose diamond lattice is 1.0
    FINEST = 12  # points along a vector of the cell

    def __init__(self, first: Frame) -> None:
        self._packing = Packing(first)
        if not first.pbc.all() or len(self._packing.atoms) < first.n_atoms:
            raise PrincipleUnavailable("only matter that fills its whole cell has no holes")
        super().__init__(self._measure(first)[0])
        if self._usual > self.VACUUM:
            raise PrincipleUnavailable("the first frame has a vacuum")

    def _measure(self, frame: Frame) -> tuple[float, tuple[int, ...]]:
        """Return the radius of the largest hole in units of the spacing; it is of no atoms."""
        lengths = np.linalg.norm(frame.cell, axis=1)
        points = np.clip(np.ceil(2 * lengths / self._packing.spacing), 2, self.FINEST).astype(int)
        axes = [(np.arange(n) + 0.5) / n for n in points]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        inside = frame.positions @ np.linalg.inv(frame.cell) % 1.0
        images = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        around = (inside[None] + images[:, None]).reshape(-1, 3)
        margin = 4 * self._packing.spacing / lengths
        around = around[((around > -margin) & (around < 1 + margin)).all(axis=1)]
        distance, _ = cKDTree(around @ frame.cell).query(grid @ frame.cell)
        return float(distance.max()) / self._packing.spacing, ()


class Density:
    """Change of the volume of the cell since the first frame, |ln V/V₀|.

    Where the volumes of the training data are known, how much farther ln V lies beyond theirs than
    in the first frame counts too, and by how much it does there already, up to 0.5: a cell that
    does not change can be unlike training, and so suspect, but it has not swollen.

    Args:
        first: a frame of the run.
        trained: smallest and largest volume per atom in training, Å³, for this composition; it
            says nothing of a cell with vacuum.

    Raises:
        PrincipleUnavailable: for a system that does not repeat in all directions.
    """

    name = "density"
    unit = "1"
    cost: Cost = "free"
    UNLIKE = 0.5

    def __init__(self, first: Frame, trained: tuple[float, float] | None = None) -> None:
        if not first.pbc.all():
            raise PrincipleUnavailable("only a system that repeats in all directions has a density")
        self._cell = first.cell.tobytes()
        self._volume = _volume(first.cell)
        known = trained is not None and not has_vacuum(first.positions, first.cell)
        self._trained = first.n_atoms * np.array(trained) if known else None
        self._at_first = self._beyond_training(self._volume)
        self._unlike = min(self._at_first, self.UNLIKE)

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        if frame.cell.tobytes() == self._cell:  # the usual case
            return Deviation(self.name, self.unit, self._unlike)
        volume = _volume(frame.cell)
        if not volume > 0:
            return Deviation(self.name, self.unit, np.nan)
        change = abs(float(np.log(volume / self._volume)))
        farther = self._beyond_training(volume) - self._at_first
        return Deviation(self.name, self.unit, max(change, farther, self._unlike))

    def _beyond_training(self, volume: float) -> float:
        """Return by how much ln V exceeds its range in training."""
        if self._trained is None or not volume > 0:
            return 0.0
        least, most = np.log(self._trained)
        return float(max(least - np.log(volume), np.log(volume) - most, 0.0))


def _volume(cell: Floats) -> float:
    return float(abs(np.linalg.det(cell)))
