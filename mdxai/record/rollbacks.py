"""The rollbacks of a run, and the choice of the checkpoint to return to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mdxai.record.checkpoint import Checkpoint, read_checkpoint
from mdxai.record.durable_files import RecordError, read_file, write_file
from mdxai.record.header import read_header, read_verdict
from mdxai.record.layout import ROLLBACKS, list_checkpoints


@dataclass(frozen=True, slots=True)
class Rollback:
    """One return to an earlier checkpoint.

    Attributes:
        reason: why the run was unstable.
        onset_fs: when the instability began.
        from_step: step of the newest checkpoint of the run before it was rolled back.
        to_step, to_time_fs: step and time of the checkpoint.
        changes: what changed then, such as timestep and seed.
    """

    reason: str
    onset_fs: float
    from_step: int
    to_step: int
    to_time_fs: float
    changes: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def rollbacks_of(folder: Path) -> list[Rollback]:
    """Return the rollbacks of a run in order.

    Raises:
        RecordError: when the file that lists them is damaged.
    """
    try:
        content = read_file(folder / ROLLBACKS)
    except FileNotFoundError:
        return []
    try:
        return [Rollback(**entry) for entry in json.loads(content)]
    except (ValueError, TypeError, RecursionError) as error:
        raise RecordError(f"{folder / ROLLBACKS} is damaged: {error}") from error


def plan_rollback(folder: Path, margin: float, changes: Mapping[str, Any]) -> Rollback:
    """Plan the rollback of an unstable run, note it in the run directory, and return it.

    The run returns to the newest checkpoint at least `margin` fs before the onset, else to the
    oldest before the onset. A rollback that was planned but killed before it was done is returned
    again.

    Args:
        folder: run directory.
        margin: fs.
        changes: what changes from then on.

    Raises:
        RecordError: when there is no run, it is not unstable, or it has no checkpoint from before
            the onset.
    """
    read_header(folder)
    done = rollbacks_of(folder)
    if done and is_pending(folder, done):
        return done[-1]
    verdict = read_verdict(folder)
    onset = verdict.get("onset_fs")
    if onset is None:
        raise RecordError(
            f"{folder} is {verdict.get('stability')}; only an unstable run can be rolled back"
        )
    checkpoints = [read_checkpoint(path) for path in list_checkpoints(folder)]
    before = [c for c in checkpoints if _time(c) < onset]
    if not before:
        raise RecordError(
            f"{folder} has no checkpoint from before the onset at {onset:g} fs, so it cannot be "
            "rolled back; write checkpoints more often and keep more of them"
        )
    good = [c for c in before if _time(c) <= onset - margin]
    chosen = good[-1] if good else before[0]
    rollback = Rollback(
        str(verdict["halted_by"] or verdict["reason"]),
        float(onset),
        checkpoints[-1].step,
        chosen.step,
        _time(chosen),
        changes,
    )
    entries = [entry.as_dict() for entry in (*done, rollback)]
    write_file(folder / ROLLBACKS, json.dumps(entries, indent=1).encode())
    return rollback


def rolled_back_folder(number: int) -> str:
    """Return the name of the folder for what was recorded before rollback `number` (from 1)."""
    return f"rolled-back-{number}"


def is_pending(folder: Path, rollbacks: list[Rollback]) -> bool:
    """Return whether the last rollback was planned but not done: no checkpoint counts it yet."""
    if not rollbacks:
        return False
    counts = [n_rollbacks(read_checkpoint(path)) for path in list_checkpoints(folder)]
    return max(counts, default=0) < len(rollbacks)


def may_roll_back(folder: Path, most: int) -> bool:
    """Return whether a run was halted as unstable and rolled back fewer than `most` times."""
    halted = read_verdict(folder).get("halted_by") is not None
    return halted and len(rollbacks_of(folder)) < most


def n_rollbacks(checkpoint: Checkpoint) -> int:
    """Return how many rollbacks came before a checkpoint."""
    return int(checkpoint.state.get("n_rollbacks", 0))


def _time(checkpoint: Checkpoint) -> float:
    return float(checkpoint.state["engine"]["time"])
