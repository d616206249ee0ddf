"""Taking a run directory back to one of its checkpoints. No recorded row is deleted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mdxai.record.checkpoint import Checkpoint, refuse_missing_parts
from mdxai.record.durable_files import (
    RecordError,
    as_record_error,
    copy_file,
    make_folder,
    remove,
    supersede,
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

_STEP_OF = re.compile(rf"(?:checkpoint|{BLACK_BOX[:-1]})-(\d{{12}})[-.]")
_TEMPORARY_FILE = re.compile(rf"\.[0-9a-f]{{32}}{re.escape(TEMPORARY)}")


def truncate(
    folder: Path, checkpoint: Checkpoint, settings: RecordSettings, into: Path | None = None
) -> tuple[dict[str, Any], dict[str, list[Part]]]:
    """Rename what was recorded after a checkpoint; return the header and the parts that stay.

    Parts that begin after the checkpoint are renamed, so that readers ignore them. For a part that
    begins before it and ends after it, the rows up to it are first written as a new part. A process
    killed in between leaves a directory that can be taken back to the same checkpoint again.

    Args:
        folder: run directory.
        checkpoint: to return to.
        settings: of the record.
        into: move superseded files to this folder in the run directory instead. It gets a copy of
            run.toml, so that it can be opened as a run.

    Raises:
        RecordError: when a part that the checkpoint names is missing, when the record was kept with
            other settings, or when the file system refuses.
    """
    header = read_header(folder)
    _refuse_other_settings(folder, header, settings)
    refuse_missing_parts(folder, checkpoint)
    for path in folder.iterdir():
        if _TEMPORARY_FILE.fullmatch(path.name):
            remove(path)
    if into is not None:
        _copy_header(folder, into)
    if (folder / VERDICT).exists():
        supersede(folder / VERDICT, into)
    for path in [*list_checkpoints(folder), *folder.glob(f"{BLACK_BOX}*")]:
        match = _STEP_OF.match(path.name)
        if match is not None and int(match[1]) > checkpoint.step and path.suffix != ORPHAN:
            supersede(path, into)
    for kind in KINDS:
        _cut(folder, kind, checkpoint, into)
    return header, {kind: list_parts(folder, kind) for kind in ROWS}


def _copy_header(folder: Path, into: Path) -> None:
    with as_record_error(into):
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
            f"{folder} cannot be continued with other record settings: {', '.join(changed)}; use "
            "the recorded ones, or another directory"
        )


def _cut(folder: Path, kind: str, checkpoint: Checkpoint, into: Path | None) -> None:
    counted = list_parts(folder, kind)
    everything = filter(None, map(Part.parse, folder.glob(f"{kind}-*.parquet")))
    for part in everything:
        if part not in counted:  # left by an interrupted merge
            supersede(part.path, into)
    for part in counted:
        if kind == "events":
            _cut_events(folder, part, checkpoint.n_events, into)
        elif kind == "profile" or part.first > checkpoint.last.get(kind, -1):
            supersede(part.path, into)
        elif part.last > checkpoint.last.get(kind, -1):
            verify(part)
            last = checkpoint.last[kind]
            write_part(folder, kind, select_rows(read_groups(part), part.first, last))
            supersede(part.path, into)


def _cut_events(folder: Path, part: Part, n_events: int, into: Path | None) -> None:
    verify(part)
    rows = list(read_groups(part))
    if all(np.all(table["number"].to_numpy() < n_events) for table in rows):
        return
    kept = unique_events(rows, below=n_events)
    if kept.num_rows:
        write_part(folder, part.kind, [kept])
    supersede(part.path, into)
