"""Checkpoints: the state of a run at one step, stored exactly, without pickle.

A checkpoint holds, encoded by `mdxai.serialization.encode`, the state, the content of run.toml and
the names of the parts recorded so far.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdxai.record.durable_files import RecordError, RecordWarning, read_file, write_file
from mdxai.record.layout import checkpoint_path, list_checkpoints
from mdxai.record.parts import Part, list_parts
from mdxai.serialization import Packed, StateError, decode, encode, pack


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State of a run at one step.

    Attributes:
        step: MD step.
        state: what the monitor and its engine need to continue.
        header: content of run.toml.
        parts: names of the parts that hold the record up to this step, by kind.
        last: last recorded step by kind.
        n_events: number of events so far.
    """

    step: int
    state: Mapping[str, Any]
    header: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, list[str]] = field(default_factory=dict)
    last: Mapping[str, int] = field(default_factory=dict)
    n_events: int = 0


def pack_state(state: Mapping[str, Any]) -> Packed:
    """Return a copy of a state, so that later changes do not reach the checkpoint.

    Raises:
        RecordError: when something cannot be stored exactly; the message names it.
    """
    try:
        return pack(state)
    except StateError as error:
        raise RecordError(str(error)) from error


def write_checkpoint(folder: Path, checkpoint: Checkpoint, state: Packed | None = None) -> Path:
    """Write a checkpoint into a run directory; return its path.

    Args:
        folder: run directory.
        checkpoint: what to write; all parts it names must exist.
        state: the state, when it is packed already; `checkpoint.state` is ignored then.

    Raises:
        RecordError: when the state cannot be stored, or the file system refuses.
    """
    content = {
        "step": checkpoint.step,
        "header": checkpoint.header,
        "parts": checkpoint.parts,
        "last": checkpoint.last,
        "n_events": checkpoint.n_events,
        "state": pack_state(checkpoint.state) if state is None else state,
    }
    path = checkpoint_path(folder, checkpoint.step)
    write_file(path, encode(content))
    return path


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read one checkpoint.

    Raises:
        RecordError: when it does not exist or is damaged.
    """
    path = Path(path)
    try:
        content = decode(read_file(path))
        checkpoint = Checkpoint(
            int(content["step"]), content["state"], content["header"],
            {kind: list(names) for kind, names in content["parts"].items()},
            {kind: int(step) for kind, step in content["last"].items()},
            int(content["n_events"]),
        )  # fmt: skip
    except FileNotFoundError as error:
        raise RecordError(f"there is no checkpoint {path}") from error
    except (StateError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RecordError(f"{path} is damaged: {error}") from error
    if path.name != checkpoint_path(path.parent, checkpoint.step).name:
        raise RecordError(f"{path} is damaged: it holds the state of step {checkpoint.step}")
    return checkpoint


def latest_checkpoint(folder: Path | str) -> Checkpoint:
    """Return the newest checkpoint that is undamaged and whose parts all exist.

    Warns:
        RecordWarning: for each newer checkpoint that cannot be used, with the reason.

    Raises:
        RecordError: when there is none.
    """
    folder = Path(folder)
    for path in reversed(list_checkpoints(folder)):
        try:
            checkpoint = read_checkpoint(path)
            refuse_missing_parts(folder, checkpoint)
        except RecordError as reason:
            warnings.warn(f"checkpoint skipped: {reason}", RecordWarning, stacklevel=2)
        else:
            return checkpoint
    raise RecordError(
        f"{folder} has no checkpoint that can be used, so the run cannot be resumed; start it "
        "anew in another directory"
    )


def refuse_missing_parts(folder: Path, checkpoint: Checkpoint) -> None:
    """Check that every part that a checkpoint names exists, merged or not.

    Where only the last frames are retained, trajectory parts before the first one left may have
    been deleted.

    Raises:
        RecordError: when a part is missing; the message names it.
    """
    for kind, names in checkpoint.parts.items():
        present = list_parts(folder, kind)
        retained = kind == "trajectory" and "retain" in checkpoint.header.get("record", {})
        for name in names:
            part = Part.parse(folder / name)
            if part is None:
                path = checkpoint_path(folder, checkpoint.step)
                raise RecordError(f"{path} is damaged: it names {name!r} as a part")
            dropped = retained and (not present or part.last <= present[0].last)
            if not dropped and not any(part == p or part.inside(p) for p in present):
                raise RecordError(
                    f"{folder / name} is missing, which the checkpoint of step {checkpoint.step} "
                    f"needs; `mdxai repair {folder}` copies what is undamaged"
                )
