"""Forecasts from weak spots and a life test: numbers that agree, kept, continued, and told."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import write

import mdxai
from mdxai.calculators import CalculatorError
from mdxai.errors import MdxaiError
from mdxai.forecast import (
    CombinedLaw,
    Forecast,
    ForecastError,
    ForecastOptions,
    KeptSearchError,
    LifeTestError,
    LifeTestOptions,
    ScanOptions,
    WeakSpotError,
    foretell,
)
from mdxai.forecast.group_names import group_of
from mdxai.forecast.hot_replicas import Motion
from mdxai.forecast.kept_evaluations import KEPT
from mdxai.forecast.make_forecast import FORECAST, WEAK_SPOTS
from mdxai.forecast.run_life_test import FILE
from mdxai.frame import BOLTZMANN, Frame
from mdxai.record import RecordError, refuse_other_run

from .conftest import ethanol_with, invoke
from .holed_pair import HOLE, HoledPair, barrier, energy_and_slope, pair

ROOT = Path(__file__).parents[1]
COARSE = Motion(timestep=1.0, friction=0.05)
TESTING = LifeTestOptions(most=0.75, replicas=3, hottest=4000.0, width=0.001, motion=COARSE)
QUICK = ForecastOptions(testing=TESTING)
MASS = math.prod(pair().get_masses()) / pair().get_masses().sum()  # amu, reduced
PER_PS = 1e-12 * math.sqrt(1.602176634e-19 / 1.66053906660e-27) * 1e10 / (2 * math.pi)


def forecast_of(calculator=None, structure=None, **changes):
    question = {"temperature": 600.0, "duration": 100.0, "options": QUICK} | changes
    return foretell(calculator or HoledPair(), structure or pair(), **question)


@pytest.fixture(scope="module")
def found():
    return forecast_of()


@pytest.fixture(scope="module")
def sound():
    return forecast_of(HoledPair(hole=0.0), options=replace(
        QUICK, testing=replace(TESTING, most=0.5, replicas=2)))  # fmt: skip


def test_the_weak_spot_is_that_of_the_potential(found):
    """Barrier from a grid; Vineyard's prefactor of one distance is the bond's frequency."""
    spots = found.weak_spots
    assert len(spots) == 1
    r = np.linspace(0.9, 1.2, 4001)
    energy = energy_and_slope(r, HOLE)[0]
    k = int(np.argmin(energy))
    curvature = np.gradient(np.gradient(energy, r), r)[k]
    assert spots.worst.barrier == pytest.approx(barrier() - energy[k], rel=0.01)
    exact = math.sqrt(curvature / MASS) * PER_PS
    assert spots.worst.prefactor_per_ps == pytest.approx(exact, rel=0.05)
    assert found.weakest is spots.worst


def test_survival_and_mean_time_follow_from_the_hazard(found):
    hazard, survival = found.hazard, found.survival
    assert hazard == CombinedLaw(found.life_test.law.watched, found.weak_spots.spots).hazard(600.0)
    assert survival.value == pytest.approx(math.exp(-100 * hazard.value))
    assert survival.low == pytest.approx(math.exp(-100 * hazard.high))
    assert survival.high == pytest.approx(math.exp(-100 * hazard.low))
    assert survival.low < survival.value < survival.high
    assert found.mean_time_to_failure.value == pytest.approx(1 / hazard.value)
    value, low, high = found.survival_after(np.array([0.0, 100.0, 200.0]))
    assert value == pytest.approx([1, survival.value, survival.value**2])
    assert (low[1], high[1]) == pytest.approx((survival.low, survival.high))


def test_weak_spots_alone_give_their_own_rate_with_a_wide_interval(found):
    alone = replace(found, life_test=None)
    spot = found.weak_spots.worst
    rate = spot.prefactor_per_ps * math.exp(-spot.barrier / (BOLTZMANN * 600.0))
    assert alone.law.n_onsets == 0
    assert alone.hazard.low < rate < alone.hazard.high
    narrow, wide = (one.hazard_at(2500.0) for one in (found, alone))
    assert narrow.high / narrow.low < wide.high / wide.low  # onsets at such temperatures tell


def test_the_trustworthy_temperature_is_the_highest_one(found):
    limit = found.trustworthy_up_to(100.0, 0.9)
    below = [found.at(t).survival.low for t in np.linspace(100.0, limit - 1, 12)]
    assert min(below) > 0.9
    assert found.at(limit + 1).survival.low < 0.9
    assert found.trustworthy_up_to(1e6, 0.9) < limit
    assert math.isnan(found.trustworthy_up_to(1e300))


def test_the_sentence_tells_it_all(found):
    head, mean, weakest, limits = found.sentence.split("; ")
    assert head.startswith("a run of 100 ps at 600 K survives with probability ")
    assert mean.startswith("mean time to failure ")
    spot = found.weakest
    assert weakest == f"weakest: {spot.label}, barrier {spot.barrier:.2f} eV"
    assert limits.startswith("trustworthy up to ")
    assert limits.endswith(" K for 1 µs")
    assert found.table().startswith("coordinate")
    assert "watched / ps" in found.table()
    assert found.sentence in str(found)


def test_json_is_as_documented(found):
    plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert (plain["temperature_K"], plain["duration_ps"]) == (600.0, 100.0)
    for name in ("survival", "hazard_per_ps", "mean_time_to_failure_ps"):
        assert set(plain[name]) == {"value", "low", "high"}
    (spot,) = plain["weak_spots"]
    assert spot.keys() >= {"atoms", "kind", "barrier_eV", "rate_per_ps", "prefactor_per_ps"}
    assert spot["atoms"] == [0, 1]
    assert spot["rate_per_ps"] == pytest.approx(
        spot["prefactor_per_ps"] * math.exp(-spot["barrier_eV"] / (BOLTZMANN * 600.0))
    )
    assert [limit["duration_ps"] for limit in plain["trustworthy_up_to"]] == [100.0, 1e6]
    assert plain["life_test"]["seed"] == 1


def test_a_sound_potential_has_neither_weak_spots_nor_onsets(sound):
    assert sound.found_nothing
    assert sound.is_known
    assert sound.survival.value == sound.survival.high == 1.0
    assert sound.sentence.startswith("no replica broke in ")
    assert "no weak spot below 3 eV" in sound.sentence
    assert sound.as_dict()["weakest"] is None
    alone = replace(sound, life_test=None)
    assert (alone.survival.low, alone.survival.high) == (0.0, 1.0)
    assert "no replica was watched" in alone.sentence
    assert alone.sentence == (
        "no replica was watched, which does not prove that a run of 100 ps at 600 K survives; "
        "no weak spot below 3 eV"
    )


def test_a_low_ceiling_is_no_reason_to_call_a_model_sound(sound):
    """A weak spot of 0.3 eV would break this run many times over."""
    low = replace(sound, weak_spots=replace(sound.weak_spots, ceiling=0.3))
    assert not low.is_known
    assert low.is_good_enough is None
    assert any("0.3 eV is too low a ceiling" in note for note in low.notes())
    colder = low.at(30.0)
    assert colder.is_known
    assert colder.is_good_enough


def test_the_notes_count_what_the_law_rests_on(found):
    """A temperature at which replicas break at once is left out of the law, and of its note."""
    test = found.life_test
    brief = replace(test.replicas[0], temperature=9000.0, time=1.0, fate="failed")
    broken = replace(test.replicas[0], time=200.0, fate="failed")
    replicas = (*test.replicas, broken, *[brief] * 40)
    hot = replace(found, life_test=replace(test, replicas=replicas))
    assert len(hot.life_test.law.watched) < len(hot.life_test.watched)
    (note,) = (text for text in hot.notes() if text.startswith("life test:"))
    assert "9000" not in note
    assert note.startswith("life test: 1 onset in 0.65 ps")


def test_a_hazard_that_nothing_tells_is_called_unknown(found, sound):
    assert replace(sound, weak_spots=None).life_rows[0][-1] == "unknown"
    assert "unknown" not in str(found.life_rows)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_no_temperature_and_no_duration_are_refused(found, wrong):
    for ask in (found.at, found.hazard_at, found.trustworthy_up_to):
        with pytest.raises(MdxaiError, match="must be positive and finite"):
            ask(wrong)


def test_a_forecast_is_read_as_it_was_written(found, sound, tmp_path):
    for k, one in enumerate((found, sound, replace(found, weak_spots=None, without="why"))):
        one.write(tmp_path / f"{k}.json")
        again = Forecast.read(tmp_path / f"{k}.json")
        assert again.as_dict() == one.as_dict()
        assert again.hazard == one.hazard
        assert again.life_test.replicas == one.life_test.replicas
    again = Forecast.read(tmp_path / "0.json")
    paths = [one.weak_spots.worst.path for one in (found, again)]
    for name in ("positions", "lengths", "energies"):
        assert np.array_equal(*(getattr(path, name) for path in paths))
    assert again.weak_spots.minimum.forces.dtype == np.float64


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "holds no forecast"), ('{"schema": 9}', "schema 9, expected 1"), ("{}", "schema")],
)
def test_what_is_no_forecast_is_not_read(text, words, tmp_path):
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(ForecastError, match=words):
        Forecast.read(tmp_path / "f.json")
    with pytest.raises(ForecastError, match="holds no forecast"):
        Forecast.read(tmp_path / "none.json")


class Interrupted(Exception):
    """Raised by a test."""


def test_an_interrupted_forecast_goes_on(found, tmp_path):
    said = []

    def interrupt(what):
        said.append(what)
        if "ps of replicas" in what:
            raise Interrupted("now")

    with pytest.raises(Interrupted, match="now"):
        forecast_of(path=tmp_path, progress=interrupt)
    assert any(what.startswith("weak spots, ") for what in said)
    assert (tmp_path / WEAK_SPOTS).is_file()
    assert (tmp_path / FILE).is_file()
    assert not (tmp_path / FORECAST).exists()
    said = []
    again = forecast_of(path=tmp_path, progress=said.append)
    assert not any(what.startswith("weak spots, ") for what in said)  # not looked for again
    assert again.life_test.replicas == found.life_test.replicas
    assert again.hazard == found.hazard
    assert Forecast.read(tmp_path / FORECAST).hazard == found.hazard


def test_another_forecast_is_not_continued(found, tmp_path):
    forecast_of(path=tmp_path)
    changes = (
        ({"calculator": HoledPair(hole=-9.0)}, "differs in energy"),
        ({"structure": Atoms("CO", [[0, 0, 0], [0, 0, 1.2]])}, "differs in energy, structure"),
        ({"options": replace(QUICK, scans=ScanOptions(ceiling=2.0))}, "differs in options"),
        ({"reference": EMT()}, "differs in reference"),
    )
    for change, words in changes:
        with pytest.raises(ForecastError, match=words):
            forecast_of(path=tmp_path, **change)
    with pytest.raises(LifeTestError, match="differs in temperature"):
        forecast_of(path=tmp_path, temperature=700.0)
    (tmp_path / WEAK_SPOTS).write_text("{}")
    with pytest.raises(ForecastError, match="holds no weak spots to continue with"):
        forecast_of(path=tmp_path)


def test_a_real_reaction_is_no_weak_spot(found):
    """The reference has the same hole: what leads there is a reaction."""
    compared = forecast_of(reference=HoledPair, options=replace(QUICK, parts=("weak-spots",)))
    assert not compared.weak_spots.spots
    assert [spot.label for spot in compared.weak_spots.real] == ["C0–O1"]
    assert any("reactions that it allows: C0–O1" in note for note in compared.notes())


def test_a_structure_in_a_hole_is_told_by_the_life_test_alone():
    near = Atoms("CO", [[0, 0, 0], [0, 0, 0.5]])
    found = forecast_of(structure=near)
    assert found.weak_spots is None
    assert "relaxes into what physics forbids" in found.notes()[0]
    assert "weak spots not known" in found.sentence


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"structure": Atoms("H", [[0, 0, 0]])}, WeakSpotError, "at least two atoms"),
        ({"temperature": -1.0}, LifeTestError, "the temperature must be positive and finite"),
        ({"duration": 0.0}, LifeTestError, "the duration must be positive and finite"),
    ],
)
def test_what_cannot_be_foretold_is_refused_at_once(changes, error, words):
    with pytest.raises(error, match=words):
        forecast_of(EMT(), **changes)


class Stops(HoledPair):
    """Works some hundred times, then fails as a machine does that runs out of memory."""

    calls = 0

    def both(self, atoms):
        Stops.calls += 1
        if Stops.calls > 100:
            raise RuntimeError("out of memory")
        return super().both(atoms)


class Nothing(HoledPair):
    def both(self, atoms):
        energies, forces = super().both(atoms)
        return energies * math.nan, forces


@pytest.mark.parametrize("parts", [("weak-spots",), ("life-test",)])
def test_a_calculator_that_stops_working_is_not_a_broken_model(parts):
    for calculator, words in ((Stops, "out of memory"), (Nothing, "gives nothing finite")):
        Stops.calls = 0
        with pytest.raises(CalculatorError, match=words):
            forecast_of(calculator, options=replace(QUICK, parts=parts))


def test_a_calculator_may_fail_where_atoms_overlap(found):
    """As quantum chemistry does that does not converge; the search goes on around it."""

    class Fails(HoledPair):
        def both(self, atoms):
            if atoms.get_distance(0, 1) < 0.45:
                raise RuntimeError("no convergence")
            return super().both(atoms)

    (spot,) = forecast_of(Fails(), options=replace(QUICK, parts=("weak-spots",))).weak_spots.spots
    assert spot.barrier == pytest.approx(found.weakest.barrier, abs=1e-3)


def test_structures_that_cannot_be_foretold_are_refused():
    fixed = pair()
    fixed.set_constraint(FixAtoms([0]))
    with pytest.raises(LifeTestError, match="has constraints: FixAtoms"):
        forecast_of(structure=fixed)
    with pytest.raises(LifeTestError, match="has no atoms"):
        foretell(EMT(), Atoms(), temperature=300.0, duration=1.0)
    with pytest.raises(ForecastError, match="at_least must be between 0 and 1"):
        ForecastOptions(at_least=1.5)
    with pytest.raises(ForecastError, match="parts must be of weak-spots, life-test"):
        ForecastOptions(parts=("weak",))
    with pytest.raises(ForecastError, match="needs weak spots, a life test, or both"):
        Forecast(300.0, 1.0, None, None, Frame.from_atoms(pair()))


@pytest.mark.parametrize(
    ("formula", "atoms", "group"),
    [
        ("CH3CH2OH", (7, 1, 8), ""),  # across the bond
        ("CH3CH2OH", (6, 0, 8), "methyl group"),
        ("CH3CH2OH", (4, 1, 5), "methylene group"),
        ("CH3CH2OH", (2, 3), "hydroxyl group"),
        ("H3CNH2", (3, 1, 4), "amino group"),
        ("HCOOH", (0, 3), "carboxyl group"),
        ("CH4", (1, 2), ""),
        ("H2O", (1, 2), ""),
    ],
)
def test_groups_have_the_names_that_chemists_use(formula, atoms, group):
    frame = Frame.from_atoms(molecule(formula))
    symbols = frame.symbols
    assert group_of(frame, atoms) == group, [f"{symbols[a]}{a}" for a in atoms]


SCRIPT = """
from tests.test_foretell import *
import sys
forecast_of(path=sys.argv[1], progress=lambda what: print(what, flush=True))
"""


@pytest.mark.slow
def test_a_killed_forecast_goes_on_as_if_it_had_not_been(tmp_path, found):
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if "ps of replicas" in line:
                child.send_signal(signal.SIGKILL)
                break
        child.stdout.close()
    assert (tmp_path / WEAK_SPOTS).is_file()
    assert not (tmp_path / FORECAST).exists()
    assert forecast_of(path=tmp_path).hazard == found.hazard


def test_a_search_for_weak_spots_goes_on_where_it_was_killed(tmp_path, found):
    """All evaluations until then are kept, and deleted once the weak spots are written."""

    def stop(what):
        if "saddles" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        forecast_of(path=tmp_path, progress=stop)
    assert (tmp_path / KEPT).stat().st_size > 0
    assert not (tmp_path / WEAK_SPOTS).exists()
    with pytest.raises(KeptSearchError, match="which differs in options"):
        forecast_of(path=tmp_path, options=replace(QUICK, scans=ScanOptions(points=9)))
    with pytest.raises(KeptSearchError, match="which differs in frames"):
        forecast_of(path=tmp_path, frames=[pair()])
    only = replace(QUICK, parts=("weak-spots",))
    again = forecast_of(path=tmp_path, options=only).weak_spots
    assert again.as_dict() == found.weak_spots.as_dict()
    assert not (tmp_path / KEPT).exists()
    with pytest.raises(ForecastError, match="which differs in frames"):
        forecast_of(path=tmp_path, options=only, frames=[pair()])


def test_frames_of_another_molecule_are_one_error(structure, tmp_path):
    write(tmp_path / "water.xyz", molecule("H2O"))
    line = ("forecast", SOURCE, structure, "--only", "weak-spots")
    result = invoke(*line, "--frames", str(tmp_path / "water.xyz"))
    assert result.exit_code == 2
    assert "frame 0 has other atoms" in result.stderr
    result = invoke(*line, "--frames", structure, "--temperature", "300")
    assert result.exit_code == 0


SOURCE = "tests.holed_pair:HoledPair"
FAST = ("--hottest", "4000", "--replicas", "2", "--most", "0.5")


@pytest.fixture
def structure(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    write(tmp_path / "pair.xyz", pair())
    return str(tmp_path / "pair.xyz")


def test_the_command_has_an_exit_code_for_each_answer(structure):
    """3 where the estimate is below --at-least, 4 where there is none."""
    line = ("forecast", SOURCE, structure, "--duration", "1ns", "--json", *FAST)
    hot = invoke(*line, "--temperature", "2000")
    plain = json.loads(hot.stdout)
    assert (hot.exit_code, plain["duration_ps"]) == (3, 1000.0)
    assert plain["survival"]["value"] < 0.95
    cold = invoke(*line, "--temperature", "300")
    assert cold.exit_code == 0
    assert json.loads(cold.stdout)["survival"]["value"] >= 0.95
    unknown = invoke(*line, "--temperature", "300", "--only", "life-test", "--arg", "hole=0")
    assert unknown.exit_code == 4
    assert json.loads(unknown.stdout)["survival"]["value"] is None


def test_the_command_shows_both_tables_and_says_what_they_rest_on(structure, tmp_path):
    line = ("forecast", SOURCE, structure, "--temperature", "600", "--duration", "1ps",
            "--reference", SOURCE, "--reference-arg", "hole=0", "--out", tmp_path / "out",
            *FAST)  # fmt: skip
    result = invoke(*line)
    assert result.exit_code == 0, result.stderr
    text = result.stdout
    assert "a run of 1 ps at 600 K survives with probability" in text
    assert "HoledPair/eV" in text  # barriers of the reference
    assert "C0–O1" in text
    assert "watched / ps" in text
    assert "replicas broke" in text
    again = invoke(*line)
    assert again.stdout == text
    assert "C0–O1" in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / FORECAST).is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--duration", "1 fortnight"), "expected a time with its unit"),
        (("--temperature", "-5"), "the temperature must be positive"),
        (("--at-least", "2"), "at_least must be between 0 and 1"),
        (("--reference", "no-such"), "there is no calculator 'no-such'"),
        (("--ceiling", "0"), "or equal to 0.1"),
        (("--reference-arg", "a=b"), "--reference-arg needs --reference"),
        (("--hottest", "100"), "hottest must be at least the temperature of the run, 300 K"),
        (("--seed", "-1"), "seed must be 0 or above, got -1"),
        (("--out", "/proc/none"), "/proc/none cannot be made"),
    ],
)
def test_the_command_has_one_error_for_what_cannot_be(options, words, structure):
    result = invoke("forecast", SOURCE, structure, *FAST, *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["schnet-ethanol", "painn-ethanol"])
def test_a_shipped_network_is_foretold_near_what_was_seen(name):
    """Four runs of 10 ps at 1000 K in runs/stability: 2 and 3 of them broke."""
    atoms = ethanol_with(name)
    found = mdxai.foretell(atoms.calc, atoms, temperature=1000.0, duration=10.0)
    seen = {"schnet-ethanol": 0.07, "painn-ethanol": 0.12}[name]  # per ps
    assert found.hazard.low < 3 * seen
    assert found.hazard.high > seen / 3
    assert "of the methyl group" in found.sentence or "H" in found.weakest.label


def test_a_forecast_is_not_written_into_a_run(tmp_path):
    (tmp_path / "run.toml").write_text("")
    with pytest.raises(ForecastError, match="holds a run; choose another directory"):
        forecast_of(path=tmp_path)


def test_a_forecast_is_not_written_over_a_file_nor_a_run_over_a_forecast(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("kept")
    with pytest.raises(ForecastError, match="is a file; expected a directory"):
        forecast_of(path=file)
    (tmp_path / FORECAST).write_text("{}")
    with pytest.raises(RecordError, match="holds a forecast; choose another directory"):
        refuse_other_run(tmp_path)
