"""The files of a run directory and their names."""

from __future__ import annotations

import re
from pathlib import Path

HEADER = "run.toml"
VERDICT = "verdict.json"
ROLLBACKS = "rollbacks.json"
WEAK_SPOTS = "weak_spots.json"
FORECAST = "forecast.json", "weak-spots.json", "life-test.json"  # of a forecast, not of a run
WRITER = "writer"
BLACK_BOX = "blackbox-"
TEMPORARY = ".tmp"  # ending of a file that is being written
ORPHAN = ".orphan"  # ending of a superseded file: recorded, then replaced by a resumed run

# In order of writing: rows of "explanations" state how many rows of the others they have.
EXPLAINED = ("pairs", "triples", "explanations")
BY_STEP = ("frames", "trajectory", *EXPLAINED)  # kinds whose rows are in order of their steps
ROWS = (*BY_STEP, "events")  # kinds that grow during a run
KINDS = (*ROWS, "profile")

_CHECKPOINT = re.compile(r"checkpoint-(\d{12})\.npz")


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint of an MD step."""
    return folder / f"checkpoint-{step:012d}.npz"


def checkpoint_step(path: Path) -> int | None:
    """Return the MD step in the name of a checkpoint; None for any other file."""
    match = _CHECKPOINT.fullmatch(path.name)
    return None if match is None else int(match[1])


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*") if checkpoint_step(path) is not None)


def is_checkpoint(name: str) -> bool:
    """Return whether a name looks like that of a checkpoint, however misspelt."""
    return name.startswith("checkpoint-") and name.endswith(".npz")


def is_part(name: str, kinds: tuple[str, ...] = KINDS) -> bool:
    """Return whether a name looks like that of a part; that of a black box does not."""
    return name.endswith(".parquet") and name.startswith(tuple(f"{kind}-" for kind in kinds))
