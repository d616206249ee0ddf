"""The whole comparison of detectors, from the command line."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
from typer.testing import CliRunner

from mdxai.cli.main import app
from mdxai.early_warning import Calibration
from mdxai.study import run_outcome


def test_the_command_line_writes_tables_figures_and_a_calibration(
    labelled_runs, tmp_path, monkeypatch
):
    renamed = [
        replace(o, series={"temperature": o.series["temperature"], "decay_rise": o.series["drift"]})
        for o in labelled_runs
    ]
    monkeypatch.setattr(run_outcome, "load_outcomes", lambda paths, bin_width: renamed)
    command = ["lead-times", "runs", "--out", str(tmp_path / "out"), "--alarms-per-ns", "20"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "best explanation" in result.stdout
    for name in ("calibration.toml", "by_model.csv", "by_molecule.csv", "by_model.png",
                 "by_molecule.png", "by_model_runs.parquet"):  # fmt: skip
        assert (tmp_path / "out" / name).stat().st_size > 0
    made = Calibration.load(tmp_path / "out" / "calibration.toml")
    assert "decay_rise" in {w.series for w in made.watches}
    assert "96 runs of 8 models, A, B" in made.made_from
    table = pd.read_csv(tmp_path / "out" / "by_model.csv")
    assert len(table) == table.groupby(["series", "detector"]).ngroups
    one = [o for o in renamed if o.molecule == "A"]
    monkeypatch.setattr(run_outcome, "load_outcomes", lambda paths, bin_width: one)
    result = CliRunner().invoke(app, [*command, "--json"])
    content = json.loads(result.stdout)
    assert "need runs of at least two" in content["left_out"]["molecule"]
    assert {row["series"] for row in content["best"]} >= {
        "best explanation",
        "best plain or motion",
    }
    refused = CliRunner().invoke(app, [*command[:-1], "1"])
    assert (refused.exit_code, "do not support 1 false alarms" in refused.stderr) == (2, True)
