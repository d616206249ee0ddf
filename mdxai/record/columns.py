"""Rows that wait in memory, column by column, until they are written.

Appending delays the MD step, so it only fills preallocated arrays. The writer thread turns them
into tables, in the precision asked for.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from mdxai.attribution import Attribution
from mdxai.frame import NO_INPUTS, CalculatorInputs, Floats, Frame, Ints
from mdxai.principles import Deviation
from mdxai.principles.frame_quantities import frame_quantities
from mdxai.record.arrow_arrays import arrow_array, arrow_texts
from mdxai.record.explanations import Explained, ExplanationColumns, stored
from mdxai.record.layout import EXPLAINED
from mdxai.record.record_settings import RecordSettings
from mdxai.record.recorded_inputs import inputs_text
from mdxai.serialization import as_json
from mdxai.statistics import BinnedMoments

SCALARS = ("time_fs", "potential_energy_eV", "kinetic_energy_eV", "temperature_K")
VECTORS = ("positions", "velocities", "forces")
RESTRAINTS = ("restraint_energy_eV", "restraint_forces")  # where the first frame has restraints
# What of a row of frames is null where something is absent.
NULL_WITHOUT = {
    "energy": ("potential_energy_eV",), "velocities": ("kinetic_energy_eV", "temperature_K"),
}  # fmt: skip
NOT_MEASURED = -1
NAN = float("nan")


def _grown(array: np.ndarray[Any, Any], rows: int) -> np.ndarray[Any, Any]:
    """Return an array with room for at least `rows` rows and the same content."""
    if rows <= len(array):
        return array
    larger = np.empty((max(rows, 2 * len(array)), *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger


class FrameColumns:
    """Energies, temperature and deviations, a row per frame."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        # For a few dozen numbers per row, Python's arrays append faster than NumPy's.
        self._steps, self._counts, self._atoms = array("q"), array("i"), array("i")
        self._absent: list[str | None] = []
        self._numbers = array("d")  # per row: scalars, then deviations

    @property
    def n_rows(self) -> int:
        return len(self._steps)

    @property
    def n_bytes(self) -> int:
        return 8 * (self.n_rows + len(self._numbers)) + 4 * (len(self._counts) + len(self._atoms))

    def append(self, frame: Frame, deviations: Mapping[str, Deviation | None]) -> None:
        """Add one frame; what is absent or not measured becomes null, NaN stays NaN."""
        seen = frame_quantities(frame)  # cached: the principles have just computed it
        found = list(map(deviations.get, self.names))
        self._steps.append(frame.step)
        self._absent.append(" ".join(sorted(frame.absent)) if frame.absent else None)
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
        columns = {"step": arrow_array(np.asarray(self._steps))}
        columns["absent"] = arrow_texts(self._absent)
        nothing = self._nothing()
        columns |= {
            name: arrow_array(row, nothing.get(name))
            for name, row in zip(SCALARS, numbers, strict=False)
        }
        for k, (name, values) in enumerate(zip(self.names, numbers[len(SCALARS) :], strict=True)):
            missing = counts[:, k] == NOT_MEASURED
            columns[name] = arrow_array(values, missing)
            offsets = np.concatenate([[0], np.cumsum(lengths[:, k])]).astype(np.int32)
            origin = np.repeat(starts[:, k] - offsets[:-1], lengths[:, k])
            columns[f"{name}_atoms"] = pa.ListArray.from_arrays(
                arrow_array(offsets),
                arrow_array(atoms[origin + np.arange(len(origin))]),
                mask=arrow_array(missing),
            )
        return pa.table(columns)

    def _nothing(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return, for columns that some rows have no value of, which rows."""
        found: dict[str, np.ndarray[Any, Any]] = {}
        for quantity, names in NULL_WITHOUT.items():
            rows = np.array([quantity in (absent or "") for absent in self._absent], dtype=bool)
            found |= dict.fromkeys(names, rows)
        return found


class TrajectoryColumns:
    """Positions, velocities, forces, what the calculator reads besides, in periodic systems the
    cell, and with restraints their part of energy and forces, a row per frame.
    """

    def __init__(self, first: Frame, dtype: str, rows: int) -> None:
        self.n_rows = 0
        self._steps: Ints = np.empty(rows, dtype=np.int64)
        self._scalars: Floats = np.empty((rows, 2))
        shape = (rows, first.n_atoms, 3)
        self._dtype = dtype
        self._vectors: dict[str, Floats] = {name: np.empty(shape) for name in VECTORS}
        self._cells: Floats | None = np.empty((rows, 3, 3)) if first.pbc.any() else None
        self._outside: list[tuple[float, Floats]] | None = [] if first.outside else None
        self._absent: list[frozenset[str]] = []
        self._inputs: list[str | None] = []
        self._last: tuple[CalculatorInputs, str | None] = NO_INPUTS, None
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
        if self._outside is not None:
            it = frame.outside
            none = np.nan, np.full(frame.positions.shape, np.nan)
            self._outside.append(none if it is None else (it.energy, it.forces))
        self._absent.append(frame.absent)
        if frame.inputs is not self._last[0]:
            self._last = frame.inputs, inputs_text(frame.inputs)
        self._inputs.append(self._last[1])
        self.n_rows += 1

    def _grow(self) -> None:
        rows = self.n_rows + 1
        self._steps, self._scalars = _grown(self._steps, rows), _grown(self._scalars, rows)
        self._vectors = {name: _grown(column, rows) for name, column in self._vectors.items()}
        if self._cells is not None:
            self._cells = _grown(self._cells, rows)

    def clear(self) -> None:
        """Forget all rows."""
        self.n_rows = 0
        self._absent, self._inputs = [], []
        self._outside = None if self._outside is None else []

    def table(self) -> pa.Table:
        """Return the rows as a table."""
        n = self.n_rows
        columns = {
            "step": arrow_array(self._steps[:n]),
            "time_fs": arrow_array(self._scalars[:n, 0]),
            "potential_energy_eV": arrow_array(self._scalars[:n, 1], self._lack("energy")),
            "inputs": arrow_texts(self._inputs),
        }
        columns |= {
            name: _fixed_lists(stored(column[:n], self._dtype), self._lack(name))
            for name, column in self._vectors.items()
        }
        if self._cells is not None:
            columns["cell"] = _fixed_lists(self._cells[:n])
        if self._outside is not None:
            energies, forces = zip(*self._outside, strict=True)
            columns["restraint_energy_eV"] = arrow_array(np.array(energies))
            columns["restraint_forces"] = _fixed_lists(stored(np.stack(forces), self._dtype))
        return pa.table(columns)

    def _lack(self, quantity: str) -> np.ndarray[Any, Any] | None:
        """Return which rows have no value of a quantity; None where all have one."""
        rows = np.array([quantity in absent for absent in self._absent], dtype=bool)
        return rows if rows.any() else None


def _fixed_lists(
    values: np.ndarray[Any, Any], mask: np.ndarray[Any, Any] | None = None
) -> pa.FixedSizeListArray:
    flat = arrow_array(values.reshape(-1))
    nulls = None if mask is None else arrow_array(mask)
    return pa.FixedSizeListArray.from_arrays(flat, values[0].size, mask=nulls)


def vectors_in(table: pa.Table, name: str) -> Floats:
    """Return a column of vectors as (n_rows, n_atoms, 3); NaN where it is null.

    Raises:
        KeyError, ValueError, AttributeError, pa.ArrowException: for a column of another kind.
    """
    column = table[name].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    if not column.null_count:
        whole: Floats = flat.reshape(table.num_rows, column.type.list_size // 3, 3)
        return whole
    vectors = np.full((table.num_rows, column.type.list_size // 3, 3), np.nan)
    there = ~column.is_null().to_numpy(zero_copy_only=False)
    vectors[there] = flat.reshape(int(there.sum()), vectors.shape[1], 3)
    return vectors


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
    """Events, a row each, numbered from the start of the run."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    @property
    def n_rows(self) -> int:
        return len(self._rows)

    @property
    def n_bytes(self) -> int:
        return 200 * len(self._rows)

    def append(self, number: int, step: int, time: float, event: tuple[str, str]) -> None:
        """Add one event: its kind and its content as JSON text."""
        kind, content = event
        self._rows.append(
            {"number": number, "step": step, "time_fs": time, "kind": kind, "content": content}
        )

    def clear(self) -> None:
        """Forget all rows."""
        self._rows = []

    def table(self) -> pa.Table:
        """Return the rows as a table."""
        columns = [[row[name] for row in self._rows] for name in EVENTS.names]
        arrays = [
            arrow_texts(values) if pa.types.is_string(field.type)
            else arrow_array(np.array(values, dtype=field.type.to_pandas_dtype()))
            for field, values in zip(EVENTS, columns, strict=True)
        ]  # fmt: skip
        return pa.Table.from_arrays(arrays, schema=EVENTS)


def event_text(content: Mapping[str, Any]) -> str:
    """Return the content as JSON text; see `mdxai.serialization.as_json`."""
    return json.dumps(as_json(content), allow_nan=False, ensure_ascii=False)


def profile_table(profile: BinnedMoments, step: int) -> pa.Table:
    """Return relevance against distance up to a step, as `Run.profile_table` does."""
    channel, column = np.nonzero(profile.count)
    numbers = {
        "step": np.full(len(channel), step, dtype=np.int64),
        "bin_left_ang": profile.bin_edges[column],
        "bin_right_ang": profile.bin_edges[column + 1],
        "count": profile.count[channel, column],
        "mean_eV": profile.mean[channel, column],
        "std_eV": np.sqrt(profile.variance[channel, column]),
        "min_eV": profile.minimum[channel, column],
        "max_eV": profile.maximum[channel, column],
    }
    columns = {name: arrow_array(values) for name, values in numbers.items()}
    channels = arrow_texts([profile.channels[c] for c in channel])
    return pa.table({"step": columns.pop("step"), "channel": channels, **columns})


class Columns(Protocol):
    """Rows of one kind that wait to be written."""

    @property
    def n_rows(self) -> int: ...

    @property
    def n_bytes(self) -> int: ...

    def table(self) -> pa.Table: ...

    def clear(self) -> None: ...


class PendingRows:
    """All rows since the last commit."""

    def __init__(self, names: Sequence[str], settings: RecordSettings) -> None:
        self._settings = settings
        self.frames = FrameColumns(names)
        self.trajectory: TrajectoryColumns | None = None
        self.events = EventColumns()
        self._explained = {kind: ExplanationColumns(kind, settings) for kind in EXPLAINED}

    def add_trajectory(self, frame: Frame) -> None:
        """Add positions, velocities and forces of a frame."""
        if self.trajectory is None:
            size = max(1, 3 * frame.positions.nbytes)
            rows = min(self._settings.rows_per_part, 1 + self._settings.bytes_per_part // size)
            self.trajectory = TrajectoryColumns(frame, self._settings.trajectory_dtype, rows)
        self.trajectory.append(frame)

    def add_attribution(self, frame: Frame, attribution: Attribution) -> None:
        """Add the explanation of a frame."""
        row = Explained.of(frame, attribution, self._settings.top_pairs)
        for columns in self._explained.values():
            columns.append(row)

    def columns(self) -> dict[str, Columns]:
        """Return the columns that hold rows, by kind, in the order of writing."""
        trajectory = {} if self.trajectory is None else {"trajectory": self.trajectory}
        kinds: dict[str, Columns] = {
            "frames": self.frames, **trajectory, **self._explained, "events": self.events
        }  # fmt: skip
        return {kind: columns for kind, columns in kinds.items() if columns.n_rows}

    @property
    def n_bytes(self) -> int:
        """Memory of the rows, bytes."""
        explained = self._explained["explanations"].n_bytes
        snapshots = 0 if self.trajectory is None else self.trajectory.n_bytes
        return self.frames.n_bytes + snapshots + explained + self.events.n_bytes

    @property
    def n_rows(self) -> int:
        """Largest number of waiting frames, snapshots, explanations or events."""
        explained = self._explained["explanations"].n_rows
        snapshots = 0 if self.trajectory is None else self.trajectory.n_rows
        return max(self.frames.n_rows, snapshots, explained, self.events.n_rows)
