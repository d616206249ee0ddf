"""`mdxai run` as a user meets it: results, exit codes, one clear message for bad input."""

from __future__ import annotations

import json
import pickle
import shutil

import pytest
from ase.io import read, write

import mdxai
from mdxai.calculators.library import find_calculator

from .conftest import ETHANOL, ethanol_with, invoke


def test_run_writes_a_run_and_exits_with_0(tmp_path):
    out = tmp_path / "run"
    result = invoke("run", "painn-ethanol", ETHANOL, "--steps", 20, "--out", out, "--quiet")
    assert (result.exit_code, result.stdout) == (0, "")
    assert {"run.toml", "verdict.json", "figure.png"} <= {p.name for p in out.iterdir()}
    run = mdxai.open_run(out)
    assert run.frames_table().num_rows == 21
    assert run.header["context"]["settings"]["seed"] == 1


def test_the_same_command_resumes_or_says_that_it_is_finished(tmp_path):
    out = tmp_path / "run"
    command = ("run", "schnet-ethanol", ETHANOL, "--steps", 20, "--out", out, "--resume")
    first = invoke(*command)  # nothing to resume yet
    assert first.exit_code == 0, first.output
    again = invoke(*command)
    assert (again.exit_code, again.stdout) == (0, f"{out} is finished: stable\n")
    assert invoke(*command[:-1]).exit_code == 2  # holds a run
    (out / "verdict.json").unlink()
    other = invoke(*command, "--seed", 2)
    assert other.exit_code == 2
    assert "settings.seed: recorded 1, now 2" in other.stderr
    assert invoke(*command).exit_code == 0
    assert mdxai.open_run(out).frames_table().num_rows == 21


def test_a_finished_run_is_compared_and_may_be_made_longer(tmp_path):
    out, whole = tmp_path / "run", tmp_path / "whole"

    def run(out, steps, calculator="schnet-ethanol", *more):
        return invoke(
            "run", calculator, ETHANOL, "--steps", steps, "--out", out, "--resume", "-q", *more
        )

    assert run(out, 10).exit_code == 0
    other = run(out, 10, "painn-ethanol", "--gamma", 0.2)
    assert other.exit_code == 2
    assert "options.gamma: recorded 0.1, now 0.2" in other.stderr
    assert "calculator.name: recorded 'schnet-ethanol', now 'painn-ethanol'" in other.stderr
    fewer = run(out, 5)
    assert fewer.exit_code == 2
    assert "settings.steps: 10 are done, now 5 are asked for" in fewer.stderr
    assert run(out, 20).exit_code == run(out, 20).exit_code == run(whole, 20).exit_code == 0
    assert mdxai.open_run(out).frames_table().equals(mdxai.open_run(whole).frames_table())


def test_a_figure_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "run" / "figure.png").mkdir(parents=True)
    result = invoke("run", "schnet-ethanol", ETHANOL, "--steps", 5, "--out", tmp_path / "run", "-q")
    assert result.exit_code == 0, result.output
    assert "figure.png cannot be written: Is a directory" in result.stderr


def test_run_from_a_file_in_nve_as_json(tmp_path):
    write(tmp_path / "ethanol.xyz", ethanol_with(None))
    result = invoke(
        "run", "schnet-ethanol", tmp_path / "ethanol.xyz", "--ensemble", "nve", "--steps", 10,
        "--interval", 2, "--attribute-every", 4, "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    verdict = json.loads(result.stdout)
    assert verdict["stability"] == "stable"
    assert verdict["n_frames"] == 6
    assert "no thermostat" in verdict["unavailable"]["temperature"]
    assert not {"energy", "momentum", "bond", "contact"} & set(verdict["unavailable"])


def test_run_that_blows_up_is_halted_and_gives_frames_to_label(tmp_path):
    """A timestep far too long tears any molecule apart."""
    out = tmp_path / "run"
    command = (
        "run", "schnet-ethanol", ETHANOL, "--timestep", 5, "--steps", 200, "--temperature", 800,
        "--halt", "--out", out,
    )  # fmt: skip
    result = invoke(*command)
    assert result.exit_code == 6
    assert "unstable" in result.stdout
    verdict = mdxai.open_run(out).verdict
    assert verdict["onset_fs"] > 0
    assert verdict["halted_by"].startswith(verdict["findings"][0]["principle"])
    again = invoke(*command, "--resume")
    assert (again.exit_code, "is finished: unstable (halted by" in again.stdout) == (6, True)
    labels = tmp_path / "frames.xyz"
    assert invoke("label", out, "--out", labels, "--n", 3).exit_code == 0
    frames = read(labels, ":")
    assert 0 < len(frames) <= 3
    assert all(atoms.info["time_fs"] < verdict["onset_fs"] for atoms in frames)


def test_same_seed_same_run(tmp_path):
    positions = []
    for name in ("a", "b"):
        invoke("run", "schnet-ethanol", ETHANOL, "--steps", 30, "--out", tmp_path / name, "-q")
        positions.append(
            mdxai.open_run(tmp_path / name).trajectory_table()["positions"].to_pylist()
        )
    assert positions[0] == positions[1]


def overlapping(tmp_path):
    atoms = ethanol_with(None)
    atoms.positions[4] = atoms.positions[5]
    write(tmp_path / "overlap.xyz", atoms)
    return tmp_path / "overlap.xyz"


def garbage(tmp_path):
    (tmp_path / "garbage.xyz").write_text("this is no structure")
    return tmp_path / "garbage.xyz"


def corrupt_calculator(tmp_path):
    folder = shutil.copytree(find_calculator("schnet-ethanol"), tmp_path / "corrupt")
    (folder / "weights.pt").write_bytes(b"nonsense")
    return folder


def pickled(tmp_path):
    with (tmp_path / "best_model").open("wb") as file:
        pickle.dump({"a": 1}, file)
    return tmp_path / "best_model"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda t: ["no-such", ETHANOL], "there is no calculator 'no-such'"),
        (lambda t: ["schnet-ethanol", t / "missing.xyz"], "there is no structure file"),
        (lambda t: ["schnet-ethanol", garbage(t)], "cannot be read as a structure"),
        (lambda t: [corrupt_calculator(t), ETHANOL], "is not the file its card describes"),
        (lambda t: [pickled(t), ETHANOL], "--trust-pickle"),
        (lambda t: ["schnet-ethanol", "CH3SH"], "has never seen S"),
        (lambda t: ["schnet-ethanol", overlapping(t)], "on top of each other"),
        (lambda t: ["schnet-ethanol", ETHANOL, "--steps", 0], "steps must be positive, got 0"),
        (lambda t: ["schnet-ethanol", ETHANOL, "--timestep", -1], "timestep must be positive"),
        (lambda t: ["schnet-ethanol", ETHANOL, "--temperature", "nan"], "temperature must be 0 or"),
        (
            lambda t: ["schnet-ethanol", ETHANOL, "--interval", 3, "--attribute-every", 10],
            "must be a multiple of interval",
        ),
        (lambda t: ["schnet-ethanol", ETHANOL, "--timestep", "inf"], "timestep must be positive"),
        (
            lambda t: ["schnet-ethanol", ETHANOL, "--steps", 5, "--interval", 9],
            "must not exceed steps",
        ),
        (lambda t: ["schnet-ethanol", ETHANOL, "--dtype", "int8"], "dtype 'int8' is not supported"),
        (lambda t: ["schnet-ethanol", ETHANOL, "--ensemble", "npt"], "'npt' is not one of"),
        (lambda t: ["schnet-ethanol", ETHANOL, "--blackbox", -1], "blackbox must be 0 or"),
        (lambda t: ["schnet-ethanol", ETHANOL, "--max-overhead", 2], "must be between 0 and 1"),
    ],
)
def test_bad_input_is_one_clear_error_and_leaves_nothing(tmp_path, arguments, message):
    out = tmp_path / "out"
    result = invoke("run", *arguments(tmp_path), "--out", out)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", "").split())
    assert "Traceback" not in result.stderr
    assert not out.exists()


def test_an_output_directory_with_another_run_is_refused(tmp_path):
    (tmp_path / "run.toml").write_text("schema = 1")
    result = invoke("run", "schnet-ethanol", ETHANOL, "--steps", 5, "--out", tmp_path)
    assert result.exit_code == 2
    assert "already holds a run" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["run.toml"]
    (tmp_path / "file").write_text("")
    assert invoke("run", "schnet-ethanol", ETHANOL, "--out", tmp_path / "file").exit_code == 2


def test_default_directories_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        invoke("run", "schnet-ethanol", ETHANOL, "--steps", 3, "--quiet")
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["run", "run-2"]


def test_verdicts_are_valid_json_even_with_nan(tmp_path):
    result = invoke(
        "run", "schnet-ethanol", ETHANOL, "--timestep", 500, "--steps", 40, "--json",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert result.exit_code == 3

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(result.stdout, parse_constant=refuse)["stability"] == "unstable"


def test_a_single_atom_is_stable(tmp_path):
    result = invoke("run", "schnet-ethanol", "C", "--steps", 5, "-q", "--out", tmp_path / "run")
    assert result.exit_code == 0
