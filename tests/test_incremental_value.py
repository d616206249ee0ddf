"""What a predictor adds to the plain ones, in models left out."""

from __future__ import annotations

from dataclasses import replace

from mdxai.study.survival.incremental_value import added_value
from mdxai.study.survival.ranks import landmark_of
from tests.synthetic_hazards import FAST, Hazard, made_runs, only


def test_a_copy_of_a_plain_predictor_adds_nothing():
    runs = made_runs(Hazard(beta=1.2, between=1.0, within=0.3), 31, models=14)
    plain = [
        replace(o, series={"force_norm": o.series["decay_rise"],
                           "decay_form": o.series["decay_rise"] * 3 + 1,
                           "residual": o.series["bond_order"]}, traits={}) for o in runs
    ]  # fmt: skip
    table = added_value(landmark_of(plain, FAST), FAST).set_index("predictor")
    assert table.loc["decay_form", "problem"] == "the plain predictors determine it"
    assert table.loc["residual", "adds"] == "nothing"
    assert table.loc["residual", "likelihood_ratio"] >= 0


def test_the_deviation_that_drives_the_hazard_adds_to_the_plain_predictors():
    hazard = Hazard(beta=1.5, between=1.0, within=0.1, rate=1 / 3000)
    runs = only(made_runs(hazard, 33, models=24), "decay_rise", "force_norm")
    table = added_value(landmark_of(runs, FAST), FAST).set_index("predictor")
    assert table.loc["decay_rise", "adds"] == "yes"
    assert table.loc["decay_rise", "beside"] == "force_norm"
    assert table.loc["decay_rise", "gain"] > 0.1
    assert table.loc["force_norm", "adds"] == "nothing"
