"""What following weak spots costs a monitored step, as a ratio in one process, CPU time.

python3 -m uv run pytest -m benchmark -n 0 -s tests/benchmarks/test_following_speed.py
"""

from __future__ import annotations

import time

import numpy as np
import pytest

import mdxai
from mdxai.forecast.kept_paths import paths_of
from mdxai.forecast.run_hazard import run_hazard
from mdxai.principles import WeakSpotProgress

from ..conftest import ethanol_dynamics, ethanol_with, frames_of

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]

STEPS, TURNS = 200, 15


def watched(found):
    """Return a function that takes 200 monitored steps, with weak spots followed or without."""
    dyn = ethanol_dynamics("painn-ethanol", 300.0)
    monitor = mdxai.Monitor(dyn, attribute_every=0, forecast=found, on_unstable="ignore")
    dyn.attach(monitor, interval=1)
    dyn.run(300)
    return lambda: dyn.run(STEPS)


def test_cost_per_step():
    atoms = ethanol_with("painn-ethanol")
    found = paths_of(mdxai.weak_spots(atoms.calc, atoms, temperature=300.0))
    paths = [watched(False), watched(found)]
    times = np.empty((TURNS, 2))
    for turn in range(TURNS):
        for k in (0, 1) if turn % 2 else (1, 0):
            begin = time.process_time()
            paths[k]()
            times[turn, k] = (time.process_time() - begin) / STEPS
    plain, more = np.median(times, axis=0)
    share = np.median(times[:, 1] / times[:, 0]) - 1
    frames = frames_of(ethanol_dynamics("painn-ethanol", 300.0), 2000)
    principle = WeakSpotProgress(found, frames[0], lambda *_: "")
    begin = time.process_time()
    for frame in frames:
        principle.deviate(frame)
    alone = (time.process_time() - begin) / len(frames)
    begin = time.process_time()
    for _ in range(20):
        run_hazard(principle, frames[0].symbols)
    update = (time.process_time() - begin) / 20
    n = sum(len(path.atoms) for path in found.paths)
    print(
        f"\n{len(found.paths)} weak spots, {n} coordinates: a monitored step {1e3 * plain:.3f} ms, "
        f"following {1e3 * more:.3f} ms ({share:+.2%}); the principle by itself, frame quantities "
        f"included, {1e6 * alone:.1f} µs a step; a new hazard {1e3 * update:.2f} ms, every 500 "
        f"frames at most: {1e6 * update / 500:.1f} µs a step"
    )
