"""Keeping a run directory small: merging parts, deleting old frames and checkpoints.

A merge writes the large part first and then deletes the small ones. Readers in between ignore the
small ones, because their steps lie inside the large one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from mdxai.record.durable_files import RecordError, remove
from mdxai.record.layout import checkpoint_step, list_checkpoints
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

FEW = 8  # parts of similar size that are merged
# Largest size of a merged part; parts above half of it are not merged again. Frames have many
# columns, whose footer is in memory several times while a part is written.
MERGED_BYTES = {"frames": 1_000_000}
MOST_BYTES = 8_000_000  # likewise, for other kinds


def merge_tail(folder: Path, parts: list[Part]) -> list[Part]:
    """Merge the newest small parts once there are `FEW` of similar size.

    Sizes are compared by powers of eight, and smaller parts among them are merged too. So a row is
    rewritten log₈(final size / size of its first part) times.

    Args:
        folder: run directory.
        parts: all parts of one kind, in order.

    Returns:
        The parts of that kind after the merge.

    Raises:
        RecordError: when the file system refuses; every row is still there.
    """
    tail = _small_tail(parts)
    for tier in sorted({_tier(size) for _, size in tail}):
        newest = _newest_up_to(tier, tail)
        if sum(_tier(size) == tier for _, size in newest) >= FEW:
            return _merged(folder, parts, next(_groups(newest)))
    return parts


def merge_all(folder: Path, parts: list[Part]) -> list[Part]:
    """Merge all neighbouring small parts, up to `MERGED_BYTES` or `MOST_BYTES` each.

    Raises:
        RecordError: when the file system refuses; every row is still there.
    """
    for group in list(_groups([(part, _size(part)) for part in parts])):
        parts = _merged(folder, parts, group)
    return parts


def _groups(sized: Iterable[tuple[Part, int]]) -> Iterator[list[Part]]:
    """Yield groups of neighbouring small parts, each of which fits into one part."""
    group: list[Part] = []
    total = 0
    for part, size in sized:
        if _is_large(part, size) or total + size > _limit(part):
            yield group
            group, total = [], 0
        if not _is_large(part, size):
            group.append(part)
            total += size
    yield group


def _limit(part: Part) -> int:
    return MERGED_BYTES.get(part.kind, MOST_BYTES)


def _is_large(part: Part, size: int) -> bool:
    return size >= _limit(part) // 2


def _newest_up_to(tier: int, tail: list[tuple[Part, int]]) -> list[tuple[Part, int]]:
    at = len(tail)
    while at > 0 and _tier(tail[at - 1][1]) <= tier:
        at -= 1
    return tail[at:]


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
        if _is_large(part, size):
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
        return parts  # leave damaged parts to `repair`
    whole = rewrite(folder, group, grouped)
    _return_freed_memory()
    at = parts.index(group[0])
    return [*parts[:at], whole, *parts[at + len(group) :]]


def _return_freed_memory() -> None:
    """Return the memory of a merge to the system, where the allocator is that of glibc."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


def rewrite(
    folder: Path,
    group: Sequence[Part],
    change: Callable[[Iterator[pa.Table]], Iterator[pa.Table]],
) -> Part:
    """Pass the rows of some parts through `change`, write them as one part, delete the old parts.

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
    """Delete trajectory parts before the last `n_frames` frames; return those that stay.

    Args:
        folder: run directory.
        parts: of the trajectory, in order.
        n_frames: frames to keep.
        until: step of the oldest checkpoint. Frames are counted back from there, and only whole
            parts are deleted. None keeps exactly the last `n_frames`.

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
        steps = [s for t in read_groups(kept[0], ["step"]) for s in t["step"].to_pylist()]
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
    return checkpoint_step(paths[-keep:][0]) if paths else None
