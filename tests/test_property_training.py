"""Networks of other properties, trained from a recipe."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from ase import Atoms

import mdxai
from mdxai.calculators import CalculatorError
from mdxai.calculators.network import build_network
from mdxai.calculators.property_training import PropertyRecipe, load_molecules, train_property

from .conftest import invoke, random_positions

POOLINGS = ("sum", "mean", "dipole")
ENERGIES = {1: -13.6, 6: -1030.0, 8: -2040.0}  # of single atoms


def recipe_of(pooling, **changes):
    return {
        "name": f"tiny-{pooling}", "summary": "test", "data_file": "molecules.npz",
        "level_of_theory": "none", "source": "made up", "data_licence": "CC0-1.0",
        "target": "target", "unit": "eV", "n_train": 60, "n_validation": 10, "n_test": 20,
        "max_epochs": 12, "batch_size": 10, "learning_rate": 5e-3, "ema_decay": 0.9,
        "network": {"type": "SchNet", "n_atom_basis": 16, "n_interactions": 1, "n_rbf": 10,
                    "cutoff": 5.0, "output": {"property": "y", "pooling": pooling}},
    } | changes  # fmt: skip


@pytest.fixture
def data(tmp_path):
    """Molecules of 3 to 6 atoms; a target that single atoms all but explain."""
    rng = np.random.default_rng(3)
    sizes = rng.integers(3, 7, 90)
    numbers = [rng.choice([1, 6, 8], n) for n in sizes]
    positions = [random_positions(n, k) for k, n in enumerate(sizes)]
    targets = []
    for z, r in zip(numbers, positions, strict=True):
        i, j = np.triu_indices(len(z), k=1)
        pairs = np.exp(-np.linalg.norm(r[i] - r[j], axis=1)).sum()
        targets.append(sum(ENERGIES[int(a)] for a in z) + pairs)
    path = tmp_path / "molecules.npz"
    np.savez(path, n_atoms=sizes, Z=np.concatenate(numbers), R=np.concatenate(positions),
             target=targets, size=np.abs(rng.normal(2, 1, 90)))  # fmt: skip
    return path


def written(tmp_path, content):
    path = tmp_path / "recipe.toml"
    path.write_text(tomli_w.dumps(content))
    return path


@pytest.mark.filterwarnings("ignore")  # lightning's advice on loaders and loggers
@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_stated_error_is_that_of_the_loaded_network(pooling, tmp_path, data):
    changes = {"target": "size", "unit": "D"} if pooling == "dipole" else {}
    recipe = PropertyRecipe.load(written(tmp_path, recipe_of(pooling, **changes)))
    errors = train_property(recipe, data, tmp_path / "out", progress=False)
    explained = mdxai.load_property(tmp_path / "out" / f"{recipe.name}.pt")
    assert (explained.name, explained.output, explained.unit) == (recipe.name, "y", recipe.unit)
    molecules = load_molecules(data, recipe.target)
    rows = np.random.default_rng(1).permutation(90)[70:90]
    off = [
        explained.predict(Atoms(molecules.numbers[k], molecules.positions[k]))
        - molecules.targets[k]
        for k in rows
    ]
    assert np.mean(np.abs(off)) == pytest.approx(errors["mae"], rel=1e-3)
    if pooling == "sum":  # single atoms are fitted before
        assert errors["mae"] < errors["target_mad"] < 1.0  # what single atoms leave


@pytest.mark.filterwarnings("ignore")  # lightning's advice on loaders and loggers
def test_the_command_trains_what_a_recipe_says(tmp_path, data):
    recipe = written(tmp_path, recipe_of("mean", max_epochs=1))
    out = tmp_path / "out"
    result = invoke("train", recipe, "--data", data.parent, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    assert "mae" in result.output
    assert (out / "errors.toml").is_file()
    again = invoke("train", recipe, "--data", data.parent, "--out", out)
    assert again.exit_code == 2
    assert "exists already" in again.output


def test_the_study_of_qm9_lists_networks_that_can_be_built():
    script = Path(__file__).parents[1] / "runs" / "qm9_study.py"
    spec = importlib.util.spec_from_file_location("qm9_study", script)
    study = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(study)
    listed = study.recipes(tomllib.loads(script.with_name("qm9.toml").read_text()))
    assert len({recipe.name for recipe in listed}) == len(listed) == 16
    for recipe in listed:
        build_network(recipe.network)
        assert recipe.n_train + recipe.n_validation + recipe.n_test <= 20_000


def test_recipes_that_cannot_be(tmp_path, data):
    with pytest.raises(CalculatorError, match="no recipe at"):
        PropertyRecipe.load(tmp_path / "none.toml")
    content = recipe_of("sum")
    del content["network"]["output"]
    with pytest.raises(CalculatorError, match="must name a property and a pooling"):
        PropertyRecipe.load(written(tmp_path, content))
    with pytest.raises(CalculatorError, match="n_train must be a positive number, got 0"):
        PropertyRecipe.load(written(tmp_path, recipe_of("sum", n_train=0)))
    with pytest.raises(CalculatorError, match="lacks the arrays gap"):
        load_molecules(data, "gap")
    large = PropertyRecipe.load(written(tmp_path, recipe_of("sum", n_train=80)))
    with pytest.raises(CalculatorError, match="needs 110 molecules, but the data have 90"):
        train_property(large, data, tmp_path / "out", progress=False)
