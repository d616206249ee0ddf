"""First alarms of detectors, and thresholds at a rate of false alarms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import poisson

from mdxai.early_warning import CalibrationError, ProfileChange, ProfileSettings
from mdxai.statistics import Baseline, RelevanceProfile, make_detector
from mdxai.study.lead_time.alarms import (
    Streams,
    Watching,
    poisson_upper,
    threshold_for,
    watched_ns,
    with_profiles,
)
from mdxai.study.run_outcome import Outcome

from .synthetic_outcomes import EVERY, outcomes


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
def test_first_alarms_are_those_of_a_live_detector(labelled_runs, label):
    alarms = Streams(labelled_runs[:12], "drift", Watching()).alarms(label)
    for threshold in (1.0, 3.0, 8.0):
        expected = [
            first_alarm(outcome, "drift", label, threshold) for outcome in labelled_runs[:12]
        ]
        np.testing.assert_array_equal(alarms.at(threshold), expected)
    assert (alarms.start == 500.0).all()


def test_threshold_is_the_lowest_that_keeps_to_the_rate(labelled_runs):
    pool = Streams(labelled_runs, "noise", Watching()).alarms("cusum")
    ends = np.array([outcome.end for outcome in labelled_runs])
    stable = np.array([not outcome.unstable for outcome in labelled_runs])
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
    numbers = np.array([6, 1, 1])  # pairs 0–1 and 1–2 are C-H and H-H
    pairs, means = (
        ProfileChange(("C-H", "H-H"), 3.0, ProfileSettings(200.0, 100.0, bin_ang=0.1))
        for _ in range(2)
    )
    for n in range(80):
        first = rng.integers(0, 2, size=200)
        distances, values = rng.uniform(0.5, 2.9, size=200), rng.normal(3.0, 1.0, size=200)
        profile = RelevanceProfile(numbers, first, first + 1, distances, -values)
        used = [profile.names.index(name) for name in ("C-H", "H-H")]
        fresh = pairs.add(5.0 * n + 7.0, profile)
        cells = [(c, b) for c in (0, 1) for b in range(30)]
        picks = [(first == c) & ((distances / 0.1).astype(int) == b) for c, b in cells]
        rows = [(used[c], (b + 0.5) * 0.1, np.abs(values[p]).mean()) for (c, b), p in
                zip(cells, picks, strict=True) if p.any()]  # fmt: skip
        c, centre, mean = (np.array(column) for column in zip(*rows, strict=True))
        assert means.add_means(5.0 * n + 7.0, c, centre, mean) == fresh
        assert fresh == (5 * n >= 300 and 5 * n % 20 == 0)
    assert pairs.rms == pytest.approx(means.rms)
    assert 0 < pairs.rms < 2.0
    assert len(pairs.largest(2)) == 2
