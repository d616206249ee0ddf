"""What a run directory offers somebody who wants to go on."""

from __future__ import annotations

from pathlib import Path

from mdxai.record.checkpoint import Checkpoint, latest_checkpoint, list_checkpoints
from mdxai.record.files import RecordError, put_aside
from mdxai.record.header import HEADER, VERDICT, read_header, read_verdict


def checkpoint_of(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint that can be used; None where the run has none yet.

    Raises:
        RecordError: when `folder` is a file, or the run has checkpoints but none is whole.
    """
    if folder.exists() and not folder.is_dir():
        raise RecordError(f"{folder} is a file; expected the directory of a run")
    if not (folder / HEADER).exists() or not list_checkpoints(folder):
        return None
    return latest_checkpoint(folder)


def give_up_start(folder: Path) -> None:
    """Put aside what a run left that was ended before its first checkpoint.

    Raises:
        RecordError: when the directory holds a finished run without checkpoints, or something
            that is no run, or the file system refuses.
    """
    if not folder.is_dir():
        return
    if (folder / HEADER).exists():
        read_header(folder)
    if is_finished(folder):
        raise RecordError(
            f"{folder} holds a finished run without a checkpoint: it cannot be continued"
        )
    for path in sorted(folder.iterdir()):
        if path.name in (HEADER, VERDICT) or path.suffix == ".parquet":
            put_aside(path)


def is_finished(folder: Path) -> bool:
    """Whether the directory holds a run that reached its end."""
    try:
        return read_verdict(folder).get("interrupted_by") is None
    except RecordError:
        return False
