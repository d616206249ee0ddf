"""Which checkpoint a run continues from, and whether a run may start anew in its directory."""

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
from mdxai.record.durable_files import RecordError, RecordWarning, make_folder, supersede
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
    """Return the newest usable checkpoint; None when the run has none yet.

    Raises:
        RecordError: when `folder` is a file, or when there are checkpoints but none is usable, or
            run.toml is missing.
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
    """Check that a run may start anew in a directory without a checkpoint.

    Raises:
        RecordError: when it holds a finished run, parts without a run.toml, or other Parquet files.
    """
    parts, others = _tables(folder)
    if others:
        raise RecordError(
            f"{folder} holds {others[0].name}, which mdxai did not write; choose another directory"
        )
    if (folder / HEADER).exists():
        read_header(folder)
        if is_finished(folder):
            raise RecordError(
                f"{folder} holds a finished run without a checkpoint, which cannot be continued; "
                "choose another directory"
            )
    elif parts:
        raise RecordError(
            f"{folder} holds {parts[0].name}, but neither {HEADER} nor a checkpoint, so the run "
            "cannot be continued; choose another directory"
        )


def supersede_start(folder: Path, header: Mapping[str, Any]) -> None:
    """Make room for a new start of a run that ended before its first checkpoint.

    Its files are renamed, so that readers ignore them.

    Args:
        folder: run directory.
        header: of the run that starts in its place, as for `RunWriter.start`.

    Warns:
        RecordWarning: when something had been recorded.

    Raises:
        RecordError: as `refuse_start`; for another run, listing the differences; and when the file
            system refuses.
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
            f"{folder} has no checkpoint, so the run starts anew; files of the first start are "
            f"kept, renamed to end in {ORPHAN}",
            RecordWarning,
            stacklevel=2,
        )
    verdict = [folder / VERDICT] if (folder / VERDICT).exists() else []
    boxes = sorted(path for path in folder.glob(f"{BLACK_BOX}*") if path.suffix != ORPHAN)
    for path in (*parts, *boxes, *verdict, folder / HEADER):  # the header last: it names the run
        supersede(path)


def _tables(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the parts of the run, and the Parquet files that mdxai did not write."""
    tables = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    parts = [path for path in tables if Part.parse(path) is not None]
    boxes = [path for path in tables if path.name.startswith(BLACK_BOX)]
    return parts, [path for path in tables if path not in parts and path not in boxes]


def common_checkpoint(folder: Path, names: Sequence[str]) -> Checkpoint | None:
    """Return the newest checkpoint of a group of replicas for which each replica has its own.

    Args:
        folder: of the group: its checkpoints and the run directory of each replica.
        names: of these directories. Replicas that had ended before the checkpoint need none.

    Raises:
        RecordError: when the checkpoint is that of other replicas.
    """
    for path in reversed(list_checkpoints(folder)):
        try:
            found = read_checkpoint(path)
        except RecordError as error:
            warnings.warn(f"{error}; an older checkpoint is used", RecordWarning, stacklevel=3)
            continue
        if found.state["names"] != list(names):
            raise RecordError(
                f"{folder} holds {len(found.state['names'])} replicas, now there are {len(names)}; "
                "load the same molecules in as many replicas"
            )
        live = [name for k, name in enumerate(names) if str(k) not in found.state["dropped"]]
        if all(checkpoint_path(folder / name, found.step).exists() for name in live):
            return found
    return None


def abandon_starts(folder: Path, names: Sequence[str]) -> None:
    """Make room for a new start of replicas that ended before their first common checkpoint.

    Their directories move to a new folder, `abandoned-1` and so on.

    Warns:
        RecordWarning: when something had been recorded.

    Raises:
        RecordError: when a directory holds a finished run, or the file system refuses.
    """
    there = [folder / name for name in names if (folder / name).exists()]
    finished = [path for path in there if is_finished(path)]
    if finished:
        raise RecordError(
            f"{finished[0]} holds a finished run, but {folder} has no checkpoint from which all "
            "replicas could continue; choose another directory"
        )
    if not there:
        return
    number = 1
    while (into := folder / f"abandoned-{number}").exists():
        number += 1
    make_folder(into)
    for path in (*there, *list_checkpoints(folder)):
        supersede(path, into)
    warnings.warn(
        f"{folder} has no checkpoint of all replicas, so they start anew; their records so far are "
        f"kept in {into}",
        RecordWarning,
        stacklevel=3,
    )


def is_finished(folder: Path) -> bool:
    """Return whether the directory holds a run that reached its end."""
    try:
        return read_verdict(folder).get("interrupted_by") is None
    except RecordError:
        return False


def recorded_header(folder: Path) -> Mapping[str, Any] | None:
    """Return the header in the newest checkpoint, else in run.toml; None without a run.

    Raises:
        RecordError: as `checkpoint_of`, and for a damaged run.toml.
    """
    checkpoint = checkpoint_of(folder)
    if checkpoint is not None:
        return checkpoint.header
    return read_header(folder) if (folder / HEADER).exists() else None


def steps_done(folder: Path) -> int | None:
    """Return the MD step of the newest checkpoint; None without one.

    Raises:
        RecordError: as `checkpoint_of`.
    """
    checkpoint = checkpoint_of(folder)
    return None if checkpoint is None else checkpoint.step
