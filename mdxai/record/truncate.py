"""Taking a run directory back to one of its checkpoints. Nothing is deleted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mdxai.record.checkpoint import Checkpoint, refuse_missing_parts
from mdxai.record.durable_files import (
    RecordError,
    copy_file,
    make_folder,
    put_aside,
    refusing_as_unwritable,
    remove,
)
from mdxai.record.header import read_header
from mdxai.record.layout import (
    BLACK_BOX,
    HEADER,
    KINDS,
    ORPHAN,
    ROWS,
    TEMPORARY,
    VERDICT,
    list_checkpoints,
)
from mdxai.record.parts import (
    Part,
    list_parts,
    read_groups,
    select_rows,
    unique_events,
    verify,
    write_part,
)
from mdxai.record.record_settings import SHAPING, RecordSettings

_AFTER = re.compile(rf"(?:checkpoint|{BLACK_BOX[:-1]})-(\d{{12}})[-.]")
_OURS = re.compile(rf"\.[0-9a-f]{{32}}{re.escape(TEMPORARY)}")


def truncate(
    folder: Path, checkpoint: Checkpoint, settings: RecordSettings, into: Path | None = None
) -> tuple[dict[str, Any], dict[str, list[Part]]]:
    """Put aside what was recorded after a checkpoint; return the header and the parts that stay.

    Parts that lie wholly after it get a name that readers pass over; of parts that straddle it, the
    rows up to it are written as a new part first. A kill on the way leaves a directory that can be
    taken back to the same checkpoint again.

    Args:
        folder: run directory.
        checkpoint: what to go back to.
        settings: those of the record.
        into: a folder within it for what is put aside, with a copy of run.toml, so that it can be
            opened as a run of its own.

    Raises:
        RecordError: for a record that lacks what the checkpoint builds on or that was kept with
            other settings, and when the file system refuses.
    """
    header = read_header(folder)
    _refuse_other_settings(folder, header, settings)
    refuse_missing_parts(folder, checkpoint)
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name):
            remove(path)
    if into is not None:
        _copy_header(folder, into)
    if (folder / VERDICT).exists():
        put_aside(folder / VERDICT, into)
    for path in [*list_checkpoints(folder), *folder.glob(f"{BLACK_BOX}*")]:
        match = _AFTER.match(path.name)
        if match is not None and int(match[1]) > checkpoint.step and path.suffix != ORPHAN:
            put_aside(path, into)
    for kind in KINDS:
        _cut(folder, kind, checkpoint, into)
    return header, {kind: list_parts(folder, kind) for kind in ROWS}


def _copy_header(folder: Path, into: Path) -> None:
    with refusing_as_unwritable(into):
        make_folder(into)
        if not (into / HEADER).exists():
            copy_file(folder / HEADER, into)


def _refuse_other_settings(
    folder: Path, header: Mapping[str, Any], settings: RecordSettings
) -> None:
    recorded, wanted = header.get("record", {}), settings.as_dict()
    changed = [
        f"{name} (recorded with {recorded.get(name)}, now {wanted.get(name)})"
        for name in SHAPING
        if recorded.get(name) != wanted.get(name)
    ]
    if changed:
        raise RecordError(
            f"{folder} cannot be continued with other settings of the record: {', '.join(changed)}"
        )


def _cut(folder: Path, kind: str, checkpoint: Checkpoint, into: Path | None) -> None:
    counted = list_parts(folder, kind)
    everything = filter(None, map(Part.parse, folder.glob(f"{kind}-*.parquet")))
    for part in everything:
        if part not in counted:  # left by a merge that was cut short
            put_aside(part.path, into)
    for part in counted:
        if kind == "events":
            _cut_events(folder, part, checkpoint.n_events, into)
        elif kind == "profile" or part.first > checkpoint.last.get(kind, -1):
            put_aside(part.path, into)
        elif part.last > checkpoint.last.get(kind, -1):
            verify(part)
            last = checkpoint.last[kind]
            write_part(folder, kind, select_rows(read_groups(part), part.first, last))
            put_aside(part.path, into)


def _cut_events(folder: Path, part: Part, n_events: int, into: Path | None) -> None:
    verify(part)
    rows = list(read_groups(part))
    if all(np.all(table["number"].to_numpy() < n_events) for table in rows):
        return
    kept = unique_events(rows, below=n_events)
    if kept.num_rows:
        write_part(folder, part.kind, [kept])
    put_aside(part.path, into)
