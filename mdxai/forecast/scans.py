"""Relaxed scans: distances pulled or pushed while everything else relaxes, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from ase.data import covalent_radii

from mdxai.forecast.coordinates import Coordinate
from mdxai.forecast.evaluations import Evaluations
from mdxai.forecast.relaxation import Distances, relax
from mdxai.frame import Floats

INWARDS, OUTWARDS = 0.45, 1.9  # of the covalent length, where scans end
POINTS = 20  # of a scan, the first one not counted
LONGEST = 0.25  # Å, between two points
FALL = 0.05  # eV, of an energy that has passed a top
ABYSS = 20.0  # eV below the minimum, where nothing is left to be learnt


@dataclass(frozen=True, slots=True)
class Scan:
    """Energy along a coordinate, everything else relaxed.

    Attributes:
        coordinate: what was scanned.
        lengths: (n,) Å, from that at the minimum.
        energies: (n,) eV above the zero; NaN where the potential refuses.
        positions: (n, n_atoms, 3) Å.
    """

    coordinate: Coordinate
    lengths: Floats
    energies: Floats
    positions: Floats

    def beyond_tops(self) -> list[int]:
        """Return the points from which a structure may not find back: lowest points after a top
        that was 0.05 eV higher, the first point without an energy, where a stretch ends, and where
        atoms end that nothing holds apart.
        """
        energies, found = self.energies, list[int]()
        last = len(energies) - 1
        for k in range(1, last + 1):
            if not np.isfinite(energies[k]):
                return [*found, k]
            falling = k < last and energies[k + 1] < energies[k]
            lowest = energies[k] < energies[k - 1] and not falling
            if lowest and energies[k] < energies[:k].max() - FALL:
                found.append(k)
        unheld = not found and energies[last] < FALL
        if (self.coordinate.kind == "stretch" or unheld) and last not in found:
            found.append(last)
        return found


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """How far and how finely to scan.

    Attributes:
        ceiling: eV above the minimum, where a scan ends.
        points: of a scan that begins close by, the minimum not counted.
        steps: of the relaxation at each point, at most.
        fmax: eV/Å, where the relaxation ends.
        heat: K, of short runs that look for other conformers where no frames are given; 0 for
            none. Of molecules whose potential evaluates batches only.
    """

    ceiling: float = 3.0
    points: int = POINTS
    steps: int = 60
    fmax: float = 0.1
    heat: float = 0.0


def distances_of(coordinates: Sequence[Coordinate], n_atoms: int) -> Distances:
    """Return the distances that coordinates scan, one per configuration."""
    shifts = np.array([c.shift for c in coordinates], dtype=np.float64).reshape(-1, 3)
    return Distances.between([c.groups for c in coordinates], shifts, n_atoms)


def scan_all(
    evaluate: Evaluations,
    minimum: Floats,
    coordinates: Sequence[Coordinate],
    options: ScanOptions,
    zero: float,
) -> list[Scan]:
    """Scan all coordinates from a minimum, each point as one batch.

    Lengths form a geometric series, so that steps are short where atoms are close; none is longer
    than 0.25 Å, so that no atom is torn from its place. A scan ends at the ceiling, at an energy
    that is not finite, or 20 eV below the minimum.

    Args:
        evaluate: of the system.
        minimum: (n_atoms, 3) Å.
        coordinates: to scan.
        options: how far and how finely.
        zero: energy of the lowest minimum, eV.
    """
    distances, m = distances_of(coordinates, len(minimum)), len(coordinates)
    rise = float(evaluate(minimum[None])[0][0]) - zero
    now = np.tile(minimum, (m, 1, 1))
    start = distances.lengths(now)
    goal = np.array([_end(evaluate, c) for c in coordinates])
    goal = np.where([c.kind == "stretch" for c in coordinates], np.maximum(goal, 1.2 * start), goal)
    ways = [_lengths(s, g, options.points) for s, g in zip(start, goal, strict=True)]
    walks = [[(float(s), rise, minimum)] for s in start]
    active = np.arange(m)
    for k in range(1, max(map(len, ways), default=0)):
        active = np.array([c for c in active if len(ways[c]) > k], dtype=np.int64)
        if not len(active):
            break
        held, lengths = distances.select(active), np.array([ways[c][k] for c in active])
        pushed = held.set(now[active], lengths)
        relaxed = relax(
            evaluate, pushed, held=held, fmax=options.fmax, steps=options.steps,
            floor=zero - ABYSS,
        )  # fmt: skip
        now[active] = relaxed.positions
        rises = relaxed.energies - zero
        for c, length, rise in zip(active, lengths, rises, strict=True):
            walks[c].append((float(length), float(rise), now[c].copy()))
        active = active[(rises <= options.ceiling) & (rises > -ABYSS)]
    return [
        Scan(c, *(np.array(series) for series in zip(*walk, strict=True)))
        for c, walk in zip(coordinates, walks, strict=True)
    ]


def _lengths(start: float, end: float, points: int) -> Floats:
    """Return the lengths of a scan, Å, the first included."""
    lengths = start * (end / start) ** (np.arange(points + 1) / points)
    finer = [
        np.linspace(a, b, max(1, int(np.ceil(abs(b - a) / LONGEST))), endpoint=False)
        for a, b in pairwise(lengths)
    ]
    return np.concatenate([*finer, [end]])


def _end(evaluate: Evaluations, coordinate: Coordinate) -> float:
    """Return the length at which a scan ends, Å; centres of molecules end as their largest atoms
    would, unless the ceiling is met before.
    """
    share = OUTWARDS if coordinate.kind == "stretch" else INWARDS
    radii = covalent_radii[evaluate.frame.numbers]
    return float(share * sum(radii[list(group)].max() for group in coordinate.groups))
