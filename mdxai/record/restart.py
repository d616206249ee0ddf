"""What a run directory offers somebody who wants to go on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mdxai.record.checkpoint import Checkpoint, latest_checkpoint, list_checkpoints
from mdxai.record.files import ASIDE, RecordError, RecordWarning, put_aside
from mdxai.record.header import HEADER, VERDICT, differences, read_header, read_verdict
from mdxai.record.parts import Part

BLACK_BOX = "blackbox-"


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
            f"with the ending {ASIDE}",
            RecordWarning,
            stacklevel=2,
        )
    verdict = [folder / VERDICT] if (folder / VERDICT).exists() else []
    boxes = sorted(path for path in folder.glob(f"{BLACK_BOX}*") if path.suffix != ASIDE)
    for path in (*parts, *boxes, *verdict, folder / HEADER):  # the header last: it says whose
        put_aside(path)


def _tables(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the parts of a run, and tables that are none of its own."""
    tables = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    parts = [path for path in tables if Part.parse(path) is not None]
    boxes = [path for path in tables if path.name.startswith(BLACK_BOX)]
    return parts, [path for path in tables if path not in parts and path not in boxes]


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
