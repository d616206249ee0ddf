"""What a run directory offers somebody who wants to go on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mdxai.record.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    read_checkpoint,
)
from mdxai.record.durable_files import RecordError, RecordWarning, make_folder, put_aside
from mdxai.record.header import differences, read_header, read_verdict
from mdxai.record.layout import (
    BLACK_BOX,
    HEADER,
    ORPHAN,
    VERDICT,
    checkpoint_path,
    list_checkpoints,
)
from mdxai.record.parts import Part


def checkpoint_of(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint that can be used; None where the run has none yet.

    Raises:
        RecordError: when `folder` is a file, or the run has checkpoints but none is whole, or no
            run.toml.
    """
    if folder.exists() and not folder.is_dir():
        raise RecordError(f"{folder} is a file; expected the directory of a run")
    if not list_checkpoints(folder):
        return None
    if not (folder / HEADER).exists():
        raise RecordError(
            f"{folder} has checkpoints but no {HEADER}; `mdxai repair {folder}` restores it"
        )
    return latest_checkpoint(folder)


def refuse_start(folder: Path) -> None:
    """Check that a run may be started anew in a directory that has no checkpoint.

    Raises:
        RecordError: when it holds a finished run, parts without a run.toml, or tables of somebody
            else.
    """
    parts, others = _tables(folder)
    if others:
        raise RecordError(
            f"{folder} holds {others[0].name}, which is no part of a run; choose another directory"
        )
    if (folder / HEADER).exists():
        read_header(folder)
        if is_finished(folder):
            raise RecordError(
                f"{folder} holds a finished run without a checkpoint: it cannot be continued"
            )
    elif parts:
        raise RecordError(
            f"{folder} holds {parts[0].name}, but neither {HEADER} nor a checkpoint: it cannot be "
            "continued; choose another directory"
        )


def give_up_start(folder: Path, header: Mapping[str, Any]) -> None:
    """Put aside what a run left that was ended before its first checkpoint.

    Args:
        folder: run directory.
        header: of the run that is to start in its place, as for `RunWriter.start`.

    Warns:
        RecordWarning: where something had been recorded.

    Raises:
        RecordError: as `refuse_start`, when it was another run, with what is different, or when the
            file system refuses.
    """
    refuse_start(folder)
    if not (folder / HEADER).exists():
        return
    changed = differences(read_header(folder), header)
    if changed:
        raise RecordError(
            f"{folder} holds another run, without a checkpoint:\n  " + "\n  ".join(changed)
            + "\nUse the same calculator, system and parameters, or another directory"
        )  # fmt: skip
    parts, _ = _tables(folder)
    if parts:
        warnings.warn(
            f"{folder} has no checkpoint, so the run starts anew; what it had recorded is kept "
            f"with the ending {ORPHAN}",
            RecordWarning,
            stacklevel=2,
        )
    verdict = [folder / VERDICT] if (folder / VERDICT).exists() else []
    boxes = sorted(path for path in folder.glob(f"{BLACK_BOX}*") if path.suffix != ORPHAN)
    for path in (*parts, *boxes, *verdict, folder / HEADER):  # the header last: it says whose
        put_aside(path)


def _tables(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the parts of a run, and tables that are none of its own."""
    tables = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    parts = [path for path in tables if Part.parse(path) is not None]
    boxes = [path for path in tables if path.name.startswith(BLACK_BOX)]
    return parts, [path for path in tables if path not in parts and path not in boxes]


def common_checkpoint(folder: Path, names: Sequence[str]) -> Checkpoint | None:
    """Return the newest checkpoint of several runs side by side that each of them has too.

    Args:
        folder: holds the checkpoints of what the runs have in common, and their directories.
        names: of the directories. Those that the checkpoint calls dropped had ended before.

    Raises:
        RecordError: where it was made for other runs.
    """
    for path in reversed(list_checkpoints(folder)):
        try:
            found = read_checkpoint(path)
        except RecordError as error:
            warnings.warn(f"{error}; an older checkpoint is used", RecordWarning, stacklevel=3)
            continue
        if found.state["names"] != list(names):
            raise RecordError(
                f"{folder} holds {len(found.state['names'])} runs side by side, and these are "
                f"{len(names)}; load the same molecules in as many replicas"
            )
        live = [name for k, name in enumerate(names) if str(k) not in found.state["dropped"]]
        if all(checkpoint_path(folder / name, found.step).exists() for name in live):
            return found
    return None


def put_starts_aside(folder: Path, names: Sequence[str]) -> None:
    """Put aside what runs side by side left that were ended before a checkpoint of all of them.

    Warns:
        RecordWarning: where something had been recorded.

    Raises:
        RecordError: when a directory holds a finished run, or the file system refuses.
    """
    there = [folder / name for name in names if (folder / name).exists()]
    finished = [path for path in there if is_finished(path)]
    if finished:
        raise RecordError(
            f"{finished[0]} holds a finished run, and {folder} no checkpoint to continue all from; "
            "choose another directory"
        )
    if not there:
        return
    number = 1
    while (into := folder / f"abandoned-{number}").exists():
        number += 1
    make_folder(into)
    for path in (*there, *list_checkpoints(folder)):
        put_aside(path, into)
    warnings.warn(
        f"{folder} has no checkpoint of all runs in it, so they start anew; what they had recorded "
        f"is kept in {into}",
        RecordWarning,
        stacklevel=3,
    )


def is_finished(folder: Path) -> bool:
    """Whether the directory holds a run that reached its end."""
    try:
        return read_verdict(folder).get("interrupted_by") is None
    except RecordError:
        return False


def recorded_header(folder: Path) -> Mapping[str, Any] | None:
    """Return what run.toml says, or the newest checkpoint; None where there is no run.

    Raises:
        RecordError: as `checkpoint_of`, and for a damaged run.toml.
    """
    checkpoint = checkpoint_of(folder)
    if checkpoint is not None:
        return checkpoint.header
    return read_header(folder) if (folder / HEADER).exists() else None


def steps_done(folder: Path) -> int | None:
    """Return the MD step of the newest checkpoint; None where there is none.

    Raises:
        RecordError: as `checkpoint_of`.
    """
    checkpoint = checkpoint_of(folder)
    return None if checkpoint is None else checkpoint.step
