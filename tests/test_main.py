"""The command `mdxai` as a whole: help, version, exit codes, one clear message for bad input."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import version

import pytest
from typer.main import get_command

import mdxai
from mdxai.cli.arguments import (
    AssociationArguments,
    Monitored,
    MonitoredLive,
    NetworkArguments,
    Rule,
    Simulation,
)
from mdxai.cli.console import EXIT_CODES, ExitCode, exit_code_of
from mdxai.cli.main import COMMANDS, app
from mdxai.monitoring.options import MonitorOptions
from mdxai.monitoring.run import RunSettings
from mdxai.stability.outcomes import Stability
from mdxai.study.survival.association import AssociationSettings

from .conftest import ETHANOL, invoke

NAMES = [c.__name__.replace("_", "-") for commands in COMMANDS.values() for c in commands]


def test_the_version_is_that_of_the_package():
    assert invoke("--version").stdout == f"mdxai {version('mdxai')}\n"


def test_help_shows_first_what_a_newcomer_needs():
    shown = invoke("--help").stdout
    assert NAMES[:4] == ["run", "check", "attribute", "report"]
    places = [re.search(rf"^│ {name} ", shown, re.MULTILINE).start() for name in NAMES]
    assert places == sorted(places)
    panels = [shown.index(f"─ {panel} ─") for panel in COMMANDS]
    assert panels == sorted(panels)


def test_help_says_every_exit_code():
    shown = " ".join(invoke("--help").stdout.split())
    assert set(EXIT_CODES) == set(ExitCode)
    for code, words in EXIT_CODES.items():
        assert f"{code.value} {words}" in shown


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(name):
    result = invoke(name, "--help")
    assert result.exit_code == 0
    command = get_command(app).commands[name]
    for option in command.params:
        assert option.opts[0] in result.stdout
        assert getattr(option, "help", None), f"{name} {option.name} has no help"


def test_help_of_run_is_in_groups():
    shown = invoke("run", "--help").stdout
    places = [
        shown.index(f"─ {panel} ─")
        for panel in ("Simulation", "Explanation", "Judgement", "Record", "Network")
    ]
    assert places == sorted(places)
    assert "[bond] unstable = 0.7" in " ".join(shown.replace("│", "").split())


def test_help_imports_nothing_heavy():
    """As `python -m mdxai`, in a process of its own."""
    script = (
        "import runpy, sys\n"
        "sys.argv = ['mdxai', 'run', '--help']\n"
        "try:\n    runpy.run_module('mdxai', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print(sorted({'torch', 'numba', 'ase', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "Run MD under a monitor" in done.stdout
    assert done.stdout.endswith("[]\n")


def defaults(kind):
    return {f.name: f.default for f in fields(kind)}


def test_options_have_the_defaults_of_what_they_are_for():
    simulated = defaults(RunSettings)
    assert defaults(Simulation) == {k: v for k, v in simulated.items() if k != "monitor"}
    monitor, options = defaults(MonitoredLive), defaults(MonitorOptions)
    for name in ("gamma", "blackbox", "max_overhead", "early_warning", "alarms_per_ns"):
        assert monitor[name] == options[name]
    assert Monitored().options().attribute_every == options["attribute_every"]
    compared = defaults(AssociationSettings)
    del compared["lags"]  # of the page; no option
    assert defaults(AssociationArguments) == compared
    for kind, function in ((NetworkArguments, mdxai.load_calculator), (Rule, mdxai.attributor)):
        taken = inspect.signature(function).parameters
        for name, default in defaults(kind).items():
            assert taken[name].default == default


def written(path, text):
    path.write_text(text)
    return path


# A way to each family of errors, from the command line.
ERRORS = {
    "CalculatorError": (lambda t: ["run", "no-such", ETHANOL], "there is no calculator"),
    "SettingsError": (lambda t: ["run", "schnet-ethanol", ETHANOL, "--steps", 0], "steps must be"),
    "OptionError": (
        lambda t: ["run", "schnet-ethanol", ETHANOL, "--max-overhead", 2],
        "max_overhead must be between 0 and 1",
    ),
    "ThresholdError": (
        lambda t: ["run", "schnet-ethanol", ETHANOL, "--thresholds", t / "none.toml"],
        "none.toml",
    ),
    "CalibrationError": (
        lambda t: ["run", "schnet-ethanol", ETHANOL, "--early-warning", t / "none.toml"],
        "none.toml",
    ),
    "AllowedReactionError": (
        lambda t: ["run", "schnet-ethanol", ETHANOL, "--allow-reaction", "C", "--steps", 2],
        "'C' is not a pair of atoms",
    ),
    "RecordError": (lambda t: ["report", t], "holds no run"),
    "ExportError": (lambda t: ["export", t, t / "a.no"], ""),
    "TrajectoryError": (lambda t: ["replay", "schnet-ethanol", t / "none.xyz"], "none.xyz"),
    "ReplayError": (
        lambda t: ["replay", "schnet-ethanol", t, "--ensemble", "npt"],
        "ensemble must be one of",
    ),
    "CheckError": (lambda t: ["check", "emt"], "does not say which structure"),
    "AttributionError": (
        lambda t: ["attribute", "schnet-ethanol", "H2O", "--method", "guess"],
        "method must be one of",
    ),
    "StudyError": (lambda t: ["study", written(t / "s.toml", "name = 1")], "s.toml"),
    "AssociationError": (lambda t: ["associate", t], "holds no run"),
    "RecordError of labels": (lambda t: ["label", t, "--out", t / "x.xyz"], "holds no run"),
    "RecordError of repair": (lambda t: ["repair", t], "holds no run"),
    "CalculatorError of train": (
        lambda t: ["train", t / "none.toml", "--data", t],
        "none.toml",
    ),
    "AssociationError of lead-times": (
        lambda t: ["lead-times", t, "--out", t / "out"],
        "holds no run",
    ),
}


@pytest.mark.parametrize("family", ERRORS)
def test_an_error_of_each_family_is_one_message_and_exit_code_2(family, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, message = ERRORS[family]
    result = invoke(*arguments(tmp_path))
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert message in result.stderr
    said = result.stderr.splitlines()
    assert [line.startswith("error: ") for line in said].count(True) == 1
    assert "Traceback" not in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_an_error_that_no_user_can_mend_is_not_hidden(monkeypatch):
    def broken(*_, **__):
        raise ValueError("a defect")

    monkeypatch.setattr("mdxai.record.repair", broken)
    result = invoke("repair", "runs/any")
    assert "error: ValueError: a defect; raised in " in result.stderr
    assert "`mdxai --debug`" in result.stderr
    assert result.exit_code == 2


def test_the_exit_code_says_whether_a_run_can_be_used():
    codes = {outcome.value: int(exit_code_of(outcome)) for outcome in Stability}
    usable = dict.fromkeys(("stable", "suspect", "reacted", "melted"), 0)
    assert codes == usable | {"broken": 3, "unstable": 3, "inconclusive": 4}
