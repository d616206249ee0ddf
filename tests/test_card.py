"""Cards of calculators: what they state is true."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from ase import Atoms

import mdxai
from mdxai.calculators import CalculatorError
from mdxai.calculators.card import sha256
from mdxai.calculators.library import find_calculator


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name.endswith("-ethanol") else pytest.mark.slow)
        for name in sorted(mdxai.list_calculators())
    ],
)
def test_card_states_what_was_measured(name, shared_data):
    """A card's test error is remeasured on a part of its test split."""
    calculator = mdxai.load_calculator(name)
    card = calculator.card
    molecule_name = name.split("-")[1]
    data = np.load(shared_data / "rmd17" / f"rmd17_{molecule_name}.npz")
    errors = []
    for row in data["test_01"][:100]:
        atoms = Atoms(data["z"], data["R"][row].astype(float))
        atoms.calc = calculator
        errors.append(np.abs(atoms.get_forces() - data["F"][row]).mean())
    assert 1e3 * np.mean(errors) == pytest.approx(card.errors["force_mae_mev_per_ang"], rel=0.15)
    rows = data["train_01"][: 50 if name.endswith("weak") else 950].astype(int)
    bond = np.linalg.norm(data["R"][rows, 0] - data["R"][rows, 1], axis=1)
    assert card.distances["C-C"][0] <= bond.min() + 1e-3
    assert (find_calculator(name) / "weights.pt").stat().st_size <= 1e6


@pytest.fixture
def copied(tmp_path):
    return shutil.copytree(find_calculator("schnet-ethanol"), tmp_path / "copy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("schema = 1", "schema = 99"), "schema 99; this version of mdxai reads schema 1"),
        (("schema = 1", "schema = = 1"), "not a valid card"),
        (('type = "SchNet"', 'type = "GemNet"'), "'GemNet' is not known"),
        (("n_atom_basis = 128", "n_atom_basis = 64"), "does not fit its description"),
        (("n_rbf = 20\n", ""), "lacks n_rbf"),
        (("cutoff = 5.0", "cutoff = 4.0"), r"stated cutoff 4.0, trained with 5.0"),
        (("cutoff = 5.0", "cutoff = -5.0"), "must be positive"),
        (("offset_per_atom = ", 'offset_per_atom = "x" #'), "not a complete card"),
    ],
)
def test_unusable_cards_are_refused(copied, change, message):
    card = copied / "card.toml"
    card.write_text(card.read_text().replace(*change))
    with pytest.raises(CalculatorError, match=message):
        mdxai.load_calculator(copied)


def test_sha256_is_that_of_the_file(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x").startswith("ba7816bf")
