"""Summaries of lead times: advantage, chance, and what stable runs would give."""

from __future__ import annotations

import numpy as np
import pytest

from mdxai.study.lead_time.lead_summary import Bootstrap, advantage, chance, resampled

from .synthetic_outcomes import RATE


def test_advantage_is_paired_and_resampled_over_models(lead_time_rows):
    gain = advantage(lead_time_rows, ("drift", "ewma"), ("temperature", "ewma"), RATE)
    assert gain["median_fs_low"] > 400
    assert gain["earlier"] > 0.95
    assert gain["n_unstable"] == 48
    nothing = advantage(lead_time_rows, ("drift", "ewma"), ("drift", "ewma"), RATE)
    assert nothing["mean_fs"] == nothing["mean_fs_high"] == 0
    with pytest.raises(KeyError, match="no unstable runs of nothing"):
        advantage(lead_time_rows, ("nothing", "ewma"), ("drift", "ewma"), RATE)


def test_chance_is_what_random_alarms_do():
    rng = np.random.default_rng(0)
    spans = np.array([500.0, 4000.0, 9000.0, 0.0])
    found = chance(spans, 150.0)
    came = rng.exponential(1e6 / 150.0, size=(200_000, 4))
    leads = np.maximum(spans - came, 0)
    assert found["chance_detected"] == pytest.approx(np.mean(leads > 0), abs=0.003)
    assert found["chance_mean_lead_fs"] == pytest.approx(leads.mean(), rel=0.02)
    assert found["chance_median_fs"] == pytest.approx(np.median(leads[leads > 0]), rel=0.02)


def test_null_gives_unstable_runs_the_alarms_of_stable_ones(lead_time_rows, lead_time_table):
    part = lead_time_rows[
        (lead_time_rows["series"] == "noise") & (lead_time_rows["detector"] == "ewma")
    ]
    part = part[part["alarms_per_ns"] == RATE].reset_index(drop=True)
    leads = []
    for _, broken in part[part["unstable"]].iterrows():
        for _, sound in part[~part["unstable"]].iterrows():
            alarm = broken["start_fs"] + sound["alarm_fs"] - sound["start_fs"]
            leads.append(broken["end_fs"] - alarm if alarm < broken["end_fs"] else 0.0)
    found = lead_time_table.loc[(RATE, "noise", "ewma")]
    assert found["null_mean_lead_fs"] == pytest.approx(np.mean(leads))
    assert found["null_detected"] == pytest.approx(np.mean(np.array(leads) > 0))


def test_weights_resample_models_whole():
    weights = resampled(["a", "a", "b", "c"], Bootstrap(n_samples=200))
    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert len(resampled(["a", "a"], Bootstrap(n_samples=200))) == 1  # one model has no interval
