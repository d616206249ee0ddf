"""Energies and forces change smoothly: across the cutoff, and while a bond stretches."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from mdxai.calculators import CalculatorError, Potential
from mdxai.calculators.fragments import inputs_of_copies, inputs_of_elements
from mdxai.frame import Floats, Frame, Ints
from mdxai.principles.motion.structure import bonds_of
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.principles.probes.configurations import (
    Curve,
    OncePerFrame,
    all_pairs,
    closest_pairs,
    configuration,
    covalent_length,
    deepest_fall,
    moved,
    reachable,
    scan,
)

ACROSS = 1e-3 * np.arange(-7, 8, 2)  # Å from the cutoff
APPROACH = np.arange(2.0, 12.0, 0.1, dtype=np.float64)  # Å, to find a cutoff that is not stated
N_CROSSINGS = 3  # pairs that are moved across the cutoff
CROWDED = 0.7  # of the covalent length; a moved atom must not come closer to others
STRETCH = np.linspace(0.75, 1.8, 29)  # of a bond's length
FLAT = 0.02  # of the largest second difference; smaller ones count as zero


def interval_changes(curve: Curve) -> tuple[Floats, Floats]:
    """Return the sudden change in each interval: of the energy (eV), of the force (eV/Å).

    Energy: |E(b) − E(a) + ½(b − a)(F(a) + F(b))|, which the forces do not account for. Force:
    |F(b) − F(a)|. The larger value of the two neighbouring intervals is subtracted, so that a steep
    but smooth curve has no jump. The first and the last interval are 0.
    """
    work = np.diff(curve.distances) * (curve.forces[1:] + curve.forces[:-1]) / 2
    changes = np.abs(np.diff(curve.energies) + work), np.abs(np.diff(curve.forces))
    energy, force = (np.pad(c[1:-1] - np.maximum(c[:-2], c[2:]), 1) for c in changes)
    return energy, force


def jumps(curve: Curve) -> tuple[float, float]:
    """Return the largest jumps of energy (meV) and force (eV/Å) along a curve."""
    energy, force = (float(np.maximum(np.max(c), 0.0)) for c in interval_changes(curve))
    return 1e3 * energy, force


Crossing = tuple[tuple[int, ...], tuple[float, float]]
CutoffScans = OncePerFrame[list[Crossing]]


class CutoffJump:
    """Jump of the energy (meV) or of the force on a moved atom (eV/Å) where it leaves the cutoff.

    With a stated cutoff, one atom of each of the pairs nearest to it crosses it along their axis in
    steps of 0.002 Å; all others stay. Without one, a second copy of the molecule moves away, from a
    gap of 2 Å to 12 Å (for a periodic cell, one atom of an isolated pair). The worst places are
    then sampled more finely, to tell a jump from a steep change.

    Args:
        quantity: "energy" or "forces".
        scans: of the potential to probe, shared by the two quantities.
    """

    cost: Cost = "probe"

    def __init__(self, quantity: str, scans: CutoffScans) -> None:
        self._scans = scans
        self.name = f"cutoff_{quantity}"
        self.unit = "meV" if quantity == "energy" else "eV/Å"
        self._which = 0 if quantity == "energy" else 1

    def deviate(self, frame: Frame, attribution: object = None) -> Deviation:
        found = self._scans(frame)
        values = np.array([jump[self._which] for _, jump in found])
        worst = int(np.argmax(values))
        atoms = () if values[worst] == 0 else found[worst][0]
        return Deviation(self.name, self.unit, float(values[worst]), atoms)


def cutoff_scans(twin: Potential, isolated: Potential | None = None) -> CutoffScans:
    """Return the scan of a frame: atoms moved across the cutoff, and their jumps (meV, eV/Å).

    Args:
        twin: potential to probe.
        isolated: the same for isolated pairs, where it needs a cell; by default `twin`.
    """

    def at_cutoff(frame: Frame) -> list[Crossing]:
        distances: Floats = np.add(ACROSS, twin.cutoff, dtype=np.float64)
        return [
            ((i, j), jumps(scan(twin, start, direction, distances)))
            for i, j, start, direction in crossings(frame, twin.cutoff)
        ]

    def anywhere(frame: Frame) -> list[Crossing]:
        if not frame.pbc.any():
            return [((), approached(twin, *_two_copies(frame)))]
        try:
            return [((), approached(isolated or twin, *_two_atoms(frame)))]
        except CalculatorError as refused:
            raise PrincipleUnavailable(str(refused)) from refused

    def approached(potential: Potential, start: Frame, direction: Floats) -> tuple[float, float]:
        curve = scan(potential, start, direction, APPROACH)
        found = [_closer_look(potential, start, direction, curve, w)[w] for w in (0, 1)]
        return found[0], found[1]

    return OncePerFrame(at_cutoff if np.isfinite(twin.cutoff) else anywhere)


def _closer_look(
    twin: Potential, start: Frame, direction: Floats, curve: Curve, which: int
) -> tuple[float, float]:
    """Return the jumps of a curve at its worst place, sampled 256 times more finely there."""
    for _ in range(2):
        step = curve.distances[1] - curve.distances[0]
        k = int(np.argmax(interval_changes(curve)[which])) or 1
        finer = curve.distances[k] + step * np.arange(-4, 20.5) / 16
        there = moved(start, start.positions + (finer[0] - APPROACH[0]) * direction)
        curve = scan(twin, there, direction, finer)
    return jumps(curve)


def crossings(frame: Frame, cutoff: float) -> list[tuple[int, int, Frame, Floats]]:
    """Return up to three pairs (i, j), nearest to the cutoff first, each with a frame in which j is
    just inside the cutoff of i, and the direction in which it leaves.

    Raises:
        PrincipleUnavailable: if no atom can be moved there without coming too close to others.
    """
    pairs = frame.pairs(cutoff + 2.0) if frame.pbc.any() else all_pairs(frame)
    found = []
    for k in np.argsort(np.abs(pairs.distances - cutoff)):
        for i, j, sign in ((pairs.i[k], pairs.j[k], 1), (pairs.j[k], pairs.i[k], -1)):
            unit = sign * pairs.vectors[k] / pairs.distances[k]
            positions = frame.positions.copy()
            positions[j] += (cutoff + ACROSS[0] - pairs.distances[k]) * unit
            start = moved(frame, positions)
            if _has_room(start, int(j)):
                direction = np.zeros_like(positions)
                direction[j] = unit
                found.append((int(i), int(j), start, direction))
                break
        if len(found) == N_CROSSINGS:
            return found
    if not found:
        raise PrincipleUnavailable("no atom can be moved across the cutoff on its own")
    return found


def _has_room(frame: Frame, atom: int) -> bool:
    near = frame.pairs(4.0)
    mine = (near.i == atom) | (near.j == atom)
    closest = zip(near.i[mine], near.j[mine], near.distances[mine], strict=True)
    return all(d > CROWDED * covalent_length(frame, i, j) for i, j, d in closest)


def _two_copies(frame: Frame) -> tuple[Frame, Floats]:
    """Return two copies of the molecule, 2 Å apart along x, and the direction to part them."""
    extent = frame.positions[:, 0].max() - frame.positions[:, 0].min()
    shift = np.array([extent + APPROACH[0], 0.0, 0.0])
    positions = np.concatenate([frame.positions, frame.positions + shift])
    direction = np.zeros_like(positions)
    direction[frame.n_atoms :, 0] = 1.0
    numbers = np.tile(frame.numbers, 2)
    return configuration(numbers, positions, inputs=inputs_of_copies(frame)), direction


def _two_atoms(frame: Frame) -> tuple[Frame, Floats]:
    pairs = closest_pairs(frame)
    numbers = frame.numbers[[pairs.i[0], pairs.j[0]]] if len(pairs) else frame.numbers[[0, 0]]
    away = np.array([[0.0, 0, 0], [1.0, 0, 0]])
    inputs = inputs_of_elements(frame, numbers)
    return configuration(numbers, APPROACH[0] * away, inputs=inputs), away


StretchScans = OncePerFrame[list[tuple[tuple[int, int], Curve]]]


class BondStretch:
    """By how much a bond's energy differs from a single well while it is stretched and compressed.

    One bond of every two elements is deformed from 0.75 to 1.8 times its length. The smaller
    fragment moves as a whole (in a ring, one atom does). After the bond smoothness test of arXiv
    2602.04861. There are two quantities:

    "stretch": largest fall of the energy while leaving the well on either side, eV. Points from
    5 eV above the well outwards do not count.
    "inflections": sign changes of the curvature, less the one that dissociation needs.

    Args:
        quantity: "stretch" or "inflections".
        scans: of the potential to probe, shared by the two quantities.
    """

    cost: Cost = "probe"

    def __init__(self, quantity: str, scans: StretchScans) -> None:
        self.name, self._scans = quantity, scans
        self.unit = "eV" if quantity == "stretch" else "inflections"

    def deviate(self, frame: Frame, attribution: object = None) -> Deviation:
        measure = artificial_fall if self.name == "stretch" else extra_inflections
        found = self._scans(frame)
        values = np.array([measure(curve) for _, curve in found])
        worst = int(np.argmax(values))
        atoms = () if values[worst] == 0 else found[worst][0]
        return Deviation(self.name, self.unit, float(values[worst]), atoms)


def stretch_scans(twin: Potential, first: Frame) -> StretchScans:
    """Return the scan of a frame: its stretched bonds (i, j), each with its curve.

    Raises:
        PrincipleUnavailable: in a periodic cell, or for a frame without bonds.
    """
    if first.pbc.any():
        raise PrincipleUnavailable("bonds are stretched in molecules, not in periodic cells")
    bonds = tuple(bonds_to_stretch(first))
    if not bonds:
        raise PrincipleUnavailable("the frame has no covalent bonds")
    return OncePerFrame(
        lambda frame: [(bond, stretched(twin, frame, bond, movers)) for bond, movers in bonds]
    )


def bonds_to_stretch(frame: Frame) -> list[tuple[tuple[int, int], Ints]]:
    """Return the first bond (i, j) of every two elements, and the atoms that move with j."""
    first, second = bonds_of(frame)
    bonds = list(zip(first.tolist(), second.tolist(), strict=True))
    chosen: dict[tuple[int, int], tuple[tuple[int, int], Ints]] = {}
    for i, j in bonds:
        kinds = tuple(sorted((int(frame.numbers[i]), int(frame.numbers[j]))))
        if kinds in chosen:
            continue
        side = fragment(j, [bond for bond in bonds if bond != (i, j)])
        if i in side:  # a ring
            side = {j}
        elif len(side) > frame.n_atoms - len(side):
            i, j, side = j, i, fragment(i, [bond for bond in bonds if bond != (i, j)])  # noqa: PLW2901
        chosen[kinds] = (i, j), np.array(sorted(side))  # type: ignore[index]
    return list(chosen.values())


def fragment(atom: int, bonds: list[tuple[int, int]]) -> set[int]:
    """Return the atoms that bonds connect to `atom`, itself included."""
    partners = defaultdict[int, list[int]](list)
    for i, j in bonds:
        partners[i].append(j)
        partners[j].append(i)
    inside, border = {atom}, [atom]
    while border:
        more = set(partners[border.pop()]) - inside
        inside |= more
        border.extend(more)
    return inside


def stretched(twin: Potential, frame: Frame, bond: tuple[int, int], movers: Ints) -> Curve:
    """Return the energy from 0.75 to 1.8 times a bond's length."""
    vector = frame.positions[bond[1]] - frame.positions[bond[0]]
    length = float(np.linalg.norm(vector))
    direction = np.zeros_like(frame.positions)
    direction[movers] = vector / length
    start = moved(frame, frame.positions + (STRETCH[0] - 1) * length * direction)
    return scan(twin, start, direction, STRETCH * length)


def artificial_fall(curve: Curve) -> float:
    """Return the largest fall of the energy while leaving the minimum on either side, eV."""
    if not np.isfinite(curve.energies).all():
        return np.nan
    well = int(np.argmin(np.where(curve.distances <= 1.3 / 0.75 * curve.distances[0],
                                  curve.energies, np.inf)))  # fmt: skip
    ways = curve.energies[well:], curve.energies[well::-1]
    inward, outward = (deepest_fall(reachable(way)) for way in ways)
    return max(inward, outward)


def extra_inflections(curve: Curve) -> float:
    """Return the number of sign changes of the curvature, less one; NaN for NaN."""
    bend = np.diff(curve.energies, 2)
    if not np.isfinite(bend).all():
        return np.nan
    strong = bend[np.abs(bend) > FLAT * np.abs(bend).max()]
    flips = int(np.count_nonzero(np.diff(np.sign(strong))))
    return float(max(flips - 1, 0))
