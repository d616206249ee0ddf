"""Kills a monitored run again and again, resumes it, and compares it with one never killed.

    python -m tests.kill_runner FOLDER KILLS SEED STEPS

One process imports everything and forks a child per attempt: importing takes longer than a run. It
prints a JSON line: kills survived, how many of them in the middle of a part, a merge and a
checkpoint, runs completed. The child notes its stage in shared memory. It is stopped, its stage is
read, then it is killed, so that these numbers are exact.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mdxai
from mdxai.monitoring.monitor import Monitor
from mdxai.record import RecordSettings, compaction, writer
from tests.conftest import ethanol_dynamics

RECORD = RecordSettings(checkpoint_steps=15, rows_per_part=13, keep_checkpoints=2)
STAGES = {1: "part", 2: "merge", 3: "checkpoint"}
STAGE = mmap.mmap(-1, 1)  # shared with the child


def marked(function: Callable[..., Any], stage: int) -> Callable[..., Any]:
    """Return the same function, which shows the parent that it is at work."""

    def wrapped(*args: Any, **options: Any) -> Any:
        STAGE[0] = stage
        try:
            return function(*args, **options)
        finally:
            STAGE[0] = 0

    return wrapped


def mark_stages() -> None:
    """Let the writer show what it is at."""
    places = (
        (1, writer, "write_part"),
        (2, compaction, "rewrite"),
        (3, writer, "write_checkpoint"),
    )
    for stage, module, name in places:
        setattr(module, name, marked(getattr(module, name), stage))


def run(path: Path, steps: int) -> None:
    """Start the run in `path`, or go on with it, to its end."""
    torch.set_num_threads(1)
    dynamics = ethanol_dynamics(friction=0.02)
    with Monitor.resume(dynamics, path, attribute_every=5, record=RECORD, report=False) as monitor:
        dynamics.attach(monitor)
        dynamics.run(steps - dynamics.nsteps)


def child(path: Path, steps: int) -> int:
    """Fork a process that runs; return its id."""
    STAGE[0] = 0
    number = os.fork()
    if number == 0:
        code = 1
        try:
            run(path, steps)
            code = 0
        finally:
            os._exit(code)
    return number


def ended(number: int) -> int | None:
    """Return how a child ended, negative for a signal; None while it lives."""
    done, status = os.waitpid(number, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def attempt(path: Path, steps: int, rng: np.random.Generator, longest: float) -> tuple[str, str]:
    """Run until the end or a kill; return "done", "killed" or "failed", and where it was killed.

    Two of three attempts are killed in the middle of a part, a merge or a checkpoint, some moments
    after it was begun; the others at any instant.
    """
    number, begin = child(path, steps), time.monotonic()
    wait = rng.uniform(0, longest)
    target = int(rng.integers(1, 4)) if rng.integers(3) else 0
    while True:
        code = ended(number)
        if code is not None:
            return ("done" if code == 0 else "failed"), ""
        if time.monotonic() - begin > wait and (not target or STAGE[0] == target):
            time.sleep(rng.uniform(0, 0.001) if target else 0)
            os.kill(number, signal.SIGSTOP)
            status = os.waitpid(number, os.WUNTRACED)[1]
            if not os.WIFSTOPPED(status):  # it was faster
                return ("done" if os.waitstatus_to_exitcode(status) == 0 else "failed"), ""
            stage = STAGES.get(STAGE[0], "")
            os.kill(number, signal.SIGKILL)
            os.waitpid(number, 0)
            return "killed", stage
        time.sleep(0 if target else 0.001)


def content(path: Path) -> list[object]:
    """Return all of a record that must not depend on interruptions."""
    found = mdxai.open_run(path)
    tables = (
        found.frames_table(), found.trajectory_table(), found.explanations_table(),
        found.pairs_table(), found.events_table(), found.profile_table(),
    )  # fmt: skip
    verdict = {key: value for key, value in found.verdict.items() if key != "cost"}
    return [*(table.to_pydict() for table in tables), verdict]


def main(folder: Path, kills: int, seed: int, steps: int) -> dict[str, object]:
    """Kill until there were that many kills and the last run reached its end."""
    rng = np.random.default_rng(seed)
    mark_stages()
    begin = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(child(folder / "whole", steps), 0)[1]) == 0
    longest = 0.6 * (time.monotonic() - begin)  # so that most attempts end in a kill
    want = repr(content(folder / "whole"))
    counts: dict[str, Any] = dict.fromkeys(
        ("killed", "done", "failed", "attempts", *STAGES.values()), 0
    )
    while counts["killed"] < kills or not counts["done"]:
        path = folder / f"run-{counts['done']}"
        how, stage = attempt(path, steps, rng, longest)
        counts["attempts"] += 1
        counts[how] += 1
        if stage:
            counts[stage] += 1
        if how == "failed":
            break
        if how == "done" and repr(content(path)) != want:
            return counts | {"equal": False, "run": str(path)}
    return counts | {"equal": counts["failed"] == 0, "seconds": time.monotonic() - begin}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), *map(int, sys.argv[2:5]))))
