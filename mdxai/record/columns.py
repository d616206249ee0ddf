"""Rows that gather in memory, column by column, until they are written.

Appending is on the way of every MD step, so it fills preallocated arrays and makes no object per
row. Turning them into tables, in the precision asked for, is the writer thread's work.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mdxai.attribution import Attribution
from mdxai.frame import Floats, Frame, Ints
from mdxai.principles import Deviation
from mdxai.principles.frame_quantities import frame_quantities
from mdxai.record.record_settings import RecordSettings
from mdxai.statistics import BinnedMoments

SCALARS = ("time_fs", "potential_energy_eV", "kinetic_energy_eV", "temperature_K")
VECTORS = ("positions", "velocities", "forces")
NOT_MEASURED = -1
NAN = float("nan")


def _grown(array: np.ndarray[Any, Any], rows: int) -> np.ndarray[Any, Any]:
    """Return the array with room for at least `rows` rows; what it holds stays."""
    if rows <= len(array):
        return array
    larger = np.empty((max(rows, 2 * len(array)), *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger


class FrameColumns:
    """Scalars and deviations, a row per frame."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.clear()

    def clear(self) -> None:
        # A few dozen numbers a row: Python's own arrays take them faster than NumPy's.
        self._steps, self._counts, self._atoms = array("q"), array("i"), array("i")
        self._numbers = array("d")  # of each row scalars, then deviations

    @property
    def n_rows(self) -> int:
        return len(self._steps)

    @property
    def n_bytes(self) -> int:
        return 8 * (self.n_rows + len(self._numbers)) + 4 * (len(self._counts) + len(self._atoms))

    def append(self, frame: Frame, deviations: Mapping[str, Deviation | None]) -> None:
        """Add one frame; a deviation that is missing becomes null, NaN stays NaN."""
        seen = frame_quantities(frame)  # at hand: the principles have just asked for it
        found = list(map(deviations.get, self.names))
        self._steps.append(frame.step)
        self._numbers.extend((frame.time, frame.energy, seen.kinetic, seen.temperature))
        self._numbers.extend([NAN if d is None else d.value for d in found])
        self._counts.extend([NOT_MEASURED if d is None else len(d.atoms) for d in found])
        self._atoms.extend([atom for d in found if d is not None for atom in d.atoms])

    def table(self) -> pa.Table:
        """Return the rows as a table."""
        numbers = np.asarray(self._numbers).reshape(self.n_rows, -1).T.copy()
        counts = np.asarray(self._counts).reshape(self.n_rows, -1)
        atoms = np.asarray(self._atoms)
        lengths = np.maximum(counts, 0)
        starts = (np.cumsum(lengths) - lengths.ravel()).reshape(lengths.shape)
        columns = {"step": pa.array(np.asarray(self._steps))}
        columns |= {name: pa.array(row) for name, row in zip(SCALARS, numbers, strict=False)}
        for k, (name, values) in enumerate(zip(self.names, numbers[len(SCALARS) :], strict=True)):
            missing = counts[:, k] == NOT_MEASURED
            columns[name] = pa.array(values, mask=missing)
            offsets = np.concatenate([[0], np.cumsum(lengths[:, k])]).astype(np.int32)
            origin = np.repeat(starts[:, k] - offsets[:-1], lengths[:, k])
            columns[f"{name}_atoms"] = pa.ListArray.from_arrays(
                pa.array(offsets),
                pa.array(atoms[origin + np.arange(len(origin))]),
                mask=pa.array(missing),
            )
        return pa.table(columns)


class TrajectoryColumns:
    """Positions, velocities and forces, a row per frame; the cell too where there is one."""

    def __init__(self, first: Frame, dtype: str, rows: int) -> None:
        self.n_rows = 0
        self._steps: Ints = np.empty(rows, dtype=np.int64)
        self._scalars: Floats = np.empty((rows, 2))
        shape = (rows, first.n_atoms, 3)
        self._dtype = dtype
        self._vectors: dict[str, Floats] = {name: np.empty(shape) for name in VECTORS}
        self._cells: Floats | None = np.empty((rows, 3, 3)) if first.pbc.any() else None
        self._bytes_per_row = 72 * first.n_atoms + 96

    @property
    def n_bytes(self) -> int:
        return self.n_rows * self._bytes_per_row

    def append(self, frame: Frame) -> None:
        """Add one frame."""
        row = self.n_rows
        if row == len(self._steps):
            self._grow()
        self._steps[row] = frame.step
        self._scalars[row] = (frame.time, frame.energy)
        for name, column in self._vectors.items():
            column[row] = getattr(frame, name)
        if self._cells is not None:
            self._cells[row] = frame.cell
        self.n_rows += 1

    def _grow(self) -> None:
        rows = self.n_rows + 1
        self._steps, self._scalars = _grown(self._steps, rows), _grown(self._scalars, rows)
        self._vectors = {name: _grown(column, rows) for name, column in self._vectors.items()}
        if self._cells is not None:
            self._cells = _grown(self._cells, rows)

    def clear(self) -> None:
        self.n_rows = 0

    def table(self) -> pa.Table:
        """Return the rows as a table."""
        n = self.n_rows
        columns = {
            "step": pa.array(self._steps[:n]),
            "time_fs": pa.array(np.ascontiguousarray(self._scalars[:n, 0])),
            "potential_energy_eV": pa.array(np.ascontiguousarray(self._scalars[:n, 1])),
        }
        columns |= {
            name: _fixed_lists(_stored(column[:n], self._dtype))
            for name, column in self._vectors.items()
        }
        if self._cells is not None:
            columns["cell"] = _fixed_lists(self._cells[:n])
        return pa.table(columns)


def _stored(values: Floats, dtype: str) -> np.ndarray[Any, Any]:
    """Return values as they are stored; what exceeds the dtype is infinite, and says so."""
    with np.errstate(over="ignore"):
        return values.astype(dtype, copy=False)


def _fixed_lists(values: np.ndarray[Any, Any]) -> pa.FixedSizeListArray:
    flat = pa.array(values.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values[0].size)


class PairColumns:
    """Relevance of pairs, a row per pair and explained frame."""

    def __init__(self, measure: str, settings: RecordSettings, rows: int) -> None:
        self.measure = measure
        self.n_rows = self.n_frames = 0
        self._top = settings.top_pairs
        self._instants: Floats = np.empty(256)
        self._steps: Ints = np.empty(256, dtype=np.int64)
        self._counts: Ints = np.empty(256, dtype=np.int64)
        self._atoms = [np.empty(rows, dtype=np.int32) for _ in range(2)]
        self._dtype = settings.pair_dtype
        self._reals: list[Floats] = [np.empty(rows) for _ in range(2)]

    @property
    def n_bytes(self) -> int:
        return 24 * (self.n_rows + self.n_frames)

    def append(self, frame: Frame, attribution: Attribution) -> None:
        """Add the pairs of one explained frame, or the strongest of them."""
        pairs, strengths = attribution.pairs, attribution.strengths
        if self._top is not None and len(pairs) > self._top:
            strongest = np.argsort(-np.abs(strengths), kind="stable")[: self._top]
            keep = np.sort(strongest)
            pairs, strengths = pairs.select(keep), strengths[keep]
        row, instant = self.n_rows, self.n_frames
        end = row + len(pairs)
        if end > len(self._atoms[0]):
            self._atoms = [_grown(column, end) for column in self._atoms]
            self._reals = [_grown(column, end) for column in self._reals]
        if instant == len(self._steps):
            for name in ("_steps", "_instants", "_counts"):
                setattr(self, name, _grown(getattr(self, name), instant + 1))
        self._steps[instant], self._instants[instant] = frame.step, frame.time
        self._counts[instant] = len(pairs)
        self._atoms[0][row:end], self._atoms[1][row:end] = pairs.i, pairs.j
        self._reals[0][row:end], self._reals[1][row:end] = pairs.distances, strengths
        self.n_rows, self.n_frames = end, instant + 1

    def clear(self) -> None:
        self.n_rows = self.n_frames = 0

    def table(self) -> pa.Table:
        """Return the rows as a table."""
        n, counts = self.n_rows, self._counts[: self.n_frames]
        return pa.table(
            {
                "step": np.repeat(self._steps[: self.n_frames], counts),
                "time_fs": np.repeat(self._instants[: self.n_frames], counts),
                "i": pa.array(self._atoms[0][:n]),
                "j": pa.array(self._atoms[1][:n]),
                "distance_ang": pa.array(_stored(self._reals[0][:n], self._dtype)),
                f"{self.measure}_eV": pa.array(_stored(self._reals[1][:n], self._dtype)),
            }
        )


EVENTS = pa.schema(
    {
        "number": pa.int64(),
        "step": pa.int64(),
        "time_fs": pa.float64(),
        "kind": pa.string(),
        "content": pa.string(),
    }
)


class EventColumns:
    """What happened, a row per event, numbered from the start of the run."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    @property
    def n_rows(self) -> int:
        return len(self._rows)

    @property
    def n_bytes(self) -> int:
        return 200 * len(self._rows)

    def append(self, number: int, step: int, time: float, event: tuple[str, str]) -> None:
        """Add one event, given as its kind and its JSON text."""
        kind, content = event
        self._rows.append(
            {"number": number, "step": step, "time_fs": time, "kind": kind, "content": content}
        )

    def clear(self) -> None:
        self._rows = []

    def table(self) -> pa.Table:
        """Return the rows as a table."""
        return pa.Table.from_pylist(self._rows, schema=EVENTS)


def event_text(content: Mapping[str, Any]) -> str:
    """Return JSON; NumPy numbers and arrays become plain ones, what is not finite null."""
    return json.dumps(_plain(content), allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def profile_table(profile: BinnedMoments, step: int) -> pa.Table:
    """Return relevance against distance as `Run.profile_table` gives it, up to a step."""
    channel, column = np.nonzero(profile.count)
    return pa.table(
        {
            "step": np.full(len(channel), step, dtype=np.int64),
            "channel": pa.array([profile.channels[c] for c in channel], pa.string()),
            "bin_left_ang": profile.bin_edges[column],
            "bin_right_ang": profile.bin_edges[column + 1],
            "count": profile.count[channel, column],
            "mean_eV": profile.mean[channel, column],
            "std_eV": np.sqrt(profile.variance[channel, column]),
            "min_eV": profile.minimum[channel, column],
            "max_eV": profile.maximum[channel, column],
        }
    )


class Gathered:
    """All rows since the last commit."""

    def __init__(self, names: Sequence[str], settings: RecordSettings) -> None:
        self._settings = settings
        self.frames = FrameColumns(names)
        self.trajectory: TrajectoryColumns | None = None
        self.pairs: PairColumns | None = None
        self.events = EventColumns()

    def add_trajectory(self, frame: Frame) -> None:
        if self.trajectory is None:
            size = max(1, 3 * frame.positions.nbytes)
            rows = min(self._settings.rows_per_part, 1 + self._settings.bytes_per_part // size)
            self.trajectory = TrajectoryColumns(frame, self._settings.trajectory_dtype, rows)
        self.trajectory.append(frame)

    def add_pairs(self, frame: Frame, attribution: Attribution) -> None:
        if self.pairs is None:
            measure = "flow" if attribution.method == "flow" else "two_body"
            rows = self._settings.rows_per_part * max(1, len(attribution.pairs))
            rows = min(rows, self._settings.bytes_per_part // 24)
            self.pairs = PairColumns(measure, self._settings, rows)
        self.pairs.append(frame, attribution)

    def columns(self) -> dict[str, FrameColumns | TrajectoryColumns | PairColumns | EventColumns]:
        """Return the columns that hold rows, by kind."""
        kinds = {
            "frames": self.frames,
            "trajectory": self.trajectory,
            "pairs": self.pairs,
            "events": self.events,
        }
        return {kind: c for kind, c in kinds.items() if c is not None and c.n_rows}

    @property
    def n_bytes(self) -> int:
        kinds = (self.frames, self.trajectory, self.pairs, self.events)
        return sum([columns.n_bytes for columns in kinds if columns is not None])

    @property
    def n_rows(self) -> int:
        """Number of frames that wait, of whatever kind has most of them."""
        explained = 0 if self.pairs is None else self.pairs.n_frames
        snapshots = 0 if self.trajectory is None else self.trajectory.n_rows
        return max(self.frames.n_rows, snapshots, explained, self.events.n_rows)

    def clear(self) -> None:
        for columns in self.columns().values():
            columns.clear()
