"""The models of a study: trained where they are missing, loaded, and measured on labelled data."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mdxai.calculators import Card, NetworkCalculator, NetworkPotential, load_calculator
from mdxai.calculators.batch import BatchPotential, Systems
from mdxai.calculators.training import (
    Labelled,
    Recipe,
    bond_gaps,
    distance_ranges,
    largest_force,
    load_labelled,
    train,
)
from mdxai.monitoring.run import read_structure
from mdxai.study.recipe import BUILT_WITH, Candidate, Molecule, StudyError, StudyRecipe

N_TEST = 200  # labelled frames that errors of loaded models are measured on


@dataclass(frozen=True, slots=True)
class Places:
    """Where a study reads and writes.

    Attributes:
        out: folder of the study: `models/`, `runs/` and its tables, figures and page.
        data: folder of labelled data and model files; None where nothing is read from it.
    """

    out: Path
    data: Path | None = None

    def model(self, candidate: Candidate) -> Path:
        """Folder of a model that is trained here."""
        return self.out / "models" / candidate.name

    def runs(self, candidate: Candidate, temperature: float) -> Path:
        """Folder of the replicas of one model at one temperature."""
        return self.out / "runs" / candidate.name / f"{temperature:g}K"

    def file(self, name: str) -> Path:
        """A file below the data folder.

        Raises:
            StudyError: where no data folder was given, or it lacks the file.
        """
        if self.data is None:
            raise StudyError(f"{name} is needed: pass --data FOLDER with the folder that holds it")
        if not (self.data / name).is_file():
            raise StudyError(f"the data folder {self.data} has no {name}")
        return self.data / name


def provide(candidate: Candidate, recipe: StudyRecipe, places: Places) -> str:
    """Train a model unless that has been done, and return its name; a loaded one needs nothing.

    Raises:
        StudyError, CalculatorError: for data or settings that training cannot use.
    """
    folder = places.model(candidate)
    if candidate.training is None or (folder / "card.toml").exists():
        return candidate.name
    molecule = recipe.molecules[candidate.molecule]
    assert molecule.data is not None
    data = places.file(molecule.data)
    scratch = folder.with_name(f"{folder.name}.training-{os.getpid()}")
    train(_training(candidate, molecule, data), data, scratch, progress=False)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch.rename(folder)  # complete or absent
    return candidate.name


def _training(candidate: Candidate, molecule: Molecule, data: Path) -> Recipe:
    given = dict(candidate.training or {})
    stated = ("n_atom_basis", "n_rbf", "decay")
    network: dict[str, Any] = {k: given.pop(k) for k in stated if k in given}
    built = {k: given.pop(k, usual) for k, usual in BUILT_WITH.items()}
    network |= {k: v for k, v in built.items() if v != BUILT_WITH[k]}
    seed = int(given["seed"])
    network |= {
        "type": given.pop("type"),
        "n_interactions": given.pop("n_interactions"),
        "cutoff": float(given.pop("cutoff")),
    }
    texts = {
        "level_of_theory": "not stated", "source": "not stated", "data_licence": "not stated",
        "split": f"train_{seed:02d}", "test_split": f"test_{seed:02d}",
        "summary": f"{network['type']} for {molecule.name}, trained on {given['n_train']} frames",
    }  # fmt: skip
    settings = {**texts, **given, "name": candidate.name, "data_file": data.name}
    unknown = sorted(set(settings) - {f.name for f in fields(Recipe)})
    if unknown:
        raise StudyError(f"{candidate.name}: training has no setting {unknown[0]!r}")
    settings["patience"] = settings.get("patience", settings.get("max_epochs", 100))
    return Recipe(network={"n_atom_basis": 64, "n_rbf": 20} | network, **settings)


def load(candidate: Candidate, recipe: StudyRecipe, places: Places) -> NetworkCalculator:
    """Return the calculator of a model with a complete card: errors, ranges of distances, forces.

    The card of a model file from another project lacks them; they are then measured on the labelled
    data of the molecule, as for a model trained here.

    Raises:
        CalculatorError, StudyError: where it cannot be loaded.
    """
    calculator = load_calculator(_source(candidate, places), compile=recipe.simulation.compile)
    molecule, card = recipe.molecules[candidate.molecule], calculator.card
    if molecule.data is None or (card.errors and card.distances):
        return calculator
    frames, splits = load_labelled(places.file(molecule.data))
    training = frames.take(splits["train_01"])
    test = frames.take(splits[molecule.test][:N_TEST])
    potential = potential_of(calculator, recipe)
    complete = replace(
        card,
        name=candidate.name,
        distances=distance_ranges(training),
        gaps=bond_gaps(training),
        forces_max=largest_force(training),
        errors={"split": molecule.test, **_errors(potential, test)},
    )
    return NetworkCalculator(potential_of(calculator, recipe, complete))


def potential_of(
    calculator: NetworkCalculator, recipe: StudyRecipe, card: Card | None = None
) -> NetworkPotential:
    """Return an independent copy of a calculator's network, compiled where the recipe says so.

    Args:
        calculator: only read.
        recipe: of the study.
        card: of the copy; by default the calculator's.
    """
    twin = calculator.potential
    return NetworkPotential(
        twin.network, card or twin.card, dtype=twin.dtype, compile=recipe.simulation.compile
    )


def _source(candidate: Candidate, places: Places) -> str | Path:
    if candidate.source is None:
        return places.model(candidate)
    if places.data is not None and (places.data / candidate.source).exists():
        return places.data / candidate.source
    return candidate.source


def _errors(potential: NetworkPotential, frames: Labelled) -> dict[str, float]:
    """Return mean absolute errors: energy in meV per molecule, forces in meV/Å per component."""
    n, n_atoms = frames.positions.shape[:2]
    energies, forces = BatchPotential(potential).predict(
        Systems(
            numbers=np.tile(frames.numbers, n),
            starts=n_atoms * np.arange(n + 1),
            positions=frames.positions.reshape(-1, 3),
            cells=np.zeros((n, 3, 3)),
            pbc=np.zeros((n, 3), dtype=bool),
        )
    )
    return {
        "energy_mae_mev": 1e3 * float(np.abs(energies - frames.energies).mean()),
        "force_mae_mev_per_ang": 1e3 * float(np.abs(forces - frames.forces.reshape(-1, 3)).mean()),
    }


def traits(candidate: Candidate, calculator: NetworkCalculator) -> dict[str, float]:
    """Return the numbers of a model that runs are compared by."""
    card = calculator.card
    rows = {"n_train": candidate.training["n_train"]} if candidate.training else {}
    return {
        "force_mae_mev_per_ang": float(card.errors.get("force_mae_mev_per_ang", np.nan)),
        "energy_mae_mev": float(card.errors.get("energy_mae_mev", np.nan)),
        "cutoff": card.cutoff,
        "n_interactions": float(card.n_layers),
        **{k: float(v) for k, v in rows.items()},
    }


def starts(molecule: Molecule, places: Places, rng: np.random.Generator, n: int) -> list[Atoms]:
    """Return n structures to start from, drawn without repetition where there are enough.

    Raises:
        StudyError, SettingsError, CalculatorError: where there is no such structure.
    """
    if molecule.structure is not None:
        return [read_structure(molecule.structure)] * n
    assert molecule.data is not None
    frames, splits = load_labelled(places.file(molecule.data))
    if molecule.starts not in splits:
        raise StudyError(f"{molecule.data} has no split {molecule.starts!r}: {sorted(splits)}")
    rows: Any = splits[molecule.starts]
    chosen = rng.choice(rows, size=n, replace=n > len(rows))
    return [Atoms(frames.numbers, frames.positions[row]) for row in chosen]
