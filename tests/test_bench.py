"""`mdxai bench` measures what it says, keeps every value, and tells machines apart."""

from __future__ import annotations

import json
import time

import pytest
from typer.testing import CliRunner

from mdxai.cli.main import app
from mdxai.testing import speed_cases
from mdxai.testing.speed_cases import Measured
from mdxai.testing.speed_table import SpeedTable, SpeedTableError, machine, range_text
from mdxai.testing.timing import shortest


def test_the_shortest_of_functions_that_take_turns():
    begun = []

    def work(name, seconds):
        begun.append(name)
        time.sleep(seconds)

    slow, fast = shortest([lambda: work("slow", 0.02), lambda: work("fast", 0.002)], 2, 2)
    assert begun == ["slow", "slow", "fast", "fast"] * 2
    assert 0.02 <= slow < 1
    assert 0.002 <= fast < slow


def test_a_second_run_gives_ranges_and_another_machine_is_refused(tmp_path):
    for value in (1.25, 1.5):
        SpeedTable(tmp_path).add("monitored", "SchNet", value, "", "1.6")
    held = json.loads((tmp_path / "bench.json").read_text())
    assert held["values"]["monitored"]["SchNet"]["values"] == [1.25, 1.5]
    assert len(held["runs"]) == 2
    table = (tmp_path / "bench.md").read_text()
    assert "| SchNet | 1.25–1.5 |  | 1.6 |" in table
    assert f"- torch: {machine()['torch']}" in table
    with pytest.raises(SpeedTableError, match="another torch; choose another --out"):
        SpeedTable(tmp_path, machine() | {"torch": "1.0"})
    (tmp_path / "bench.json").write_text("{")
    with pytest.raises(SpeedTableError, match="is no table of mdxai"):
        SpeedTable(tmp_path)


def test_what_was_measured_before_a_failure_is_kept(tmp_path, monkeypatch):
    def half():
        yield Measured("first", 2.0, "ms")
        raise RuntimeError("no more")

    monkeypatch.setattr(speed_cases, "SECTIONS", {"whole": lambda: iter(()), "half": half})
    done = CliRunner().invoke(app, ["bench", "--out", str(tmp_path), "--only", "half"])
    assert done.exit_code != 0
    assert "half | first: 2 ms" in done.output
    assert json.loads((tmp_path / "bench.json").read_text())["values"].keys() == {"half"}
    wrong = CliRunner().invoke(app, ["bench", "--only", "nothing"])
    assert wrong.exit_code == 2
    assert "there is no section 'nothing'" in wrong.output


def test_values_are_given_to_three_digits():
    assert range_text([0.51234]) == "0.512"
    assert range_text([0.5121, 0.5123]) == "0.512"
    assert range_text([3.0, 1.0]) == "1–3"
