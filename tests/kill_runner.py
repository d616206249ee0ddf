"""Kills a monitored run again and again, resumes it, and compares it with one never killed.

    python -m tests.kill_runner FOLDER KILLS SEED STEPS

One process imports everything and forks a child per attempt: importing takes longer than a run. It
prints a JSON line: kills survived, how many while a file was being written, runs completed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from ase import units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

import mdxai
from mdxai.monitor import Monitor
from mdxai.record import RecordSettings

RECORD = RecordSettings(checkpoint_steps=15, rows_per_part=13, keep_checkpoints=2)


def run(path: Path, steps: int) -> None:
    """Start the run in `path`, or go on with it, to its end."""
    torch.set_num_threads(1)
    atoms = molecule("CH3CH2OH")
    atoms.calc = mdxai.load_calculator("schnet-ethanol")
    rng = np.random.default_rng(1)
    thermalize_momenta(atoms, temperature_K=500, rng=rng)
    dynamics = Langevin(
        atoms, 0.5 * units.fs, temperature_K=500, friction=0.02, fixcm=False, rng=rng
    )
    with Monitor.resume(dynamics, path, attribute_every=5, record=RECORD) as monitor:
        dynamics.attach(monitor)
        dynamics.run(steps - dynamics.nsteps)


def child(path: Path, steps: int) -> int:
    """Fork a process that runs; return its id."""
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


def attempt(path: Path, steps: int, rng: np.random.Generator, longest: float) -> tuple[str, bool]:
    """Run until the end or a kill; return "done", "killed" or "failed", and whether mid-file.

    Every second attempt is killed when a file is being written, some of these after the first few
    milliseconds of that: in parts, merges and checkpoints alike.
    """
    number, begin = child(path, steps), time.monotonic()
    wait = rng.uniform(0, longest)
    in_file = bool(rng.integers(2))
    while True:
        code = ended(number)
        if code is not None:
            return ("done" if code == 0 else "failed"), False
        writing = in_file and time.monotonic() - begin > wait and any(path.glob(".*.tmp"))
        if writing or (not in_file and time.monotonic() - begin > wait):
            os.kill(number, signal.SIGKILL)
            killed = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) != 0
            return ("killed" if killed else "done"), writing
        time.sleep(0 if in_file else 0.001)


def content(path: Path) -> list[object]:
    """Return all of a record that must not depend on interruptions."""
    found = mdxai.open_run(path)
    tables = (
        found.frames_table(), found.trajectory_table(), found.pairs_table(), found.events_table(),
        found.profile_table(),
    )  # fmt: skip
    verdict = {key: value for key, value in found.verdict.items() if key != "cost"}
    return [*(table.to_pydict() for table in tables), verdict]


def main(folder: Path, kills: int, seed: int, steps: int) -> dict[str, object]:
    """Kill until there were that many kills and the last run reached its end."""
    rng = np.random.default_rng(seed)
    begin = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(child(folder / "whole", steps), 0)[1]) == 0
    longest = 0.6 * (time.monotonic() - begin)  # so that most attempts end in a kill
    want = repr(content(folder / "whole"))
    counts = {"killed": 0, "in_file": 0, "done": 0, "failed": 0, "attempts": 0}
    while counts["killed"] < kills or not counts["done"]:
        path = folder / f"run-{counts['done']}"
        how, writing = attempt(path, steps, rng, longest)
        counts["attempts"] += 1
        counts[how] += 1
        counts["in_file"] += how == "killed" and writing
        if how == "failed":
            break
        if how == "done" and repr(content(path)) != want:
            return counts | {"equal": False, "run": str(path)}
    return counts | {"equal": counts["failed"] == 0, "seconds": time.monotonic() - begin}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), *map(int, sys.argv[2:5]))))
