"""Atoms that come too close repel each other, in the molecule and as isolated pairs.

Training sets hold no such configurations, so the repulsive wall of a network is left to chance. A
hole there pulls atoms together (python-ace#76, arXiv 2504.15925).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.vdw_alvarez import vdw_radii

from mdxai.calculators import CalculatorError, Potential
from mdxai.calculators.card import pair_key
from mdxai.calculators.fragments import inputs_of_elements
from mdxai.frame import NO_INPUTS, CalculatorInputs, Floats, Frame, iter_element_pairs
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.principles.probes.configurations import (
    HEIGHT,
    Curve,
    OncePerFrame,
    closest_pairs,
    configuration,
    covalent_length,
    deepest_fall,
    moved,
)
from mdxai.principles.probes.isolation import Boxed

CLOSEST = 0.4  # of the covalent length, where a scan ends
BOND_WALL = 0.7  # of the covalent length: shorter than any bond, so the energy must rise inwards
CONTACT_WALL = 0.7  # of the sum of van der Waals radii: the same for atoms that are not bonded
BONDED = 1.25  # of the covalent length
SPACING, DIMER_SPACING = 0.05, 0.1  # Å between points
FARTHEST = 6.0  # Å, where dimer curves begin
CEILING = 20.0  # eV, where curves of isolated pairs end
FORCE_BAND, ENERGY_BAND = 1e-2, 1e-3  # eV/Å, eV: smaller values count as zero (MLIP Arena)

SqueezeScans = OncePerFrame[list[tuple[int, int, Curve]]]


class Squeeze:
    """Pushes the closest pair of every two elements together, in the molecule, to find holes.

    Both atoms move along their axis, from the pair's distance down to 0.4 of its covalent length;
    all others stay. The scan ends where the energy has risen by 5 eV. There are two quantities:

    "squeeze": largest fall of the energy on the way in, eV; 0 if the energy only rises. It counts
    the frame's energy and all points within 0.7 of the covalent length (for atoms that are not
    bonded, of the van der Waals distance), so that no real bond or contact counts as a hole.
    "wall": by how much the highest point stays below 5 eV above the frame.

    Args:
        quantity: "squeeze" or "wall".
        scans: of the potential to probe, shared by the two quantities.
    """

    unit = "eV"
    cost: Cost = "probe"

    def __init__(self, quantity: str, scans: SqueezeScans) -> None:
        self.name, self._scans = quantity, scans

    def deviate(self, frame: Frame, attribution: object = None) -> Deviation | None:
        scans = self._scans(frame)
        if not scans:  # no pairs
            return None
        values = np.array([self._value(frame, i, j, curve) for i, j, curve in scans])
        worst = int(np.argmax(values))
        atoms = () if values[worst] == 0 else scans[worst][:2]
        return Deviation(self.name, self.unit, float(values[worst]), atoms)

    def _value(self, frame: Frame, i: int, j: int, curve: Curve) -> float:
        if not np.isfinite(curve.energies).all():
            return np.nan
        start = curve.energies[0]
        if self.name == "wall":
            return float(np.maximum(HEIGHT - (np.max(curve.energies) - start), 0.0))
        inside = curve.distances <= wall_begins(frame, i, j, curve.distances[0])
        return deepest_fall(np.concatenate([[start], curve.energies[inside]]))


def squeeze_scans(twin: Potential) -> SqueezeScans:
    """Return the scan of a frame: its closest pairs (i, j), each with its curve, inwards."""

    def scan_all(frame: Frame) -> list[tuple[int, int, Curve]]:
        pairs = closest_pairs(frame)
        return [
            (int(i), int(j), squeezed(twin, frame, int(i), int(j), vector))
            for i, j, vector in zip(pairs.i, pairs.j, pairs.vectors, strict=True)
        ]

    return OncePerFrame(scan_all)


def wall_begins(frame: Frame, i: int, j: int, distance: float) -> float:
    """Return the distance, Å, below which pushing two atoms together can only cost energy."""
    covalent = covalent_length(frame, i, j)
    if distance <= BONDED * covalent:
        return BOND_WALL * covalent
    contact = float(vdw_radii[frame.numbers[i]] + vdw_radii[frame.numbers[j]])
    return CONTACT_WALL * contact if np.isfinite(contact) else covalent


def squeezed(twin: Potential, frame: Frame, i: int, j: int, vector: Floats) -> Curve:
    """Return the curve of pushing atoms i and j of a frame together along `vector` (i to j, Å)."""
    return _pushed(twin, frame, (i, j), vector, SPACING, HEIGHT)


def _pushed(
    twin: Potential,
    frame: Frame,
    atoms: tuple[int, int],
    vector: Floats,
    spacing: float,
    ceiling: float,
) -> Curve:
    """Push two atoms together until the energy has risen by `ceiling` eV, or until they are 0.4
    covalent lengths apart. The distances descend.
    """
    start = float(np.linalg.norm(vector))
    end = min(CLOSEST * covalent_length(frame, *atoms), 0.9 * start)
    distances = np.linspace(start, end, max(3, round((start - end) / spacing) + 1))
    direction = np.zeros_like(frame.positions)
    direction[atoms[1]] = vector / (2 * start)
    direction[atoms[0]] = -direction[atoms[1]]
    energies, forces = [], []
    for distance in distances:
        positions = frame.positions + (distance - start) * direction
        energy, pushed = twin.evaluate(moved(frame, positions))
        energies.append(energy)
        forces.append(float(np.sum(pushed * direction)))
        if not energy - energies[0] <= ceiling:
            break
    return Curve(distances[: len(energies)], np.array(energies), np.array(forces))


class DimerCurves:
    """Curves of isolated pairs of elements, neutral and in their lowest spin, computed once.

    Args:
        twin: potential to probe.
        first: a frame of the system, which says what else the calculator reads; None for nothing.
    """

    def __init__(self, twin: Potential, first: Frame | None = None) -> None:
        self._twin, self._first = twin, first
        self.note = twin.note if isinstance(twin, Boxed) else ""
        self._known: dict[tuple[int, int], Curve | CalculatorError] = {}

    def __call__(self, z1: int, z2: int) -> Curve:
        """Return the curve of two elements by atomic number.

        Raises:
            CalculatorError: if the calculator refuses such a pair.
        """
        if (z1, z2) not in self._known:
            try:
                first = self._first
                inputs = (
                    NO_INPUTS if first is None else inputs_of_elements(first, np.array([z1, z2]))
                )
                self._known[z1, z2] = dimer_curve(self._twin, (z1, z2), inputs)
            except CalculatorError as refused:
                self._known[z1, z2] = refused
        curve = self._known[z1, z2]
        if isinstance(curve, CalculatorError):
            raise curve
        return curve


def dimer_curve(
    twin: Potential, numbers: tuple[int, int], inputs: CalculatorInputs = NO_INPUTS
) -> Curve:
    """Return E(r) and the radial force of two isolated atoms, every 0.1 Å or so from 6 Å inwards.

    The curve ends at 0.4 of the covalent length, or 20 eV above the energy at 6 Å.

    Raises:
        CalculatorError: if the calculator refuses such a pair.
    """
    vector = np.array([FARTHEST, 0.0, 0.0])
    atoms = configuration(np.array(numbers), np.stack([0 * vector, vector]), inputs=inputs)
    return _pushed(twin, atoms, (0, 1), vector, DIMER_SPACING, CEILING)


def dimer_curves(twin: Potential, symbols: Iterable[str]) -> dict[str, Curve]:
    """Return the curves of all pairs of elements, by name such as "C-H".

    Raises:
        CalculatorError: if the calculator refuses a pair.
    """
    numbers = sorted({chemical_symbols.index(symbol) for symbol in symbols})
    return {
        pair_key(chemical_symbols[a], chemical_symbols[b]): dimer_curve(twin, (a, b))
        for k, a in enumerate(numbers)
        for b in numbers[k:]
    }


def dimer_hole(curve: Curve, covalent: float) -> float:
    """Return the largest fall of the energy within 0.7 covalent lengths, eV."""
    inside = curve.energies[curve.distances <= BOND_WALL * covalent]
    return deepest_fall(inside) if len(inside) else 0.0


def dimer_wall(curve: Curve, covalent: float) -> float:
    """Return by how much the curve stays below 5 eV above its far end, eV."""
    return max(HEIGHT - float(curve.energies.max() - curve.energies[0]), 0.0)


def dimer_flips(curve: Curve, covalent: float) -> float:
    """Return the number of sign changes of the radial force, less the one that a bond needs."""
    strong = curve.forces[np.abs(curve.forces) >= FORCE_BAND]
    flips = int(np.count_nonzero(np.diff(np.sign(strong))))
    return float(max(flips - 1, 0))


def dimer_jump(curve: Curve, covalent: float) -> float:
    """Return the sum of all falls of the energy while leaving the minimum on either side, eV."""
    energies, lowest = curve.energies, int(np.argmin(curve.energies))
    falls = np.append(np.diff(energies[: lowest + 1]), -np.diff(energies[lowest:]))
    return float(np.sum(np.where(falls <= ENERGY_BAND, 0.0, falls)))


def dimer_tortuosity(curve: Curve, covalent: float) -> float:
    """Return Σ|ΔE|, divided by the direct way (far end to minimum to near end), less 1."""
    energies = curve.energies
    direct = float(energies[0]) + float(energies[-1]) - 2 * float(energies.min())
    if direct <= ENERGY_BAND:
        return 0.0  # flat: atoms that do not interact
    way = float(np.abs(np.diff(energies)).sum())
    return way / direct - 1


def dimer_work(curve: Curve, covalent: float) -> float:
    """Return mean |F + dE/dr|, eV/Å, over pairs of intervals, ∫F dr by Simpson's rule."""
    step = curve.distances[1] - curve.distances[0]
    work = step / 3 * (curve.forces[:-2] + 4 * curve.forces[1:-1] + curve.forces[2:])
    gain = curve.energies[2:] - curve.energies[:-2]
    return float(np.mean(np.abs(work + gain)) / abs(2 * step))


DIMER_MEASURES: dict[str, tuple[str, Callable[[Curve, float], float]]] = {
    "dimer_hole": ("eV", dimer_hole),
    "dimer_wall": ("eV", dimer_wall),
    "dimer_flips": ("flips", dimer_flips),
    "dimer_jump": ("eV", dimer_jump),
    "dimer_tortuosity": ("", dimer_tortuosity),
    "dimer_work": ("eV/Å", dimer_work),
}


class Dimers:
    """One measure of the curves of isolated pairs: the worst of all pairs of elements.

    After the diatomic tests of MLIP Arena (github.com/atomind-ai/mlip-arena); see DIMER_MEASURES.
    The atoms named are the closest pair of the two elements.

    Args:
        measure: a key of DIMER_MEASURES.
        curves: of the potential to probe.
        first: a frame of the system.

    Attributes:
        refused: reasons why the calculator refused a pair of elements, by name such as "C-H".
        note: how the pairs were isolated, where that needs a word.

    Raises:
        PrincipleUnavailable: for a single atom, or if the calculator refuses all pairs.
    """

    cost: Cost = "probe"

    def __init__(self, measure: str, curves: DimerCurves, first: Frame) -> None:
        self.name = measure
        self.unit, self._measure = DIMER_MEASURES[measure]
        self.note = curves.note
        self.refused: dict[str, str] = {}
        self._values: dict[tuple[int, int], float] = {}
        for a, b in iter_element_pairs(first.numbers):
            covalent = float(covalent_radii[[a, b]].sum())
            try:
                curve = curves(a, b)
            except CalculatorError as reason:
                name = pair_key(chemical_symbols[a], chemical_symbols[b])
                self.refused[name] = str(reason)
                continue
            finite = np.isfinite([curve.energies, curve.forces]).all()
            self._values[a, b] = self._measure(curve, covalent) if finite else np.nan
        if not self._values:
            words = next(iter(self.refused.values()), "a single atom has no pairs")
            raise PrincipleUnavailable(words)

    def deviate(self, frame: Frame, attribution: object = None) -> Deviation:
        values = self._values
        worst = max(values, key=lambda pair: np.nan_to_num(values[pair], nan=np.inf))
        pairs = closest_pairs(frame)
        z = np.sort(np.stack([frame.numbers[pairs.i], frame.numbers[pairs.j]], 1), 1)
        here = np.flatnonzero((z == worst).all(axis=1))[:1]
        atoms = tuple(int(a) for k in here for a in (pairs.i[k], pairs.j[k]))
        return Deviation(self.name, self.unit, values[worst], atoms if values[worst] != 0 else ())
