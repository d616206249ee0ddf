"""Associations of made-up runs whose hazard is known, and of a few real ones."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, CoxTimeVaryingFitter
from lifelines.statistics import logrank_test
from lifelines.utils import concordance_index
from scipy import stats

import mdxai
from mdxai.study.resampling import clusters, permuted_runs, strata
from mdxai.study.run_outcome import AssociationError, Outcome
from mdxai.study.run_series import kind_of_series
from mdxai.study.survival.association import AssociationSettings
from mdxai.study.survival.covariates import lagged
from mdxai.study.survival.cox import (
    RiskSets,
    clustered_errors,
    contributions,
    fit_cox,
    resampled_coefficients,
)
from mdxai.study.survival.estimators import (
    cox_by_lifelines,
    endings,
    hazard_ratios,
    kaplan_meier,
    log_rank_statistic,
    permuted_p,
    score_statistic,
)
from mdxai.study.survival.incremental_value import added_value
from mdxai.study.survival.lags import correlation_in, lag_table
from mdxai.study.survival.ranks import ModelMeans, concordance, landmark_of, landmark_table
from mdxai.study.survival.survival_page import page_of, write_association
from tests.synthetic_hazards import STEP, Measure, made_runs

FAST = AssociationSettings(lag=STEP, resamples=200)


def risk_sets(runs, name="decay_rise", lag=STEP):
    sets = RiskSets.of(*endings(runs), strata(runs))
    x = lagged(runs, name, sets, lag)
    keep = np.isfinite(x)
    return sets.select(keep), x[sets.kept(keep)]


def only(runs, *names):
    return [
        replace(o, series={k: v for k, v in o.series.items() if k in names}, traits={})
        for o in runs
    ]


# Cox on risk sets


def test_cox_on_risk_sets_is_lifelines_on_intervals():
    """Our Newton, lifelines on our risk sets, and lifelines on intervals between all onsets."""
    runs = made_runs(Measure(beta=0.8, duration=600.0, rate=1 / 400), 3, models=6, replicas=3)
    sets, x = risk_sets(runs, lag=2 * STEP)
    fitted = fit_cox(sets, x[:, None])
    assert not fitted.problem
    by_sets, problem = cox_by_lifelines(sets, x[:, None])
    assert not problem
    assert fitted.coefficients[0] == pytest.approx(by_sets, abs=1e-5)
    # The value at an onset t is the last one at or before t − lag; intervals cut at all onsets.
    onsets = np.unique([o.end for o in runs if o.unstable])
    rows = []
    for k, o in enumerate(runs):
        for start, stop in zip([0, *onsets[:-1]], onsets, strict=True):
            place = np.searchsorted(o.times, stop - 2 * STEP + 1e-9, side="right") - 1
            if o.end >= stop and place >= 0:
                rows.append((k, start, stop, o.unstable and o.end == stop,
                             o.series["decay_rise"][place]))  # fmt: skip
    table = pd.DataFrame(rows, columns=["id", "start", "stop", "event", "x"])
    whole = CoxTimeVaryingFitter().fit(table, "event", id_col="id")
    assert fitted.coefficients[0] == pytest.approx(whole.params_["x"], abs=1e-5)
    assert 1 / np.sqrt(fitted.information[0, 0]) == pytest.approx(
        whole.standard_errors_["x"], rel=1e-4
    )
    assert fitted.log_likelihood == pytest.approx(whole.log_likelihood_, rel=1e-8)


def test_score_contributions_add_up_and_weights_are_copies():
    runs = made_runs(Measure(beta=0.5), 5, models=5)
    sets, x = risk_sets(runs)
    cluster = clusters(runs)
    fitted = fit_cox(sets, x[:, None])
    assert contributions(sets, x[:, None], fitted.coefficients, cluster).sum() == pytest.approx(
        0.0, abs=1e-6
    )
    counts = np.array([2.0, 0.0, 1.0, 1.0, 1.0])
    weights = counts[cluster[sets.run]]
    weighted = fit_cox(sets, x[:, None], weights).coefficients[0]
    copies = [o for o in runs if o.model != "m1"]
    # Copies break at the same instants; Breslow's ties take them together, as weights do.
    copies += [replace(o, run=f"{o.run} again") for o in runs if o.model == "m0"]
    again, values = risk_sets(copies)
    assert weighted == pytest.approx(fit_cox(again, values[:, None]).coefficients[0], abs=1e-6)
    by_grid = resampled_coefficients(
        sets, x, (fitted.coefficients[0], 0.2), cluster, counts[None, :]
    )
    assert by_grid[0] == pytest.approx(weighted, abs=2e-3)


def test_clustered_errors_are_those_of_lifelines_for_covariates_that_stay():
    runs = made_runs(Measure(frailty=0.5), 8, models=9)
    sets = RiskSets.of(*endings(runs), strata(runs))
    sets = sets.select(np.ones(len(sets.run), dtype=bool))
    x = lagged(runs, "force_mae_mev_per_ang", sets, STEP)[:, None]
    ours = clustered_errors(sets, x, fit_cox(sets, x), clusters(runs))[0]
    table = pd.DataFrame({"t": [o.end for o in runs], "e": [o.unstable for o in runs],
                          "x": [o.traits["force_mae_mev_per_ang"] for o in runs],
                          "m": [o.model for o in runs]})  # fmt: skip
    theirs = CoxPHFitter().fit(table, "t", "e", cluster_col="m").standard_errors_["x"]
    assert ours == pytest.approx(theirs * np.sqrt(9 / 8), rel=1e-3)


def test_score_statistic_is_the_log_rank_of_two_groups():
    runs = made_runs(Measure(), 9)
    half = (np.arange(len(runs)) % 2).astype(np.int64)
    sets = RiskSets.of(*endings(runs), strata(runs))
    sets = sets.select(np.ones(len(sets.run), dtype=bool))
    ours = score_statistic(sets, half[sets.run].astype(float))
    assert ours == pytest.approx(log_rank_statistic(sets, half), rel=1e-9)  # no ties


def test_separation_is_reported_and_not_a_number_to_believe():
    runs = made_runs(Measure(), 2, models=6, replicas=2)
    runs = [replace(o, traits={"broken": float(o.unstable) * 10 - o.end / 1e3}) for o in runs]
    table = hazard_ratios(runs, FAST).set_index("predictor")
    assert (
        "separation" in table.loc["broken", "problem"]
        or "convergence" in table.loc["broken", "problem"]
    )
    assert np.isnan(table.loc["broken", "lower"])


def test_log_rank_is_that_of_lifelines():
    runs = made_runs(Measure(), 4)
    end, unstable = endings(runs)
    half = (np.arange(len(runs)) % 2).astype(np.int64)
    ours = log_rank_statistic(RiskSets.of(end, unstable, np.zeros(len(runs), np.int64)), half)
    theirs = logrank_test(end[half == 0], end[half == 1], unstable[half == 0], unstable[half == 1])
    assert ours == pytest.approx(theirs.test_statistic, rel=1e-9)


# Ranks


def test_concordance_is_that_of_lifelines_with_and_without_weights():
    runs = made_runs(Measure(beta=0.5), 6, models=5)
    landmark = landmark_of(runs, FAST)
    rng = np.random.default_rng(0)
    x = rng.normal(size=len(landmark.outcomes)).round(1)
    expected = concordance_index(landmark.end, -x, landmark.unstable)
    assert concordance(x, landmark.sooner)[0] == pytest.approx(expected)
    counts = np.array([2, 1, 0, 1, 1])[landmark.cluster]
    copies = np.repeat(np.arange(len(x)), counts)
    repeated = concordance_index(landmark.end[copies], -x[copies], landmark.unstable[copies])
    weighted = concordance(x, landmark.sooner, counts[None, :].astype(float))[0]
    # Copies of one run are pairs of equal time, which lifelines does not compare either.
    assert weighted == pytest.approx(repeated)


def test_auroc_counts_pairs_and_spearman_is_scipys():
    runs = made_runs(Measure(beta=0.8, between=1.0, within=0.0), 7, models=8)
    landmark = landmark_of(runs, AssociationSettings(landmark=100.0, horizon=1500.0))
    x = np.arange(len(landmark.outcomes), dtype=float) % 7
    case = landmark.unstable & (landmark.end <= 1500.0)
    pairs = [(a > b) + 0.5 * (a == b) for a in x[case] for b in x[~case]]
    assert concordance(x, landmark.broke)[0] == pytest.approx(np.mean(pairs))
    points = ModelMeans.of(landmark)
    values = points.means(x)
    ours = points.spearman(values, np.ones((1, landmark.cluster.max() + 1)))[0]
    assert ours == pytest.approx(stats.spearmanr(values, -points.stable).statistic)


def test_permutations_move_whole_models_and_keep_strata():
    runs = made_runs(Measure(), 1, models=5, replicas=3, temperatures=(300.0, 500.0))
    runs = [o for o in runs if not (o.model == "m4" and o.temperature == 500.0)]
    cluster, at = clusters(runs), strata(runs)
    moved = permuted_runs(cluster, at, 50, np.random.default_rng(0))
    for row in moved:
        assert (at[row] == at).all()
        donors = {(m, int(d)) for m, d in zip(cluster, cluster[row], strict=True)}
        assert len(donors) == 5  # all runs of a model come from one model
        assert sorted(row) == list(range(len(runs)))
        assert (cluster[row][cluster == 4] == 4).all()  # it has no run at 500 K
    assert len({tuple(row) for row in moved}) == 50


# A known hazard ratio


def hazard_of(runs, settings=FAST):
    """Hazard ratio and interval per unit of x, not per standard deviation."""
    row = hazard_ratios(only(runs, "decay_rise"), settings).iloc[0]
    return {k: np.log(row[k]) / row["sd"] for k in ("hazard_ratio", "lower", "upper")} | {
        "p": row["p"]
    }


def test_the_known_hazard_ratio_is_found_with_a_time_dependent_deviation():
    runs = made_runs(Measure(beta=0.8, delay=STEP), 11, models=24, temperatures=(300.0, 500.0))
    found = hazard_of(runs)
    assert found["lower"] < 0.8 < found["upper"]
    assert abs(found["hazard_ratio"] - 0.8) < 0.25
    assert found["p"] < 0.01


def repeated(principle, n, **made):
    return [made_runs(principle, seed, **made) for seed in range(n)]


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say():
    """95 % intervals over models, 16 models: at least 88 of 100 (a percentile bootstrap of few
    clusters covers a little less than it says).
    """
    principle = Measure(beta=0.6, between=1.0, within=0.5, delay=STEP)
    found = [hazard_of(runs) for runs in repeated(principle, 100, models=16)]
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


def test_under_the_null_whole_models_hold_the_level_where_frames_do_not():
    """x and the hazard both differ between models, for unrelated reasons: 60 data sets."""
    principle = Measure(between=1.0, within=0.4, frailty=1.0, rate=1 / 1500)
    p = np.array([null_p(runs) for runs in repeated(principle, 60, models=10)])
    below = (p <= 0.1).mean(axis=0)
    print(f"p ≤ 0.1: landmark {below[0]:.2f}, score {below[1]:.2f}, frames {below[2]:.2f}")
    limit = stats.binom.ppf(0.999, 60, 0.1) / 60
    assert below[0] <= limit
    assert below[1] <= limit
    assert below[2] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("frailty", [0.0, 1.0])
def test_level_under_the_null(frailty):
    principle = Measure(between=1.0, within=0.4, frailty=frailty, rate=1 / 1500)
    p = np.array([null_p(runs) for runs in repeated(principle, 400, models=10)])
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
    principle = Measure(beta=0.8, delay=STEP, rate=1 / 1500)
    at, naive, ours = 1200.0, [], []
    for seed in range(8):
        whole = made_runs(principle, seed, models=10)
        cut = list(cut_short(whole, seed))
        truth = np.mean([o.end > at for o in whole])
        naive.append(np.mean([not (o.unstable and o.end <= at) for o in cut]) - truth)
        curve = kaplan_meier(cut, ["all"] * len(cut), FAST)
        estimate = curve[curve["time_fs"] <= at].iloc[-1]
        ours.append(estimate["stable_share"] - truth)
    assert np.mean(naive) > 0.1
    assert abs(np.mean(ours)) < 0.4 * np.mean(naive)
    cut = list(cut_short(made_runs(principle, 21, models=20), 1))
    found = hazard_of(cut)
    as_broken = hazard_of([replace(o, unstable=True) for o in cut])
    assert found["lower"] < 0.8 < found["upper"]
    assert as_broken["hazard_ratio"] < 0.8 * found["hazard_ratio"]


# Beyond the plain predictors, and lags


def test_what_a_copy_of_a_plain_predictor_adds_is_nothing():
    runs = made_runs(Measure(beta=1.2, between=1.0, within=0.3), 31, models=14)
    plain = [
        replace(o, series={"force_norm": o.series["decay_rise"],
                           "decay_form": o.series["decay_rise"] * 3 + 1,
                           "residual": o.series["noise0"]}, traits={}) for o in runs
    ]  # fmt: skip
    table = added_value(landmark_of(plain, FAST), FAST).set_index("predictor")
    assert table.loc["decay_form", "problem"] == "the plain predictors determine it"
    assert table.loc["residual", "adds"] == "nothing"
    assert table.loc["residual", "likelihood_ratio"] >= 0


def test_what_tells_more_than_the_plain_predictors_adds():
    principle = Measure(beta=1.5, between=1.0, within=0.1, rate=1 / 3000)
    runs = only(made_runs(principle, 33, models=24), "decay_rise", "force_norm")
    table = added_value(landmark_of(runs, FAST), FAST).set_index("predictor")
    assert table.loc["decay_rise", "adds"] == "yes"
    assert table.loc["decay_rise", "beside"] == "force_norm"
    assert table.loc["decay_rise", "gain"] > 0.1
    assert table.loc["force_norm", "adds"] == "nothing"


def test_lags_show_when_the_deviation_tells():
    """The hazard follows x by 200 fs with a short memory: that lag is where it shows."""
    principle = Measure(beta=1.5, delay=200.0, memory=40.0, between=0.0, within=1.0, rate=1 / 2500)
    runs = only(made_runs(principle, 41, models=16, replicas=6), "decay_rise")
    settings = AssociationSettings(lags=(10.0, 200.0, 500.0), resamples=200)
    table = lag_table(runs, settings).set_index("lag_fs")
    assert table["auroc"].idxmax() == 200.0
    assert table.loc[200.0, "auroc_lower"] > 0.6
    assert table.loc[10.0, "auroc_lower"] < 0.5 < table.loc[10.0, "auroc_upper"]


def test_effective_samples_of_slow_series_are_few():
    """Two AR(1) of memory T: independent samples of their covariance are T·STEP/2 apart."""
    (fast,) = made_runs(Measure(memory=1.0, duration=20_000.0, rate=0.0), 1, models=1, replicas=1)
    (slow,) = made_runs(Measure(memory=300.0, duration=20_000.0, rate=0.0), 1, models=1, replicas=1)
    n_fast = correlation_in(fast, "force_norm", STEP)[1]
    n_slow = correlation_in(slow, "force_norm", STEP)[1]
    assert n_fast > 1000
    # ρ of |AR(1)| times ρ of AR(1) falls at least as exp(−2t/T): n/τ between n·STEP/T and 5 times.
    assert 2000 * STEP / 300 < n_slow < 5 * 2000 * STEP / 300


# The whole


def test_associate_saves_tables_figures_and_a_page_that_says_what_was_resampled(tmp_path):
    runs = made_runs(Measure(beta=0.8), 51, models=6, temperatures=(300.0, 500.0))
    rng = np.random.default_rng(0)
    runs = [
        replace(o, series={**o.series, "C-H 1.125 Å": rng.normal(size=len(o.times)),
                           "C-O 1.375 Å": rng.normal(size=len(o.times))}) for o in runs
    ]  # fmt: skip
    found = mdxai.associate(runs, lag=STEP, resamples=100)
    again = mdxai.associate(runs[::-1], lag=STEP, resamples=100)
    pd.testing.assert_frame_equal(found.summary, again.summary)  # the order does not matter
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


def test_one_model_leaves_what_is_over_models_empty():
    runs = made_runs(Measure(beta=0.8), 61, models=1, replicas=12)
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
    runs = made_runs(Measure(), 71, models=4, temperatures=(500.0,))
    late = [replace(o, series=o.series | {"decay_tail": np.where(o.times > 400, 1.0, np.nan)})
            for o in runs]  # fmt: skip
    found = mdxai.associate(late, lag=STEP, resamples=100)
    row = found.landmark.set_index("predictor").loc["decay_tail"]
    assert row["runs"] == 0
    assert np.isnan(row["concordance"])
    assert found.hazard_ratios.set_index("predictor").loc["decay_tail", "problem"] == "constant"


def test_too_little_is_refused_with_what_to_do(monkeypatch):
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


def test_kinds_of_predictors():
    names = ("bond", "contact", "decay_rise", "rotation", "force_norm", "C-H 1.125 Å",
             "profile_rms", "noise")  # fmt: skip
    assert [kind_of_series(name) for name in names] == [
        "motion", "motion", "explanation", "probe", "plain", "relevance", "relevance", "other",
    ]  # fmt: skip
