"""`mdxai analyse`: its page, tables and figures; a killed command; workers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import tomllib

import ase.io
import numpy as np
import pandas as pd
import pytest
from ase.build import molecule

import mdxai
from mdxai.analysis import AnalysisOptions, analyse

from .conftest import invoke
from .test_analysis import MOLECULES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("analysis")
    structures = []
    for seed in range(6):
        for name in MOLECULES:
            atoms = molecule(name)
            atoms.rattle(0.03, seed=seed)
            structures.append(atoms)
    data = place / "molecules.xyz"
    ase.io.write(data, [*structures, molecule("SiH4")], format="extxyz")
    out = place / "out"
    result = invoke(
        "analyse", "painn-ethanol", "schnet-ethanol", data, "--out", out, "--closely", 8,
        "--block", 30,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "72 of 73 molecules" in result.output
    return out


def test_the_page_needs_nothing_else(folder):
    page = (folder / "report.html").read_text()
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert "mathdefault" not in page  # axes with plain numbers
    for words in ("Species and bonds", "Decay with distance", "Many bodies",
                  "Intensive and extensive", "Functional groups", "Explanation principles",
                  "schnet-ethanol", "not trained on (Si)"):  # fmt: skip
        assert words in page
    figures = sorted((folder / "figures").iterdir())
    names = {path.stem for path in figures}
    assert {"bonds", "enthalpies", "beyond", "body_orders", "growth", "groups"} <= names
    assert "decay_C-H" in names
    assert {path.suffix for path in figures} == {".png", ".svg"}
    assert len(figures) == 2 * len(names)


def test_tables_hold_the_same_numbers_twice(folder):
    tables = sorted((folder / "tables").glob("*.parquet"))
    assert len(tables) >= 15
    for path in tables:
        a, b = pd.read_parquet(path), None
        if len(a.columns):
            b = pd.read_csv(path.with_suffix(".csv"))
            numbers = [c for c in a.columns if a[c].dtype.kind in "fi"]
            np.testing.assert_allclose(a[numbers], b[numbers], rtol=1e-12)


def test_an_analysis_can_be_repeated_from_its_file(folder):
    stated = tomllib.loads((folder / "analysis.toml").read_text())
    names = [model["name"] for model in stated["models"]]
    again = analyse(names, stated["data"], options=AnalysisOptions(**stated["options"], block=30))
    for name, table in again.tables().items():
        kept = pd.read_parquet(folder / "tables" / f"{name}.parquet")
        assert table.equals(kept) or name == "left_out", name
    assert stated["n_used"] == 72
    assert stated["left_out"][0]["count"] == 1


def test_a_finished_analysis_is_not_repeated(folder):
    stated = tomllib.loads((folder / "analysis.toml").read_text())
    seen = []
    found = mdxai.analyse(
        [model["name"] for model in stated["models"]], stated["data"], path=folder,
        options=AnalysisOptions(**stated["options"], block=30),
        progress=lambda n, count: seen.append(n),
    )  # fmt: skip
    assert seen == []
    assert found.n_used == 72


def test_arguments_that_cannot_be(tmp_path):
    nothing = invoke("analyse", "painn-ethanol", "--out", tmp_path / "out")
    assert nothing.exit_code == 2
    assert "Missing argument" in nothing.output
    lost = invoke("analyse", "painn-ethanol", tmp_path / "lost.xyz", "--out", tmp_path / "out")
    assert lost.exit_code == 2
    assert "no data set" in lost.output


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(tmp_path, shared_data):
    data = shared_data / "rmd17" / "rmd17_ethanol.npz"
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "mdxai", "analyse", "painn-ethanol", str(data), "--most", "600",
        "--closely", "0", "--block", "50", "--quiet", "--out", str(out),
    ]  # fmt: skip
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while not (out / "sums.npz").is_file():
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    seen = []
    options = AnalysisOptions(most=600, closely=0, block=50)
    resumed = analyse(
        ["painn-ethanol"], data, path=out, options=options,
        progress=lambda n, count: seen.append(n),
    )  # fmt: skip
    assert seen[0] > 50
    straight = analyse(["painn-ethanol"], data, options=options)
    for name, table in straight.tables().items():
        assert table.equals(resumed.tables()[name]), name


@pytest.mark.slow
def test_workers_give_the_same(folder):
    from mdxai.study.scheduler import workers

    stated = tomllib.loads((folder / "analysis.toml").read_text())
    names = [model["name"] for model in stated["models"]]
    options = AnalysisOptions(**stated["options"], block=10)
    with workers(n=2) as client:
        found = analyse(names, stated["data"], options=options, client=client)
    alone = analyse(names, stated["data"], options=options)
    for name, table in alone.tables().items():
        assert table.equals(found.tables()[name]), name
