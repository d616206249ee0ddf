"""Forecasts of models, and what became of them: forecast/ANALYSIS.md says what counts.

    python runs/forecast_study.py train RECIPE DATA    train the models that are not there
    python runs/forecast_study.py weak  RECIPE DATA    look for weak spots
    python runs/forecast_study.py life  RECIPE DATA    life tests
    python runs/forecast_study.py watch RECIPE DATA    run the models, and note how each run ended

RECIPE is runs/stability.toml or runs/forecast.toml, DATA the folder of labelled data. Every step
skips what is there, and writes below runs/forecast: `weak/MODEL.json`, `life/MODEL.json`,
`runs.csv`. `judge_forecasts.py` compares them.
"""

import csv
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ase import Atoms

import mdxai
from mdxai.calculators import NetworkCalculator
from mdxai.calculators.training import load_labelled
from mdxai.forecast import LifeTestOptions
from mdxai.monitoring.check import check
from mdxai.stability.verdict import Verdict
from mdxai.study.models import Places, load, provide, traits
from mdxai.study.recipe import Candidate, StudyRecipe
from mdxai.study.replica_runs import batches, run_batch

HERE = Path(__file__).parent / "forecast"
JUDGED = 1000.0  # K, for which rates stand in the files; other temperatures follow from barriers
COLDEST = 1250.0  # K, of replicas that are watched: none at a temperature that is judged
MOST = 20.0  # ps of replicas
RIVALS = ("squeeze", "softness")  # probes
COLUMNS = (
    "run", "model", "molecule", "temperature_K", "outcome", "cause", "end_ps",
    "force_mae_mev_per_ang",
)  # fmt: skip


def structure_of(candidate: Candidate, recipe: StudyRecipe, places: Places) -> Atoms:
    """Return the first geometry of the split that runs start from."""
    molecule = recipe.molecules[candidate.molecule]
    frames, splits = load_labelled(places.file(str(molecule.data)))
    return Atoms(frames.numbers, frames.positions[splits[molecule.starts][0]])


def weak(calculator: NetworkCalculator, atoms: Atoms) -> dict[str, Any]:
    """Return the weak spots of a model, and what its rivals among the probes say."""
    begin = time.process_time()
    found = mdxai.weak_spots(calculator, atoms, temperature=JUDGED).as_dict()
    spent = time.process_time() - begin
    checked = {r.name: r.value for r in check(calculator, atoms) if r.name in RIVALS}
    return {"weak": found, "cpu_s": spent, "rivals": checked}


def life(calculator: NetworkCalculator, atoms: Atoms) -> dict[str, Any]:
    """Return what a life test saw."""
    begin = time.process_time()
    found = mdxai.life_test(
        calculator, atoms, temperature=COLDEST, duration=10.0,
        options=LifeTestOptions(most=MOST, width=1e-6),
    )  # fmt: skip
    return {"life": found.as_dict()["life_test"], "cpu_s": time.process_time() - begin}


def foretell(stage: str, recipe: StudyRecipe, places: Places) -> None:
    """Write what one stage finds for every model that lacks it."""
    (HERE / stage).mkdir(parents=True, exist_ok=True)
    for candidate in recipe.candidates:
        target = HERE / stage / f"{candidate.name}.json"
        if target.exists():
            continue
        try:
            calculator = load(candidate, recipe, places)
        except mdxai.CalculatorError as refused:
            print(f"{candidate.name}: {refused}", file=sys.stderr)
            continue
        atoms = structure_of(candidate, recipe, places)
        found = {"weak": weak, "life": life}[stage](calculator, atoms)
        known = {
            "model": candidate.name, "molecule": candidate.molecule, "of": recipe.name,
            "network": calculator.card.network["type"], **traits(candidate, calculator),
        }  # fmt: skip
        target.write_text(json.dumps(known | found, indent=1) + "\n", encoding="utf-8")
        print(f"{candidate.name}: {found['cpu_s']:.0f} s", flush=True)


def ended(folder: Path, candidate: Candidate, temperature: float) -> Iterator[dict[str, Any]]:
    """Yield how each replica of a batch ended, and when: at its onset, or unbroken."""
    for path in sorted(folder.glob("replica-*")):
        verdict = Verdict.from_dict(mdxai.open_run(path).verdict)
        cause = verdict.cause
        end = verdict.duration_fs if verdict.onset_fs is None else verdict.onset_fs
        yield {
            "run": f"{candidate.name}/{temperature:g}K/{path.name}", "model": candidate.name,
            "molecule": candidate.molecule, "temperature_K": temperature,
            "outcome": str(verdict.stability), "cause": cause.principle if cause else "",
            "end_ps": round(end / 1000, 4),
        }  # fmt: skip


def watch(recipe: StudyRecipe, places: Places) -> None:
    """Run what has not been run, the hottest batches first, and note how each run ended."""
    table = HERE / "runs.csv"
    work = [(c, b) for c in recipe.candidates for b in batches(recipe, c)]
    for candidate, batch in sorted(work, key=lambda cb: -cb[1].temperature):
        rows = list(csv.DictReader(table.open())) if table.exists() else []
        if any(
            r["model"] == candidate.name and float(r["temperature_K"]) == batch.temperature
            for r in rows
        ):
            continue
        run_batch(batch, recipe, places)
        folder = places.runs(candidate, batch.temperature)
        error = load(candidate, recipe, places).card.errors["force_mae_mev_per_ang"]
        new = [
            r | {COLUMNS[-1]: round(error, 3)} for r in ended(folder, candidate, batch.temperature)
        ]
        with table.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if not rows:
                writer.writeheader()
            writer.writerows(new)
        print(batch.name, [r["outcome"] for r in new], flush=True)


def main(stage: str, recipe_file: str, data: str) -> None:
    """Do one stage."""
    torch.set_num_threads(1)
    recipe = StudyRecipe.load(recipe_file)
    places = Places(Path(recipe_file).with_suffix("").absolute(), Path(data).absolute())
    if stage == "train":
        for candidate in recipe.candidates:
            print(provide(candidate, recipe, places), flush=True)
    elif stage == "watch":
        watch(recipe, places)
    else:
        eager = replace(recipe, simulation=replace(recipe.simulation, compile=False))
        foretell(stage, eager, places)


if __name__ == "__main__":
    main(*sys.argv[1:])
