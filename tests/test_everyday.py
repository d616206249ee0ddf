"""Everyday scripts raise no alarm: all of ase.md, as its documentation uses it.

docs/false_alarms.md has the table. GFN2-xTB runs where tblite is installed.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from ase.md.contour_exploration import ContourExploration
from ase.optimize import BFGS, FIRE

import mdxai

from .everyday_scripts import SCRIPTS, metal, run, warmed

PAGE = Path(__file__).parents[1] / "docs" / "false_alarms.md"
SEGMENTS = Path(__file__).parents[1] / "runs" / "false_alarms" / "segments.csv"

# What is reported, and is right.
REPORTED = {
    "NVE, N2 on fixed Cu(111)": "reacted",
    "NVT Melchionna, metal": "suspect",
    "SwitchLangevin, springs": "unstable",
}
ALLOWED = {
    # Its default fixcm=True heats so small a molecule by half.
    "Langevin, GFN2 methanol, default": {"stable", "suspect"},
    "Langevin, metal at 1500 K": {"stable", "melted"},
    "Langevin, Cu, friction 0.002": {"stable", "melted"},
}
FAST = {
    "Langevin, metal, started at 1200 K, very weak",
    "Bussi, metal",
    "NPT MTK, metal",
    "SwitchLangevin, springs",
}


@pytest.mark.filterwarnings("ignore")  # ASE's own, on fixcm and on missing velocities
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in SCRIPTS]
)
def test_an_everyday_script_raises_no_alarm(name):
    verdict = run(SCRIPTS[name])
    expected = ALLOWED.get(name, {REPORTED.get(name, "stable")})
    assert str(verdict.stability) in expected, str(verdict)
    assert name in REPORTED or not verdict.findings or len(expected) > 1, str(verdict)


def test_the_page_lists_every_script():
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    listed = {row[0].removeprefix("| ") for row in rows if len(row) > 1}
    assert set(SCRIPTS) <= listed


@pytest.fixture
def counted():
    """Return the segments of the last count of false alarms, one dict each."""
    with SEGMENTS.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["pass"] == "pass2"]


def test_no_principle_alarmed_in_the_sound_runs(counted):
    """Wherever a principle alarms, its rate is above the one it is built for."""
    for row in counted:
        assert (row["outcome"], row["findings"]) == ("stable", ""), row


def test_sound_runs_were_counted_for_a_nanosecond_in_ten_systems(counted):
    assert sum(float(row["ps"]) for row in counted) >= 1000
    assert len({row["system"] for row in counted}) >= 10


def test_the_page_has_the_table_of_the_segments(counted):
    page = PAGE.read_text(encoding="utf-8")
    for system in {row["system"] for row in counted}:
        own = [row for row in counted if row["system"] == system]
        total = sum(float(row["ps"]) for row in own)
        alarms = sum(bool(row["findings"]) for row in own)
        assert f"| {system} | {total:g} | {len(own)} | {alarms} | " in page


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [BFGS, FIRE, ContourExploration])
def test_what_is_no_dynamics_is_refused_in_one_line(kind):
    with pytest.raises(TypeError, match=f"expected ASE molecular dynamics .* got {kind.__name__}"):
        mdxai.Monitor(kind(warmed(metal(), 300, 1)))
