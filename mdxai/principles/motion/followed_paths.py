"""How far a run has come along the paths into what physics forbids."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mdxai.attribution import Attribution
from mdxai.calculators.card import pair_key
from mdxai.calculators.reference_data import MARGIN
from mdxai.errors import MdxaiError
from mdxai.frame import Floats, Frame, Ints, formula_in_order
from mdxai.principles.frame_quantities import frame_quantities
from mdxai.principles.motion.structure import bonds_of
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.statistics import _kernels as kernels

SHORTEST = 0.02  # Å from a minimum to its top, below which nothing can be followed
POINTS = 257  # of the energy along a path
N_BINS = 128  # of heights up to a top
NO_PATHS = "the model has no weak spot that could be followed"

Forbids = Callable[[Floats, float], str]  # positions, barrier → why a structure is forbidden


class FollowedPathError(MdxaiError, ValueError):
    """Weak spots that are those of another system."""


@dataclass(frozen=True, slots=True)
class FollowedPath:
    """A distance that leads a model into what physics forbids, as it can be followed in a run.

    Attributes:
        kind: "stretch", "compression", "angle", "approach" or "encounter".
        label: its name, such as "H6–C0–H8".
        atoms: of each equal distance that is followed, that of the first and the last atom.
        lengths: (n,) Å, from the minimum to beyond the top.
        energies: (n,) eV above the first.
        top: index of the highest point.
        barrier: its energy above the lowest minimum, eV.
        rate_per_ps: of all weak spots that these distances lead to, as foretold.
        temperature: for which it was foretold, K.
        forbidden: what lies beyond the top.
    """

    kind: str
    label: str
    atoms: tuple[tuple[int, ...], ...]
    lengths: Floats
    energies: Floats
    top: int
    barrier: float
    rate_per_ps: float
    temperature: float
    forbidden: str

    @property
    def height(self) -> float:
        """Energy of the top above the start of the path, eV."""
        return float(self.energies[self.top])

    @property
    def can_be_followed(self) -> bool:
        """Whether its length tells how far along it a structure is."""
        return abs(float(self.lengths[self.top] - self.lengths[0])) >= SHORTEST

    def levels(self) -> Floats:
        """Return the energy (257,) at equally spaced lengths up to the top, as a share of its own.

        Points of a relaxed path that lead back, or lie above the top, are left out.
        """
        from scipy.interpolate import PchipInterpolator  # not needed by most runs

        start, top = float(self.lengths[0]), float(self.lengths[self.top])
        progress = (self.lengths[1 : self.top] - start) / (top - start)
        heights = self.energies[1 : self.top] / self.height
        keep = (progress > 0) & (progress < 1) & np.isfinite(heights)
        order = np.argsort(progress[keep])
        x = np.concatenate([[0.0], progress[keep][order], [1.0]])
        y = np.clip(np.concatenate([[0.0], heights[keep][order], [1.0]]), 0.0, 1.0)
        x, where = np.unique(x, return_index=True)
        rising = np.maximum.accumulate(y[where])
        levels: Floats = np.clip(PchipInterpolator(x, rising)(np.linspace(0, 1, POINTS)), 0, 1)
        return levels


@dataclass(frozen=True, slots=True)
class FollowedPaths:
    """Paths to follow in a run, lowest barrier first; why there are none, where there are none.

    numbers: atomic numbers of the system.
    """

    paths: tuple[FollowedPath, ...] = ()
    why_none: str = ""
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PathTrace:
    """How far a run has come along one path, all equal coordinates together.

    Attributes:
        path: the path.
        highest: share of the path to the top that was reached, 1 at the top.
        time: when, fs.
        atoms: by which of the equal coordinates.
        counts: (n_bins + 1,) highest points of clusters of frames, in equal bins of the energy from
            0 to the barrier; the last counts those at the top or beyond.
        falls: how often the structure was one that physics forbids, beyond this top.
    """

    path: FollowedPath
    highest: float
    time: float
    atoms: tuple[int, ...]
    counts: Ints
    falls: int

    @property
    def tells(self) -> bool:
        """Whether all that passed the top fell. Where not, the distance alone is no good measure
        of how near the structure is to the top.
        """
        return int(self.counts[-1]) <= self.falls

    @property
    def energy_left(self) -> float:
        """Energy from the highest point reached to the top, eV; 0 beyond the top."""
        levels = self.path.levels()
        gone = float(np.interp(self.highest, np.linspace(0, 1, len(levels)), levels))
        return self.path.height * (1 - gone)


class WeakSpotProgress:
    """How far a run has come on the path into what physics forbids, 1 at the top of the path.

    The largest, over all weak spots of the model, of the change of the distance that leads there
    from its length at the minimum, as a share of the change up to the top. It stays at 1 as long as
    the structure is one that physics allows. Costs a distance per coordinate and step.

    Highest points are counted besides, one for every cluster of frames: a cluster ends 200 fs after
    its highest point. Their heights tell the hazard of the run. The first 0.5 ps, and what follows
    a fall into a forbidden structure, are left out.

    Args:
        given: paths of the model, near the structure of the run.
        first: a frame of the system.
        forbids: tells why a structure is forbidden; empty text for one that is not.

    Raises:
        PrincipleUnavailable: where there is no path to follow.
        FollowedPathError: for paths of another system.
    """

    name = "weak_spot"
    unit = "of the path"
    cost: Cost = "free"
    SETTLED = 500.0  # fs, after which the counting begins
    SEPARATION = 200.0  # fs between highest points, longer than a vibration keeps its energy
    _not_state = ("_paths", "_ends", "_path_of", "_marks", "_levels", "_atoms", "_forbids", "_box")

    def __init__(self, given: FollowedPaths, first: Frame, forbids: Forbids) -> None:
        self._paths = tuple(path for path in given.paths if path.can_be_followed)
        if not self._paths:
            raise PrincipleUnavailable(given.why_none or NO_PATHS)
        _refuse_other_system(given, first)
        self._atoms = [atoms for path in self._paths for atoms in path.atoms]
        self._ends: Ints = np.array([(a[0], a[-1]) for a in self._atoms], dtype=np.int64)
        self._path_of: Ints = np.repeat(
            np.arange(len(self._paths)), [len(path.atoms) for path in self._paths]
        )
        starts = np.array([path.lengths[0] for path in self._paths])
        tops = np.array([path.lengths[path.top] for path in self._paths])
        self._marks: Floats = np.stack([starts, 1 / (tops - starts)], axis=1)[self._path_of].copy()
        self._levels: Floats = np.array([path.levels() for path in self._paths])
        self._forbids = forbids
        self._box = np.empty((0, 3, 3)), np.empty((3, 3))
        self._counts: Ints = np.zeros((len(self._paths), N_BINS + 1), dtype=np.int64)
        self._falls: Ints = np.zeros(len(self._paths), dtype=np.int64)
        self._state: Floats = np.full((len(self._atoms), 4), -np.inf)
        self._state[:, [1, 3]] = first.time
        self._begin = first.time + self.SETTLED
        self._last = first.time
        self._fallen, self._fell = False, -np.inf  # whether now, and when last, fs
        self._warmth = [0.0, 0.0]  # sum of temperatures, K; number of frames
        self.watched = 0.0  # fs, counted
        self.widest = 0.0  # fs between two frames

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        seen = frame_quantities(frame)
        if not seen.placed:
            return Deviation(self.name, self.unit, np.nan)
        time = frame.time
        if self._fallen or time <= self._begin:
            self._state[:, 0] = -np.inf
            self._state[:, 1] = time
        else:
            self._count(time, np.nan if "velocities" in frame.absent else seen.temperature)
        self._last = time
        value, farthest = kernels.follow_paths(
            frame.positions, self._ends, self._path_of, self._marks,
            self._cell(frame, seen.periodic), self._levels, self._state, self._counts, time,
            self.SEPARATION,
        )  # fmt: skip
        if not value > 1:
            self._fallen = False
        if farthest < 0:
            return Deviation(self.name, self.unit, 0.0)
        if value > 1 and not self._fallen and self._is_forbidden(frame, farthest):
            self._fallen = True
            if time > self._begin and time - self._fell >= self.SEPARATION:
                self._counts[self._path_of[farthest], N_BINS] += 1
                self._falls[self._path_of[farthest]] += 1
            self._fell = time
        shown = value if self._fallen else min(value, 1.0)
        return Deviation(self.name, self.unit, shown, self._atoms[farthest])

    def _count(self, time: float, temperature: float) -> None:
        gap = time - self._last
        self.watched += gap
        self.widest = max(self.widest, gap)
        if not math.isnan(temperature):
            self._warmth[0] += temperature
            self._warmth[1] += 1

    def _is_forbidden(self, frame: Frame, farthest: int) -> bool:
        path = self._paths[self._path_of[farthest]]
        return bool(self._forbids(frame.positions, path.barrier))

    def _cell(self, frame: Frame, periodic: bool) -> Floats:
        if not periodic:
            return self._box[0]
        box, cell = self._box
        if not (len(box) and np.array_equal(cell, frame.cell)):  # of a barostat
            inverse = np.linalg.pinv(np.where(frame.pbc[:, None], frame.cell, 0.0))
            box = np.stack([frame.cell, inverse])
            self._box = box, frame.cell.copy()
        return box

    @property
    def temperature(self) -> float:
        """Mean temperature of the counted frames, K; NaN where none had velocities."""
        total, n = self._warmth
        return total / n if n else np.nan

    @property
    def has_fallen(self) -> bool:
        """Whether the last frame was one that physics forbids."""
        return self._fallen

    def traces(self) -> tuple[PathTrace, ...]:
        """Return how far the run has come along each path."""
        found = []
        for w, path in enumerate(self._paths):
            rows = np.flatnonzero(self._path_of == w)
            best = int(rows[np.argmax(self._state[rows, 2])])
            highest, time = self._state[best, 2:]
            found.append(
                PathTrace(
                    path, max(float(highest), 0.0), float(time), self._atoms[best],
                    self._counts[w].copy(), int(self._falls[w]),
                )
            )  # fmt: skip
        return tuple(found)


def closest_allowed(given: FollowedPaths, first: Frame) -> dict[str, float]:
    """Return, per element pair ("H-H"), the distance (Å) below which `contact` is to count.

    At the top of a weak spot, the largest where there are several, `contact` warns. Only pairs of
    elements that the first frame has no bonds of, and that are all farther apart in it: others are
    as close by right.
    """
    symbols, seen = first.symbols, frame_quantities(first).contacts
    closest: dict[str, float] = {}
    for a, b, distance in zip(seen.i.tolist(), seen.j.tolist(), seen.distances, strict=True):
        pair = pair_key(symbols[a], symbols[b])
        closest[pair] = min(float(distance), closest.get(pair, np.inf))
    bonded = {pair_key(symbols[a], symbols[b]) for a, b in zip(*bonds_of(first), strict=True)}
    found: dict[str, float] = {}
    for path in given.paths:
        pair = pair_key(symbols[path.atoms[0][0]], symbols[path.atoms[0][-1]])
        limit = float(path.lengths[path.top]) + MARGIN
        inwards = path.lengths[path.top] < path.lengths[0]
        if inwards and pair not in bonded and limit < closest.get(pair, np.inf):
            found[pair] = max(found.get(pair, 0.0), limit)
    return found


def _refuse_other_system(given: FollowedPaths, first: Frame) -> None:
    if given.numbers != tuple(first.numbers.tolist()):
        theirs, ours = formula_in_order(given.numbers), formula_in_order(first.numbers)
        raise FollowedPathError(
            f"the weak spots are those of {theirs}, the run is one of {ours}: give weak spots of "
            "its system, with the atoms in the same order"
        )
