"""Parts: Parquet files whose names say what they hold, and by which they can be checked.

    frames-000000000000-000000001999-3f2a9c0d17b64e55.parquet
    kind   first step   last step    first 16 hex digits of the file's SHA-256

Steps of one kind never overlap between parts, but for a moment: a merge first writes the large part
and then deletes the small ones. So a part whose steps lie inside those of another is ignored.
Events may share a step between parts; they are told apart by their number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mdxai.record.durable_files import DurableFile, RecordError, cannot_write, hash_of
from mdxai.record.layout import KINDS, ORPHAN

_NAME = re.compile(rf"({'|'.join(KINDS)})-(\d{{12}})-(\d{{12}})-([0-9a-f]{{16}})\.parquet")
GROUP_BYTES = 1_000_000  # of one row group: what a reader holds at a time
CHUNK_BYTES = 16_000  # of one column of a row group on average, so that footers stay short
PARQUET_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError)


@dataclass(frozen=True, slots=True)
class Part:
    """One file. first, last: MD steps. digest: first 16 hexadecimal digits of its SHA-256."""

    path: Path
    kind: str
    first: int
    last: int
    digest: str

    @classmethod
    def parse(cls, path: Path) -> Part | None:
        """Return the part that a path names, or None where it names none."""
        match = _NAME.fullmatch(path.name.removesuffix(ORPHAN))
        if match is None or int(match[2]) > int(match[3]):
            return None
        return cls(path, match[1], int(match[2]), int(match[3]), match[4])

    @property
    def name(self) -> str:
        return self.path.name

    def inside(self, other: Part) -> bool:
        """Whether the steps of this part lie within those of another."""
        return self is not other and other.first <= self.first and self.last <= other.last


def list_parts(folder: Path, kind: str) -> list[Part]:
    """Return the parts of one kind that count, in order of their steps.

    Raises:
        RecordError: when the folder cannot be listed.
    """
    seen = _names(folder, kind)
    while (again := _names(folder, kind)) != seen:  # a merge went on while the folder was listed
        seen = again
    parts = [part for name in seen if (part := Part.parse(folder / name)) is not None]
    return sorted(parts, key=_order) if kind == "events" else without_covered(parts)


def _names(folder: Path, kind: str) -> set[str]:
    try:
        return {path.name for path in folder.iterdir() if path.match(f"{kind}-*.parquet")}
    except OSError as error:
        raise RecordError(f"{folder} cannot be listed: {error.strerror or error}") from error


def _order(part: Part) -> tuple[int, int, str]:
    return part.first, -part.last, part.digest


def without_covered(parts: Iterable[Part]) -> list[Part]:
    """Return the parts in order, less those that lie inside another."""
    kept: list[Part] = []
    for part in sorted(parts, key=_order):  # the longer of two that begin alike comes first
        if not kept or part.last > kept[-1].last:
            kept.append(part)
    return kept


def verify(part: Part) -> None:
    """Compare a part with the hash in its name.

    Raises:
        FileNotFoundError: when it is gone, as after a merge.
        RecordError: when it is damaged.
    """
    try:
        digest = hash_of(part.path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordError(f"{part.path} cannot be read: {error.strerror or error}") from error
    if not digest.startswith(part.digest):
        raise RecordError(
            f"{part.path} is damaged: its SHA-256 begins with {digest[:16]}, its name says "
            f"{part.digest}; `mdxai repair {part.path.parent}` keeps what is whole"
        )


def read_groups(part: Part, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield a part row group by row group; one that `verify` has seen.

    Raises:
        FileNotFoundError: when it is gone, as after a merge.
        RecordError: when it cannot be read or lacks a column.
    """
    with _opened(part) as file:
        names = file.schema_arrow.names
        absent = [name for name in columns or () if name not in names]
        if absent:
            raise RecordError(f"{part.path} has no column {absent[0]!r}")
        for group in range(file.num_row_groups):
            yield file.read_row_group(
                group, None if columns is None else list(columns), use_threads=False
            )


def read_groups_back(part: Part, time: float) -> Iterator[pa.Table]:
    """Yield row groups from the last to the first, less those that begin after a time (fs).

    Raises:
        FileNotFoundError, RecordError: as for `read_groups`.
    """
    with _opened(part) as file:
        for group in reversed(range(file.num_row_groups)):
            begin = file.read_row_group(group, ["time_fs"], use_threads=False)["time_fs"][0]
            if begin.as_py() <= time:
                yield file.read_row_group(group, use_threads=False)


@contextmanager
def _opened(part: Part) -> Iterator[pq.ParquetFile]:
    """Open a part; what it cannot be read for becomes a RecordError, but not that it is gone."""
    try:
        with pq.ParquetFile(part.path) as file:
            yield file
    except (FileNotFoundError, RecordError):
        raise
    except PARQUET_ERRORS as error:
        raise RecordError(f"{part.path} is damaged: {error}") from error


def count_rows(part: Part) -> int:
    """Return the number of rows that a part's footer states.

    Raises:
        FileNotFoundError, RecordError: as for `read_groups`.
    """
    try:
        return int(pq.read_metadata(part.path).num_rows)
    except FileNotFoundError:
        raise
    except PARQUET_ERRORS as error:
        raise RecordError(f"{part.path} is damaged: {error}") from error


def write_part(folder: Path, kind: str, groups: Iterable[pa.Table]) -> tuple[Part, int]:
    """Write tables as one part, a row group each; return it and its size in bytes.

    Args:
        folder: run directory.
        kind: one of `KINDS`.
        groups: tables of one schema, steps ascending; each step within one table.

    Raises:
        RecordError: when the file system refuses; nothing half-written is left.
    """
    steps: list[tuple[int, int]] = []
    try:
        with DurableFile(folder) as file:
            writer = None
            for table in groups:
                writer = writer or _writer(file, table.schema)
                writer.write_table(table, row_group_size=max(1, table.num_rows))
                step = table["step"]
                steps.append((pc.min(step).as_py(), pc.max(step).as_py()))
            assert writer is not None
            writer.close()
            first, last = min(s[0] for s in steps), max(s[1] for s in steps)
            name = f"{kind}-{first:012d}-{last:012d}-{file.digest[:16]}.parquet"
            file.settle(name)
    except OSError as error:
        raise cannot_write(folder / f"{kind}-*.parquet", error) from error
    part = Part.parse(folder / name)
    assert part is not None
    return part, file.size


def _writer(file: DurableFile, schema: pa.Schema) -> pq.ParquetWriter:
    """Floats are split by byte, which zstd packs better; repeated integers go to a dictionary."""
    floats: list[str] = []
    repeated: list[str] = []
    for field in schema:
        nested = pa.types.is_nested(field.type)
        name = f"{field.name}.list.element" if nested else field.name
        kind = field.type.value_type if nested else field.type
        if pa.types.is_float16(kind):
            continue  # DuckDB reads no split halves
        (floats if pa.types.is_floating(kind) else repeated).append(name)
    if "i" in schema.names:  # pairs: one time for all of a frame
        floats.remove("time_fs")
        repeated.append("time_fs")
    return pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        use_dictionary=repeated,
        use_byte_stream_split=floats,
        write_statistics=["step"],  # of every column they would take a quarter of a long footer
    )


def grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join small tables until they make row groups of a fair size."""
    waiting: list[pa.Table] = []
    size = 0
    for table in tables:
        waiting.append(table)
        size += table.nbytes
        if size >= max(GROUP_BYTES, CHUNK_BYTES * table.num_columns):
            yield pa.concat_tables(waiting)
            waiting, size = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def select_rows(tables: Iterable[pa.Table], first: int, last: int) -> Iterator[pa.Table]:
    """Leave out rows whose step is not in first … last, both included."""
    for table in tables:
        steps = table["step"].to_numpy()
        kept = table.filter((steps >= first) & (steps <= last))
        if kept.num_rows:
            yield kept


def unique_events(tables: Sequence[pa.Table], below: int | None = None) -> pa.Table:
    """Return each event once, in order; with `below`, only those of a smaller number."""
    table = pa.concat_tables(tables)
    numbers, index = np.unique(table["number"].to_numpy(), return_index=True)
    return table.take(index if below is None else index[numbers < below])
