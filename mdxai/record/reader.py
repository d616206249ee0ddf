"""Reading a run directory, also while it is being written."""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mdxai.attribution import Attribution
from mdxai.frame import Bools, Floats, Frame, Ints
from mdxai.outside import Outside
from mdxai.record.columns import EVENTS, RESTRAINTS, VECTORS, vectors_in
from mdxai.record.durable_files import RecordError
from mdxai.record.explanations import ExplanationReader
from mdxai.record.header import read_header, read_verdict
from mdxai.record.layout import HEADER, VERDICT
from mdxai.record.parts import (
    Part,
    count_rows,
    list_parts,
    read_column_names,
    read_groups,
    read_groups_back,
    unique_events,
    verify,
)
from mdxai.record.recorded_inputs import inputs_of
from mdxai.showing import ShowsItself

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

TRIES = 100  # times a directory is listed again because a merge deleted parts meanwhile
Place = tuple[int, Part, int]  # first row, part, number of rows
Held = tuple[int, int, dict[str, Any]]  # first row, number of rows, columns
System = tuple[Ints, Floats, Floats, Bools, int]
INSTANT = ("time_fs", "potential_energy_eV")


class Run(ShowsItself):
    """A run directory, read lazily. Made by `open_run`.

    The run may still be going on: nothing is locked, and every call sees what is written by then.
    Each part is compared with the hash in its name before it is first read.

    There is no `len`: MDAnalysis would take the run for a list of files.
    """

    def __init__(self, path: Path, header: dict[str, Any], system: System) -> None:
        self.path = path
        self.header = header
        self._system = system
        self._verified: set[str] = set()
        self._complete: set[str] = set()  # kinds of which no part is missing
        self._rows: dict[str, int] = {}
        self._places: list[Place] = []
        self._held: Held | None = None

    def __repr__(self) -> str:
        try:
            ends = f"{self.n_frames} frames, {self.verdict['stability']}"
        except RecordError:
            ends = "not finished"
        return f"<Run {self.path}: {len(self.header['system']['numbers'])} atoms, {ends}>"

    @property
    def deviations(self) -> dict[str, str]:
        """Unit of each recorded deviation, by principle."""
        return dict(self.header["deviations"])

    @property
    def verdict(self) -> dict[str, Any]:
        """Content of verdict.json.

        Raises:
            RecordError: when the run is not finished, or the file is damaged.
        """
        return read_verdict(self.path)

    @property
    def weak_spots(self) -> dict[str, Any]:
        """How near the run came to its model's weak spots, and its hazard, as verdict.json has it;
        empty where these were not followed.

        Raises:
            RecordError: when the run is not finished, or the file is damaged.
        """
        return dict(self.verdict.get("weak_spots", {}))

    def frames_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return energies, temperature and deviations, a row per recorded frame.

        Raises:
            RecordError: when no frame was recorded, or a part is damaged.
        """
        table = self._table("frames", columns)
        if table is None:
            raise RecordError(f"{self.path} holds no recorded frames")
        return table

    def trajectory_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return positions, velocities and forces, a row per recorded frame, all in memory."""
        table = self._table("trajectory", columns)
        return pa.table({}) if table is None else table

    def pairs_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the relevance of pairs, a row per pair and explained frame; empty without any."""
        table = self._table("pairs", columns)
        return pa.table({}) if table is None else table

    def explanations_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return output, residual, relevance by body order and atom, a row per explained frame."""
        table = self._table("explanations", columns)
        return pa.table({}) if table is None else table

    def triples_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the relevance of triples, a row per triple and frame; empty without any."""
        table = self._table("triples", columns)
        return pa.table({}) if table is None else table

    def attribution(self, step: int) -> Attribution:
        """Return the explanation of one MD step, in the precision that was recorded.

        Vectors of pairs and relevance of atoms are NaN where `RecordSettings` left them out.

        Raises:
            RecordError: when the step was not explained, or a part is damaged.
        """
        found = ExplanationReader(self, self._system[0]).at(step)
        if found is None:
            raise RecordError(
                f"step {step} of {self.path} was not explained; explanations_table() lists the "
                "explained steps"
            )
        return found

    def attributions(self) -> Iterator[tuple[int, Attribution]]:
        """Yield MD step and explanation of each explained frame in order; see `attribution`.

        One row group of each kind is in memory at a time.

        Raises:
            RecordError: when a part is damaged.
        """
        return ExplanationReader(self, self._system[0]).all_of(self.tables("explanations"))

    def events_table(self) -> pa.Table:
        """Return a row per event: number, step, time_fs, kind, content (JSON)."""

        def read() -> list[pa.Table]:
            return [table for part in self.parts("events") for table in self._groups(part)]

        tables = self._steadily(read)
        return unique_events(tables) if tables else EVENTS.empty_table()

    def profile_table(self) -> pa.Table:
        """Return relevance against distance: a row per element pair and occupied bin."""

        def read() -> list[pa.Table]:
            return [table for part in self.parts("profile")[-1:] for table in self._groups(part)]

        tables = self._steadily(read)
        return pa.concat_tables(tables) if tables else pa.table({})

    def parts(self, kind: str) -> list[Part]:
        """Return the parts of one kind, in order of their steps.

        Raises:
            RecordError: when the run is finished and a part of it is missing.
        """
        if kind not in self._complete:
            self._refuse_missing(kind)
            self._complete.add(kind)
        return list_parts(self.path, kind)

    def _refuse_missing(self, kind: str) -> None:
        try:
            named = self.verdict.get("parts", {}).get(kind, [])
        except (RecordError, AttributeError):  # not finished, or damaged
            return
        lost = [name for name in named if not (self.path / name).exists()]
        if lost and (self.path / VERDICT).exists():  # otherwise the run is just being resumed
            raise RecordError(
                f"{self.path / lost[0]} is missing, which {VERDICT} lists; `mdxai repair "
                f"{self.path}` lists all missing files and copies what is undamaged"
            )

    def tables(
        self, kind: str, columns: Sequence[str] | None = None, after: int = -1
    ) -> Iterator[pa.Table]:
        """Yield the rows of one kind in order, a row group at a time.

        A row group is some megabytes large and never divides the rows of a step.

        Args:
            kind: one of `mdxai.record.layout.BY_STEP`.
            columns: to read; all by default.
            after: leave out rows up to this step.

        Raises:
            RecordError: when a part is damaged.
        """
        last, tries = after, 0
        wanted = None if columns is None else list(dict.fromkeys(["step", *columns]))
        while True:
            try:
                for part in self.parts(kind):
                    if part.last <= last:
                        continue
                    for group in self._groups(part, wanted):
                        table = _after(group, last)
                        if table.num_rows:
                            last = int(table["step"][-1].as_py())
                            yield table if columns is None else table.select(list(columns))
                return
            except FileNotFoundError as error:  # a merge deleted a part after the folder was listed
                tries += 1
                self._pause(tries, error)

    def column_names(self, kind: str) -> list[str]:
        """Return the names of the columns of one kind; empty without rows.

        Raises:
            RecordError: when a part is damaged.
        """

        def read() -> list[str]:
            for part in self.parts(kind):
                return read_column_names(part)
            return []

        return self._steadily(read)

    def _table(self, kind: str, columns: Sequence[str] | None) -> pa.Table | None:
        tables = list(self.tables(kind, columns))
        return pa.concat_tables(tables) if tables else None

    def _groups(self, part: Part, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        self._verify(part)
        return read_groups(part, columns)

    def _verify(self, part: Part) -> None:
        if part.name not in self._verified:
            verify(part)
            self._verified.add(part.name)

    def _steadily[T](self, read: Callable[[], T]) -> T:
        """Call `read`, again when a merge has deleted a part in between."""
        tries = 0
        while True:
            try:
                return read()
            except FileNotFoundError as error:
                tries += 1
                self._pause(tries, error)

    def _pause(self, tries: int, error: FileNotFoundError) -> None:
        if tries >= TRIES:
            raise RecordError(
                f"parts of {self.path} kept being deleted while it was read: {error}"
            ) from error
        time.sleep(0.001 * tries)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a row per recorded frame: step, time_fs, energies, temperature, deviations."""
        columns = [
            "step", "time_fs", "potential_energy_eV", "kinetic_energy_eV", "temperature_K",
            *self.deviations,
        ]  # fmt: skip
        return self.frames_table(columns).to_pandas()

    def to_xarray(self) -> xr.Dataset:
        """Return a dataset over frame × atom × xyz, and explained × pair, atom and body order.

        Scalars and body orders are read now; vectors and other relevance when they are used.

        Raises:
            RecordError: when no frame was recorded, or a part is damaged.
        """
        from mdxai.record.xarray import dataset

        return dataset(self)

    @property
    def n_frames(self) -> int:
        """Number of frames recorded in the trajectory by now."""
        self._places = self._index()
        return _total(self._places)

    def _index(self) -> list[Place]:
        """Return the parts of the trajectory with their first rows and numbers of rows."""

        def read() -> list[Place]:
            index, first = [], 0
            for part in self.parts("trajectory"):
                if part.name not in self._rows:
                    self._verify(part)
                    self._rows[part.name] = count_rows(part)
                index.append((first, part, self._rows[part.name]))
                first += self._rows[part.name]
            return index

        return self._steadily(read)

    def frames(
        self, start: int | None = None, stop: int | None = None, step: int | None = None
    ) -> Iterator[Frame]:
        """Yield recorded frames by index, as a slice does, with one row group in memory at a time.

        Positions, velocities and forces have the recorded precision. Frames that are recorded
        during the iteration are left out.

        Raises:
            RecordError: when `step` is not positive, or a part is damaged.
        """
        if step is not None and step <= 0:
            raise RecordError(f"step must be positive, got {step}: frames are read forwards")
        rows = range(*slice(start, stop, step).indices(self.n_frames))
        return self._frames(rows, self._places)

    def _frames(self, rows: range, places: list[Place]) -> Iterator[Frame]:
        if not rows:
            return
        at = bisect_right(places, rows[0], key=lambda place: place[0]) - 1
        first = places[at][0]
        after = places[at - 1][1].last if at else -1
        for table in self.tables("trajectory", after=after):
            end = first + table.num_rows
            columns = self._columns(table)
            for row in rows[max(0, -(-(first - rows.start) // rows.step)) :]:
                if row >= end:
                    break
                yield self._frame_of(columns, row - first)
            first = end
            if first > rows[-1]:
                return

    def frame(self, row: int) -> Frame:
        """Return one recorded frame by index; its row group stays in memory.

        Raises:
            IndexError: when there are fewer frames.
            RecordError: when its part is damaged.
        """
        held = self._held
        if held is None or not 0 <= row - held[0] < held[1]:
            held = self._held = self._steadily(lambda: self._group_of(row))
        return self._frame_of(held[2], row - held[0])

    def first_frame(self) -> Frame | None:
        """Return the first frame of the trajectory; None without frames.

        Raises:
            RecordError: when its part is damaged.
        """
        for table in self.tables("trajectory"):
            return self._frame_of(self._columns(table), 0)
        return None

    def last_frame(self, time: float = np.inf) -> Frame | None:
        """Return the last frame with finite positions up to a time (fs); None without any.

        One row group is in memory at a time.

        Raises:
            RecordError: when a part is damaged.
        """

        def read() -> Frame | None:
            for table in self._backwards("trajectory", time):
                columns = self._columns(table)
                finite = np.isfinite(columns["positions"]).all((1, 2))
                rows = np.flatnonzero(finite & (columns["time_fs"] <= time))
                if len(rows):
                    return self._frame_of(columns, int(rows[-1]))
            return None

        return self._steadily(read)

    def last_pairs(self, time: float = np.inf, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the pairs of the last explained frame up to a time (fs); empty without any.

        Args:
            time: fs.
            columns: to read; all by default.

        Raises:
            RecordError: when a part is damaged.
        """
        wanted = None if columns is None else list(dict.fromkeys(["step", "time_fs", *columns]))

        def read() -> pa.Table:
            for table in self._backwards("pairs", time, wanted):
                steps, times = table["step"].to_numpy(), table["time_fs"].to_numpy()
                found = table.filter(steps == steps[times <= time][-1])
                return found if columns is None else found.select(list(columns))
            return pa.table({})

        return self._steadily(read)

    def _backwards(
        self, kind: str, time: float, columns: Sequence[str] | None = None
    ) -> Iterator[pa.Table]:
        for part in reversed(self.parts(kind)):
            self._verify(part)
            yield from read_groups_back(part, time, columns)

    def _group_of(self, row: int) -> Held:
        """Return the row group of a frame: first row, number of rows, columns."""
        if not (row < _total(self._places) and all(p.path.exists() for _, p, _ in self._places)):
            self._places = self._index()
        if not 0 <= row < _total(self._places):
            raise IndexError(f"there is no frame {row}: {_total(self._places)} are recorded")
        at = bisect_right(self._places, row, key=lambda place: place[0]) - 1
        first, part, _ = self._places[at]
        for table in self._groups(part):
            if row < first + table.num_rows:
                return first, table.num_rows, self._columns(table)
            first += table.num_rows
        raise RecordError(f"{part.path} is damaged: it holds fewer rows than its footer states")

    def _columns(self, table: pa.Table) -> dict[str, Any]:
        """Return a row group of the trajectory as arrays; vectors are (rows, n_atoms, 3)."""
        try:
            columns = {name: table[name].to_numpy() for name in ("step", *INSTANT)}
            there = set(table.column_names)
            for name in (*VECTORS, *({"cell", RESTRAINTS[1]} & there)):
                columns[name] = vectors_in(table, name)
            columns["inputs"] = table["inputs"].to_pylist()
            columns["lacks"] = _lacks(table)
            if RESTRAINTS[0] in there:
                columns[RESTRAINTS[0]] = table[RESTRAINTS[0]].to_numpy()
        except (KeyError, ValueError, AttributeError, pa.ArrowException) as error:
            raise RecordError(f"the trajectory of {self.path} is damaged: {error}") from error
        if columns["positions"].shape[1] != len(self._system[0]):
            raise RecordError(
                f"the trajectory of {self.path} has {columns['positions'].shape[1]} atoms, "
                f"run.toml {len(self._system[0])}"
            )
        return columns

    def _frame_of(self, columns: dict[str, Any], row: int) -> Frame:
        numbers, masses, cell, pbc, n_constrained = self._system
        return Frame(
            step=int(columns["step"][row]),
            time=float(columns["time_fs"][row]),
            numbers=numbers,
            masses=masses,
            positions=columns["positions"][row],
            velocities=columns["velocities"][row],
            forces=columns["forces"][row],
            energy=float(columns["potential_energy_eV"][row]),
            cell=columns["cell"][row] if "cell" in columns else cell,
            pbc=pbc,
            n_constrained=n_constrained,
            inputs=inputs_of(json.loads(columns["inputs"][row] or "{}")),
            absent=frozenset(name for name, rows in columns["lacks"].items() if rows[row]),
            outside=self._outside_of(columns, row),
        )

    def _outside_of(self, columns: dict[str, Any], row: int) -> Outside | None:
        """Return what restraints did, where the run has any and could say it."""
        if RESTRAINTS[0] not in columns or np.isnan(columns[RESTRAINTS[0]][row]):
            return None
        system = self.header["system"]
        names = (tuple(system.get(name, ())) for name in ("pushed_by", "foreign_restraints"))
        return Outside(
            float(columns[RESTRAINTS[0]][row]), columns[RESTRAINTS[1]][row].copy(), *names
        )


def _lacks(table: pa.Table) -> dict[str, Bools]:
    """Return which rows of a trajectory lack velocities, forces and energy."""
    columns = {"velocities": "velocities", "forces": "forces", "energy": "potential_energy_eV"}
    return {
        quantity: table[name].combine_chunks().is_null().to_numpy(zero_copy_only=False)
        for quantity, name in columns.items()
    }


def _total(places: list[Place]) -> int:
    return places[-1][0] + places[-1][2] if places else 0


def _after(table: pa.Table, step: int) -> pa.Table:
    """Return the rows after a step; the table itself when these are all."""
    steps = table["step"].to_numpy()
    return table if not len(steps) or steps[0] > step else table.filter(steps > step)


def read_run(folder: Path) -> Run:
    """Open a run as `open_run` does, without importing MDAnalysis, which is slow.

    Raises:
        RecordError: as `open_run`.
    """
    header = read_header(folder)
    return Run(folder, header, _system(folder, header))


def _system(folder: Path, header: dict[str, Any]) -> System:
    """Return numbers, masses, cell, periodicity and constrained degrees of freedom."""
    try:
        system = header["system"]
        numbers = np.array(system["numbers"], dtype=np.int64).reshape(-1)
        return (
            numbers,
            np.array(system["masses_amu"], dtype=np.float64).reshape(numbers.shape),
            np.array(system["cell_ang"], dtype=np.float64).reshape(3, 3),
            np.array(system["pbc"], dtype=np.bool_).reshape(3),
            int(system.get("n_constrained", 0)),
        )
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise RecordError(f"{folder / HEADER} does not describe a system: {error}") from error
