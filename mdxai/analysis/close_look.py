"""What takes too long for every molecule of a large set, of some of them: three and more bodies,
what message passing adds, copies far apart, bond orders of GFN2-xTB.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import comb
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mdxai.analysis.bond_kinds import BONDED, pair_kinds
from mdxai.analysis.clustered_means import ClusteredMeans, State
from mdxai.analysis.explained_model import ExplainedModel
from mdxai.attribution import Attribution, AttributionError
from mdxai.frame import Floats, Frame, Ints, upper_triangle

WIDTH, ANGLES = 0.25, 18  # Å, of bins of perimeters and distances; bins of angles
PERIMETER = 20.0  # Å, the longest
SMALL, MEDIUM = 12, 30  # atoms up to which four bodies, and walks through both atoms, are summed
AWAY = 100.0  # Å, between copies
BOHR = 0.529177210903  # Å, CODATA 2018
ORDERS = ("one-body", "two-body", "three-body", "four-body", "higher")
COPIED = ("output", "relevance of atoms")


class CloseLook:
    """Sums over some molecules of a data set, as one model explains them.

    Attributes:
        perimeters: three-body strength by the perimeter of the triangle, in bins of 0.25 Å.
        angles: that of triangles with two bonds, by the angle between these, in bins of 10°.
        orders: shares of Σ|R| over body orders, four-body for molecules of up to 12 atoms
            ("share four-body", and "share higher" without it: "share beyond three").
        beyond: strength of all walks that visit both atoms, by distance, in bins of 0.25 Å, and
            "two-body" that of walks which visit no other.
        copies: output and Σ|R_a| of two copies 100 Å apart, over those of one.
        precision: largest change of a pair's relevance in float64, as a share of the largest.
        order_rows: (n, 3) molecule, strength and GFN2-xTB's Wiberg order of each bond.
    """

    def __init__(self, reach: float) -> None:
        n_bins = max(int(np.ceil(reach / WIDTH)), 1)
        self.perimeters = ClusteredMeans(int(PERIMETER / WIDTH))
        self.angles, self.beyond = ClusteredMeans(ANGLES), ClusteredMeans(n_bins)
        self.orders, self.copies, self.precision = (ClusteredMeans(1) for _ in range(3))
        self.order_rows: Floats = np.zeros((0, 3))

    def add(self, model: ExplainedModel, frame: Frame, index: int, wiberg: bool) -> None:
        """Take in one molecule; `wiberg` also asks GFN2-xTB."""
        explained = model.attributor(3).attribute(frame)
        self._add_triples(explained, frame)
        self._add_orders(model, explained, frame)
        if frame.n_atoms <= MEDIUM:
            self._add_beyond(model, explained, frame)
        self._add_copies(model, explained, frame)
        exact = model.attributor(2, "float64").attribute(frame)
        if len(exact.pairs) == len(explained.pairs) > 0:
            change = np.abs(exact.strengths - explained.strengths).max()
            share = change / max(float(np.abs(exact.strengths).max()), 1e-300)
            _one(self.precision, "float64", share)
        if wiberg:
            self._add_wiberg(explained, frame, index)

    def _add_triples(self, explained: Attribution, frame: Frame) -> None:
        triples, three = explained.triples, explained.three_body
        if not len(triples):
            return
        points = frame.positions[triples]
        sides = np.stack(
            [np.linalg.norm(points[:, a] - points[:, b], axis=1) for a, b in _SIDES], axis=1
        )
        same = np.zeros(len(triples), dtype=np.int64)
        bins = (sides.sum(axis=1) / WIDTH).astype(np.int64)
        self.perimeters.add(["three-body"], same, bins, three, same)
        bonds = _bond_table(explained, frame)
        for k, (a, b) in enumerate(((1, 2), (0, 2), (0, 1))):  # k: the atom in the middle
            rows = np.flatnonzero(
                bonds[triples[:, k], triples[:, a]] & bonds[triples[:, k], triples[:, b]]
            )
            angle = _angles(points[rows, k], points[rows, a], points[rows, b])
            bins = np.minimum((angle / (180 / ANGLES)).astype(np.int64), ANGLES - 1)
            self.angles.add(["three-body"], same[rows], bins, three[rows], same[rows])

    def _add_orders(self, model: ExplainedModel, explained: Attribution, frame: Frame) -> None:
        one, two, three, rest = explained.by_body_order.tolist()
        found = {"one-body": one, "two-body": two, "three-body": three}
        n = frame.n_atoms
        if 4 <= n <= SMALL:
            sets = _quadruples(n)
            inside = float(model.attributor(2).relevance_of_sets(frame, sets).sum())
            four = inside - (n - 3) * three - comb(n - 2, 2) * two - comb(n - 1, 3) * one
            found |= {"four-body": four, "higher": rest - four}
        else:
            found["beyond three"] = rest
        total = sum(map(abs, found.values()))
        for name, value in found.items():
            _one(self.orders, f"share {name}", abs(value) / max(total, 1e-300))
            _one(self.orders, name, value)

    def _add_beyond(self, model: ExplainedModel, explained: Attribution, frame: Frame) -> None:
        inclusive = model.attributor(2).inclusive_strength(frame)
        i, j = upper_triangle(frame.n_atoms)
        distances = np.linalg.norm(frame.positions[j] - frame.positions[i], axis=1)
        two = np.zeros((frame.n_atoms, frame.n_atoms))
        two[explained.pairs.i, explained.pairs.j] = explained.strengths
        same, bins = np.zeros(len(i), dtype=np.int64), (distances / WIDTH).astype(np.int64)
        self.beyond.add(["all walks"], same, bins, inclusive[i, j], same)
        self.beyond.add(["two-body"], same, bins, two[i, j], same)

    def _add_copies(self, model: ExplainedModel, explained: Attribution, frame: Frame) -> None:
        from ase import Atoms

        shifted = frame.positions + np.array([AWAY + np.ptp(frame.positions[:, 0]), 0, 0])
        two = Atoms(np.tile(frame.numbers, 2), np.concatenate([frame.positions, shifted]))
        try:
            copies = model.attributor(2).attribute(two)
        except AttributionError:
            return
        if abs(explained.output) > 1e-9:
            _one(self.copies, COPIED[0], copies.output / explained.output)
        size = float(np.abs(explained.atoms).sum())
        if size > 1e-9:
            _one(self.copies, COPIED[1], float(np.abs(copies.atoms).sum()) / size)

    def _add_wiberg(self, explained: Attribution, frame: Frame, index: int) -> None:
        orders = wiberg_orders(frame)
        if orders is None:
            return
        pairs = explained.pairs
        kinds, _ = pair_kinds(frame.numbers, frame.positions, pairs.i, pairs.j, pairs.distances)
        rows = np.flatnonzero(np.isin(kinds, BONDED))
        strengths, order = np.abs(explained.strengths[rows]), orders[pairs.i[rows], pairs.j[rows]]
        new = np.stack([np.full(len(rows), float(index)), strengths, order], axis=1)
        self.order_rows = np.concatenate([self.order_rows, new])

    def merge(self, other: CloseLook) -> None:
        """Add the sums over other molecules."""
        for name in _PARTS:
            getattr(self, name).merge(getattr(other, name))
        self.order_rows = np.concatenate([self.order_rows, other.order_rows])

    def state(self) -> State:
        """Return arrays from which `from_state` continues."""
        parts = {
            f"{name}.{key}": array
            for name in _PARTS
            for key, array in getattr(self, name).state().items()
        }
        return parts | {"order_rows": self.order_rows}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """Return the look whose `state` this is."""
        self = cls(WIDTH)
        for name in _PARTS:
            mine = {k.split(".", 1)[1]: v for k, v in state.items() if k.startswith(f"{name}.")}
            setattr(self, name, ClusteredMeans.from_state(mine))
        self.order_rows = state["order_rows"].copy()
        return self


_PARTS = ("perimeters", "angles", "orders", "beyond", "copies", "precision")
_SIDES = ((0, 1), (0, 2), (1, 2))


def has_xtb() -> bool:
    """Whether tblite, which GFN2-xTB comes with, is installed."""
    from importlib.util import find_spec

    return find_spec("tblite") is not None


def wiberg_orders(frame: Frame) -> Floats | None:
    """Return GFN2-xTB's Wiberg bond orders, (n_atoms, n_atoms); None where it does not converge."""
    from tblite.interface import Calculator

    calculator = Calculator("GFN2-xTB", frame.numbers, frame.positions / BOHR)
    calculator.set("verbosity", 0)
    try:
        orders: Floats = np.asarray(calculator.singlepoint().get("bond-orders"))
    except RuntimeError:
        return None
    return orders.reshape(frame.n_atoms, frame.n_atoms, -1).sum(axis=2)  # over spins


def _one(means: ClusteredMeans, name: str, value: float) -> None:
    zero = np.zeros(1, dtype=np.int64)
    means.add([name], zero, zero, np.array([value]), zero)


def _quadruples(n: int) -> Ints:
    from itertools import combinations

    return np.array(list(combinations(range(n), 4)), dtype=np.int64)


def _bond_table(explained: Attribution, frame: Frame) -> NDArray[np.bool_]:
    pairs = explained.pairs
    kinds, _ = pair_kinds(frame.numbers, frame.positions, pairs.i, pairs.j, pairs.distances)
    rows = np.isin(kinds, BONDED)
    table = np.zeros((frame.n_atoms, frame.n_atoms), dtype=bool)
    table[pairs.i[rows], pairs.j[rows]] = table[pairs.j[rows], pairs.i[rows]] = True
    return table


def _angles(centre: Floats, first: Floats, second: Floats) -> Floats:
    a, b = first - centre, second - centre
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = np.einsum("ij,ij->i", a, b) / lengths
    angles: Floats = np.degrees(np.arccos(cosine.clip(-1, 1)))
    return angles
