"""Life tests: a known hole is found, the test stops, is continued, and says what it knows."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms

import mdxai
from mdxai.calculators import CalculatorError
from mdxai.forecast import LifeTestOptions, life_test
from mdxai.forecast.hot_replicas import LifeTestError, Motion
from mdxai.forecast.run_life_test import FILE
from mdxai.study.scheduler import workers

from .conftest import ethanol_with, invoke
from .holed_pair import HoledPair, pair

ROOT = Path(__file__).parents[1]
LOW = -20.0  # eV, a hole behind a barrier of 0.42 eV
COARSE = Motion(timestep=1.0, friction=0.05)


def options_of(most=2.0, **changes):
    return LifeTestOptions(
        **{"most": most, "replicas": 4, "width": 0.01, "hottest": 4000.0, "motion": COARSE}
        | changes
    )


FEW = options_of()


def life_of(calculator=None, options=FEW, **changes):
    question = {"temperature": 600.0, "duration": 100.0} | changes
    return life_test(calculator or HoledPair(LOW), pair(), options=options, **question)


@pytest.fixture(scope="module")
def found():
    return life_of()


def test_a_hole_is_found_and_extrapolated(found):
    assert found.causes == {"contact": sum(found.causes.values())}
    assert found.stopped == "budget used up"
    assert found.simulated == pytest.approx(2.0, abs=0.1)
    assert len(found.watched) >= 2
    assert found.law.n_onsets >= 2
    survival, hazard = found.survival, found.hazard
    assert 0 <= survival.low <= survival.value <= survival.high <= 1
    assert survival.value == pytest.approx(math.exp(-100 * hazard.value))
    assert found.survival_of(200.0).value == pytest.approx(survival.value**2)
    assert found.mean_time_to_failure.value == pytest.approx(1 / hazard.value)


def test_the_result_tells_itself(found):
    text = str(found)
    assert text.startswith("a run of 100 ps at 600 K survives with probability ")
    assert "; mean time to failure " in text
    assert "budget used up: the interval of the survival is" in text
    assert len(found.table.splitlines()) == 1 + len(found.watched)
    plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert (plain["temperature_K"], plain["duration_ps"]) == (600.0, 100.0)
    for name in ("survival", "hazard_per_ps", "mean_time_to_failure_ps"):
        assert set(plain[name]) == {"value", "low", "high"}
    assert plain["life_test"]["seed"] == 1
    assert sum(w["onsets"] for w in plain["life_test"]["watched"]) == sum(
        r.fate == "failed" and r.time > 0 for r in found.replicas
    )


def test_the_same_seed_gives_the_same_test_and_another_one_another():
    one, again, other = (
        life_of(options=options_of(0.5, replicas=2, seed=seed)).replicas for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other


def test_a_sound_potential_has_no_onset_and_says_what_that_proves():
    found = life_of(HoledPair(hole=0.0), options=options_of(1.0, replicas=2))
    assert found.hazard.value == found.hazard.low == 0.0
    assert found.survival.high == 1.0
    assert found.sentence.startswith("no replica broke in ")
    assert "probability at least" in found.sentence
    assert max(w.temperature for w in found.watched) == 4000.0  # where it would break soonest
    assert found.as_dict()["mean_time_to_failure_ps"]["high"] is None


def test_the_test_ends_when_the_interval_is_as_narrow_as_asked():
    wide = options_of(100.0, width=0.8)
    found = life_of(options=wide, temperature=4000.0, duration=1.0)
    assert found.stopped == "narrow enough"
    assert found.survival.high - found.survival.low <= 0.8
    assert found.simulated < 50.0


EASY = {"temperature": 600.0, "duration": 1e-3}  # a run of 1 fs, which survives


def test_a_law_of_few_onsets_is_not_settled():
    """Few onsets at the hottest temperature alone once made an interval that was far off."""
    found = life_of(options=options_of(1.0, width=0.9, seed=3), **EASY)
    assert found.is_narrow
    assert not found.is_settled
    assert found.stopped == "budget used up"
    assert any("the law rests on few onsets" in note for note in found.notes())


@pytest.mark.slow
def test_a_test_goes_on_until_its_law_is_settled():
    found = life_of(options=options_of(100.0, width=0.9, seed=3), **EASY)
    assert found.stopped == "narrow enough"
    assert found.is_settled
    assert found.law.n_onsets >= 10


def test_the_test_ends_when_the_question_is_decided():
    asked = options_of(100.0, at_least=0.95)
    found = life_of(options=asked, temperature=4000.0, duration=5.0)
    assert found.stopped == "decided"
    assert found.survival.high < 0.95


class Fragile(HoledPair):
    """Fails wherever the bond is not as at the start."""

    def both(self, atoms):
        if abs(atoms.get_distance(0, 1) - 1.1) > 0.01:
            raise RuntimeError("SCF not converged")
        return super().both(atoms)


def test_a_calculator_that_fails_at_once_gives_a_forecast_too():
    found = life_of(Fragile(), options=options_of(0.5, replicas=2), duration=1.0)
    assert all(r.time < 0 for r in found.replicas)  # none outlived its warm-up
    assert set(found.causes) == {"non_finite"}
    assert found.survival.high < 0.1
    assert json.dumps(found.as_dict(), allow_nan=False)
    assert str(found)


def test_it_ends_after_its_wall_time():
    begun = time.perf_counter()
    found = life_of(options=options_of(seconds=0.1))
    assert found.stopped == "time is up"
    assert time.perf_counter() - begun < 20


def test_a_test_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path, found):
    rounds = []

    def interrupt(result):
        rounds.append(result)
        if len(rounds) == 1:
            raise InterruptedError("by a user")

    with pytest.raises(InterruptedError, match="by a user"):
        life_of(path=tmp_path, progress=interrupt)
    held = json.loads((tmp_path / FILE).read_text())
    assert held["round"] == 1
    assert len(list(tmp_path.glob("state-*"))) == 1
    whole = life_of(path=tmp_path)
    assert whole.replicas == found.replicas
    assert life_of(path=tmp_path).replicas == whole.replicas  # finished: nothing is left to do


def test_a_longer_test_goes_on_from_a_shorter_one(tmp_path):
    short = options_of(1.0)
    life_of(options=short, path=tmp_path)
    assert json.loads((tmp_path / FILE).read_text())["round"] == 1
    assert life_of(path=tmp_path, duration=50.0).simulated == pytest.approx(2.0, abs=0.1)


def test_another_test_is_not_continued(tmp_path):
    short = options_of(1.0)
    life_of(options=short, path=tmp_path)
    with pytest.raises(LifeTestError, match="differs in temperature"):
        life_of(options=short, path=tmp_path, temperature=700.0)
    with pytest.raises(LifeTestError, match="differs in energy"):
        life_of(HoledPair(hole=-1.0), options=short, path=tmp_path)
    (tmp_path / FILE).write_text("{")
    with pytest.raises(LifeTestError, match="holds no life test to continue"):
        life_of(options=short, path=tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"temperature": 0.0}, "the temperature must be positive and finite, got 0.0"),
        ({"duration": math.inf}, "the duration must be positive and finite"),
    ],
)
def test_questions_without_an_answer_are_refused(changes, words):
    with pytest.raises(LifeTestError, match=words):
        life_of(**changes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 0.0}, "width must be between 0 and 1"),
        ({"most": -1.0}, "most must be positive and finite"),
        ({"confidence": 1.0}, "confidence must be between 0 and 1"),
        ({"prefactors": (2.0, 1.0)}, "expected 0 < smallest ≤ largest prefactor"),
    ],
)
def test_options_that_cannot_be_are_refused(options, words):
    with pytest.raises(LifeTestError, match=words):
        LifeTestOptions(**options)


def test_structures_that_cannot_be_tested_are_refused():
    fixed = pair()
    fixed.set_constraint(FixAtoms([0]))
    for atoms, words in ((Atoms(), "has no atoms"), (fixed, "has constraints: FixAtoms")):
        with pytest.raises(LifeTestError, match=words):
            life_test(HoledPair(), atoms, temperature=300.0, duration=1.0)
    with pytest.raises(CalculatorError, match="fails on"):
        life_test(EMT(), Atoms("U2", [[0, 0, 0], [0, 0, 2.0]]), temperature=300.0, duration=1.0)


def test_neither_structure_nor_calculator_is_touched():
    atoms, calculator = pair(), EMT()
    atoms.calc = calculator
    energy, before = atoms.get_potential_energy(), atoms.positions.copy()
    life_test(calculator, atoms, temperature=900.0, duration=1.0,
              options=LifeTestOptions(most=0.2, replicas=1))  # fmt: skip
    assert np.array_equal(atoms.positions, before)
    assert calculator.results["energy"] == energy
    assert calculator.atoms == atoms


def test_replicas_that_react_are_no_onsets():
    """H₂ + H ⇌ H + H₂ without a barrier: a bond is exchanged, and nothing has broken."""
    from mdxai.forecast.onset_judge import OnsetJudge
    from mdxai.frame import Frame, Thermostat

    start = Frame.from_atoms(Atoms("CH4CH3", _methyl_exchange(1.09, 1.9)))
    judge = OnsetJudge(start, None, 0.5)
    fate = None
    for k in range(40):
        share = min(k / 20, 1.0)
        atoms = Atoms("CH4CH3", _methyl_exchange(1.09 + 0.75 * share, 1.9 - 0.8 * share))
        frame = Frame.from_atoms(
            atoms, step=4 * k, time=2.0 * k, thermostat=Thermostat(300.0)
        ).with_results(0.0, np.zeros((9, 3)))
        fate = fate or judge.look(frame)
    assert fate is not None
    assert (fate.kind, fate.cause) == ("reacted", "reaction")


def _methyl_exchange(old, new):
    """Return CH4 and CH3 with a hydrogen between them, at these distances, Å."""
    legs = np.array([[-0.36, 1.03, 0.0], [-0.36, -0.51, 0.89], [-0.36, -0.51, -0.89]])
    far = old + new
    return [
        [0, 0, 0], *legs, [old, 0, 0], [far, 0, 0], *(legs * [-1, 1, 1] + [far, 0, 0])
    ]  # fmt: skip


def test_argon_survives():
    """A Lennard-Jones cluster evaporates, but nothing in it breaks."""
    atoms = Atoms("Ar4", 3.8 / math.sqrt(8) * np.array(
        [[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]))  # fmt: skip
    argon = LennardJones(epsilon=0.0104, sigma=3.4, rc=10.0)
    found = life_test(
        argon,
        atoms,
        temperature=20.0,
        duration=100.0,
        options=options_of(4.0, hottest=None, motion=Motion(timestep=5.0)),
    )
    assert found.causes == {}
    assert found.ceiling.temperature == 60.0


SCRIPT = """
from tests.test_life_test import *
import sys
life_of(path=sys.argv[1], progress=lambda r: print("round", flush=True))
"""


@pytest.mark.slow
def test_a_killed_test_goes_on_as_if_it_had_not_been(tmp_path, found):
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "round\n"
        time.sleep(0.1)  # in the midst of the next round
        child.kill()
    assert json.loads((tmp_path / FILE).read_text())["round"] == 1
    assert life_of(path=tmp_path).replicas == found.replicas


@pytest.mark.slow
def test_a_hot_forecast_is_what_happens():
    """Hot replicas foretell the hazard at 1100 K; replicas at 1100 K are watched for 400 ps."""
    seen = life_of(options=options_of(100.0, replicas=16), temperature=1100.0)
    ladder = {w.temperature for w in seen.watched}
    direct = life_of(
        options=options_of(400.0, replicas=16, width=0.001, hottest=1100.0, seed=7),
        temperature=1100.0,
    )
    assert direct.watched[0].temperature == 1100.0
    assert max(ladder) > 1500.0
    assert seen.hazard.low < direct.hazard.high
    assert direct.hazard.low < seen.hazard.high


@pytest.mark.slow
@pytest.mark.parametrize("name", ["painn-ethanol", "schnet-ethanol"])
def test_shipped_networks_break_hot_as_was_seen_before(name, tmp_path):
    """painn-ethanol broke 5.3, 1.25 and 0.12 times per ps at 2000, 1500 and 1000 K."""
    atoms = ethanol_with(name)
    options = LifeTestOptions(most=24.0, width=0.001)
    found = life_test(atoms.calc, atoms, temperature=1000.0, duration=10.0, options=options,
                      path=tmp_path)  # fmt: skip
    assert found.law.n_onsets >= 3
    assert found.hazard.high > 0.02
    assert found.hazard.low < 0.6
    again = life_test(atoms.calc, atoms, temperature=1000.0, duration=10.0, path=tmp_path,
                      options=LifeTestOptions(most=28.0, width=0.001))  # fmt: skip
    whole = life_test(lambda: atoms.calc, atoms, temperature=1000.0, duration=10.0,
                      options=LifeTestOptions(most=28.0, width=0.001))  # fmt: skip
    assert again.replicas == whole.replicas


@pytest.fixture
def structure(tmp_path):
    from ase.io import write

    write(tmp_path / "pair.xyz", pair())
    return str(tmp_path / "pair.xyz")


SOURCE = "tests.holed_pair:HoledPair"
QUICK = ("--arg", f"hole={LOW}", "--hottest", "4000", "--replicas", "4", "--most", "1")


def test_the_command_foretells(structure, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = invoke("forecast", SOURCE, structure, "--temperature", "4000", "--duration", "1ns",
                    "--json", *QUICK)  # fmt: skip
    plain = json.loads(result.stdout)
    assert result.exit_code == 3  # below 0.95
    assert plain["duration_ps"] == 1000.0
    assert plain["survival"]["high"] < 0.95


def test_the_command_keeps_and_shows_its_test(structure, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    line = ("forecast", SOURCE, structure, "--temperature", "300", "--duration", "1ps",
            "--out", str(tmp_path / "kept"), *QUICK)  # fmt: skip
    result = invoke(*line)
    assert result.exit_code == 0
    assert "a run of 1 ps at 300 K survives with probability" in result.stdout
    assert "watched / ps" in result.stdout
    assert (tmp_path / "kept" / FILE).is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--duration", "1"), "expected a time with its unit"),
        (("--temperature", "-5"), "the temperature must be positive"),
        (("--at-least", "2"), "at_least must be between 0 and 1"),
    ],
)
def test_the_command_has_one_error_for_what_cannot_be(options, words, structure, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = invoke("forecast", SOURCE, structure, *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


class HereAndThere:
    """A client without workers that pickles what it is given, as Dask does, and runs it here."""

    def __init__(self, n):
        self.n, self.shares = n, []

    def scatter(self, thing, **how):
        return pickle.dumps(thing)

    def scheduler_info(self):
        return {"workers": dict.fromkeys(range(self.n))}

    def submit(self, function, make, state, slots, n_steps, *, pure):
        self.shares.append(slots)
        given = pickle.loads(pickle.dumps((state, slots, n_steps)))
        return pickle.loads(pickle.dumps(function(pickle.loads(make), *given)))

    def gather(self, results):
        return results


def test_a_test_on_workers_is_that_of_one_process():
    alone, client = life_of(options=options_of(0.75)), HereAndThere(3)
    shared = life_of(options=options_of(0.75), client=client)
    assert shared.replicas == alone.replicas
    assert any(r.fate == "failed" for r in shared.replicas)
    assert client.shares[:4] == [[0], [1], [2], [3]]


@pytest.mark.slow
def test_a_batch_is_split_among_workers():
    calculator = mdxai.load_calculator("schnet-ethanol", dtype="float64")
    few = LifeTestOptions(most=0.75, replicas=3, width=1e-6)
    question = {"temperature": 1000.0, "duration": 10.0, "options": few}
    client = HereAndThere(2)
    shared = life_test(calculator, ethanol_with(None), client=client, **question)
    alone = life_test(calculator, ethanol_with(None), **question)
    assert client.shares == [[0, 1], [2]]
    assert [r.temperature for r in shared.replicas] == [r.temperature for r in alone.replicas]
    assert [r.time for r in shared.replicas] == pytest.approx([r.time for r in alone.replicas])


@pytest.mark.slow
def test_dask_moves_replicas_and_a_kept_test_goes_on_without_it(tmp_path):
    with workers(n=2) as client:
        begun = life_of(options=options_of(1.0), client=client, path=tmp_path / "life")
    continued = life_of(options=options_of(2.0), path=tmp_path / "life")
    assert begun.simulated == pytest.approx(1.0, abs=0.1)
    assert continued.replicas == life_of(options=options_of(2.0)).replicas
