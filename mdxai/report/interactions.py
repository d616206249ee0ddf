"""The pairs of atoms in a run's explanations: the strongest, and how they changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mdxai.frame import Floats, Ints
from mdxai.record import Run
from mdxai.record.columns import profile_table
from mdxai.record.explanations import measure_of
from mdxai.statistics import BinnedMoments, RelevanceProfile, profile_moments

MOST_ATOMS = 300  # for which means per pair are taken; memory grows with their square
COLUMNS = ("step", "time_fs", "i", "j", "distance_ang")  # and the measure


@dataclass(frozen=True, slots=True)
class PairMeans:
    """Means over explained frames, a row per pair of atoms, the strongest first.

    i, j: (n,) atoms. mean, spread: (n,) eV, mean and standard deviation of the pair's relevance in
    the frames that hold it. distance: (n,) Å, the mean. late: (n,) eV, the mean shortly before the
    onset; NaN where there is none. n_frames, n_late: number of frames behind `mean` and `late`.
    """

    i: Ints
    j: Ints
    mean: Floats
    spread: Floats
    distance: Floats
    late: Floats
    n_frames: int
    n_late: int

    def first(self, n: int) -> PairMeans:
        """Return the strongest n."""
        return self._rows(np.arange(min(n, len(self.i))))

    def most_changed(self, n: int) -> PairMeans:
        """Return the n pairs that changed most before the onset, the largest change first."""
        change = np.abs(self.late - self.mean)
        order = np.argsort(-np.nan_to_num(change, nan=-1.0), kind="stable")[:n]
        return self._rows(order[~np.isnan(change[order])])

    def _rows(self, rows: Ints) -> PairMeans:
        columns = ("i", "j", "mean", "spread", "distance", "late")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})


@dataclass(frozen=True, slots=True)
class ExplainedFrame:
    """The pairs of an explained frame. time: fs. i, j: (n,) atoms. distances: (n,) Å. strengths:
    (n,) eV, signed.
    """

    time: float
    i: Ints
    j: Ints
    distances: Floats
    strengths: Floats


@dataclass(frozen=True, slots=True)
class Interactions:
    """What the explained frames of a run say.

    measure: "two_body" or "flow". means: over the frames; None above `MOST_ATOMS` atoms, or where
    no pair counts. frame: the last one up to the time asked for. profile: as `Run.profile_table`.
    """

    measure: str
    means: PairMeans | None
    frame: ExplainedFrame | None
    profile: pa.Table


@dataclass(frozen=True, slots=True)
class Window:
    """Which frames count: those before `end` (fs). The last `late` fs of them are averaged apart.
    The frame to show is the last one up to `shown` (fs).
    """

    end: float = np.inf
    late: float = 0.0
    shown: float = np.inf


def read_interactions(run: Run, window: Window) -> Interactions | None:
    """Return what the pairs of a run say; None where no frame was explained.

    Memory holds a row group and, up to `MOST_ATOMS` atoms, a few numbers per pair.

    Raises:
        RecordError: when a part is damaged.
    """
    numbers = np.array(run.header["system"]["numbers"], dtype=np.int64)
    parts, profile = run.parts("pairs"), run.profile_table()
    names = run.column_names("pairs")
    if not names:
        return None
    measure = measure_of(names)
    columns = [*COLUMNS, f"{measure}_eV"]
    sums = _Sums(len(numbers), window) if len(numbers) <= MOST_ATOMS else None
    moments = None if profile.num_rows else _moments(run, numbers)
    shown = run.last_pairs(window.shown, columns)
    wanted = sums is not None or moments is not None
    for rows in map(_Rows.of, run.tables("pairs", columns)) if wanted else ():
        if sums is not None:
            sums.update(rows, several=measure == "flow")
        if moments is not None:
            moments.update(*rows.profile(numbers).samples)
    if moments is not None:
        profile = profile_table(moments, parts[-1].last)
    frame = _Rows.of(shown).frame() if shown.num_rows else None
    return Interactions(measure, None if sums is None else sums.means(), frame, profile)


def _moments(run: Run, numbers: Ints) -> BinnedMoments | None:
    """Return an empty profile to fill for a run that has not written one yet."""
    cutoff = run.header["calculator"].get("network", {}).get("cutoff")
    return profile_moments(numbers, float(cutoff)) if cutoff else None


@dataclass(frozen=True, slots=True)
class _Rows:
    """A row group of pairs as arrays."""

    steps: Ints
    times: Floats
    i: Ints
    j: Ints
    distances: Floats
    strengths: Floats

    @classmethod
    def of(cls, table: pa.Table) -> _Rows:

        def column(name: str, kind: Any) -> Any:
            return table[name].to_numpy().astype(kind)

        return cls(
            column("step", np.int64), column("time_fs", np.float64), column("i", np.int64),
            column("j", np.int64), column("distance_ang", np.float64),
            column(f"{measure_of(table.column_names)}_eV", np.float64),
        )  # fmt: skip

    def profile(self, numbers: Ints) -> RelevanceProfile:
        """Return the strengths by element pair and distance."""
        return RelevanceProfile(numbers, self.i, self.j, self.distances, self.strengths)

    def frame(self) -> ExplainedFrame:
        """Return the rows of a single step."""
        time = float(self.times[0])
        return ExplainedFrame(time, self.i, self.j, self.distances, self.strengths)


class _Sums:
    """Sums per pair over the frames before `window.end`: the late ones, and those before."""

    def __init__(self, n_atoms: int, window: Window) -> None:
        self._n, self._window = n_atoms, window
        self._early, self._late = (np.zeros((5, n_atoms**2)) for _ in range(2))
        self._frames = [0, 0]

    def update(self, rows: _Rows, *, several: bool) -> None:
        """Add a row group; `several`: images of a pair in the same frame are added up."""
        begins = np.diff(rows.steps, prepend=-1) > 0
        late = rows.times >= self._window.end - self._window.late
        for k, sums in enumerate((self._early, self._late)):
            mask = (late == k) & (rows.times < self._window.end)
            self._frames[k] += int((mask & begins).sum())
            mask &= np.isfinite(rows.strengths) & np.isfinite(rows.distances)
            key, value, distance = rows.i * self._n + rows.j, rows.strengths, rows.distances
            key, value, distance = key[mask], value[mask], distance[mask]
            if several:
                key, value, distance = _joined(np.cumsum(begins)[mask], key, value, distance)
            weights = (None, value, value**2, np.abs(value), distance)
            sums += [np.bincount(key, w, minlength=self._n**2) for w in weights]

    def means(self) -> PairMeans | None:
        """Return the means, over the late frames if there are no others; None without frames."""
        early, late, frames = self._early, self._late, list(self._frames)
        if not frames[0]:
            early, late, frames = late, np.zeros_like(late), frames[::-1]
        keys = np.flatnonzero(early[0])
        if not len(keys):
            return None
        keys = keys[np.argsort(-early[3, keys], kind="stable")]
        count, total, squares, _, distance = early[:, keys]
        mean = total / count
        late_mean = np.full(len(keys), np.nan)
        np.divide(late[1, keys], late[0, keys], out=late_mean, where=late[0, keys] > 0)
        spread = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        return PairMeans(
            keys // self._n, keys % self._n, mean, spread, distance / count, late_mean, *frames
        )


def _joined(frame: Ints, key: Ints, value: Floats, distance: Floats) -> tuple[Ints, Floats, Floats]:
    """Return a row per frame and pair: the sum of its images, its shortest distance."""
    order = np.lexsort((distance, key, frame))
    frame, key, value, distance = frame[order], key[order], value[order], distance[order]
    starts = np.flatnonzero(np.diff(frame, prepend=-1) | np.diff(key, prepend=-1))
    return key[starts], np.add.reduceat(value, starts) if len(starts) else value, distance[starts]


def strongest_pairs(frame: ExplainedFrame, n: int) -> Iterator[tuple[int, int, float, float]]:
    """Yield the n strongest pairs of a frame: atoms, distance (Å), strength (eV)."""
    order = np.argsort(-np.nan_to_num(np.abs(frame.strengths), nan=-1.0), kind="stable")[:n]
    for k in order:
        yield int(frame.i[k]), int(frame.j[k]), float(frame.distances[k]), float(frame.strengths[k])
