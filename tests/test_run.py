"""Settings of one run, and which of them a resumed run must share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

import mdxai
from mdxai.monitoring.options import MonitorOptions
from mdxai.monitoring.run import (
    RunSettings,
    SettingsError,
    has_ended,
    read_structure,
    refuse_other_settings,
    simulate,
)
from mdxai.record import RecordError
from tests.conftest import ethanol_with


@pytest.fixture(scope="module")
def schnet():
    return mdxai.load_calculator("schnet-ethanol")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ensemble": "npt"}, "ensemble must be one of nve, nvt, got 'npt'"),
        ({"steps": 0}, "steps must be positive, got 0"),
        ({"timestep": np.inf}, "timestep must be positive, got inf"),
        ({"temperature": -1}, "temperature must be 0 or positive, got -1"),
        ({"interval": 30, "steps": 20}, r"interval \(30\) must not exceed steps \(20\)"),
        ({"interval": 3}, r"attribute_every \(10\) must be a multiple of interval \(3\)"),
        ({"interval": 5, "monitor": MonitorOptions(probe_every=7)}, r"probe_every \(7\) must be a"),
        ({"rollback": -1}, "rollback must be 0 or a whole number"),
    ],
)
def test_settings_that_make_no_sense_are_named(changes, message):
    with pytest.raises(SettingsError, match=message):
        RunSettings(**changes)


def test_structures_come_from_files_and_by_name(tmp_path):
    assert read_structure("H2O").get_chemical_formula() == "H2O"
    with pytest.raises(SettingsError, match="there is no structure file 'H2O2O'"):
        read_structure("H2O2O")
    (tmp_path / "text.xyz").write_text("no structure")
    with pytest.raises(SettingsError, match=r"text\.xyz cannot be read as a structure"):
        read_structure(str(tmp_path / "text.xyz"))


def test_the_given_structure_is_not_moved(schnet):
    atoms = ethanol_with(None)
    before = atoms.positions.copy()
    simulate(schnet, atoms, RunSettings(steps=5), None)
    np.testing.assert_array_equal(atoms.positions, before)


@pytest.mark.pages
@pytest.mark.parametrize("report", [True, False])
def test_a_run_writes_its_page_on_request(schnet, tmp_path, report):
    settings = RunSettings(steps=5, monitor=MonitorOptions(report=report))
    simulate(schnet, ethanol_with(None), settings, tmp_path / "run")
    assert (tmp_path / "run" / "report.html").exists() is report


def limits(tmp_path, unstable):
    path = tmp_path / "limits.toml"
    path.write_text(f"[bond]\nunstable = {unstable}\n")
    return path


@pytest.fixture
def recorded(schnet, tmp_path):
    """A finished run, its directory and its settings."""
    options = MonitorOptions(
        attribute_every=5, thresholds=limits(tmp_path, 0.7), early_warning="shipped",
        context={"note": "mine"},
    )  # fmt: skip
    settings = RunSettings(steps=5, monitor=options)
    simulate(schnet, ethanol_with(None), settings, tmp_path / "run")
    return tmp_path / "run", settings


def test_run_toml_says_settings_and_options(recorded):
    context = mdxai.open_run(recorded[0]).header["context"]
    assert context["settings"]["steps"] == 5
    assert context["settings"]["timestep"] == 0.5
    assert "monitor" not in context["settings"]
    assert context["note"] == "mine"
    refuse_other_settings(
        recorded[0], mdxai.load_calculator("schnet-ethanol"), ethanol_with(None), recorded[1]
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"gamma": 0.2}, "gamma: recorded 0.1, now 0.2"),
        ({"blackbox": 3}, "blackbox: recorded 50, now 3"),
        ({"on_unstable": "halt"}, "on_unstable: recorded 'warn', now 'halt'"),
        ({"allowed_reactions": ("O-H",)}, "allowed_reactions: recorded"),
        ({"attribute_every": 1}, "attribute_every: recorded 5, now 1"),
        ({"early_warning": None}, "early_warning"),
        ({"alarms_per_ns": 20.0}, "early_warning.alarms_per_ns: recorded"),
    ],
)
def test_a_run_is_not_resumed_with_other_options(recorded, schnet, changes, line):
    folder, settings = recorded
    other = replace(settings, monitor=replace(settings.monitor, **changes))
    with pytest.raises(RecordError, match="cannot be continued with other settings") as refused:
        simulate(schnet, ethanol_with(None), other, folder, resume=True)
    assert line in str(refused.value)


def test_thresholds_are_compared_by_their_content(recorded, schnet, tmp_path):
    folder, settings = recorded
    path = limits(tmp_path, 0.8)
    other = replace(settings, monitor=replace(settings.monitor, thresholds=path))
    with pytest.raises(RecordError, match=r"thresholds.bond.unstable: recorded 0.7, now 0.8"):
        has_ended(folder, schnet, ethanol_with(None), other)
    same = replace(settings.monitor, thresholds=limits(tmp_path, 0.7))
    assert has_ended(folder, schnet, ethanol_with(None), replace(settings, monitor=same))


def test_a_longer_run_has_not_ended_and_a_shorter_one_is_refused(recorded, schnet):
    folder, settings = recorded
    atoms = ethanol_with(None)
    assert has_ended(folder, schnet, atoms, settings)
    assert not has_ended(folder, schnet, atoms, replace(settings, steps=10))
    with pytest.raises(RecordError, match=r"settings\.steps: 5 are done, now 4 are asked for"):
        has_ended(folder, schnet, atoms, replace(settings, steps=4))
    with pytest.raises(RecordError, match="structure_sha256"):
        has_ended(folder, schnet, molecule("CH3OH"), settings)
