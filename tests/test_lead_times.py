"""The comparison of detectors on runs whose truth is known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import poisson
from typer.testing import CliRunner

from mdxai.cli.main import app
from mdxai.early_warning import Calibration, CalibrationError, ProfileChange, ProfileSettings
from mdxai.statistics import Baseline, make_detector
from mdxai.study import run_outcome
from mdxai.study.lead_time.alarms import (
    AnyAlarm,
    Streams,
    Watching,
    poisson_upper,
    threshold_for,
    watched_ns,
    with_profiles,
)
from mdxai.study.lead_time.calibrate import calibrate
from mdxai.study.lead_time.lead_summary import Bootstrap, advantage, chance, resampled, summarise
from mdxai.study.lead_time.lead_times import lead_times
from mdxai.study.run_outcome import Outcome

from .synthetic_outcomes import EVERY, outcomes

RATE = 10.0
KINDS = {"drift": "explanation", "noise": "explanation", "temperature": "plain"}.__getitem__


@pytest.fixture(scope="module")
def runs():
    return outcomes()


@pytest.fixture(scope="module")
def rows(runs):
    return lead_times(runs, (RATE, 20.0), groups=KINDS)


@pytest.fixture(scope="module")
def table(rows):
    return summarise(rows, Bootstrap(n_samples=300)).set_index(
        ["alarms_per_ns", "series", "detector"]
    )


def first_alarm(outcome, series, label, threshold):
    """Return the first alarm as the live detector would give it, value by value."""
    baseline = Baseline(500.0, np.array([EVERY]))
    detector = make_detector(label, 1)
    for time, value in zip(outcome.times, outcome.series[series], strict=True):
        z = baseline.update(time, np.array([value]))
        if detector.update(z)[0] > threshold and not np.isnan(z[0]):
            return time
    return np.inf


@pytest.mark.parametrize("label", ["shewhart", "cusum", "ewma", "page_hinkley"])
def test_first_alarms_are_those_of_a_detector_that_sees_value_by_value(runs, label):
    alarms = Streams(runs[:12], "drift", Watching()).alarms(label)
    for threshold in (1.0, 3.0, 8.0):
        expected = [first_alarm(outcome, "drift", label, threshold) for outcome in runs[:12]]
        np.testing.assert_array_equal(alarms.at(threshold), expected)
    assert (alarms.start == 500.0).all()


def test_threshold_is_the_lowest_that_keeps_to_the_rate(runs):
    pool = Streams(runs, "noise", Watching()).alarms("cusum")
    ends = np.array([outcome.end for outcome in runs])
    stable = np.array([not outcome.unstable for outcome in runs])
    for rate in (6.0, 25.0, 100.0):
        threshold, reached = threshold_for(pool, ends, stable, rate)
        n_alarms = np.isfinite(pool.at(threshold)[stable]).sum()
        time = np.sum(np.minimum(pool.at(threshold), ends)[stable] - 500.0) / 1e6
        assert (reached.n_alarms, reached.watched_ns) == (n_alarms, pytest.approx(time))
        assert (n_alarms + 1) / time <= rate
        lower = np.sort(pool.peaks[stable])[::-1][n_alarms + 1]  # one more alarm, and it is not
        more = watched_ns(pool.at(lower), pool, ends, stable)
        assert (n_alarms + 2) / more > rate
        assert poisson.cdf(n_alarms, reached.upper_per_ns * time) == pytest.approx(0.05)
    with pytest.raises(CalibrationError, match=r"0.216 ns of stable runs .* rates from 4.63 on"):
        threshold_for(pool, ends, stable, 4.0)
    assert np.isfinite(threshold_for(pool, ends, stable, 4.64)[0])
    assert poisson_upper(0, 1.0) == pytest.approx(-np.log(0.05))


def test_false_alarms_of_new_runs_keep_to_the_rate():
    """Over many calibrations on few runs, the rate of alarms in as many new runs."""
    alarms, time = 0, 0.0
    for seed in range(40):
        runs = outcomes(6, 10, seed=seed, length=3000.0)
        pool = Streams(runs, "noise", Watching()).alarms("cusum")
        ends = np.array([outcome.end for outcome in runs])
        stable = np.array([not outcome.unstable for outcome in runs])
        half = np.arange(len(runs)) < 30
        threshold, _ = threshold_for(pool, ends, stable & half, 40.0)
        first = pool.at(threshold)
        alarms += np.isfinite(first[stable & ~half]).sum()
        time += watched_ns(first, pool, ends, stable & ~half)
    assert poisson.cdf(alarms, 40.0 * time) < 0.999
    assert alarms > 0.5 * 40.0 * time


def test_a_drift_is_found_as_long_before_as_it_begins(table):
    drift = table.loc[(RATE, "drift", "ewma")]
    assert drift["detected"] == 1.0
    assert 540 < drift["median_lead_fs"] <= 610  # it begins 600 fs before
    assert drift["median_lead_fs_low"] <= drift["median_lead_fs"] <= drift["median_lead_fs_high"]
    plain = table.loc[(RATE, "temperature", "ewma")]
    assert 100 < plain["median_lead_fs"] <= 160
    for group, least in (("best explanation", 500), ("best everything", 500), ("best plain", 80)):
        assert table.loc[(RATE, group, "as chosen")]["median_lead_fs"] > least
    assert table.loc[(RATE, "any everything", "ewma")]["median_lead_fs"] > 500
    assert (table["n_groups"] == 8).all()
    assert (table["n_unstable"] == 48).all()


def test_noise_has_no_advantage_over_chance(table):
    for rate in (RATE, 20.0):
        for label in ("shewhart", "cusum", "ewma", "page_hinkley"):
            noise = table.loc[(rate, "noise", label)]
            expected = noise["chance_detected"] * noise["n_unstable"]
            found = noise["detected"] * noise["n_unstable"]
            assert poisson.sf(found - 1, expected) > 0.005
            assert noise["median_lead_fs"] == 0


def test_advantage_is_paired_and_resampled_over_models(rows):
    gain = advantage(rows, ("drift", "ewma"), ("temperature", "ewma"), RATE)
    assert gain["median_fs_low"] > 400
    assert gain["earlier"] > 0.95
    assert gain["n_unstable"] == 48
    nothing = advantage(rows, ("drift", "ewma"), ("drift", "ewma"), RATE)
    assert nothing["mean_fs"] == nothing["mean_fs_high"] == 0
    with pytest.raises(KeyError, match="no unstable runs of nothing"):
        advantage(rows, ("nothing", "ewma"), ("drift", "ewma"), RATE)


def test_chance_is_what_random_alarms_do():
    rng = np.random.default_rng(0)
    spans = np.array([500.0, 4000.0, 9000.0, 0.0])
    found = chance(spans, 150.0)
    came = rng.exponential(1e6 / 150.0, size=(200_000, 4))
    leads = np.maximum(spans - came, 0)
    assert found["chance_detected"] == pytest.approx(np.mean(leads > 0), abs=0.003)
    assert found["chance_mean_lead_fs"] == pytest.approx(leads.mean(), rel=0.02)
    assert found["chance_median_fs"] == pytest.approx(np.median(leads[leads > 0]), rel=0.02)


def test_null_gives_unstable_runs_the_alarms_of_stable_ones(rows, table):
    part = rows[(rows["series"] == "noise") & (rows["detector"] == "ewma")]
    part = part[part["alarms_per_ns"] == RATE].reset_index(drop=True)
    leads = []
    for _, broken in part[part["unstable"]].iterrows():
        for _, sound in part[~part["unstable"]].iterrows():
            alarm = broken["start_fs"] + sound["alarm_fs"] - sound["start_fs"]
            leads.append(broken["end_fs"] - alarm if alarm < broken["end_fs"] else 0.0)
    found = table.loc[(RATE, "noise", "ewma")]
    assert found["null_mean_lead_fs"] == pytest.approx(np.mean(leads))
    assert found["null_detected"] == pytest.approx(np.mean(np.array(leads) > 0))


def test_weights_resample_models_whole():
    weights = resampled(["a", "a", "b", "c"], Bootstrap(n_samples=200))
    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert len(resampled(["a", "a"], Bootstrap(n_samples=200))) == 1  # one model has no interval


def test_held_out_models_are_never_learnt_from(runs, rows):
    """Changing the held-out model's stable runs leaves its threshold alone."""

    def spoil(outcome):
        series = {name: values + 1e3 * (np.arange(len(values)) > 60) for name, values in
                  outcome.series.items()}  # fmt: skip
        return replace(outcome, series=series)

    spoilt = [spoil(o) if o.model == "m3" else o for o in runs]
    others = lead_times(spoilt, (RATE,), groups=KINDS)
    keys = ["run", "alarms_per_ns", "series", "detector"]
    rows, others = (frame.set_index(keys, drop=False) for frame in (rows, others))
    here = others[(others["model"] == "m3") & (others["detector"] != "as chosen")]
    assert (rows.loc[here.index, "threshold"] == here["threshold"]).all()
    elsewhere = others[(others["model"] == "m2") & (others["series"] == "drift")]
    assert (rows.loc[elsewhere.index, "threshold"] < elsewhere["threshold"]).all()


def test_molecules_are_held_out_together(runs):
    rows = lead_times(runs, (20.0,), split="molecule", groups=KINDS)
    assert rows.groupby(["series", "detector", "molecule"])["threshold"].nunique().max() == 1
    assert rows.groupby(["series", "detector"])["threshold"].nunique().loc[("drift", "cusum")] == 2
    with pytest.raises(CalibrationError, match="held out by molecule need runs of at least two"):
        lead_times([o for o in runs if o.molecule == "A"], (20.0,), split="molecule")


def test_runs_that_break_within_the_baseline_are_missed(runs):
    short = [
        replace(o, end=300.0, times=o.times[:30], series={k: v[:30] for k, v in o.series.items()})
        if o.unstable and o.model == "m0" else o
        for o in runs
    ]  # fmt: skip
    rows = lead_times(short, (20.0,), groups=KINDS)
    drift = (
        summarise(rows, Bootstrap(n_samples=50))
        .set_index(["series", "detector"])
        .loc[("drift", "ewma")]
    )
    assert drift["missed_at_start"] == 6
    assert drift["detected"] == pytest.approx(42 / 48)


def test_unsupported_rates_are_refused_with_the_one_that_is(runs):
    with pytest.raises(CalibrationError, match=r"do not support 2 false .* rates from 5.29 on"):
        lead_times(runs, (1.0, 2.0), groups=KINDS)
    assert set(lead_times(runs, (2.0, 20.0), groups=KINDS)["alarms_per_ns"]) == {20.0}
    with pytest.raises(CalibrationError, match=r"0.216 ns of stable runs"):
        calibrate(runs, (1.0,), groups=KINDS)
    with pytest.raises(CalibrationError, match="there is no magic under cusum"):
        calibrate(runs, (20.0,), watch=[("magic", "cusum")], groups=KINDS)


def test_a_calibration_keeps_to_the_rate_together_and_tells_what_happened(runs, tmp_path):
    watch = [("drift", "cusum"), ("noise", "ewma"), ("temperature", "shewhart")]
    made = calibrate(runs, (10.0, 25.0, 60.0), watch=watch, groups=KINDS)
    stable = np.array([not outcome.unstable for outcome in runs])
    ends = np.array([outcome.end for outcome in runs])
    parts = [Streams(runs, series, Watching()).alarms(label) for series, label in watch]
    for n, rate in enumerate(made.rates):
        thresholds = [w.levels[n].threshold for w in made.watches]
        together = AnyAlarm(parts, thresholds)
        first = together.at(1.0)
        assert np.isfinite(first[stable]).sum() == rate.n_alarms
        assert (rate.n_alarms + 1) / rate.watched_ns <= rate.alarms_per_ns
        assert rate.watched_ns == pytest.approx(watched_ns(first, together, ends, stable))
        drift = parts[0].at(thresholds[0])
        leads = (ends - drift)[np.isfinite(drift) & ~stable]
        history = made.watches[0].levels[n].history
        assert (history.n_runs, history.n_unstable) == (np.isfinite(drift).sum(), len(leads))
        assert history.median_fs == pytest.approx(np.median(leads))
    made.save(tmp_path / "c.toml")
    again = Calibration.load(tmp_path / "c.toml")
    assert again.text() == made.text()
    assert again.at(30.0).rates[0].alarms_per_ns == 25.0
    assert again.at(30.0).watches[0].level == made.watches[0].levels[1]
    with pytest.raises(CalibrationError, match="it has thresholds for 10, 25, 60"):
        again.at(9.0)
    best = calibrate(runs, (20.0,), groups=KINDS)
    assert "drift" in {w.series for w in best.watches}


def test_the_command_line_writes_tables_figures_and_a_calibration(runs, tmp_path, monkeypatch):
    renamed = [
        replace(o, series={"temperature": o.series["temperature"], "decay_rise": o.series["drift"]})
        for o in runs
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


def binned(seed, shift):
    """Return an outcome with relevance by bins; at 1500 fs one bin moves by `shift` errors."""
    rng = np.random.default_rng(seed)
    times = np.arange(0, 2500.0, EVERY)
    series = {}
    for pair in ("C-C", "C-H"):
        for centre in (1.05, 1.15, 2.05):
            values = 1.0 + 0.1 * rng.normal(size=len(times))
            values[rng.random(len(times)) < 0.1] = np.nan
            series[f"{pair} {centre:.2f} Å"] = values
    series["C-H 1.15 Å"] += 0.1 * shift * (times >= 1500)
    return Outcome(f"r{seed}", "m", "A", 300.0, 2500.0, False, times, series | {"principle": times})


def test_profiles_of_outcomes_show_where_they_changed():
    still, moved = with_profiles([binned(1, 0.0), binned(1, 2.0)], ProfileSettings(bin_ang=0.1))
    assert set(moved.series) == {"principle", "profile_rms", "profile_peak"}
    known = ~np.isnan(moved.series["profile_rms"])
    spacing = np.diff(moved.times[known])
    assert moved.times[known][0] == 720.0  # the first block that ends with a full window
    assert (spacing == 40.0).all()
    early = known & (moved.times <= 1500)
    np.testing.assert_array_equal(
        still.series["profile_peak"][early], moved.series["profile_peak"][early]
    )
    late = known & (moved.times >= 1720)
    assert (
        moved.series["profile_peak"][late].mean() > 3.0 > still.series["profile_peak"][late].mean()
    )
    assert still.series["profile_rms"][late].mean() < 1.5 < moved.series["profile_rms"][late].mean()
    with pytest.raises(CalibrationError, match=r"no centres of bins of 0\.25 Å"):
        with_profiles([binned(1, 0.0)])


def test_profile_change_of_pairs_is_that_of_their_bin_means():
    rng = np.random.default_rng(3)
    pairs, means = (
        ProfileChange(("a", "b"), 3.0, ProfileSettings(200.0, 100.0, bin_ang=0.1)) for _ in range(2)
    )
    for n in range(80):
        channels = rng.integers(-1, 2, size=200)
        distances, values = rng.uniform(0.5, 2.9, size=200), rng.normal(3.0, 1.0, size=200)
        fresh = pairs.add_pairs(5.0 * n + 7.0, channels, distances, -values)
        cells = [(c, b) for c in (0, 1) for b in range(30)]
        picks = [(channels == c) & ((distances / 0.1).astype(int) == b) for c, b in cells]
        rows = [(c, (b + 0.5) * 0.1, values[p].mean()) for (c, b), p in
                zip(cells, picks, strict=True) if p.any()]  # fmt: skip
        c, centre, mean = (np.array(column) for column in zip(*rows, strict=True))
        assert means.add_means(5.0 * n + 7.0, c, centre, mean) == fresh
        assert fresh == (5 * n >= 300 and 5 * n % 20 == 0)
    assert pairs.rms == pytest.approx(means.rms)
    assert 0 < pairs.rms < 2.0
    assert len(pairs.largest(2)) == 2
