"""The run directory: what a monitored run leaves behind, and how it is read.

    run.toml                   what was run: schema, versions, calculator, engine, parameters
    frames-000000.parquet, …   a row per recorded frame: scalars, deviations, positions, …
    pairs-000000.parquet, …    a row per pair and explained frame: distance and relevance
    profile.parquet            relevance against distance, per element pair
    verdict.json               the verdict

Every file appears complete or not at all: it is written under a temporary name, synced, renamed,
and the directory is synced. Parts are never rewritten. Parquet is read by pandas, polars, DuckDB.
"""

from __future__ import annotations

import json
import os
import platform
import time
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w

from mdxai.attribution import Attribution
from mdxai.frame import Frame
from mdxai.principles import Deviation, Principle
from mdxai.statistics import BinnedMoments

SCHEMA = 1
FRAMES_PER_PART = 2000
BYTES_PER_PART = 16_000_000  # of frames held in memory
SECONDS_PER_PART = 30.0  # what a killed run may lose
VERSIONS_OF = ("mdxai", "torch", "schnetpack", "ase", "numpy", "numba", "pyarrow")


class RecordError(ValueError):
    """A run directory that cannot be written or read as asked."""


class RunWriter:
    """Writes one run directory; the only code in mdxai that does.

    Args:
        path: directory; created when the first frame arrives, so that a run which fails to start
            leaves nothing behind.

    Raises:
        RecordError: when the directory already holds a run.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.open = False
        refuse_other_run(self.path)

    def start(self, header: Mapping[str, Any], principles: Sequence[Principle]) -> None:
        """Create the directory with its run.toml.

        Raises:
            RecordError: when the directory cannot be created.
        """
        refuse_other_run(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordError(f"cannot create the run directory {self.path}: {error}") from error
        units = {p.name: p.unit for p in principles}
        content = {"schema": SCHEMA, **header, "deviations": units, "versions": versions()}
        _replace(self.path / "run.toml", tomli_w.dumps(_without_none(content)).encode())
        self._frames: list[dict[str, Any]] = []
        self._pairs: list[pa.RecordBatch] = []
        self._parts = 0
        self._flushed = time.monotonic()
        self._deviation_names = list(units)
        self.open = True

    def add_frame(self, frame: Frame, deviations: Mapping[str, Deviation | None]) -> None:
        """Record one frame with its deviations; missing ones are null, NaN stays NaN."""
        row: dict[str, Any] = {
            "step": frame.step,
            "time_fs": frame.time,
            "potential_energy_eV": frame.energy,
            "kinetic_energy_eV": frame.kinetic_energy,
            "temperature_K": frame.temperature,
        }
        for name in self._deviation_names:
            deviation = deviations.get(name)
            row[name] = None if deviation is None else deviation.value
            row[f"{name}_atoms"] = None if deviation is None else list(deviation.atoms)
        for name in ("positions", "velocities", "forces"):
            row[name] = getattr(frame, name).astype(np.float32).ravel()
        self._frames.append(row)

    def add_attribution(self, frame: Frame, attribution: Attribution) -> None:
        """Record the relevance of every pair of one frame."""
        n = len(attribution.pairs)
        measure = "flow" if attribution.method == "flow" else "two_body"
        columns = {
            "step": np.full(n, frame.step, dtype=np.int64),
            "time_fs": np.full(n, frame.time),
            "i": attribution.pairs.i.astype(np.int32),
            "j": attribution.pairs.j.astype(np.int32),
            "distance_ang": attribution.pairs.distances.astype(np.float32),
            f"{measure}_eV": attribution.strengths.astype(np.float32),
        }
        self._pairs.append(pa.record_batch(columns))

    def flush_if_due(self) -> None:
        """Write a part when enough has gathered, in frames, memory or time."""
        n_frames = len(self._frames)
        held = n_frames * 3 * self._frames[0]["positions"].nbytes if n_frames else 0
        waited = time.monotonic() - self._flushed
        if n_frames >= FRAMES_PER_PART or held >= BYTES_PER_PART or waited >= SECONDS_PER_PART:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered as new parts."""
        if not self.open or not self._frames:
            return
        suffix = f"-{self._parts:06d}.parquet"
        n_atoms = len(self._frames[0]["positions"]) // 3
        frames = pa.Table.from_pylist(self._frames, self._frame_schema(n_atoms))
        if self._pairs:
            _write_table(self.path / f"pairs{suffix}", pa.Table.from_batches(self._pairs))
        _write_table(self.path / f"frames{suffix}", frames)
        self._parts += 1
        self._flushed = time.monotonic()
        self._frames, self._pairs = [], []

    def _frame_schema(self, n_atoms: int) -> pa.Schema:
        fields = [("step", pa.int64()), ("time_fs", pa.float64())]
        fields += [
            (name, pa.float64())
            for name in ("potential_energy_eV", "kinetic_energy_eV", "temperature_K")
        ]
        for name in self._deviation_names:
            fields += [(name, pa.float64()), (f"{name}_atoms", pa.list_(pa.int32()))]
        vectors = pa.list_(pa.float32(), 3 * n_atoms)
        fields += [(name, vectors) for name in ("positions", "velocities", "forces")]
        return pa.schema(fields)

    def finish(self, verdict: Mapping[str, Any], profile: BinnedMoments | None) -> None:
        """Write the last parts, the profile and the verdict."""
        self.flush()
        if profile is not None:
            _write_table(self.path / "profile.parquet", _profile_table(profile))
        self.open = False
        _replace(
            self.path / "verdict.json", json.dumps(verdict, indent=2, allow_nan=False).encode()
        )


class Run:
    """A run directory, read lazily. Made by `open_run`."""

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self.header = header

    @property
    def deviations(self) -> dict[str, str]:
        """Unit of each deviation that was recorded, by principle."""
        return dict(self.header["deviations"])

    @property
    def verdict(self) -> dict[str, Any]:
        """Content of verdict.json.

        Raises:
            RecordError: when the run has not been finished, or the file is damaged.
        """
        path = self.path / "verdict.json"
        if not path.is_file():
            raise RecordError(f"{self.path} has no verdict yet; mdxai.judge reads the frames")
        try:
            return json.loads(path.read_text())  # type: ignore[no-any-return]
        except ValueError as error:
            raise RecordError(f"{path} is damaged: {error}") from error

    def frames(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the recorded frames as an Arrow table, a row per frame."""
        return self._read("frames", columns)

    def pairs(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the relevance of pairs, a row per pair and explained frame; empty without any."""
        return self._read("pairs", columns)

    def profile(self) -> pa.Table:
        """Return relevance against distance: a row per element pair and occupied bin."""
        path = self.path / "profile.parquet"
        return _read_part(path) if path.is_file() else pa.table({})

    def _read(self, kind: str, columns: Sequence[str] | None) -> pa.Table:
        parts = sorted(self.path.glob(f"{kind}-*.parquet"))
        if not parts and kind == "frames":
            raise RecordError(f"{self.path} holds no recorded frames")
        if not parts:
            return pa.table({})
        return pa.concat_tables([_read_part(part, columns) for part in parts])


def open_run(path: str | os.PathLike[str]) -> Run:
    """Open a run directory for reading.

    Raises:
        RecordError: when there is no run, or one of another schema.
    """
    folder = Path(path)
    try:
        header = tomllib.loads((folder / "run.toml").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecordError(f"{folder} holds no run: there is no run.toml") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{folder / 'run.toml'} is damaged: {error}") from error
    if header.get("schema") != SCHEMA:
        raise RecordError(
            f"{folder} has schema {header.get('schema')!r}; this version of mdxai reads {SCHEMA}"
        )
    return Run(folder, header)


def _read_part(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(path, columns=None if columns is None else list(columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise RecordError(f"{path} is damaged: {error}") from error


def refuse_other_run(path: Path) -> None:
    """Raise RecordError where `path` holds a run already or is no directory."""
    if (path / "run.toml").exists() or any(path.glob("*.parquet")):
        raise RecordError(
            f"{path} already holds a run; choose another directory, or remove that one first"
        )
    if path.exists() and not path.is_dir():
        raise RecordError(f"{path} is a file; expected a directory to write the run to")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the numbers."""
    return {"python": platform.python_version(), **{name: version(name) for name in VERSIONS_OF}}


def _profile_table(profile: BinnedMoments) -> pa.Table:
    channel, column = np.nonzero(profile.count)
    return pa.table(
        {
            "channel": [profile.channels[c] for c in channel],
            "bin_left_ang": profile.bin_edges[column],
            "bin_right_ang": profile.bin_edges[column + 1],
            "count": profile.count[channel, column],
            "mean_eV": profile.mean[channel, column],
            "std_eV": np.sqrt(profile.variance[channel, column]),
            "min_eV": profile.minimum[channel, column],
            "max_eV": profile.maximum[channel, column],
        }
    )


def _write_table(path: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    _replace(path, sink.getvalue())


def _replace(path: Path, content: bytes | pa.Buffer) -> None:
    """Make `path` appear with `content`, complete and durable, or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RecordError(
            f"cannot write {path}: {error}. Parts written before this one are intact"
        ) from error


def _without_none(content: Any) -> Any:
    """TOML has no null: leave such entries out."""
    if isinstance(content, Mapping):
        return {key: _without_none(value) for key, value in content.items() if value is not None}
    return content
