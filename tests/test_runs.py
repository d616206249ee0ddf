"""`mdxai report`, `export`, `repair` and `label` on one recorded run."""

from __future__ import annotations

import json

import pytest
from ase.io import read

from mdxai.monitoring.run import RunSettings, simulate

from .conftest import ethanol_with, invoke


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The directory of a short sound run."""
    out = tmp_path_factory.mktemp("runs") / "run"
    atoms = ethanol_with()
    simulate(atoms.calc, atoms, RunSettings(steps=20), out)
    return out


def test_export_writes_the_chosen_frames(recorded, tmp_path):
    out = tmp_path / "frames.extxyz"
    result = invoke("export", recorded, out, "--start", 1, "--stop", 10, "--step", 3)
    assert (result.exit_code, result.stdout) == (0, f"3 frames in {out}\n")
    assert len(read(out, ":")) == 3


def test_report_writes_a_page_and_says_where(recorded):
    result = invoke("report", recorded)
    assert result.exit_code == 0
    assert result.stdout == f"{recorded / 'report.html'}\n"


def test_repair_finds_a_sound_run_whole(recorded):
    result = invoke("repair", recorded)
    assert (result.exit_code, "whole" in result.stdout) == (0, True)


def test_label_writes_frames_and_prints_their_number(recorded, tmp_path):
    out = tmp_path / "labels.xyz"
    found = json.loads(invoke("label", recorded, "--out", out, "--n", 2, "--json").stdout)
    assert found == {"out": str(out), "frames": 2}
    assert len(read(out, ":")) == 2
