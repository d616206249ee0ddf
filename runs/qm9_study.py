"""SchNet and PaiNN on QM9: train what runs/qm9.toml lists, state errors, analyse test molecules.

Every network is one folder below OUT/models; one that is there is not trained again. The analysis
of each target is of the test molecules alone, which are the same for all networks, and goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import tomllib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from mdxai.analysis import AnalysisOptions, analyse
from mdxai.analysis.analysis_files import write_tables
from mdxai.calculators.property_training import SPLIT_SEED, PropertyRecipe, train_property
from mdxai.report import write_analysis_page

RAGGED = ("n_atoms", "Z", "R")


def recipes(study: dict[str, Any]) -> list[PropertyRecipe]:
    """Return the recipe of every network, first seeds first."""
    found = []
    for seed, target, network in product(study["seeds"], study["target"], study["network"]):
        output = {"property": target["name"], "pooling": target["pooling"]}
        found.append(PropertyRecipe(
            name=f"{network['type'].lower()}-{target['name']}-{seed}",
            summary=f"{network['type']} for {target['name']} of QM9", data_file=study["data_file"],
            level_of_theory=study["level_of_theory"], source=study["source"],
            data_licence=study["data_licence"], network=network | {"output": output},
            target=target["array"], unit=target["unit"], seed=seed, **study["training"],
        ))  # fmt: skip
    return found


def train(study: dict[str, Any], data: Path, out: Path, only: str | None) -> None:
    """Train the networks that are not there yet."""
    for recipe in recipes(study):
        folder = out / "models" / recipe.name
        if (folder / "errors.toml").is_file() or only not in (None, recipe.name):
            continue
        (folder / f"{recipe.name}.pt").unlink(missing_ok=True)  # stopped while it was measured
        errors = train_property(recipe, data, folder, progress=False)
        print(f"{recipe.name}: MAE {errors['mae']:.4g} {recipe.unit}", flush=True)


def errors(study: dict[str, Any], out: Path) -> None:
    """Print the test errors of the networks that are there."""
    print("| network | MAE | RMSE | unit | deviation of the target | epochs | minutes |")
    print("|---|---|---|---|---|---|---|")
    for recipe in recipes(study):
        file = out / "models" / recipe.name / "errors.toml"
        if file.is_file():
            held = tomllib.loads(file.read_text(encoding="utf-8"))
            e = held["errors"]
            row = (recipe.name, f"{e['mae']:.4g}", f"{e['rmse']:.4g}", recipe.unit,
                   f"{e['target_mad']:.4g}", held["epochs"], held["training_minutes"])  # fmt: skip
            print(f"| {' | '.join(map(str, row))} |")


def write_test_molecules(study: dict[str, Any], data: Path, file: Path) -> None:
    """Write the molecules that no network was trained on or chosen by."""
    training = study["training"]
    with np.load(data / study["data_file"], allow_pickle=False) as held:
        sizes, numbers, positions = (held[name] for name in RAGGED)
    rows = np.random.default_rng(SPLIT_SEED).permutation(len(sizes))
    start = training["n_train"] + training["n_validation"]
    rows = np.sort(rows[start : start + training["n_test"]])
    ends = np.cumsum(sizes.astype(int))[:-1]
    parts = np.split(numbers, ends), np.split(positions, ends)
    some = [(parts[0][k], parts[1][k]) for k in rows]
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        file, n_atoms=sizes[rows], Z=np.concatenate([z for z, _ in some]),
        R=np.concatenate([r for _, r in some]), row=rows,
    )  # fmt: skip


def analyse_targets(study: dict[str, Any], data: Path, out: Path, only: str | None) -> None:
    """Analyse the networks of each target side by side, one page per target."""
    molecules = out / "test_molecules.npz"
    if not molecules.is_file():
        write_test_molecules(study, data, molecules)
    for target in study["target"]:
        if only not in (None, target["name"]):
            continue
        mine = [r for r in recipes(study) if r.target == target["array"]]
        files = [out / "models" / r.name / f"{r.name}.pt" for r in mine]
        there = [str(file) for file in files if (file.parent / "errors.toml").is_file()]
        if there:
            folder = out / "analysis" / target["name"]
            found = analyse(there, molecules, path=folder, options=AnalysisOptions(closely=300))
            write_tables(found, folder)
            print(write_analysis_page(found, folder), flush=True)


def main() -> None:
    """Do one stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("train", "errors", "analyse"))
    parser.add_argument("study", type=Path)
    parser.add_argument("data", type=Path, nargs="?", help="folder of the data")
    parser.add_argument("--out", type=Path, default=Path("runs/qm9"))
    parser.add_argument("--only", help="one network, or one target of the analysis")
    given = parser.parse_args()
    study = tomllib.loads(given.study.read_text(encoding="utf-8"))
    if given.stage == "errors":
        errors(study, given.out)
    elif given.data is None:
        parser.error("this stage needs the folder of the data")
    elif given.stage == "train":
        train(study, given.data, given.out, given.only)
    else:
        analyse_targets(study, given.data, given.out, given.only)


if __name__ == "__main__":
    main()
