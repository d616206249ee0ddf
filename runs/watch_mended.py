"""Watch runs of models at one temperature until each breaks, or its time is over.

    python runs/watch_mended.py DATA MODEL [MODEL …]

DATA is the npz that structures are taken from, a MODEL a name or folder. 20 replicas of 10 ps at
1000 K each, in Langevin dynamics, judged as in a life test. MODEL-mended is judged by the distances
of MODEL's training data, as MODEL is: more strictly than by its own, which its labels made shorter.
Writes `runs/mending/MODEL.json`, after every 0.25 ps; what is there is skipped.
"""

import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from ase import Atoms

import mdxai
from mdxai.calculators.training import load_labelled
from mdxai.forecast.evaluations import evaluations
from mdxai.forecast.hot_replicas import HotReplicas
from mdxai.forecast.life_test_result import LifeTestOptions
from mdxai.forecast.onset_judge import OnsetJudge
from mdxai.forecast.run_life_test import start_of
from mdxai.forecast.survival_model import mean_time_of, rate_of

HERE = Path(__file__).parent / "mending"
RUNS, TEMPERATURE, DURATION, ROUND = 20, 1000.0, 10.0, 0.25  # K, ps, ps


def watch(model: str, atoms: Atoms, target: Path) -> None:
    """Write how each run of a model ended."""
    calculator, begin = mdxai.load_calculator(model), time.process_time()
    options, start = LifeTestOptions(replicas=RUNS), start_of(atoms)
    start = start.with_results(*calculator.potential.evaluate(start))
    judged_by = mdxai.load_calculator(calculator.name.removesuffix("-mended")).card
    replicas = HotReplicas(
        start, evaluations(calculator.potential, start),
        lambda first: OnsetJudge(
            replace(start, velocities=first.velocities, thermostat=first.thermostat), judged_by,
            options.motion.timestep, options.thresholds,
        ),
        options.motion, options.seed, together=True,
    )  # fmt: skip
    replicas.assign([TEMPERATURE] * RUNS)
    left, motion = list(range(RUNS)), options.motion
    steps = round(1e3 * ROUND / motion.timestep)
    total = round((1e3 * DURATION + motion.warm_up) / motion.timestep)
    for done in range(0, total, steps):
        replicas.run(min(steps, total - done), left)
        ended = {r.slot: r for r in replicas.ended if r.generation == 0}
        left = [k for k in left if k not in ended]
        lives = [*ended.values(), *(r for r in replicas.running() if r.slot in left)]
        watched = sum(max(r.time, 0.0) for r in lives) / 1e3
        broke = sum(r.fate == "failed" for r in ended.values())
        seen = {
            "model": calculator.name, "temperature_K": TEMPERATURE, "runs": RUNS, "broke": broke,
            "watched_ps": round(watched, 3), "finished": not left or done + steps >= total,
            "mean_time_to_failure_ps": mean_time_of(rate_of(broke, max(watched, 1e-9), 0.95))
            .as_dict(),
            "cpu_s": round(time.process_time() - begin), "lives": [asdict(r) for r in lives],
        }  # fmt: skip
        target.write_text(json.dumps(seen, indent=1, default=float) + "\n", encoding="utf-8")
        if not left:
            break
    print(calculator.name, broke, "of", RUNS, "broke in", round(watched, 1), "ps", flush=True)


def main(data: str, *models: str) -> None:
    """Watch each model that was not watched."""
    torch.set_num_threads(1)
    HERE.mkdir(exist_ok=True)
    frames, splits = load_labelled(Path(data))
    atoms = Atoms(frames.numbers, frames.positions[splits["train_01"][0]])
    for model in models:
        target = HERE / f"{Path(model).name}.json"
        if not target.exists() or not json.loads(target.read_text())["finished"]:
            watch(model, atoms, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
