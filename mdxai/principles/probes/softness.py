"""How hard a molecule resists where models are soft: angles that close, bonds that give way.

Models break where they resist too little (docs/forecast.md). Rigid deformations show it within
seconds, against a table of reference values by kind of coordinate.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from ase.data.vdw_alvarez import vdw_radii

from mdxai.calculators import CalculatorError, Potential
from mdxai.calculators.card import pair_key
from mdxai.frame import Floats, Frame
from mdxai.principles.motion.structure import bonds_of
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.principles.probes.configurations import covalent_length, moved
from mdxai.principles.probes.smoothness import fragment

CLOSED = 0.47  # of the sum of van der Waals radii, to which an angle closes: 1.13 Å for H and H
STRETCHED, COMPRESSED = 1.4, 0.8  # of the covalent length
ENOUGH = 3.0  # eV of resistance, 17 k_B T at 2000 K
PER_KIND = 6  # coordinates of one kind that are deformed


@dataclass(frozen=True, slots=True)
class Deformation:
    """A rigid deformation of a frame.

    kind: such as "angle H-C-H", "stretch C-H" or "compression C-O". atoms: of the coordinate.
    positions: (n_atoms, 3) Å, deformed.
    """

    kind: str
    atoms: tuple[int, ...]
    positions: Floats


def deformations(frame: Frame) -> Iterator[Deformation]:
    """Yield the deformations of a molecule: angles at which an atom ends, and bonds.

    Of an angle only atoms with a single bond move, about the one in the middle, until its ends are
    0.47 van der Waals distances apart. Of a bond that is in no ring the smaller fragment moves;
    bonds of hydrogen are compressed too.
    """
    i, j = bonds_of(frame)
    bonds = list(zip(i.tolist(), j.tolist(), strict=True))
    partners: list[list[int]] = [[] for _ in range(frame.n_atoms)]
    for a, b in bonds:
        partners[a].append(b)
        partners[b].append(a)
    for middle, around in enumerate(partners):
        for k, a in enumerate(around):
            for b in around[:k]:
                movers = [end for end in (a, b) if len(partners[end]) == 1]
                closed = _closed(frame, (a, middle, b), movers) if movers else None
                if closed is not None:
                    yield closed
    for a, b in bonds:
        yield from _along(frame, a, b, bonds)


def _closed(frame: Frame, atoms: tuple[int, int, int], movers: list[int]) -> Deformation | None:
    a, middle, b = atoms
    x, numbers = frame.positions, frame.numbers
    first, second = x[a] - x[middle], x[b] - x[middle]
    la, lb = np.linalg.norm(first), np.linalg.norm(second)
    goal = CLOSED * float(vdw_radii[numbers[a]] + vdw_radii[numbers[b]])
    normal = np.cross(first, second)
    cosine = (la**2 + lb**2 - goal**2) / (2 * la * lb)
    now = float(np.arccos(np.clip(first @ second / (la * lb), -1, 1)))
    if not np.linalg.norm(normal) > 1e-3 or not -1 < cosine < 1 or not np.arccos(cosine) < now:
        return None
    turn = (now - float(np.arccos(cosine))) / len(movers)
    positions = x.copy()
    for end in movers:
        angle = turn if end == a else -turn
        positions[end] = x[middle] + _rotated(x[end] - x[middle], normal, angle)
    ends = pair_key(chemical_symbols[numbers[a]], chemical_symbols[numbers[b]]).split("-")
    name = f"angle {ends[0]}-{chemical_symbols[numbers[middle]]}-{ends[1]}"
    return Deformation(name, atoms, positions)


def _rotated(vector: Floats, axis: Floats, angle: float) -> Floats:
    """Return a vector turned about an axis perpendicular to it."""
    unit = axis / np.linalg.norm(axis)
    turned: Floats = vector * np.cos(angle) + np.cross(unit, vector) * np.sin(angle)
    return turned


def _along(frame: Frame, a: int, b: int, bonds: list[tuple[int, int]]) -> Iterator[Deformation]:
    others = [bond for bond in bonds if bond != (a, b)]
    side, rest = fragment(b, others), fragment(a, others)
    if a in side:  # a ring
        return
    movers, sign = (sorted(side), 1.0) if len(side) <= len(rest) else (sorted(rest), -1.0)
    vector = frame.positions[b] - frame.positions[a]
    length = float(np.linalg.norm(vector))
    bond = pair_key(*(chemical_symbols[frame.numbers[atom]] for atom in (a, b)))
    covalent = covalent_length(frame, a, b)
    single = 1 in frame.numbers[[a, b]]  # of others the length tells the order too roughly
    for kind, share in (("stretch", STRETCHED), ("compression", COMPRESSED)):
        goal = share * covalent
        if length < goal if share > 1 else single and length > goal:
            positions = frame.positions.copy()
            positions[movers] += sign * (goal - length) * vector / length
            yield Deformation(f"{kind} {bond}", (a, b), positions)


@dataclass(frozen=True, slots=True)
class Rise:
    """Mean rise of the energy of one kind of coordinate, eV, and one of these coordinates."""

    energy: float
    atoms: tuple[int, ...]


def rises(
    twin: Potential, frame: Frame, kinds: Mapping[str, float] | None = None
) -> dict[str, Rise]:
    """Return by how much the energy rises when each kind of coordinate is deformed.

    Args:
        twin: potential to probe.
        frame: a reasonable structure.
        kinds: those to deform; all by default.

    Raises:
        CalculatorError: if the calculator refuses the frame or a deformed one.
    """
    zero = twin.evaluate(frame)[0]
    found: dict[str, list[tuple[float, tuple[int, ...]]]] = {}
    for one in deformations(frame):
        known = found.setdefault(one.kind, [])
        if len(known) < PER_KIND and (kinds is None or one.kind in kinds):
            energy = twin.evaluate(moved(frame, one.positions))[0] - zero
            known.append((energy, one.atoms))
    return {
        kind: Rise(float(np.mean([energy for energy, _ in known])), min(known)[1])
        for kind, known in found.items()
        if known
    }


@cache
def reference_rises() -> dict[str, float]:
    """Return the smallest rise of each kind, eV, in molecules of ASE's G2 set by GFN2-xTB.

    No more than 3 eV is asked for, which no run climbs. `runs/softness_reference.py` makes them.
    """
    content = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return {kind: min(float(entry["lowest"]), ENOUGH) for kind, entry in content.items()}


class Softness:
    """Share of the resistance that a molecule lacks where it is softest.

    1 − rise / reference of the kind of coordinate for which that is largest, 0 at least. Rises are
    means over the coordinates of a kind, and the reference is the smallest that any molecule of
    the G2 set has: a model that resists as GFN2-xTB does has 0. The atoms are those of the softest
    coordinate of that kind.

    Args:
        twin: potential to probe.
        first: a frame of the system.
        reference: rises by kind, eV; by default the shipped ones.

    Raises:
        PrincipleUnavailable: in a periodic cell, or without coordinates of a known kind.
    """

    name = "softness"
    unit = "share"
    cost: Cost = "probe"

    def __init__(
        self, twin: Potential, first: Frame, reference: Mapping[str, float] | None = None
    ) -> None:
        if first.pbc.any():
            raise PrincipleUnavailable("angles are closed in molecules, not in periodic cells")
        self._twin = twin
        self._reference = reference_rises() if reference is None else reference
        if not any(one.kind in self._reference for one in deformations(first)):
            raise PrincipleUnavailable("no reference for any angle or bond of the structure")

    def deviate(self, frame: Frame, attribution: object = None) -> Deviation | None:
        try:
            found = rises(self._twin, frame, self._reference)
        except CalculatorError as refused:
            raise PrincipleUnavailable(str(refused)) from refused
        if not found:
            return None
        lacking = {kind: 1 - rise.energy / self._reference[kind] for kind, rise in found.items()}
        worst = max(lacking, key=lambda kind: np.nan_to_num(lacking[kind], nan=np.inf))
        value = float(np.maximum(lacking[worst], 0.0))
        return Deviation(self.name, self.unit, value, found[worst].atoms if value != 0 else ())
