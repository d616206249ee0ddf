"""Records of made-up runs, whose every number follows from its step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mdxai.attribution import Attribution
from mdxai.frame import Frame
from mdxai.principles import Deviation
from mdxai.record import RecordSettings, RunWriter

NUMBERS = np.array([6, 6, 8, 1, 1, 1, 1, 1, 1])
MASSES = np.array([12.0, 12.0, 16.0, 1, 1, 1, 1, 1, 1])
HEADER = {
    "calculator": {"name": "made up", "weights_sha256": "ab" * 32},
    "engine": {"name": "none", "timestep": 0.5},
    "system": {"numbers": NUMBERS.tolist(), "masses_amu": MASSES.tolist(),
               "cell_ang": np.zeros((3, 3)).tolist(), "pbc": [False] * 3, "n_constrained": 0},
    "parameters": {"attribute_every": 5},
    "thresholds": {},
}  # fmt: skip


@dataclass
class Measure:
    name: str
    unit: str = "eV"
    cost: str = "free"


PRINCIPLES = [Measure(f"principle{k}") for k in range(4)]


def frame_at(step: int, pbc: bool = False) -> Frame:
    rng = np.random.default_rng(step)
    cell = (10.0 + 0.01 * step) * np.eye(3) if pbc else np.zeros((3, 3))
    vectors = rng.normal(size=(3, 9, 3))
    return Frame(step, 0.5 * step, NUMBERS, MASSES, *vectors, float(rng.normal()), cell,
                 np.full(3, pbc))  # fmt: skip


def deviations_at(step: int, principles=PRINCIPLES) -> dict[str, Deviation | None]:
    """Some missing, some NaN, with 0 to 3 atoms."""
    found: dict[str, Deviation | None] = {}
    for k, principle in enumerate(principles):
        value = np.nan if (step + k) % 11 == 0 else float(step * 100 + k)
        atoms = tuple((step + n) % 9 for n in range((step + k) % 4))
        found[principle.name] = (
            None if (step + k) % 7 == 0 else Deviation(principle.name, "eV", value, atoms)
        )
    return found


def attribution_of(frame: Frame) -> Attribution:
    """Every number differs from frame to frame; as many triples as the step modulo three."""
    pairs = frame.pairs(np.inf)
    strengths = np.sin(pairs.distances + frame.step)
    atoms = np.cos(np.arange(frame.n_atoms) + frame.step)
    triples = np.array([[0, 1, k] for k in range(2, 2 + frame.step % 3)]).reshape(-1, 3)
    return Attribution(
        "walks", 0.1, float(np.sin(frame.step)), atoms, 0.5 * atoms, pairs, strengths,
        np.array([1.0, 2.0, 3.0, frame.step]), triples, np.sin(triples.sum(1) + frame.step),
        np.zeros(len(pairs), dtype=bool), numbers=frame.numbers,
    )  # fmt: skip


def add_step(writer: RunWriter, step: int) -> None:
    frame = frame_at(step)
    writer.add_frame(frame, deviations_at(step))
    if step % 5 == 0:
        writer.add_attribution(frame, attribution_of(frame))
    if step % 9 == 4:
        writer.add_event(step, frame.time, "fourth", {"step": step, "all": np.arange(2)})


def state_at(step: int) -> dict:
    return {"step": step, "positions": frame_at(step).positions}


def write_run(path, steps=60, commit_every=7, finish=True, **settings) -> RunWriter:
    """Write a run with a commit and a checkpoint every few steps."""
    writer = RunWriter(path, RecordSettings(**settings))
    writer.start(HEADER, PRINCIPLES)
    for step in range(steps):
        add_step(writer, step)
        if step % commit_every == commit_every - 1:
            writer.commit(step, state_at(step))
    if finish:
        writer.finish({"stability": "stable"}, None, state_at(steps - 1))
    else:
        writer.commit(steps - 1, state_at(steps - 1))
        writer.close()
    return writer


def write_judged_run(path, verdict=None, *, header=None, steps=60, finish=True):
    """Write a run with a verdict that a monitor could have written, and return its path."""
    content = {"stability": "stable", "onset_fs": None, "start_fs": 0.0,
               "duration_fs": 0.5 * (steps - 1), "findings": []} | (verdict or {})  # fmt: skip
    writer = RunWriter(path, RecordSettings())
    writer.start(HEADER | (header or {}), PRINCIPLES)
    for step in range(steps):
        add_step(writer, step)
    if finish:
        writer.finish(content, None)
    else:
        writer.commit(steps - 1, state_at(steps - 1))
        writer.close()
    return path
