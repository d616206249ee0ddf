"""Parts: Parquet files named by what they hold and by their hash.

    frames-000000000000-000000001999-3f2a9c0d17b64e55.parquet
    kind   first step   last step    first 16 hex digits of the file's SHA-256

The steps of two parts of one kind overlap only during a merge, which writes the large part and then
deletes the small ones. So a part whose steps lie inside those of another is ignored. Events of one
step may be in two parts; they are told apart by their number.
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

from mdxai.record.arrow_arrays import arrow_array, integers_in
from mdxai.record.durable_files import DurableFile, RecordError, cannot_write, hash_of
from mdxai.record.layout import KINDS, ORPHAN

_NAME = re.compile(rf"({'|'.join(KINDS)})-(\d{{12}})-(\d{{12}})-([0-9a-f]{{16}})\.parquet")
GROUP_BYTES = 1_000_000  # of one row group, the unit in which readers load a part
CHUNK_BYTES = 16_000  # of a column in a row group, on average; keeps footers short
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
        """Return the part with this path; None when the name is not that of a part."""
        match = _NAME.fullmatch(path.name.removesuffix(ORPHAN))
        if match is None or int(match[2]) > int(match[3]):
            return None
        return cls(path, match[1], int(match[2]), int(match[3]), match[4])

    @classmethod
    def of(cls, folder: Path, kind: str, steps: tuple[int, int], digest: str) -> Part:
        """Return the part of a kind that holds these first and last steps, named accordingly."""
        first, last = steps
        name = f"{kind}-{first:012d}-{last:012d}-{digest[:16]}.parquet"
        return cls(folder / name, kind, first, last, digest[:16])

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name

    def inside(self, other: Part) -> bool:
        """Return whether the steps of this part lie within those of another."""
        return self is not other and other.first <= self.first and self.last <= other.last


def list_parts(folder: Path, kind: str) -> list[Part]:
    """Return the parts of one kind in order of their steps, without those inside another.

    Raises:
        RecordError: when the folder cannot be listed.
    """
    seen = _names(folder, kind)
    while (again := _names(folder, kind)) != seen:  # a merge changed the folder meanwhile
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
    """Return the parts in order, without those that lie inside another."""
    kept: list[Part] = []
    for part in sorted(parts, key=_order):  # at equal first steps, the longer first
        if not kept or part.last > kept[-1].last:
            kept.append(part)
    return kept


def verify(part: Part) -> None:
    """Compare a part with the hash in its name.

    Raises:
        FileNotFoundError: when a merge has deleted it.
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
    """Yield the row groups of a part that was verified.

    Args:
        part: to read.
        columns: to read; all by default.

    Raises:
        FileNotFoundError: when a merge has deleted it.
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


def read_column_names(part: Part) -> list[str]:
    """Return the names of a part's columns.

    Raises:
        FileNotFoundError, RecordError: as for `read_groups`.
    """
    with _opened(part) as file:
        names: list[str] = file.schema_arrow.names
        return names


def read_groups_back(
    part: Part, time: float, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield row groups from the last to the first, without those that begin after a time (fs).

    Raises:
        FileNotFoundError, RecordError: as for `read_groups`.
    """
    with _opened(part) as file:
        for group in reversed(range(file.num_row_groups)):
            begin = file.read_row_group(group, ["time_fs"], use_threads=False)["time_fs"][0]
            if begin.as_py() <= time:
                yield file.read_row_group(group, columns, use_threads=False)


@contextmanager
def _opened(part: Part) -> Iterator[pq.ParquetFile]:
    """Open a part. Every error but FileNotFoundError becomes a RecordError."""
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
    """Write tables as one part, each as a row group; return the part and its size, bytes.

    Args:
        folder: run directory.
        kind: one of `KINDS`.
        groups: one or more tables of one schema, steps ascending; each step within one table.

    Raises:
        RecordError: when the file system refuses; nothing half-written is left.
    """
    tables = iter(groups)
    table = next(tables)
    first, last = _step_range(table)
    try:
        with DurableFile(folder) as file:
            with _writer(file, table.schema) as writer:
                writer.write_table(table, row_group_size=max(1, table.num_rows))
                for table in tables:
                    writer.write_table(table, row_group_size=max(1, table.num_rows))
                    least, most = _step_range(table)
                    first, last = min(first, least), max(last, most)
            part = Part.of(folder, kind, (first, last), file.digest)
            file.finalize(part.name)
    except OSError as error:
        raise cannot_write(folder / f"{kind}-*.parquet", error) from error
    return part, file.size


def _step_range(table: pa.Table) -> tuple[int, int]:
    return pc.min(table["step"]).as_py(), pc.max(table["step"]).as_py()


def _writer(file: DurableFile, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer that splits floats by byte, for zstd, and indexes repeated integers."""
    floats: list[str] = []
    repeated: list[str] = []
    for field in schema:
        nested = pa.types.is_nested(field.type)
        name = f"{field.name}.list.element" if nested else field.name
        kind = field.type.value_type if nested else field.type
        if pa.types.is_float16(kind):
            continue  # DuckDB cannot read float16 split by byte
        (floats if pa.types.is_floating(kind) else repeated).append(name)
    if "i" in schema.names:  # pairs and triples repeat the time of their frame
        floats.remove("time_fs")
        repeated.append("time_fs")
    return pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        use_dictionary=repeated,
        use_byte_stream_split=floats,
        write_statistics=["step"],  # of all columns: a quarter of a long footer
    )


def grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join small tables into row groups of at least `GROUP_BYTES`."""
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
    """Yield the rows whose step is in first … last, both included."""
    for table in tables:
        steps = integers_in(table["step"])
        kept = table.filter(arrow_array((steps >= first) & (steps <= last)))
        if kept.num_rows:
            yield kept


def unique_events(tables: Sequence[pa.Table], below: int | None = None) -> pa.Table:
    """Return each event once, in order; with `below`, only those with a smaller number."""
    table = pa.concat_tables(tables)
    numbers, index = np.unique(integers_in(table["number"]), return_index=True)
    return table.take(arrow_array(index if below is None else index[numbers < below]))
