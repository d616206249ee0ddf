"""`mdxai attribute` and `mdxai calculators`."""

from __future__ import annotations

import json
import shutil

import pytest

import mdxai
from mdxai.calculators.library import find_calculator

from .conftest import ETHANOL, ethanol_with, invoke


def test_calculators_lists_the_shipped_ones():
    listed = json.loads(invoke("calculators", "--json").stdout)
    assert listed.keys() == mdxai.list_calculators().keys()
    assert {name.split("-")[0] for name in listed} == {"painn", "schnet", "so3net"}
    assert listed["painn-ethanol"]["force_mae_mev_per_ang"] <= 15
    assert listed["schnet-ethanol"]["force_mae_mev_per_ang"] <= 25
    assert listed["painn-aspirin"]["force_mae_mev_per_ang"] <= 35
    assert listed["schnet-aspirin"]["force_mae_mev_per_ang"] <= 60
    assert "painn-ethanol" in invoke("calculators").stdout


def test_attribute_writes_the_whole_explanation(tmp_path):
    out, picture = tmp_path / "ethanol.json", tmp_path / "ethanol.png"
    result = invoke(
        "attribute", "painn-ethanol", ETHANOL, "--body-order", "3", "--dtype", "float64",
        "--json", out, "--picture", picture,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    content = json.loads(out.read_text())
    expected = mdxai.attributor(
        mdxai.load_calculator("painn-ethanol", dtype="float64"), body_order=3
    ).attribute(ethanol_with(None))
    assert content["method"] == "walks"
    assert content["residual"] == content["output"] - content["relevance_total"]
    assert [p["two_body"] for p in content["pairs"]] == expected.two_body.tolist()
    assert [t[3] for t in content["three_body"]] == expected.three_body.tolist()
    assert sum(content["by_body_order"]) == pytest.approx(sum(content["per_atom"]))
    assert picture.stat().st_size > 10_000


def test_attribute_prints_the_strongest_pairs():
    result = invoke("attribute", "painn-ethanol", ETHANOL, "--top", "3")
    assert result.exit_code == 0
    assert "C0–C1" in result.output
    assert "Strongest 3 of 36 pairs" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gamma", "-1"], "gamma must be from 0 to"),
        (["--body-order", "4"], "body_order must be one of"),
        (["--method", "guess"], "method must be one of auto"),
        (["--json", "/nowhere/out.json"], "cannot be written"),
        (["--picture", "ethanol.bad"], "cannot be written"),
    ],
)
def test_attribute_says_what_it_cannot_do(options, message):
    result = invoke("attribute", "painn-ethanol", ETHANOL, *options)
    assert result.exit_code == 2
    assert message in result.output + result.stderr


def test_attribute_prints_json_to_the_standard_output():
    content = json.loads(invoke("attribute", "schnet-ethanol", "H2O", "--json", "-").stdout)
    assert content["method"] == "walks"


@pytest.mark.parametrize(
    ("method", "column"), [("flow", "flow / eV"), ("hessian", "norm / eV/Å²"), ("expansion", "eV")]
)
def test_attribute_names_what_each_method_measures(method, column):
    result = invoke("attribute", "schnet-ethanol", "H2O", "--method", method)
    assert (result.exit_code, column in result.stdout) == (0, True)
    assert ("method expansion" in result.stdout) is (method == "expansion")
    # Of H, H, O, HH, OH and OH of water, the hydrogens and hydroxyls have an unpaired electron.
    assert ("4 of 6 fragments are radicals" in result.stdout) is (method == "expansion")


def test_a_damaged_card_is_left_out_and_named(tmp_path, monkeypatch):
    sound = find_calculator("schnet-ethanol")
    shutil.copytree(sound, tmp_path / "sound")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "card.toml").write_text("schema = 1")
    found = {name: tmp_path / name for name in ("sound", "damaged")}
    monkeypatch.setattr("mdxai.calculators.library.list_calculators", lambda: found)
    result = invoke("calculators", "--json")
    assert (result.exit_code, list(json.loads(result.stdout))) == (0, ["sound"])
    assert "left out" in result.stderr
    assert "damaged" in result.stderr
