"""Search for weak spots: relaxed scans, what physics forbids, saddles and rates."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mdxai.calculators import Potential, twin_of
from mdxai.calculators.model_name import made_name
from mdxai.forecast.conformers import (
    DISTORTED,
    MOST_CONFORMERS,
    MOST_COORDINATES,
    MOST_VISITED,
    REPLICAS,
    WINDOW,
    FlatPotentialError,
    Frames,
    WeakSpotError,
    conformers_of,
    is_new,
    positions_of,
    sorted_distances,
    thermal_positions,
)
from mdxai.forecast.coordinates import coordinates_of
from mdxai.forecast.evaluations import Evaluations, evaluated, evaluations
from mdxai.forecast.forbidden import Physics
from mdxai.forecast.kept_evaluations import EvaluationStore, KeptEvaluations, structure_sha256
from mdxai.forecast.relaxation import Relaxed, relax
from mdxai.forecast.saddle import StationaryPoint, prefactor, stationary_point
from mdxai.forecast.scans import ABYSS, FALL, Scan, ScanOptions, distances_of, scan_all
from mdxai.forecast.weak_spot import WeakPath, WeakSpot, WeakSpots
from mdxai.frame import Floats, Frame
from mdxai.principles.probes.configurations import moved
from mdxai.serialization import as_plain

LOWER = 0.05  # eV, by which another minimum has to be lower to start again from it
RESTARTS = 2
IRRELEVANT = 1.0  # eV above the lowest barrier, 12 k_B T at 1000 K, where no saddle is looked for
AS_LOW = 0.1  # eV above the lowest top of a coordinate, up to which tops are refined
MOST_SADDLES = 30  # nor beyond this many tops, lowest first
# Places between two points of a scan, to begin the search for a saddle from the highest.
BETWEEN = 6
GUESSED_PREFACTOR = 10.0  # per ps, where no saddle tells
FLAT = 0.01  # per ps, 0.3 per cm, of the highest frequency where nothing holds the atoms
NOTHING = 0.005  # eV, a barrier that is none: 58 K
SAME_SADDLE = 0.002, 0.02  # eV, Å
TOLERANCE = 0.5  # eV, by which a reference's barrier for the same reaction may be higher
RELEASE_FMAX, RELEASE_STEPS = 0.03, 200  # eV/Å; of what is let go
Progress = Callable[[str, int, int], None]  # what is done, number done, total


def weak_spots(  # noqa: PLR0913 (one argument per choice)
    calculator: Any,
    structure: Atoms | Frame,
    *,
    temperature: float = 300.0,
    frames: Frames | None = None,
    reference: Any = None,
    cutoff: float = math.nan,
    options: ScanOptions | None = None,
    path: Path | str | None = None,
    progress: Progress | None = None,
) -> WeakSpots:
    """Find the coordinates along which a model leads to structures that physics forbids.

    A twin is relaxed to a minimum. From there every pair of atoms is pushed together and every bond
    pulled apart, everything else relaxed (`scan_all`). Structures beyond a top are released: a weak
    spot is one that comes to rest where physics forbids (`Physics`), not one that springs back or
    has merely changed its conformation. Its top is taken to a saddle, with the rate of harmonic
    transition-state theory. mdxai's networks evaluate all coordinates as one batch.

    Args:
        calculator: any ASE calculator, which is copied and not evaluated itself, or a function that
            makes one.
        structure: a reasonable structure; it is not changed.
        temperature: K, of the rates.
        frames: of a trajectory or data set, or a file with one (ASE's formats, npz of MD17). Up to
            32 of them, evenly spread, are relaxed, and the six lowest conformers within 0.6 eV are
            scanned; each coordinate's lowest barrier counts, above the lowest minimum. Those of a
            periodic structure need its cell.
        reference: a trusted ASE calculator, or a function that makes one, to compare paths with:
            what it does too is a reaction and no weak spot.
        cutoff: of a calculator other than mdxai's, Å, if known.
        options: how far and how finely to scan.
        path: directory that keeps every evaluation; the same call continues a search that was
            killed, and finds the same.
        progress: called with what is being done, the number done and the total.

    Raises:
        CalculatorError: for a calculator that cannot be copied, or that fails on the structure.
        FlatPotentialError: for a structure between whose atoms there are no forces.
        WeakSpotError: for a structure without two atoms, a temperature that is not positive, or
            frames of other atoms or another cell.
        ReferenceDataError: for a file of frames that cannot be read.
        KeptSearchError: for a directory with another search.
        RecordError: where the directory cannot be written.
    """
    frame = structure if isinstance(structure, Frame) else Frame.from_atoms(structure)
    if frame.n_atoms < 2:
        raise WeakSpotError(f"weak spots need at least two atoms, got {frame.n_atoms}")
    if not temperature > 0:
        raise WeakSpotError(f"expected a temperature above 0 K, got {temperature:g}")
    twin, options = twin_of(calculator, cutoff=cutoff), options or ScanOptions()
    frame = evaluated(twin, frame)
    energy = math.nan if frame.energy is None else frame.energy
    starts = None if frames is None else positions_of(frames, frame)
    rival = None if reference is None else twin_of(reference)
    with ExitStack() as stack:
        keep = _keep_nothing
        if path is not None:
            name = made_name(calculator, twin)
            identity = search_identity(name, energy, frame, options, rival, starts)
            keep = partial(_kept, stack.enter_context(EvaluationStore(Path(path), identity)))
        search = _Search(keep(evaluations(twin, frame), "model"), options, progress or _silent)
        scans = search.scan(frame.positions, starts)
        spots, real = search.refined(search.entrances(scans)), list[WeakSpot]()
        if rival is not None:
            spots, real = _compared(spots, keep(evaluations(rival, search.frame), "reference"))
    return WeakSpots(
        tuple(sorted(spots, key=lambda spot: spot.barrier)), temperature, search.frame, len(scans),
        options.ceiling, "" if rival is None else rival.name, tuple(real),
    )  # fmt: skip


def search_identity(
    name: str, energy: float, start: Frame, options: ScanOptions, rival: Potential | None,
    starts: Floats | None,
) -> Mapping[str, Any]:  # fmt: skip
    """Return what two searches must share for one to continue the other, as plain data."""
    identity: Mapping[str, Any] = as_plain({
        "model": name, "energy": energy, "structure": structure_sha256(start),
        "options": asdict(options), "reference": "" if rival is None else rival.name,
        "frames": "" if starts is None else hashlib.sha256(starts.tobytes()).hexdigest(),
    })  # fmt: skip
    return identity


def _keep_nothing(evaluate: Evaluations, who: str) -> Evaluations:
    return evaluate


def _kept(store: EvaluationStore, evaluate: Evaluations, who: str) -> Evaluations:
    return KeptEvaluations(evaluate, store, who)


def _silent(what: str, done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True)
class _Entrance:
    """Where a scan leads into what is forbidden: at point `beyond`, after the point `top`."""

    scan: Scan
    top: int
    beyond: int
    forbidden: str
    depth: float

    @property
    def height(self) -> float:
        """Energy of the top above the minimum, eV."""
        return float(self.scan.energies[self.top])


class _Search:
    """The search from one minimum."""

    def __init__(self, evaluate: Evaluations, options: ScanOptions, progress: Progress) -> None:
        self._evaluate, self.options, self._progress = evaluate, options, progress
        self.frame, self.energy = evaluate.frame, math.nan
        self._minimum: StationaryPoint | None = None
        self._physics = Physics(evaluate.frame)

    def scan(self, positions: Floats, starts: Floats | None = None) -> list[Scan]:
        """Relax, scan every coordinate, and do so again where a lower minimum turns up.

        Then scan from other conformers.

        Args:
            positions: (n_atoms, 3) Å.
            starts: (n, n_atoms, 3) Å, to look for conformers from.
        """
        conformers, hot = list[Floats](), starts is None and self._visits_others
        if hot:
            self._progress("conformers", 0, REPLICAS)
            starts = self._visited(positions)
        if starts is not None:
            self._progress("conformers", 0, len(starts))
            everywhere = np.concatenate([positions[None], starts])
            conformers = conformers_of(self._evaluate, self._physics, everywhere)
            positions = conformers[0] if conformers else positions
        for attempt in range(RESTARTS + 1):
            self._begin(positions)
            self._progress("scans", attempt, RESTARTS + 1)
            scans = self._scanned(self.frame)
            lower = self._lower_minimum(scans)
            if lower is None:
                break
            positions = lower
        others = [x for x in conformers if is_new(self.frame, x, [self.frame.positions])]
        most = min(MOST_VISITED, MOST_COORDINATES // max(len(scans), 1)) if hot else MOST_CONFORMERS
        for done, other in enumerate(others[: max(0, most - 1 - attempt)]):
            self._progress("conformers", done + 1, len(others) + 1)
            if float(self._evaluate(other[None])[0][0]) < self.energy + WINDOW:
                scans += self._scanned(moved(self.frame, other))
        return scans

    @property
    def _visits_others(self) -> bool:
        batched = self._evaluate.at_once > 1
        return batched and self.options.heat > 0 and not self.frame.pbc.any()

    def _visited(self, positions: Floats) -> Floats:
        """Return what short hot runs from positions (n_atoms, 3) visit."""
        energies, forces = self._evaluate(positions[None])
        start = moved(self.frame, positions).with_results(float(energies[0]), forces[0])
        return thermal_positions(self._evaluate, start, self.options.heat)

    def _scanned(self, minimum: Frame) -> list[Scan]:
        return scan_all(
            self._evaluate, minimum.positions, coordinates_of(minimum), self.options, self.energy
        )

    def _begin(self, positions: Floats) -> None:
        relaxed = relax(self._evaluate, positions[None], fmax=0.02, steps=500)
        where = relaxed.positions[0]
        why = self._physics.forbids(where, math.inf)
        if why:
            raise WeakSpotError(
                f"the structure relaxes into what physics forbids ({why}); expected a structure in "
                "which the model holds atoms apart"
            )
        self._minimum = stationary_point(self._evaluate, where)
        if self._minimum is not None and not (np.abs(self._minimum.frequencies) > FLAT).any():
            raise FlatPotentialError(
                "the potential is flat here: there are no forces between any of the atoms; give a "
                "structure whose atoms are within the calculator's range, or a calculator with "
                "the parameters of this system"
            )
        if self._minimum is not None and self._minimum.order == 0:
            where = self._minimum.positions
        energies, forces = self._evaluate(where[None])
        self.energy = float(energies[0])
        self.frame = moved(self.frame, where).with_results(self.energy, forces[0])

    def _lower_minimum(self, scans: Sequence[Scan]) -> Floats | None:
        """Return a lower minimum with the same bonds that scans have met, relaxed."""
        low = [
            (float(scan.energies[k]), scan.positions[k])
            for scan in scans
            for k in np.flatnonzero(scan.energies < -LOWER)
            if self._is_conformer(scan.positions[k])
        ]
        if not low:
            return None
        lowest = np.array([min(low, key=lambda found: found[0])[1]])
        relaxed = relax(self._evaluate, lowest, fmax=0.05, steps=300).positions[0]
        return relaxed if self._is_conformer(relaxed) else None

    def _is_conformer(self, positions: Floats) -> bool:
        """Return whether a structure is sound, with the bonds and angles of the minimum."""
        return (
            self._physics.keeps_bonds(positions)
            and self._physics.distortion(self.frame.positions, positions) < DISTORTED
            and not self._physics.forbids(positions, math.inf)
        )

    def _released(self, positions: Floats) -> Relaxed:
        """Let go of structures (n, n_atoms, 3) and return where they come to rest."""
        floor = self.energy - ABYSS
        return relax(self._evaluate, positions, fmax=RELEASE_FMAX, steps=RELEASE_STEPS, floor=floor)

    def entrances(self, scans: Sequence[Scan]) -> list[_Entrance]:
        """Release what lies beyond the tops of scans, and return where that stays forbidden.

        Each scan's places are released in turn: the first that stays forbidden is its way in.
        """
        left = {s: places for s, scan in enumerate(scans) if (places := self._places(scan))}
        found = dict[int, _Entrance]()
        total = sum(len(places) for places in left.values())
        while left:
            self._progress("releases", total - sum(map(len, left.values())), total)
            starts = np.array([scans[s].positions[places[0]] for s, places in left.items()])
            released = self._released(starts)
            ends = zip(list(left), released.positions, released.energies, strict=True)
            for s, end, energy in ends:
                entrance = self._entrance(scans[s], left[s].pop(0), end, float(energy))
                if entrance is not None:
                    found[s] = entrance
                if entrance is not None or not left[s]:
                    del left[s]
        return [found[s] for s in sorted(found)]

    def _places(self, scan: Scan) -> list[int]:
        """Return the points to release: beyond tops that are not above the ceiling."""
        return [
            k for k in scan.beyond_tops()
            if float(scan.energies[_top_before(scan, k)]) <= self.options.ceiling
        ]  # fmt: skip

    def _entrance(self, scan: Scan, k: int, end: Floats, energy: float) -> _Entrance | None:
        """Return the way in past point k of a scan, which came to rest at end (n_atoms, 3)."""
        top, rise = _top_before(scan, k), energy - self.energy
        height = float(scan.energies[top])
        why = self._why(end, rise, scan.positions[k], height)
        if not why:
            return None
        return _Entrance(scan, top, k, why, height - rise if np.isfinite(rise) else math.inf)

    def _why(self, end: Floats, rise: float, start: Floats, height: float) -> str:
        """Return what is forbidden about where a structure comes to rest; empty for nothing."""
        if not np.isfinite(rise):
            overlapping = self._physics.forbids(start, math.inf)
            return "" if overlapping and height > self.options.ceiling / 2 else "no finite energy"
        if rise <= -ABYSS:
            return self._physics.forbids(end, height) or f"{ABYSS:g} eV below the minimum"
        return self._physics.forbids(end, height)

    def refined(self, entrances: Sequence[_Entrance]) -> list[WeakSpot]:
        """Take each top to its saddle; coordinates that lead over the same saddle are one."""
        found: list[tuple[WeakSpot, StationaryPoint | None, float]] = []
        ordered = _lowest_of_each(sorted(entrances, key=lambda entrance: entrance.height))
        limit = ordered[0].height + IRRELEVANT if ordered else 0.0
        for done, entrance in enumerate(ordered):
            self._progress("saddles", done, len(ordered))
            if done == MOST_SADDLES:
                limit = min(limit, ordered[done - 1].height)
            saddle, note = self._saddle(entrance, limit)
            spot = self._spot(entrance, saddle, note)
            if spot.barrier > self.options.ceiling:
                continue
            share = 0.0 if saddle is None else _share(entrance, saddle)
            twin = next(
                (k for k, (_, other, _) in enumerate(found)
                 if saddle and other and _same(saddle, other, self.frame)), None,
            )  # fmt: skip
            if twin is None:
                found.append((spot, saddle, share))
            elif share > found[twin][2]:
                found[twin] = spot, saddle, share
        best = dict[Any, WeakSpot]()
        for spot in sorted((spot for spot, _, _ in found), key=lambda spot: spot.barrier):
            best.setdefault((spot.kind, min(spot.equivalent)), spot)
        return list(best.values())

    def _saddle(self, entrance: _Entrance, limit: float) -> tuple[StationaryPoint | None, str]:
        """Return the saddle between the minimum and what is forbidden, or why there is none."""
        if entrance.height < NOTHING:
            return None, "no saddle: nothing holds them apart"
        if entrance.top in (0, entrance.beyond):
            way = "falls from the start" if entrance.top == 0 else "rises to a plateau"
            return None, f"no saddle: the energy {way}"
        if entrance.height > limit:
            return None, f"not refined: above {limit:.2f} eV"
        start, uphill = self._top(entrance)
        saddle = stationary_point(self._evaluate, start, uphill)
        if saddle is None:
            return None, "no saddle found from the top of the scan"
        another = self._another(saddle)
        return (None, another) if another else (saddle, "")

    def _another(self, found: StationaryPoint) -> str:
        """Return why a point is not the saddle between the minimum and what is forbidden, or ""."""
        if found.order != 1:
            return f"a point of order {found.order} instead of a saddle"
        if found.energy <= self.energy:  # of a model whose holes are deep, between two of them
            return "the saddle found lies below the minimum"
        sides = self._sides(found)
        why = [self._physics.forbids(side, found.energy - self.energy) for side in sides]
        if bool(why[0]) == bool(why[1]):
            return "the saddle found does not lie between the minimum and this"
        return ""

    def _top(self, entrance: _Entrance) -> tuple[Floats, Floats]:
        """Return the highest place (n_atoms, 3) about the top of a scan, and the way over it."""
        before, top, after = entrance.scan.positions[entrance.top - 1 : entrance.top + 2]
        shares = np.linspace(0.0, 1.0, BETWEEN + 1)[:, None, None]
        images = np.concatenate([before + shares * (top - before), top + shares * (after - top)])
        highest = int(np.nanargmax(self._evaluate(images)[0]))
        return images[highest], (top - before) if highest <= BETWEEN else (after - top)

    def _sides(self, saddle: StationaryPoint) -> Floats:
        """Return where (2, n_atoms, 3) the ways down from a saddle come to rest."""
        starts = saddle.positions + 0.1 * np.array([[saddle.mode], [-saddle.mode]])[:, 0]
        return self._released(starts).positions

    def _spot(self, entrance: _Entrance, saddle: StationaryPoint | None, note: str) -> WeakSpot:
        scan, top, end = entrance.scan, entrance.top, entrance.beyond + 1
        coordinate, height = scan.coordinate, float(scan.energies[entrance.top])
        path = WeakPath(scan.positions[:end], scan.lengths[:end], scan.energies[:end], top)
        nu, depth = GUESSED_PREFACTOR, entrance.depth
        if saddle is not None:
            barrier = saddle.energy - self.energy
            depth += barrier - height
            path, height = _with_saddle(path, scan, saddle, barrier), barrier
            if self._minimum is None or self._minimum.order:
                note = "prefactor guessed: the minimum is none"
            elif len(self._minimum.frequencies) != len(saddle.frequencies):
                note = "prefactor guessed: not the same motions are free at minimum and saddle"
            else:
                nu = prefactor(self._minimum, saddle)
        return WeakSpot(
            coordinate.kind, coordinate.atoms, coordinate.label(self.frame.symbols),
            entrance.forbidden, height, nu, depth, coordinate.multiplicity, path, note=note,
            equivalent=coordinate.equivalent, n_first=coordinate.n_first,
        )  # fmt: skip


def _top_before(scan: Scan, k: int) -> int:
    """Return the highest point up to k: k itself where a stretch ends on a plateau."""
    top = int(np.argmax(scan.energies[:k]))
    return k if k == len(scan.energies) - 1 and scan.energies[k] > scan.energies[top] else top


def _lowest_of_each(ordered: Sequence[_Entrance]) -> list[_Entrance]:
    """Return, lowest first, those whose saddle may be the lowest of their coordinate."""
    lowest, kept = dict[Any, float](), list[_Entrance]()
    for entrance in ordered:
        coordinate = entrance.scan.coordinate
        which = coordinate.kind, min(coordinate.equivalent)
        if entrance.height <= lowest.setdefault(which, entrance.height) + AS_LOW:
            kept.append(entrance)
    return kept


def _share(entrance: _Entrance, saddle: StationaryPoint) -> float:
    """Return how much of the way over the saddle is the scanned distance's."""
    distance = distances_of([entrance.scan.coordinate], len(saddle.positions))
    return float(distance.shares(saddle.mode[None], saddle.positions[None])[0])


def _same(one: StationaryPoint, other: StationaryPoint, frame: Frame) -> bool:
    """Return whether two saddles are equal, or images of each other by symmetry."""
    if abs(one.energy - other.energy) > SAME_SADDLE[0]:
        return False
    a, b = (sorted_distances(frame, point.positions) for point in (one, other))
    return bool(np.abs(a - b).max() < SAME_SADDLE[1])


def _with_saddle(path: WeakPath, scan: Scan, saddle: StationaryPoint, barrier: float) -> WeakPath:
    """Return the path with the saddle in place of its highest point."""
    length = float(
        distances_of([scan.coordinate], len(saddle.positions)).lengths(saddle.positions[None])[0]
    )
    k = path.top
    changes = (
        (path.positions, saddle.positions), (path.lengths, length), (path.energies, barrier),
    )  # fmt: skip
    series = []
    for values, value in changes:
        changed = values.copy()
        changed[k] = value
        series.append(changed)
    return WeakPath(series[0], series[1], series[2], k)


def _compared(
    spots: Sequence[WeakSpot], evaluate: Evaluations
) -> tuple[list[WeakSpot], list[WeakSpot]]:
    """Return weak spots with the reference's barriers, and apart from these what it does too."""
    weak, real = list[WeakSpot](), list[WeakSpot]()
    zero = float(evaluate(evaluate.frame.positions[None])[0][0])
    for spot in spots:
        energies = evaluate(spot.path.positions)[0]
        energies = energies - zero
        barrier = float(np.nanmax(energies)) if np.isfinite(energies).any() else math.nan
        known = replace(
            spot, path=replace(spot.path, reference=energies), reference_barrier=barrier
        )
        falls = energies[-1] < barrier - FALL
        (real if falls and barrier < spot.barrier + TOLERANCE else weak).append(known)
    return weak, real
