"""Forecasts of models, and what became of them: forecast/ANALYSIS.md says what counts.

    python runs/forecast_study.py train RECIPE DATA    train the models that are not there
    python runs/forecast_study.py weak  RECIPE DATA    look for weak spots
    python runs/forecast_study.py life  RECIPE DATA    life tests
    python runs/forecast_study.py watch RECIPE DATA    run the models, and note how each run ended
    python runs/forecast_study.py paths RECIPE DATA    explain the worst weak spots

RECIPE is runs/stability.toml, runs/forecast.toml or runs/decay.toml, DATA the folder of labelled
data. Every step skips what is there, and writes below runs/forecast, or the folder of another
recipe: `weak/MODEL.json`, `life/MODEL.json`, `runs.csv`, `paths/MODEL.json`. `judge_forecasts.py`
and `decay_study.py` compare them.
"""

import csv
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

import mdxai
from mdxai.attribution import attributor
from mdxai.calculators import NetworkCalculator
from mdxai.calculators.training import load_labelled
from mdxai.forecast import LifeTestOptions
from mdxai.forecast.path_explanation import WORST, explain_weak_spots
from mdxai.monitoring.check import check
from mdxai.stability.verdict import Verdict
from mdxai.study.models import Places, load, provide, traits
from mdxai.study.recipe import Candidate, StudyRecipe
from mdxai.study.replica_runs import batches, run_batch

RUNS = Path(__file__).parent
JUDGED = 1000.0  # K, for which rates stand in the files; other temperatures follow from barriers
COLDEST = 1250.0  # K, of replicas that are watched: none at a temperature that is judged
MOST = 20.0  # ps of replicas
CLOSED, BONDED = (1.5, 1.3, 1.1), 1.3  # Å: of hydrogens that are pressed together, of C–H
RIVALS = ("squeeze", "softness")  # probes
COLUMNS = (
    "run", "model", "molecule", "temperature_K", "outcome", "cause", "end_ps",
    "force_mae_mev_per_ang",
)  # fmt: skip


def home_of(recipe: StudyRecipe) -> Path:
    """Return where the findings of a recipe lie; those of stability's models are forecasts."""
    return RUNS / ("forecast" if recipe.name == "stability" else recipe.name)


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


def paths(calculator: NetworkCalculator, atoms: Atoms) -> dict[str, Any]:
    """Return the worst weak spots with their explanations, and relevances of closing H–C–H."""
    begin = time.process_time()
    found = mdxai.weak_spots(calculator, atoms, temperature=JUDGED)
    spots = explain_weak_spots(found, calculator).worst_first[:WORST]
    return {
        "weak": [spot.as_dict(JUDGED) for spot in spots],
        "hydrogens": hydrogens(calculator, found.minimum.to_atoms(results=False)),
        "cpu_s": time.process_time() - begin,
    }  # fmt: skip


def hydrogens(calculator: NetworkCalculator, atoms: Atoms) -> list[dict[str, Any]]:
    """Return H–H relevances, eV, when every H–C–H angle closes rigidly to some distances."""
    explainer = attributor(calculator, method="walks", body_order=2)
    rows = []
    for middle, first, last in angles_of(atoms):
        one = atoms.copy()
        for distance in CLOSED:
            radii = [one.get_distance(middle, k) for k in (first, last)]
            cosine = (radii[0] ** 2 + radii[1] ** 2 - distance**2) / (2 * radii[0] * radii[1])
            one.set_angle(first, middle, last, np.degrees(np.arccos(cosine)), indices=[last])
            found = explainer.attribute(one)
            here = (found.pairs.i == min(first, last)) & (found.pairs.j == max(first, last))
            rows.append({
                "atoms": [first, middle, last], "distance": distance,
                "relevance": float(found.two_body[here].sum()),
            })  # fmt: skip
    return rows


def angles_of(atoms: Atoms) -> Iterator[tuple[int, int, int]]:
    """Yield the H–C–H angles of a molecule: carbon, then the hydrogens."""
    for k in np.flatnonzero(atoms.numbers == 6):
        near = atoms.get_distances(k, range(len(atoms))) < BONDED
        bound = np.flatnonzero(near & (atoms.numbers == 1))
        for first, last in combinations(bound.tolist(), 2):
            yield int(k), first, last


def foretell(stage: str, recipe: StudyRecipe, places: Places) -> None:
    """Write what one stage finds for every model that lacks it."""
    home = home_of(recipe) / stage
    home.mkdir(parents=True, exist_ok=True)
    for candidate in recipe.candidates:
        target = home / f"{candidate.name}.json"
        if target.exists():
            continue
        try:
            calculator = load(candidate, recipe, places)
        except mdxai.CalculatorError as refused:
            print(f"{candidate.name}: {refused}", file=sys.stderr)
            continue
        atoms = structure_of(candidate, recipe, places)
        found = {"weak": weak, "life": life, "paths": paths}[stage](calculator, atoms)
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
    table = home_of(recipe) / "runs.csv"
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
