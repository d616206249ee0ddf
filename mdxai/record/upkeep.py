"""What keeps a run directory small: merging parts, dropping old frames and checkpoints.

A merge writes the large part first and then deletes the small ones; whoever reads in between
ignores these, because their steps lie inside the large one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from mdxai.record.checkpoint import list_checkpoints
from mdxai.record.files import RecordError, remove
from mdxai.record.parts import (
    Part,
    count_rows,
    grouped,
    read_groups,
    select_rows,
    unique_events,
    verify,
    write_part,
)

FEW = 8  # parts of about one size that are merged
LARGE_BYTES = 16_000_000  # a part of this size is left as it is
MERGED_BYTES = 64_000_000  # of one part after the last merge


def merge_tail(folder: Path, parts: list[Part]) -> list[Part]:
    """Merge the newest small parts when enough of about one size have gathered.

    Sizes are compared by powers of eight, so a row is rewritten as often as log₈ of the final size
    over that of the first part.

    Args:
        folder: run directory.
        parts: all parts of one kind, in order.

    Returns:
        The parts of that kind that are there afterwards.

    Raises:
        RecordError: when the file system refuses; every row is still there.
    """
    tail = _small_tail(parts)
    for tier in sorted({_tier(size) for _, size in tail}):
        chosen: list[Part] = []
        for part, size in reversed(tail):
            if _tier(size) > tier:
                break
            chosen.insert(0, part)
        if len(chosen) >= FEW:
            return _merged(folder, parts, chosen)
    return parts


def merge_all(folder: Path, parts: list[Part]) -> list[Part]:
    """Merge all small parts that are neighbours, up to `MERGED_BYTES` each.

    Raises:
        RecordError: when the file system refuses; every row is still there.
    """
    group: list[Part] = []
    total = 0
    for part in list(parts):
        size = _size(part)
        if size >= LARGE_BYTES or total + size > MERGED_BYTES:
            parts = _merged(folder, parts, group)
            group, total = [], 0
        if size < LARGE_BYTES:
            group.append(part)
            total += size
    return _merged(folder, parts, group)


def _tier(size: int) -> int:
    return size.bit_length() // 3


def _size(part: Part) -> int:
    try:
        return part.path.stat().st_size
    except OSError as error:
        raise RecordError(f"{part.path} is missing: {error.strerror or error}") from error


def _small_tail(parts: Sequence[Part]) -> list[tuple[Part, int]]:
    tail: list[tuple[Part, int]] = []
    for part in reversed(parts):
        size = _size(part)
        if size >= LARGE_BYTES:
            break
        tail.insert(0, (part, size))
    return tail


def _merged(folder: Path, parts: list[Part], group: list[Part]) -> list[Part]:
    if len(group) < 2:
        return parts
    try:
        for part in group:
            verify(part)
    except (RecordError, FileNotFoundError):
        return parts  # what is damaged stays as it is, for repair to find
    whole = rewrite(folder, group, grouped)
    at = parts.index(group[0])
    return [*parts[:at], whole, *parts[at + len(group) :]]


def rewrite(
    folder: Path,
    group: Sequence[Part],
    change: Callable[[Iterator[pa.Table]], Iterator[pa.Table]],
) -> Part:
    """Write the rows of some parts, changed, as one part, and delete those.

    Raises:
        RecordError: when the file system refuses; every row is still there.
    """
    rows = (table for part in group for table in read_groups(part))
    kind = group[0].kind
    tables = iter([unique_events(list(rows))]) if kind == "events" else change(rows)
    whole, _ = write_part(folder, kind, tables)
    for part in group:
        if part.name != whole.name:
            remove(part.path)
    return whole


def retain_last(
    folder: Path, parts: list[Part], n_frames: int, until: int | None = None
) -> list[Part]:
    """Drop trajectory parts before the last `n_frames` frames; return those that stay.

    Args:
        folder: run directory.
        parts: of the trajectory, in order.
        n_frames: frames to keep.
        until: step up to which frames count, that of the oldest checkpoint: parts of which all
            but the last frames are old are kept too. None cuts to exactly `n_frames`.

    Raises:
        RecordError: when the file system refuses.
    """
    found = 0
    at = len(parts)
    while at > 0 and found < n_frames:
        at -= 1
        if until is None or parts[at].last <= until:
            found += count_rows(parts[at])
    for part in parts[:at]:
        remove(part.path)
    kept = parts[at:]
    if until is None and found > n_frames:
        steps = [int(s) for t in read_groups(kept[0], ["step"]) for s in t["step"].to_numpy()]
        first = steps[found - n_frames]
        verify(kept[0])
        kept[0] = rewrite(folder, kept[:1], lambda rows: select_rows(rows, first, kept[0].last))
    return kept


def drop_checkpoints(folder: Path, keep: int) -> int | None:
    """Delete all but the newest checkpoints; return the step of the oldest that is left.

    Raises:
        RecordError: when the file system refuses.
    """
    paths = list_checkpoints(folder)
    for path in paths[:-keep]:
        remove(path)
    return int(paths[-keep:][0].stem.rpartition("-")[2]) if paths else None
