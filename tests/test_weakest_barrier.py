"""What a check says of weak spots, where a rigid squeeze passes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.lj import LennardJones

import mdxai
from mdxai.calculators import Card, twin_of
from mdxai.calculators.library import find_calculator
from mdxai.forecast import CardForecast
from mdxai.forecast.weakest_barrier import WeakestBarrier
from mdxai.frame import Frame
from mdxai.monitoring.check import check

from .conftest import ETHANOL, invoke, shaken
from .test_weak_spots import WATER, Analytic, bent, exact, holed_water

SQUEEZED = ("squeeze", "wall", "stretch", "softness")


def judged(*arguments, **keywords):
    return {result.name: result for result in check(*arguments, **keywords)}


def test_a_hole_off_the_rigid_path_is_found():
    """Every rigid probe passes: pushed together, hydrogens come too close to the oxygen first."""
    barrier, _ = exact(holed_water, WATER, bent(0.96, 1.52), bent(0.96, 1.15), 500.0)
    found = judged(Analytic(holed_water), WATER, search=True)
    assert {found[name].verdict for name in SQUEEZED} == {"pass"}
    weak = found["weak_spots"]
    assert weak.verdict == "warn"
    assert weak.value == pytest.approx(1.0 - barrier, abs=0.01)
    assert set(weak.atoms) == {0, 1, 2}
    assert f"barrier of {barrier:.2f} eV: H1–H2" in weak.remedy


def test_a_sound_potential_has_none_and_is_not_searched_unasked():
    places = 3.8 * np.vstack([np.zeros(3), np.eye(3), -np.eye(3)])
    argon, atoms = LennardJones(epsilon=0.0104, sigma=3.4, rc=12.0), Atoms("Ar7", places)
    assert judged(argon, atoms, search=True)["weak_spots"].verdict == "pass"
    unasked = judged(argon, atoms)["weak_spots"]
    assert unasked.verdict == "not checked"
    assert "--weak-spots" in unasked.remedy
    assert judged(argon, atoms[:1], search=True)["weak_spots"].remedy == "a single atom has none"


def test_a_shipped_network_whose_squeeze_passes_is_warned_of():
    """Two of its four runs at 1000 K end with two hydrogens in each other."""
    result = invoke("check", "schnet-ethanol", "--json")
    assert result.exit_code == 0, result.stderr
    found = {entry["name"]: entry for entry in json.loads(result.stdout)["results"]}
    assert found["squeeze"]["verdict"] == "pass"
    assert found["squeeze"]["value"] == 0
    weak = found["weak_spots"]
    assert weak["verdict"] == "warn"
    assert weak["value"] == pytest.approx(0.40, abs=0.02)
    assert [molecule(ETHANOL).symbols[a] for a in weak["atoms"]] == ["H", "C", "H"]
    assert "barrier of 0.60 eV by its card" in weak["remedy"]


def test_low_barriers_fail():
    assert invoke("check", "painn-ethanol-weak", "--quiet").exit_code == 3
    weak = mdxai.load_calculator("painn-ethanol-weak")
    deviation = WeakestBarrier(weak, twin_of(weak)).deviate(Frame.from_atoms(shaken()))
    assert deviation.value > 0.65


@pytest.mark.slow
@pytest.mark.parametrize("name", ["schnet-ethanol", "painn-ethanol", "schnet-ethanol-weak"])
def test_a_search_finds_what_the_card_says(name):
    calculator, frame = mdxai.load_calculator(name), Frame.from_atoms(shaken())
    twin = twin_of(calculator)
    stated = WeakestBarrier(calculator, twin).deviate(frame)
    searched = WeakestBarrier(calculator, twin, search=True).deviate(frame)
    assert searched.value == pytest.approx(stated.value, abs=0.02)


@pytest.mark.slow
def test_a_network_without_a_forecast_is_searched(tmp_path):
    folder = shutil.copytree(find_calculator("schnet-ethanol"), tmp_path / "mine")
    given = Card.load(folder / "card.toml")
    replace(given, forecast={}).dump(folder / "card.toml")
    weak = judged(mdxai.load_calculator(folder), molecule(ETHANOL))["weak_spots"]
    assert weak.verdict == "warn"
    lowest = min(spot.barrier for spot in CardForecast.read(given).weak_spots)
    assert weak.value == pytest.approx(1.0 - lowest, abs=0.02)
    assert "keeps its bonds" in weak.remedy


@pytest.mark.slow
def test_xtb_has_none():
    tblite = pytest.importorskip("tblite.ase")
    method = {"method": "GFN2-xTB", "verbosity": 0}
    weak = judged(lambda: tblite.TBLite(**method), molecule(ETHANOL), search=True)["weak_spots"]
    assert weak.verdict == "pass"
