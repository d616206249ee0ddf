"""Training from a recipe on real data."""

from __future__ import annotations

import numpy as np
import pytest
import tomli_w
import torch
from ase import Atoms

import mdxai
from mdxai.calculators.card import CalculatorError
from mdxai.calculators.library import find_calculator
from mdxai.calculators.network import build_network
from mdxai.calculators.training import Recipe, load_labelled, train
from mdxai.study.models import Places, provide
from mdxai.study.recipe import Candidate, Molecule, Simulation, StudyRecipe

RECIPE = {
    "name": "tiny", "summary": "test", "data_file": "rmd17_ethanol.npz",
    "level_of_theory": "PBE/def2-SVP", "source": "rMD17", "data_licence": "CC0-1.0",
    "n_train": 40, "n_validation": 10, "max_epochs": 3,
    "network": {"type": "SchNet", "n_atom_basis": 16, "n_interactions": 2, "n_rbf": 10,
                "cutoff": 5.0},
}  # fmt: skip


@pytest.fixture
def synthetic(tmp_path):
    """A small data file of a harmonic triangle, so that training runs without public data."""
    rng = np.random.default_rng(0)
    rest = np.array([[0, 0, 0], [1.1, 0, 0], [0, 1.1, 0]])
    positions = rest + rng.normal(scale=0.05, size=(80, 3, 3))
    rows = {"train_01": np.arange(50), "test_01": np.arange(50, 80)}
    path = tmp_path / "rmd17_ethanol.npz"
    np.savez(
        path, z=np.array([8, 1, 1]), R=positions,
        E=-2000 + 5 * ((positions - rest) ** 2).sum((1, 2)),
        F=-10 * (positions - rest), **rows,
    )  # fmt: skip
    return path


def write_recipe(tmp_path, **changes):
    path = tmp_path / "recipe.toml"
    path.write_text(tomli_w.dumps(RECIPE | changes))
    return path


@pytest.mark.filterwarnings("ignore")  # lightning's advice on loaders and loggers
def test_a_trained_folder_is_a_usable_calculator_and_training_repeats(tmp_path, synthetic):
    recipe = Recipe.load(write_recipe(tmp_path))
    cards = [train(recipe, synthetic, tmp_path / name, progress=False) for name in ("a", "b")]
    assert cards[0].errors == cards[1].errors  # same seed, same machine
    assert cards[0].distances["H-O"][0] < 1.1 < cards[0].distances["H-O"][1]
    calculator = mdxai.load_calculator(tmp_path / "a")
    data, splits = load_labelled(synthetic)
    errors = []
    for row in splits["test_01"]:
        atoms = Atoms(data.numbers, data.positions[row], calculator=calculator)
        errors.append(np.abs(atoms.get_forces() - data.forces[row]).mean())
        assert atoms.get_potential_energy() == pytest.approx(data.energies[row], abs=5)
    assert 1e3 * np.mean(errors) == pytest.approx(
        cards[0].errors["force_mae_mev_per_ang"], rel=1e-3
    )
    assert Recipe.load(tmp_path / "a" / "recipe.toml") == recipe
    with pytest.raises(CalculatorError, match="already holds a calculator"):
        train(recipe, synthetic, tmp_path / "a", progress=False)


@pytest.mark.filterwarnings("ignore")  # lightning's advice on loaders and loggers
def test_studies_train_networks_that_decay_and_repel(tmp_path, synthetic):
    training = {"type": "PaiNN", "n_train": 40, "n_validation": 10, "max_epochs": 2, "cutoff": 4.0,
                "n_atom_basis": 8, "n_rbf": 6, "n_interactions": 1, "seed": 1, "decay": 2.0,
                "radial": "inverse-power", "repulsion": "ZBL"}  # fmt: skip
    candidate = Candidate("x", "water", training)
    molecules = {"water": Molecule("water", data=synthetic.name)}
    recipe = StudyRecipe("x", "", molecules, (candidate,), Simulation((300.0,)))
    places = Places(tmp_path / "out", tmp_path)
    provide(candidate, recipe, places)
    trained = mdxai.load_calculator(places.model(candidate))
    stated = {k: trained.card.network[k] for k in ("radial", "decay", "repulsion")}
    assert stated == {"radial": "inverse-power", "decay": 2.0, "repulsion": "ZBL"}
    untrained = build_network(trained.card.network).state_dict()
    changed = {k for k, w in trained.model.state_dict().items() if not torch.equal(w, untrained[k])}
    assert {"output_modules.1.exponents", "output_modules.1.a_div"} <= changed  # learned as well
    fixed = {k for k in untrained if "radial_basis" in k or "cutoff_fn" in k}
    assert fixed
    assert not fixed & changed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_train": 60}, "needs 70 frames, but train_01 has 50"),
        ({"split": "train_09"}, "has no split 'train_09'"),
        ({"network": RECIPE["network"] | {"type": "MACE"}}, "'MACE' is not known"),
    ],
)
def test_unusable_recipes_leave_nothing_behind(tmp_path, synthetic, changes, message):
    recipe = Recipe.load(write_recipe(tmp_path, **changes))
    with pytest.raises(ValueError, match=message):
        train(recipe, synthetic, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_missing_and_unusable_files_are_reported(tmp_path):
    with pytest.raises(CalculatorError, match="no data file"):
        load_labelled(tmp_path / "nothing.npz")
    with pytest.raises(CalculatorError, match="no recipe at"):
        Recipe.load(tmp_path / "nothing.toml")
    (tmp_path / "r.toml").write_text('name = "x"\nepochs = 3')
    with pytest.raises(CalculatorError, match="is not a training recipe"):
        Recipe.load(tmp_path / "r.toml")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_shipped_recipe_reproduces_its_test_error(tmp_path, shared_data):
    """Rerun the quickest shipped recipe; rounding differs between machines, hence 10 %."""
    name = "schnet-ethanol-weak"
    stated = mdxai.load_calculator(name).card.errors["force_mae_mev_per_ang"]
    recipe = Recipe.load(find_calculator(name) / "recipe.toml")
    card = train(recipe, shared_data / "rmd17", tmp_path / "again", progress=False)
    assert card.errors["force_mae_mev_per_ang"] == pytest.approx(stated, rel=0.10)
