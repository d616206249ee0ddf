"""Deleting superseded files once the resumed run has recorded the same again.

A killed run has recorded more than its last checkpoint covers. When it is resumed, these files are
renamed and the same frames are recorded again, bit for bit where the engine allows. A superseded
file is deleted only if every row of it is in the finished record.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mdxai.record.durable_files import RecordError, remove
from mdxai.record.layout import HEADER, ORPHAN, ROWS, VERDICT
from mdxai.record.parts import Part, list_parts, read_groups, select_rows, verify


def drop_repeated(folder: Path, *, retained: bool) -> None:
    """Delete superseded parts whose every row is in the finished record.

    Superseded verdicts, profiles, checkpoints and headers are deleted once no superseded part is
    left. Files that cannot be read stay.

    Args:
        folder: run directory.
        retained: whether the run keeps only its last trajectory frames.

    Raises:
        RecordError: when the file system refuses.
    """
    unique = False
    for path in sorted(folder.glob(f"*{ORPHAN}")):
        part = Part.parse(path)
        if part is None or part.kind not in ROWS:
            continue
        if _is_repeated(folder, part, retained=retained):
            remove(path)
        else:
            unique = True
    if unique:
        return
    for pattern in (VERDICT, HEADER, "profile-*.parquet", "checkpoint-*.npz"):
        for path in folder.glob(f"{pattern}{ORPHAN}"):
            remove(path)


def _is_repeated(folder: Path, part: Part, *, retained: bool) -> bool:
    try:
        verify(part)
        present = list_parts(folder, part.kind)
        first = present[0].first if retained and part.kind == "trajectory" and present else 0
        near = [p for p in present if p.last >= part.first and p.first <= part.last]
        for group in select_rows(read_groups(part), first, part.last):
            rows = list(_rows_of(near, group))
            if not rows or not same_rows(group, pa.concat_tables(rows)):
                return False
    except (RecordError, FileNotFoundError, pa.ArrowException):
        return False
    return True


def _rows_of(parts: list[Part], group: pa.Table) -> Iterator[pa.Table]:
    """Yield the rows of the same steps or events as a group, which should equal it."""
    first, last = (pc.min(group["step"]).as_py(), pc.max(group["step"]).as_py())
    for part in parts:
        for table in select_rows(read_groups(part), first, last):
            if "number" in table.column_names:
                yield table.filter(pc.is_in(table["number"], group["number"]))
            else:
                yield table


def same_rows(one: pa.Table, other: pa.Table) -> bool:
    """Return whether two tables hold the same values; NaN equals NaN, null only null."""
    if one.column_names != other.column_names or one.num_rows != other.num_rows:
        return False
    return all(
        _same(one[name].combine_chunks(), other[name].combine_chunks()) for name in one.column_names
    )


def _same(one: pa.Array, other: pa.Array) -> bool:
    if one.type != other.type or not one.is_null().equals(other.is_null()):
        return False
    if pa.types.is_nested(one.type):
        if not pc.list_value_length(one).equals(pc.list_value_length(other)):
            return False
        one, other = pc.list_flatten(one), pc.list_flatten(other)
    if not pa.types.is_floating(one.type):
        return bool(one.equals(other))
    left, right = (array.to_numpy(zero_copy_only=False) for array in (one, other))
    return np.array_equal(left, right, equal_nan=True)
