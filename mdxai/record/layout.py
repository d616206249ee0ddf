"""What is in a run directory, and what each file is called."""

from __future__ import annotations

import re
from pathlib import Path

HEADER = "run.toml"
VERDICT = "verdict.json"
ROLLBACKS = "rollbacks.json"
WRITER = "writer"
BLACK_BOX = "blackbox-"
TEMPORARY = ".tmp"  # of a file that is being written
ORPHAN = ".orphan"  # of a file that a resumed run does not build on

EXPLAINED = ("pairs", "triples", "explanations")  # written in this order; the last counts the rest
BY_STEP = ("frames", "trajectory", *EXPLAINED)  # rows in order of their steps
ROWS = (*BY_STEP, "events")  # rows that gather while a run goes on
KINDS = (*ROWS, "profile")  # of all parts

_CHECKPOINT = re.compile(r"checkpoint-(\d{12})\.npz")


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint of an MD step lies."""
    return folder / f"checkpoint-{step:012d}.npz"


def checkpoint_step(path: Path) -> int | None:
    """Return the MD step of a checkpoint by its name; None for any other file."""
    match = _CHECKPOINT.fullmatch(path.name)
    return None if match is None else int(match[1])


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*") if checkpoint_step(path) is not None)


def is_checkpoint(name: str) -> bool:
    """Whether a name is meant as that of a checkpoint, though it may be misspelt."""
    return name.startswith("checkpoint-") and name.endswith(".npz")


def is_part(name: str, kinds: tuple[str, ...] = KINDS) -> bool:
    """Whether a name is meant as that of a part; a black box and other tables are none."""
    return name.endswith(".parquet") and name.startswith(tuple(f"{kind}-" for kind in kinds))
