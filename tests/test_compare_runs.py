"""The comparison of runs as a whole: its tables, its page, its command."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import mdxai
from mdxai.cli.main import app
from mdxai.study.run_outcome import (
    AssociationError,
    Outcome,
)
from mdxai.study.survival.survival_page import page_of, write_association
from tests.synthetic_hazards import STEP, Hazard, made_runs
from tests.synthetic_run import write_judged_run


def test_tables_figures_and_a_page_are_written(tmp_path):
    runs = made_runs(Hazard(beta=0.8), 51, models=6, temperatures=(300.0, 500.0))
    rng = np.random.default_rng(0)
    runs = [
        replace(o, series={**o.series, "C-H 1.125 Å": rng.normal(size=len(o.times)),
                           "C-O 1.375 Å": rng.normal(size=len(o.times))}) for o in runs
    ]  # fmt: skip
    found = mdxai.associate(runs, lag=STEP, resamples=100)
    page = write_association(found, tmp_path / "out").read_text()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "README.md", "runs.csv", "kaplan_meier.csv", "log_rank.csv", "hazard_ratios.csv",
        "landmark.csv", "lags.csv", "added.csv", "kaplan_meier.png", "hazard_ratios.png",
        "relevance.png",
    }  # fmt: skip
    for said in (
        "48 runs of 6 models", "models resampled", "decay_rise: hazard ratio",
        "onsets of 6 models among", "Beyond the plain predictors", "C-H 1.125 Å",
    ):  # fmt: skip
        assert said in page
    json.dumps(found.as_dict(), allow_nan=False)
    read = pd.read_csv(tmp_path / "out" / "hazard_ratios.csv")
    assert list(read["predictor"]) == list(found.hazard_ratios["predictor"])


def test_the_order_of_runs_does_not_matter():
    runs = made_runs(Hazard(beta=0.8), 51, models=4, replicas=2, temperatures=(300.0, 500.0))
    found, again = (mdxai.associate(some, lag=STEP, resamples=100) for some in (runs, runs[::-1]))
    assert len(found.summary) == len(again.summary) > 4
    pd.testing.assert_frame_equal(found.summary, again.summary)


def test_one_model_leaves_intervals_and_p_values_empty():
    runs = made_runs(Hazard(beta=0.8), 61, models=1, replicas=12)
    found = mdxai.associate(runs, lag=STEP, resamples=100)
    assert any("All runs are of one model" in note for note in found.notes)
    row = found.hazard_ratios.set_index("predictor").loc["decay_rise"]
    assert np.isfinite(row["hazard_ratio"])
    assert np.isnan([row["lower"], row["upper"], row["p"], row["q"]]).all()
    assert (found.added["adds"] == "not judged").all()
    assert "no claim" in page_of(found, [])
    assert "Not judged" in page_of(found, [])


def outcome(name, unstable, model="m"):
    return Outcome(name, model, "H2O", 300.0, 100.0, unstable, np.arange(3.0))


def test_a_predictor_that_few_runs_have_is_left_empty():
    runs = made_runs(Hazard(), 71, models=4, temperatures=(500.0,))
    late = [replace(o, series=o.series | {"decay_tail": np.where(o.times > 400, 1.0, np.nan)})
            for o in runs]  # fmt: skip
    found = mdxai.associate(late, lag=STEP, resamples=100)
    row = found.landmark.set_index("predictor").loc["decay_tail"]
    assert row["runs"] == 0
    assert np.isnan(row["concordance"])
    assert found.hazard_ratios.set_index("predictor").loc["decay_tail", "problem"] == "constant"


def test_runs_that_cannot_be_compared_are_refused(monkeypatch):
    with pytest.raises(AssociationError, match="at least 3 runs, got 2"):
        mdxai.associate([outcome("a", True), outcome("b", False)])
    with pytest.raises(AssociationError, match="none of 3 runs is unstable"):
        mdxai.associate([outcome(n, False) for n in "abc"])
    with pytest.raises(AssociationError, match="'a' is used twice"):
        mdxai.associate([outcome(n, True) for n in "aab"])
    with pytest.raises(AssociationError, match="there is no setting 'lagg'"):
        mdxai.associate([], lagg=3)
    with pytest.raises(AssociationError, match="lags must be positive"):
        mdxai.associate([], lag=np.nan)
    monkeypatch.setitem(sys.modules, "lifelines", None)
    with pytest.raises(AssociationError, match=r'pip install "mdxai\[study\]"'):
        mdxai.associate([outcome(n, True) for n in "abc"])


def test_the_command_line_compares_run_directories(tmp_path):
    for model in range(3):
        for replica in range(2):
            broke = {"stability": "unstable", "onset_fs": 20.0 + model + replica / 2}
            header = {"calculator": {"name": f"m{model}", "weights_sha256": "ab" * 32},
                      "context": {"temperature": 300.0}}  # fmt: skip
            folder = tmp_path / "runs" / f"m{model}" / f"replica-0{replica}"
            write_judged_run(folder, broke if model < 2 else None, header=header)
    command = ["associate", str(tmp_path / "runs"), "--lag", "5", "--resamples", "100"]
    written = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert written.exit_code == 0, written.output
    assert "6 runs of 3 models, 4 of them" in written.stdout
    assert (tmp_path / "out" / "relevance.png").stat().st_size > 1000
    printed = CliRunner().invoke(app, [*command, "--json"])
    assert printed.exit_code == 0, printed.output
    assert len(json.loads(printed.stdout)["runs"]) == 6
    refused = CliRunner().invoke(app, ["associate", str(tmp_path / "out")])
    assert (refused.exit_code, "holds no run" in refused.stderr) == (2, True)
