"""How early a deviation shows: association at several lags, and the independent samples behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mdxai.frame import Floats, Ints
from mdxai.statistics import StatisticsError, autocorrelation
from mdxai.study.resampling import clusters, drawn, interval, strata
from mdxai.study.run_outcome import Outcome
from mdxai.study.survival.association import AssociationSettings
from mdxai.study.survival.covariates import features, lagged, last_values
from mdxai.study.survival.cox import RiskSets
from mdxai.study.survival.estimators import endings

LEFT_OUT = ("relevance", "trait")  # kinds
ONSET_SERIES = "bond"  # what most onsets are made of
MIN_SAMPLES = 20


def lag_table(outcomes: Sequence[Outcome], settings: AssociationSettings) -> pd.DataFrame:
    """Return association at every lag ℓ, a row per series and lag.

    auroc: time-dependent (incident/dynamic; Heagerty and Zheng 2005): the probability that the run
    that breaks at t had a larger value at t − ℓ than one of its molecule and temperature that is
    still followed at t; each onset counts once. Interval: 95 %, bootstrap over models.

    correlation: of the value at t − ℓ with the bond deviation at t, within runs, averaged over runs
    by their number of independent samples; interval as above. effective_samples: the sum of these,
    n/τ with τ the integrated autocorrelation time of the product of the two centred series, the
    distance between independent values of their covariance. frames: number of all values.
    """
    end, unstable = endings(outcomes)
    sets, cluster = RiskSets.of(end, unstable, strata(outcomes)), clusters(outcomes)
    counts = drawn(cluster, settings.resamples, np.random.default_rng(settings.seed))
    rows = []
    for name, kind in features(outcomes).items():
        if kind in LEFT_OUT:
            continue
        for lag in settings.lags:
            row: dict[str, Any] = {"predictor": name, "kind": kind, "lag_fs": lag}
            row |= _incident_auroc(sets, lagged(outcomes, name, sets, lag), cluster, counts)
            if name != ONSET_SERIES:
                row |= _correlation(outcomes, name, lag, cluster, counts)
            rows.append(row)
    return pd.DataFrame(rows)


def _incident_auroc(sets: RiskSets, x: Floats, cluster: Ints, counts: Floats) -> dict[str, Any]:
    """Return the mean over onsets of the share of runs at risk that had lower values."""
    some, x = sets.select(np.isfinite(x)), x[sets.kept(np.isfinite(x))]
    empty = {"auroc": np.nan, "auroc_lower": np.nan, "auroc_upper": np.nan, "events": 0,
             "models_with_event": 0}  # fmt: skip
    cases = np.flatnonzero(some.event)
    if not len(cases):
        return empty
    ends = np.append(some.first[1:], len(some.run))
    wins = np.zeros((len(cases), counts.shape[1]))  # per onset, over models of the others
    others = np.zeros_like(wins)
    for k, case in enumerate(cases):
        place = some.set_of_row[case]
        rows = np.arange(some.first[place], ends[place])
        rows = rows[~some.event[rows]]
        won = (x[case] > x[rows]) + 0.5 * (x[case] == x[rows])
        wins[k] = np.bincount(cluster[some.run[rows]], won, minlength=counts.shape[1])
        others[k] = np.bincount(cluster[some.run[rows]], minlength=counts.shape[1])
    owner = cluster[some.run[cases]]

    def mean(weights: Floats) -> Floats:
        above, among = weights @ wins.T, weights @ others.T
        share = np.divide(above, among, out=np.zeros(above.shape), where=among > 0)
        counted = weights[:, owner] * (among > 0)
        total = counted.sum(axis=1)
        result: Floats = np.full(len(weights), np.nan)
        return np.divide((counted * share).sum(axis=1), total, out=result, where=total > 0)

    several = counts.shape[1] > 1
    low, high = interval(mean(counts)) if several else (np.nan, np.nan)
    return {"auroc": mean(np.ones((1, counts.shape[1])))[0], "auroc_lower": low,
            "auroc_upper": high, "events": len(cases),
            "models_with_event": len(set(owner.tolist()))}  # fmt: skip


def _correlation(
    outcomes: Sequence[Outcome], name: str, lag: float, cluster: Ints, counts: Floats
) -> dict[str, Any]:
    found = np.array([correlation_in(o, name, lag) for o in outcomes])
    r, effective, frames = found.T
    usable = np.isfinite(r)
    weight = np.where(usable, effective, 0.0)
    tops, totals = (np.bincount(cluster, v, minlength=counts.shape[1])
                    for v in (weight * np.where(usable, r, 0.0), weight))  # fmt: skip
    boot = np.full(len(counts), np.nan)
    np.divide(counts @ tops, counts @ totals, out=boot, where=counts @ totals > 0)
    low, high = interval(boot) if counts.shape[1] > 1 else (np.nan, np.nan)
    total = float(weight.sum())
    return {
        "correlation": float(tops.sum() / total) if total > 0 else np.nan,
        "correlation_lower": low, "correlation_upper": high,
        "effective_samples": total, "frames": int(frames[usable].sum()),
    }  # fmt: skip


def correlation_in(outcome: Outcome, name: str, lag: float) -> tuple[float, float, int]:
    """Return Pearson's r of a series `lag` fs ago with the bond deviation, n/τ, and n.

    NaN for fewer than 20 common frames, or where either is constant.
    """
    nothing = (np.nan, 0.0, 0)
    if name not in outcome.series or ONSET_SERIES not in outcome.series:
        return nothing
    now = outcome.series[ONSET_SERIES]
    measured = np.isfinite(outcome.series[name])
    # Only where the series was measured, so that a value between explanations is not repeated.
    times = outcome.times[measured] + lag
    y = last_values(outcome, ONSET_SERIES, times)
    x = outcome.series[name][measured]
    keep = np.isfinite(y) & (times <= outcome.times[np.isfinite(now)].max(initial=-np.inf) + 1e-9)
    x, y = x[keep], y[keep]
    if len(x) < MIN_SAMPLES or np.ptp(x) == 0 or np.ptp(y) == 0:
        return nothing
    x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    try:
        effective = min(autocorrelation(x * y).effective_samples, float(len(x)))
    except StatisticsError:
        return nothing
    return float(np.mean(x * y)), effective, len(x)
