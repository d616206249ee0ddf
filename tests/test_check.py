"""`check` and `mdxai check`: verdicts, exit codes, and one clear error for bad input."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.io import write

from mdxai.calculators import CalculatorError, load_calculator
from mdxai.calculators.by_name import calculator_factory
from mdxai.frame import Frame, FrameError
from mdxai.monitoring.check import (
    CheckError,
    check,
    default_structure,
    verdict_of,
    worst_verdict,
)
from mdxai.principles import Deviation
from mdxai.stability.thresholds import PROBE_THRESHOLDS, Threshold

from .conftest import invoke

ARGON = ["--arg", "epsilon=0.0104", "--arg", "sigma=3.4", "--arg", "rc=10.0"]


class DoubledForces(LennardJones):
    """A calculator as a user's module may hold it, with forces twice too large."""

    def calculate(self, *arguments, **keywords):
        super().calculate(*arguments, **keywords)
        self.results["forces"] = 2 * self.results["forces"]


@pytest.mark.parametrize(
    ("atoms", "most", "whole"),
    [(molecule("CH3CH2OH"), 790, 500), (bulk("Cu", cubic=True) * (2, 2, 2), 410, 160)],
    ids=["ethanol", "copper"],
)
def test_the_number_of_evaluations_is_bounded(atoms, most, whole):
    """docs/guide.md states it: a slow calculator's user wants to know."""
    sizes = []

    class Counting(EMT):
        def calculate(self, atoms=None, *arguments, **keywords):
            sizes.append(len(atoms))
            super().calculate(atoms, *arguments, **keywords)

    check(Counting(), atoms)
    assert 0.9 * most < len(sizes) <= most
    assert sum(size > 2 for size in sizes) <= whole


@pytest.fixture
def argon(tmp_path):
    """A cluster of seven argon atoms."""
    atoms = molecule("CH4")[:1]
    for axis in np.vstack([np.eye(3), -np.eye(3)]):
        atoms += molecule("CH4", positions=molecule("CH4").positions + 3.3 * axis)[:1]
    atoms.numbers[:] = 18
    write(tmp_path / "argon.xyz", atoms)
    return tmp_path / "argon.xyz"


@pytest.mark.parametrize(
    ("value", "verdict"), [(0, "pass"), (1, "pass"), (1.5, "warn"), (3, "fail"), (math.nan, "fail")]
)
def test_verdicts(value, verdict):
    threshold = Threshold("p", 1, 2, 0.0, "do better")
    assert verdict_of(Deviation("p", "eV", value), threshold) == verdict


def test_a_sound_calculator_passes_and_a_faulty_one_fails(argon):
    sound = invoke("check", "ase.calculators.lj:LennardJones", argon, *ARGON, "--json")
    assert sound.exit_code == 0, sound.output
    content = json.loads(sound.stdout, parse_constant=pytest.fail)
    assert content["verdict"] == "pass"
    names = {result["name"] for result in content["results"]}
    assert {t.principle for t in PROBE_THRESHOLDS} <= names
    faulty = invoke("check", f"{__name__}:DoubledForces", argon, *ARGON)
    assert faulty.exit_code == 3
    assert "forces are not" in faulty.stdout
    lines = [line for line in faulty.stdout.splitlines() if "fail" in line]
    assert len(lines) >= 1
    assert any("gradient" in line for line in lines)


def test_our_networks_need_no_structure():
    result = invoke("check", "schnet-ethanol", "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["structure"] == "CH3CH2OH"
    by_name = {entry["name"]: entry for entry in content["results"]}
    assert by_name["gradient"]["verdict"] == "pass"
    assert by_name["reciprocity"]["verdict"] == "not checked"
    assert by_name["reciprocity"]["value"] > 0
    assert by_name["reciprocity"]["allowed"] is None
    assert by_name["dimer_wall"]["verdict"] == "warn"
    # Two of its four runs at 1000 K end with two hydrogens in each other: a squeeze does not show.
    assert by_name["squeeze"]["value"] == 0
    soft = by_name["softness"]
    assert soft["verdict"] == "warn"
    assert soft["value"] == pytest.approx(0.80, abs=0.03)
    assert [molecule("CH3CH2OH").symbols[a] for a in soft["atoms"]] == ["H", "C", "H"]
    assert "mdxai.weak_spots" in soft["remedy"]


def test_the_calculator_and_the_atoms_are_left_alone():
    atoms = molecule("CH4")
    atoms.calc = EMT()
    before, positions = atoms.get_potential_energy(), atoms.positions.copy()
    results = check(atoms.calc, atoms)
    rest = [result for result in results if result.name != "softness"]  # EMT knows no methane
    assert np.array_equal(atoms.positions, positions)
    assert atoms.calc.results["energy"] == before
    assert not atoms.calc.calculation_required(atoms, ["energy"])
    assert worst_verdict(rest) == "pass"


def test_same_seed_same_numbers():
    numbers = [[r.value for r in check(EMT, molecule("N2"), seed=seed)] for seed in (1, 1, 2)]
    assert numbers[0] == pytest.approx(numbers[1], rel=0, abs=0, nan_ok=True)
    assert numbers[0] != pytest.approx(numbers[2], rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["emt"], "does not say which structure"),
        (["painn-aspirin"], "does not say which structure"),
        (["no-such", "CH4"], "there is no calculator 'no-such'"),
        (["emt", "CH3SH"], "EMT fails on CH4S"),
        (["emt", "nothing.xyz"], "there is no structure file"),
        (["schnet-ethanol", "CH3SH"], "has never seen S"),
        (["schnet-ethanol", "--arg", "a=1"], "--arg is for calculators that are imported"),
        (["emt", "CH4", "--arg", "a"], "expected key=value after --arg, got 'a'"),
        (["no_module:EMT", "CH4"], "cannot be imported (ModuleNotFoundError"),
        (["ase.calculators.emt:Emt", "CH4"], "has no 'Emt'; did you mean 'EMT'?"),
        (["ase.calculators.emt:", "CH4"], "names no calculator; expected a shipped name"),
        (["ase.calculators.emt.EMT", "CH4"], "write ase.calculators.emt:EMT, with a colon"),
        (["math:pi", "CH4"], "expected 'math:pi' to be a class, a function or a calculator"),
        (["ase.build:bulk", "CH4"], "cannot be called: TypeError"),
        (["ase.build:molecule", "CH4", "--arg", "name=CH4"], "makes no ASE calculator but Atoms"),
    ],
)
def test_bad_input_is_one_clear_error(arguments, message):
    result = invoke("check", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_arguments_are_python_literals_or_text():
    made = calculator_factory(
        "ase.calculators.emt:EMT", ["a=1", "b=2.5", "c=GFN2-xTB", "d=[1, 2]", "e=True"]
    )()
    assert {key: made.parameters[key] for key in "abcde"} == {
        "a": 1,
        "b": 2.5,
        "c": "GFN2-xTB",
        "d": [1, 2],
        "e": True,
    }


def test_structures_by_the_name_of_the_calculator():
    assert default_structure(load_calculator("painn-ethanol-weak").card) == "CH3CH2OH"
    with pytest.raises(CheckError, match="give a file that ASE can read"):
        default_structure(None)


class FailsLater(EMT):
    """Fails from its fourth evaluation on, as a calculation that does not converge."""

    calls = 0

    def calculate(self, *args, **kwargs):
        self.calls += 1
        if self.calls > 3:
            raise RuntimeError("SCF not converged")
        super().calculate(*args, **kwargs)


class FlatForces(EMT):
    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.results["forces"] = self.results["forces"].ravel()


def test_a_calculator_that_fails_when_probed_does_not_pass():
    results = check(FailsLater, bulk("Cu", cubic=True))
    failed = [r for r in results if r.verdict == "error"]
    assert worst_verdict(results) == "error"
    assert all("SCF not converged" in r.remedy for r in failed)


def test_forces_of_a_wrong_shape_are_refused():
    with pytest.raises(CalculatorError, match=r"forces of shape \(12,\) for 4 atoms"):
        check(FlatForces, bulk("Cu", cubic=True))
    atoms = bulk("Cu", cubic=True)
    atoms.calc = FlatForces()
    atoms.get_potential_energy()
    with pytest.raises(FrameError, match=r"forces of shape \(12,\) for 4 atoms"):
        Frame.from_atoms(atoms)


def test_a_single_atom_has_no_pairs_to_squeeze():
    by_name = {r.name: r for r in check(EMT, Atoms("Cu"))}
    for name in ("squeeze", "wall"):
        assert by_name[name].verdict == "not checked"
        assert by_name[name].remedy == "nothing to measure in this structure"


def test_calculators_of_a_file_and_of_the_working_directory(tmp_path, monkeypatch):
    """A script of one's own need not be installed; a calculator that it has made is taken too."""
    (tmp_path / "my_potential.py").write_text(
        "from ase.calculators.emt import EMT\n\n\nclass Mine(EMT):\n    pass\n\n\nready = Mine()\n"
    )
    assert type(calculator_factory(f"{tmp_path}/my_potential.py:Mine")()).__name__ == "Mine"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    assert type(calculator_factory("my_potential:ready")()).__name__ == "Mine"
    with pytest.raises(CalculatorError, match="is a calculator already"):
        calculator_factory("my_potential:ready", ["a=1"])


@pytest.mark.parametrize("command", ["check", "run", "attribute", "replay"])
def test_every_command_names_calculators_alike(command, tmp_path):
    rest = {
        "run": ["--steps", 2, "--out", tmp_path / "run"],
        "attribute": ["--method", "hessian"],
    }.get(command, [])
    atoms = molecule("N2")
    atoms.calc = EMT()
    atoms.get_potential_energy()
    write(tmp_path / "n2.traj", [atoms, atoms])
    if command == "replay":
        rest = ["--out", tmp_path / "run", "--timestep", "1"]
    made = invoke(command, "ase.calculators.emt:EMT", tmp_path / "n2.traj", *rest)
    assert made.exit_code in (0, 3, 4), made.output
    rest = [tmp_path / "other" if entry == tmp_path / "run" else entry for entry in rest]
    for source, message in (("emt:EMT", "cannot be imported"), ("enmt", "there is no calculator")):
        wrong = invoke(command, source, tmp_path / "n2.traj", *rest)
        assert wrong.exit_code == 2
        assert message in " ".join(wrong.stderr.split())


def test_a_table_names_the_model():
    result = invoke("check", "ase.calculators.emt:EMT", "N2", "--json", "--arg", "method=mine")
    assert json.loads(result.stdout)["model"] == "EMT (method=mine)"
