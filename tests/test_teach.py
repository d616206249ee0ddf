"""Teaching: a network of water, trained on cold frames, learns from a reference what it lacks."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

import mdxai
from mdxai.calculators import CalculatorError
from mdxai.calculators.card import Card
from mdxai.calculators.fine_tuning import FineTuner, FineTuning
from mdxai.calculators.training import Recipe, train
from mdxai.forecast import CardForecast, ForecastOptions, ScanOptions
from mdxai.mending import LabelSource, TeachError, TeachOptions, teach
from mdxai.mending.active_learning import LabelError, farthest_first
from mdxai.mending.kept_labels import KeptLabels
from mdxai.mending.weak_spot_frames import frames_of_weak_spots
from mdxai.report import write_teaching_page

from .conftest import invoke
from .test_weak_spots import WATER

pytestmark = pytest.mark.filterwarnings("ignore")  # lightning's advice on loaders and loggers

OFFSET = -2000.0  # eV
ONLY_SPOTS = ForecastOptions(parts=("weak-spots",))
HOT = TeachOptions(temperature=1000.0, duration=1e4, frames=60, per_round=30, forecast=ONLY_SPOTS)
TUNING = FineTuning(epochs=60, learning_rate=3e-3)


def water_energy(x):
    """Return the energy, eV, of positions (3, 3): Morse bonds, an angle, hydrogens that repel."""
    a, b = x[1] - x[0], x[2] - x[0]
    ra, rb = np.linalg.norm(a), np.linalg.norm(b)
    bonds = sum(4.8 * (1 - np.exp(-2.2 * (r - 0.96))) ** 2 for r in (ra, rb))
    repulsion = 30.0 * np.exp(-np.linalg.norm(a - b) / 0.35)
    return OFFSET + bonds + 2.0 * (a @ b / (ra * rb) + 0.25) ** 2 + repulsion


def water_forces(x, step=1e-4):
    forces = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        move = np.zeros_like(x)
        move[place] = step
        forces[place] = -(water_energy(x + move) - water_energy(x - move)) / (2 * step)
    return forces


class Water(Calculator):
    """The reference. `scale` of its forces, `fails` after so many labels."""

    implemented_properties = ("energy", "forces")
    asked = 0  # by all of them

    def __init__(self, scale=1.0, fails=10**9):
        super().__init__()
        self.scale, self.fails = scale, fails

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        Water.asked += 1
        if Water.asked > self.fails:
            raise KeyboardInterrupt
        x = self.atoms.positions
        self.results = {"energy": water_energy(x) + 5.0, "forces": self.scale * water_forces(x)}


@pytest.fixture(scope="module")
def water(tmp_path_factory):
    """A folder with data of water and a network trained on it."""
    folder = tmp_path_factory.mktemp("water")
    rng = np.random.default_rng(0)
    frames = WATER.positions + rng.normal(scale=0.05, size=(90, 3, 3))
    np.savez(
        folder / "water.npz", z=WATER.numbers, R=frames, E=[water_energy(x) for x in frames],
        F=[water_forces(x) for x in frames], train_01=np.arange(60), test_01=np.arange(60, 90),
    )  # fmt: skip
    recipe = {
        "name": "water", "summary": "test", "data_file": "water.npz", "level_of_theory": "analytic",
        "source": "test", "data_licence": "CC0", "n_train": 50, "n_validation": 10,
        "max_epochs": 80, "learning_rate": 5e-3,
        "network": {"type": "SchNet", "n_atom_basis": 24, "n_interactions": 2, "n_rbf": 20,
                    "cutoff": 4.0},
    }  # fmt: skip
    (folder / "recipe.toml").write_text(tomli_w.dumps(recipe))
    train(Recipe.load(folder / "recipe.toml"), folder, folder / "water", progress=False)
    return folder


def taught(water, out, source=None, options=HOT, tuning=TUNING):
    source = source or LabelSource(Water)
    return teach(water / "water", FineTuner(water / "water", water, tuning), source, out,
                 options=options)  # fmt: skip


@pytest.fixture(scope="module")
def done(water, tmp_path_factory):
    """The outcome of teaching that was never interrupted."""
    return taught(water, tmp_path_factory.mktemp("done") / "water-mended")
