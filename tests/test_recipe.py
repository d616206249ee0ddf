"""Recipes of studies."""

from __future__ import annotations

import pytest

from mdxai.study.recipe import StudyError
from tests.small_study import RECIPE, recipe_from


def test_a_grid_of_models_is_every_combination(tmp_path):
    recipe = recipe_from(
        RECIPE.replace('structure = "CH3CH2OH"', 'data = "e.npz"')
        + """
[training]
n_atom_basis = 32
[[train]]
molecule = "ethanol"
type = ["SchNet", "PaiNN"]
n_train = [50, 950]
cutoff = [3, 5.5]
n_interactions = 2
seed = [1, 2]
""",
        tmp_path,
    )
    trained = [c for c in recipe.candidates if c.training]
    assert len(trained) == 2 * 2 * 2 * 2
    assert len({c.name for c in trained}) == len(trained)
    chosen = next(c for c in trained if c.name == "painn-ethanol-50-c5.5-b2-s2")
    assert chosen.training["cutoff"] == 5.5
    assert chosen.training["n_atom_basis"] == 32
    assert [c.source for c in recipe.candidates[:2]] == [
        "schnet-ethanol-weak", "painn-ethanol-weak",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("replicas = 2", "replicas = 0", "replicas must be a whole number above 0, got 0"),
        ("replicas = 2", "replica = 2", "has no 'replica'; it takes"),
        ("[300.0, 900.0]", "[300.0, nan]", "temperatures must be a list of positive numbers"),
        ("[300.0, 900.0]", "[]", "temperatures must be"),
        ("duration_ps = 0.02", "duration_ps = inf", "duration_ps must be positive and finite"),
        ("duration_ps = 0.02", "attribute_every = 7", "must be a multiple of record_every"),
        ('molecule = "ethanol"', 'molecule = "water"', "none of the molecules ethanol"),
        ('"painn-ethanol-weak"', '"x/schnet-ethanol-weak"', "two models are called"),
        ('structure = "CH3CH2OH"', "", "needs either data or a structure"),
        ("[[load]]", "[[fetch]]", "has no 'fetch'"),
        ("[simulation]", "[[simulation]]", "must be a table"),
        ("[[load]]", "[load", "is not a study recipe"),
    ],
)
def test_a_wrong_recipe_is_refused_and_the_entry_named(old, new, message, tmp_path):
    with pytest.raises(StudyError, match=message.replace("[", r"\[")):
        recipe_from(RECIPE.replace(old, new, 1), tmp_path)


def test_training_needs_labelled_data(tmp_path):
    train = '[[train]]\nmolecule="ethanol"\ntype="SchNet"\nn_train=50\ncutoff=5\nn_interactions=2'
    with pytest.raises(StudyError, match="is to be trained, but ethanol has no data"):
        recipe_from(RECIPE + train, tmp_path)
    with pytest.raises(StudyError, match="lacks cutoff"):
        recipe_from(RECIPE + train.replace("cutoff=5\n", ""), tmp_path)


def test_builds_of_networks_are_part_of_their_names(tmp_path):
    data = '[molecules.ethanol]\ndata = "ethanol.npz"\n'
    train = (
        '[[train]]\nmolecule="ethanol"\ntype="SchNet"\nn_train=50\ncutoff=5\nn_interactions=2\n'
        'radial=["gaussian", "inverse-power"]\n'
    )
    head = "[simulation]\ntemperatures = [300.0]\n"
    recipe = recipe_from(head + data + '[training]\nrepulsion = "ZBL"\n' + train, tmp_path)
    names = [candidate.name for candidate in recipe.candidates]
    assert names == [
        "schnet-ethanol-50-c5-b2-s1-zbl",
        "schnet-ethanol-50-c5-b2-s1-inverse-power-zbl",
    ]
    assert {c.training["repulsion"] for c in recipe.candidates if c.training} == {"ZBL"}
