"""Lead times of detectors, held out, on runs whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import poisson

from mdxai.early_warning import CalibrationError
from mdxai.study.lead_time.calibrate import calibrate
from mdxai.study.lead_time.lead_summary import Bootstrap, summarise
from mdxai.study.lead_time.lead_times import lead_times

from .synthetic_outcomes import GROUPS, RATE


def test_a_drift_is_found_as_long_before_as_it_begins(lead_time_table):
    drift = lead_time_table.loc[(RATE, "drift", "ewma")]
    assert drift["detected"] == 1.0
    assert 540 < drift["median_lead_fs"] <= 610  # it begins 600 fs before
    assert drift["median_lead_fs_low"] <= drift["median_lead_fs"] <= drift["median_lead_fs_high"]
    plain = lead_time_table.loc[(RATE, "temperature", "ewma")]
    assert 100 < plain["median_lead_fs"] <= 160
    for group, least in (("best explanation", 500), ("best everything", 500), ("best plain", 80)):
        assert lead_time_table.loc[(RATE, group, "as chosen")]["median_lead_fs"] > least
    assert lead_time_table.loc[(RATE, "any everything", "ewma")]["median_lead_fs"] > 500
    assert (lead_time_table["n_groups"] == 8).all()
    assert (lead_time_table["n_unstable"] == 48).all()


def test_noise_has_no_advantage_over_chance(lead_time_table):
    for rate in (RATE, 20.0):
        for label in ("shewhart", "cusum", "ewma", "page_hinkley"):
            noise = lead_time_table.loc[(rate, "noise", label)]
            expected = noise["chance_detected"] * noise["n_unstable"]
            found = noise["detected"] * noise["n_unstable"]
            assert poisson.sf(found - 1, expected) > 0.005
            assert noise["median_lead_fs"] == 0


def test_thresholds_do_not_depend_on_the_runs_held_out(labelled_runs, lead_time_rows):
    """Changing the held-out model's stable runs leaves its threshold alone."""

    def spoil(outcome):
        series = {name: values + 1e3 * (np.arange(len(values)) > 60) for name, values in
                  outcome.series.items()}  # fmt: skip
        return replace(outcome, series=series)

    spoilt = [spoil(o) if o.model == "m3" else o for o in labelled_runs]
    others = lead_times(spoilt, (RATE,), groups=GROUPS)
    keys = ["run", "alarms_per_ns", "series", "detector"]
    rows, others = (frame.set_index(keys, drop=False) for frame in (lead_time_rows, others))
    here = others[(others["model"] == "m3") & (others["detector"] != "as chosen")]
    assert (rows.loc[here.index, "threshold"] == here["threshold"]).all()
    elsewhere = others[(others["model"] == "m2") & (others["series"] == "drift")]
    assert (rows.loc[elsewhere.index, "threshold"] < elsewhere["threshold"]).all()


def test_molecules_are_held_out_together(labelled_runs):
    rows = lead_times(labelled_runs, (20.0,), split="molecule", groups=GROUPS)
    assert rows.groupby(["series", "detector", "molecule"])["threshold"].nunique().max() == 1
    assert rows.groupby(["series", "detector"])["threshold"].nunique().loc[("drift", "cusum")] == 2
    with pytest.raises(CalibrationError, match="held out by molecule need runs of at least two"):
        lead_times([o for o in labelled_runs if o.molecule == "A"], (20.0,), split="molecule")


def test_runs_that_break_within_the_baseline_are_missed(labelled_runs):
    short = [
        replace(o, end=300.0, times=o.times[:30], series={k: v[:30] for k, v in o.series.items()})
        if o.unstable and o.model == "m0" else o
        for o in labelled_runs
    ]  # fmt: skip
    rows = lead_times(short, (20.0,), groups=GROUPS)
    drift = (
        summarise(rows, Bootstrap(n_samples=50))
        .set_index(["series", "detector"])
        .loc[("drift", "ewma")]
    )
    assert drift["missed_at_start"] == 6
    assert drift["detected"] == pytest.approx(42 / 48)


def test_unsupported_rates_are_refused_and_the_lowest_supported_one_is_named(labelled_runs):
    with pytest.raises(CalibrationError, match=r"do not support 2 false .* rates from 5.29 on"):
        lead_times(labelled_runs, (1.0, 2.0), groups=GROUPS)
    assert set(lead_times(labelled_runs, (2.0, 20.0), groups=GROUPS)["alarms_per_ns"]) == {20.0}
    with pytest.raises(CalibrationError, match=r"0.216 ns of stable runs"):
        calibrate(labelled_runs, (1.0,), groups=GROUPS)
    with pytest.raises(CalibrationError, match="there is no magic under cusum"):
        calibrate(labelled_runs, (20.0,), watch=[("magic", "cusum")], groups=GROUPS)
