"""Time to instability with censoring: known hazards are found, and levels are kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lifelines.statistics import logrank_test
from scipy import stats

from mdxai.study.resampling import strata
from mdxai.study.survival.association import AssociationSettings
from mdxai.study.survival.cox import (
    RiskSets,
)
from mdxai.study.survival.estimators import (
    endings,
    hazard_ratios,
    kaplan_meier,
    log_rank_statistic,
    permuted_p,
    score_statistic,
)
from mdxai.study.survival.ranks import landmark_of, landmark_table
from tests.synthetic_hazards import FAST, STEP, Hazard, made_runs, only


def test_score_statistic_is_the_log_rank_of_two_groups():
    runs = made_runs(Hazard(), 9)
    half = (np.arange(len(runs)) % 2).astype(np.int64)
    sets = RiskSets.of(*endings(runs), strata(runs))
    sets = sets.select(np.ones(len(sets.run), dtype=bool))
    ours = score_statistic(sets, half[sets.run].astype(float))
    assert ours == pytest.approx(log_rank_statistic(sets, half), rel=1e-9)  # no ties


def test_separation_is_named_and_gets_no_interval():
    runs = made_runs(Hazard(), 2, models=6, replicas=2)
    runs = [replace(o, traits={"broken": float(o.unstable) * 10 - o.end / 1e3}) for o in runs]
    table = hazard_ratios(runs, FAST).set_index("predictor")
    assert (
        "separation" in table.loc["broken", "problem"]
        or "convergence" in table.loc["broken", "problem"]
    )
    assert np.isnan(table.loc["broken", "lower"])


def test_log_rank_is_that_of_lifelines():
    runs = made_runs(Hazard(), 4)
    end, unstable = endings(runs)
    half = (np.arange(len(runs)) % 2).astype(np.int64)
    ours = log_rank_statistic(RiskSets.of(end, unstable, np.zeros(len(runs), np.int64)), half)
    theirs = logrank_test(end[half == 0], end[half == 1], unstable[half == 0], unstable[half == 1])
    assert ours == pytest.approx(theirs.test_statistic, rel=1e-9)


def hazard_of(runs, settings=FAST):
    """Hazard ratio and interval per unit of x, not per standard deviation."""
    row = hazard_ratios(only(runs, "decay_rise"), settings).iloc[0]
    return {k: np.log(row[k]) / row["sd"] for k in ("hazard_ratio", "lower", "upper")} | {
        "p": row["p"]
    }


def test_the_known_hazard_ratio_is_found_with_a_time_dependent_deviation():
    runs = made_runs(Hazard(beta=0.8, delay=STEP), 11, models=24, temperatures=(300.0, 500.0))
    found = hazard_of(runs)
    assert found["lower"] < 0.8 < found["upper"]
    assert abs(found["hazard_ratio"] - 0.8) < 0.25
    assert found["p"] < 0.01


def repeated(hazard, n, **made):
    return [made_runs(hazard, seed, **made) for seed in range(n)]


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say():
    """95 % intervals over models, 16 models: at least 88 of 100 (a percentile bootstrap of few
    clusters covers a little less than it says).
    """
    hazard = Hazard(beta=0.6, between=1.0, within=0.5, delay=STEP)
    found = [hazard_of(runs) for runs in repeated(hazard, 100, models=16)]
    inside = np.mean([f["lower"] < 0.6 < f["upper"] for f in found])
    print(f"coverage {inside:.2f}, mean {np.mean([f['hazard_ratio'] for f in found]):.3f}")
    assert inside >= 0.88
    assert abs(np.mean([f["hazard_ratio"] for f in found]) - 0.6) < 0.06


def naive_p(runs, window=300.0):
    """What a test says that takes every frame for a sample."""
    early = [(o.series["decay_rise"][o.times <= window], o.unstable) for o in runs]
    if len({u for _, u in early}) < 2:
        return np.nan
    broken, sound = (np.concatenate([v for v, u in early if u == k]) for k in (True, False))
    return stats.mannwhitneyu(broken, sound).pvalue


def null_p(runs):
    """p-values under the null, of the landmark and of the Cox score, and of frames."""
    settings = AssociationSettings(lag=STEP, resamples=100, landmark=300.0)
    some = only(runs, "decay_rise")
    landmark = landmark_table(landmark_of(some, settings), settings).iloc[0]["p"]
    sets = RiskSets.of(*endings(some), strata(some))
    return landmark, permuted_p(some, "decay_rise", sets, settings), naive_p(runs)


def test_without_an_effect_permuting_models_keeps_the_level_and_counting_frames_does_not():
    """x and the hazard differ between models for unrelated reasons: 60 data sets."""
    hazard = Hazard(between=1.0, within=0.4, frailty=1.0, rate=1 / 1500)
    p = np.array([null_p(runs) for runs in repeated(hazard, 60, models=10)])
    below = (p <= 0.1).mean(axis=0)
    print(f"p ≤ 0.1: landmark {below[0]:.2f}, score {below[1]:.2f}, frames {below[2]:.2f}")
    limit = stats.binom.ppf(0.999, 60, 0.1) / 60
    assert below[0] <= limit
    assert below[1] <= limit
    assert below[2] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("frailty", [0.0, 1.0])
def test_level_without_an_effect(frailty):
    hazard = Hazard(between=1.0, within=0.4, frailty=frailty, rate=1 / 1500)
    p = np.array([null_p(runs) for runs in repeated(hazard, 400, models=10)])
    below = (p <= 0.05).mean(axis=0)
    print(f"frailty {frailty}: p ≤ 0.05: landmark {below[0]:.3f}, score {below[1]:.3f}, "
          f"frames {below[2]:.2f}")  # fmt: skip
    assert (below[:2] <= stats.binom.ppf(0.999, 400, 0.05) / 400).all()


def cut_short(runs, seed):
    """End runs at random instants, whatever they were about to do."""
    rng = np.random.default_rng(seed)
    for o in runs:
        limit = rng.uniform(100.0, 2000.0)
        before = o.times <= limit
        series = {k: v[before] for k, v in o.series.items()}
        shorter = replace(o, end=limit, unstable=False, times=o.times[before], series=series)
        yield o if o.end <= limit else shorter


def test_censoring_is_respected():
    """Taking runs that were cut for stable, or their end for an onset, is biased; ours is not."""
    hazard = Hazard(beta=0.8, delay=STEP, rate=1 / 1500)
    at, naive, ours = 1200.0, [], []
    for seed in range(8):
        whole = made_runs(hazard, seed, models=10)
        cut = list(cut_short(whole, seed))
        truth = np.mean([o.end > at for o in whole])
        naive.append(np.mean([not (o.unstable and o.end <= at) for o in cut]) - truth)
        curve = kaplan_meier(cut, ["all"] * len(cut), FAST)
        estimate = curve[curve["time_fs"] <= at].iloc[-1]
        ours.append(estimate["stable_share"] - truth)
    assert np.mean(naive) > 0.1
    assert abs(np.mean(ours)) < 0.4 * np.mean(naive)
    cut = list(cut_short(made_runs(hazard, 21, models=20), 1))
    found = hazard_of(cut)
    as_broken = hazard_of([replace(o, unstable=True) for o in cut])
    assert found["lower"] < 0.8 < found["upper"]
    assert as_broken["hazard_ratio"] < 0.8 * found["hazard_ratio"]
