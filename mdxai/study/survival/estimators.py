"""Time to instability with censoring: Kaplan–Meier, log-rank, Cox."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mdxai.frame import Bools, Floats, Ints
from mdxai.study.resampling import clusters, drawn, interval, p_value, permuted_runs, strata
from mdxai.study.run_outcome import AssociationError, Outcome
from mdxai.study.survival.association import AssociationSettings
from mdxai.study.survival.covariates import everywhere, features, lagged, standardised
from mdxai.study.survival.cox import (
    CoxFit,
    RiskSets,
    clustered_errors,
    fit_cox,
    resampled_coefficients,
)

BESIDE = (
    "force_mae_mev_per_ang", "energy_mae_mev", "force_norm", "contact", "committee_spread",
)  # fmt: skip


def require_lifelines() -> None:
    """Refuse to compare runs where lifelines is not installed.

    Raises:
        AssociationError: with the command that installs it.
    """
    try:
        import lifelines  # noqa: F401
    except ImportError as error:
        raise AssociationError(
            'comparing runs needs lifelines: pip install "mdxai[study]"'
        ) from error


def endings(outcomes: Sequence[Outcome]) -> tuple[Floats, Bools]:
    """Return how long runs were followed, fs, and whether they broke then, each (n_runs,)."""
    end = np.array([o.end for o in outcomes], dtype=np.float64)
    return end, np.array([o.unstable for o in outcomes], dtype=np.bool_)


def kaplan_meier(
    outcomes: Sequence[Outcome], groups: Sequence[Any], settings: AssociationSettings
) -> pd.DataFrame:
    """Return the share of runs still stable over time, a row per group and time at which it falls.

    lower, upper: 95 %, Greenwood's variance of log(−log S), as if runs were independent.
    model_lower, model_upper: 95 %, percentiles of a bootstrap over the models of the group; NaN
    for one model.

    Args:
        outcomes: runs.
        groups: (n_runs,) label of each run's group; groups keep the order of their first runs.
        settings: for resamples and seed.
    """
    require_lifelines()
    from lifelines import KaplanMeierFitter

    rows = []
    for label in dict.fromkeys(groups):
        members = [o for o, g in zip(outcomes, groups, strict=True) if g == label]
        end, unstable = endings(members)
        fitted = KaplanMeierFitter().fit(end, unstable)
        times = fitted.survival_function_.index.to_numpy()
        band = fitted.confidence_interval_.to_numpy()
        model_band = _resampled_survival(members, times, settings)
        for k, t in enumerate(times):
            rows.append({
                "group": label, "time_fs": t,
                "stable_share": float(fitted.survival_function_.iloc[k, 0]),
                "lower": band[k, 0], "upper": band[k, 1],
                "model_lower": model_band[0][k], "model_upper": model_band[1][k],
                "at_risk": int(np.sum(end >= t)), "runs": len(members),
                "unstable": int(unstable.sum()), "models": len({o.model for o in members}),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _resampled_survival(
    members: Sequence[Outcome], times: Floats, settings: AssociationSettings
) -> tuple[Floats, Floats]:
    cluster = clusters(members)
    if cluster.max() == 0:
        return np.full(len(times), np.nan), np.full(len(times), np.nan)
    end, unstable = endings(members)
    weights = drawn(cluster, settings.resamples, np.random.default_rng(settings.seed))[:, cluster]
    at_risk = weights @ (end[:, None] >= times).astype(float)
    died = weights @ ((end[:, None] == times) & unstable[:, None]).astype(float)
    share = np.divide(died, at_risk, out=np.zeros(died.shape), where=at_risk > 0)
    survival = np.cumprod(1 - share, axis=1)
    low, high = np.quantile(survival, [0.025, 0.975], axis=0)
    return low, high


def log_rank(outcomes: Sequence[Outcome], settings: AssociationSettings) -> pd.DataFrame:
    """Return tests of whether time to instability differs between groups of runs.

    Groups are temperatures (within molecule), models (within molecule and temperature), types of
    network, and models above and below the median of a trait (both likewise).

    statistic: stratified log-rank. p_independent: of χ², as if runs were independent.
    p: by permutation of what is exchangeable: temperatures among the runs of a model; runs among
    models, at one temperature; networks and traits among whole models.
    """
    rng = np.random.default_rng(settings.seed)
    model = clusters(outcomes)
    at = strata(outcomes)
    kelvin = np.array([o.temperature for o in outcomes])
    molecule = np.unique([o.molecule for o in outcomes], return_inverse=True)[1]
    rows = [
        _log_rank_row("temperature", outcomes, kelvin, molecule, (model, settings, rng)),
        _log_rank_row("model", outcomes, model, at, (at, settings, rng)),
        _log_rank_row(
            "network", outcomes, [o.network for o in outcomes], at, (None, settings, rng)
        ),
    ]
    for name in sorted({name for o in outcomes for name in o.traits}):
        values = np.array([o.traits.get(name, np.nan) for o in outcomes])
        known = np.isfinite(values)
        middle = np.median([values[known & (model == m)][0] for m in np.unique(model[known])])
        some = [o for o, k in zip(outcomes, known, strict=True) if k]
        split = (values[known] > middle).astype(np.int64)
        rows.append(_log_rank_row(f"{name} > {middle:g}", some, split, at[known],
                                  (None, settings, rng)))  # fmt: skip
    return pd.DataFrame([row for row in rows if row])


def _log_rank_row(
    name: str,
    outcomes: Sequence[Outcome],
    label: Any,
    stratum: Ints,
    how: tuple[Ints | None, AssociationSettings, np.random.Generator],
) -> dict[str, Any]:
    """Return one test; permutes within the blocks of `how`, or whole models where it has none."""
    block, settings, rng = how
    groups = np.unique(label, return_inverse=True)[1]
    if len(groups) == 0 or groups.max() == 0:
        return {}
    end, unstable = endings(outcomes)
    sets = RiskSets.of(end, unstable, stratum)
    model = clusters(outcomes)
    observed = log_rank_statistic(sets, groups)
    permuted = []
    for _ in range(min(settings.resamples, 500)):
        if block is None:
            first = np.array([groups[model == m][0] for m in range(model.max() + 1)])
            shuffled = _within(first, _molecules(outcomes, model), rng)[model]
        else:
            shuffled = _within(groups, block, rng)
        permuted.append(log_rank_statistic(sets, shuffled))
    return {
        "groups_by": name, "statistic": observed, "degrees": int(groups.max()),
        "p_independent": float(stats.chi2.sf(observed, groups.max())),
        "p": p_value(observed, np.array(permuted)),
        "runs": len(outcomes), "unstable": int(unstable.sum()), "models": int(model.max() + 1),
    }  # fmt: skip


def _molecules(outcomes: Sequence[Outcome], model: Ints) -> Ints:
    names = [next(o.molecule for o, k in zip(outcomes, model, strict=True) if k == m)
             for m in range(model.max() + 1)]  # fmt: skip
    return np.asarray(np.unique(names, return_inverse=True)[1], dtype=np.int64)


def _within(labels: Ints, block: Ints, rng: np.random.Generator) -> Ints:
    shuffled = labels.copy()
    for b in np.unique(block):
        shuffled[block == b] = rng.permutation(labels[block == b])
    return shuffled


def log_rank_statistic(sets: RiskSets, groups: Ints) -> float:
    """Return OᵀV⁻O, O the observed minus the expected onsets per group: the score test at β = 0.

    Args:
        sets: risk sets.
        groups: (n_runs,) index of each run's group, from 0.
    """
    index = sets.set_of_row
    member = np.eye(int(groups.max()) + 1)[groups[sets.run]][:, 1:]
    size, deaths = sets.sums(np.ones(len(index))), sets.sums(sets.event.astype(float))
    share = sets.sums(member) / size[:, None]
    excess = (sets.event[:, None] * (member - share[index])).sum(axis=0)
    spread = deaths * np.divide(size - deaths, size - 1, out=np.zeros(len(size)), where=size > 1)
    variance = np.diag((share * spread[:, None]).sum(axis=0)) - (share * spread[:, None]).T @ share
    return float(excess @ np.linalg.pinv(variance, rcond=1e-9) @ excess)


def hazard_ratios(outcomes: Sequence[Outcome], settings: AssociationSettings) -> pd.DataFrame:
    """Return Cox hazard ratios per standard deviation of the lagged value, a row per predictor.

    Time-dependent covariates, stratified by molecule and temperature. The value of a covariate at
    an onset is the last one measured at least `lag` fs before it, for the run that breaks and for
    all those still followed; the standard deviation is over these values.

    hazard_ratio: lifelines' CoxTimeVaryingFitter (Efron's ties). lower, upper: 95 %, percentiles of
    a bootstrap over models. p: of the score test, by exchanging the deviations of whole models
    (`permuted_p`). adjusted, adjusted_lower, adjusted_upper: beside the predictors `BESIDE` that
    nearly all runs have; 95 % by Lin and Wei's sandwich over models with t quantiles. q:
    Benjamini–Hochberg over all predictors of a kind. events_lost: onsets before anything was
    measured. problem: separation or no convergence; then no interval is given.
    """
    end, unstable = endings(outcomes)
    sets = RiskSets.of(end, unstable, strata(outcomes))
    cluster = clusters(outcomes)
    counts = drawn(cluster, settings.resamples, np.random.default_rng(settings.seed))
    beside = {name: lagged(outcomes, name, sets, settings.lag) for name in BESIDE}
    rows = []
    for name, kind in features(outcomes).items():
        x = lagged(outcomes, name, sets, settings.lag)
        row = _hazard_ratio(sets, x, cluster, counts)
        if row["models"] > 1 and row["sd"]:
            row["p"] = permuted_p(outcomes, name, sets, settings)
        row |= _adjusted(sets, x, {k: v for k, v in beside.items() if k != name}, cluster)
        row["events_lost"] = int(unstable.sum()) - row["events"]
        rows.append({"predictor": name, "kind": kind} | row)
    return with_q(pd.DataFrame(rows), "p")


def _hazard_ratio(sets: RiskSets, x: Floats, cluster: Ints, counts: Floats) -> dict[str, Any]:
    kept = sets.kept(np.isfinite(x))
    some = sets.select(np.isfinite(x))
    z, spread = standardised(x[kept])
    broke = cluster[some.run[some.event]]
    row: dict[str, Any] = {
        "hazard_ratio": np.nan, "lower": np.nan, "upper": np.nan, "p": np.nan, "sd": spread,
        "events": int(some.event.sum()), "runs": len(np.unique(some.run)),
        "models": len(np.unique(cluster[some.run])), "models_with_event": len(np.unique(broke)),
        "problem": "",
    }  # fmt: skip
    if not spread:
        return row | {"problem": "no onset with a value to compare" if not len(z) else "constant"}
    coefficient, problem = cox_by_lifelines(some, z[:, None])
    row |= {"hazard_ratio": float(np.exp(coefficient)), "problem": problem}
    if row["models"] < 2 or problem:
        return row
    fitted = fit_cox(some, z[:, None])
    error = max(1 / np.sqrt(fitted.information[0, 0]),
                clustered_errors(some, z[:, None], fitted, cluster)[0])  # fmt: skip
    betas = resampled_coefficients(some, z, (coefficient, error), cluster, counts)
    low, high = interval(betas)
    return row | {"lower": float(np.exp(low)), "upper": float(np.exp(high))}


def permuted_p(
    outcomes: Sequence[Outcome], name: str, sets: RiskSets, settings: AssociationSettings
) -> float:
    """Return the p-value of Cox's score test of a lagged series, by exchanging whole models.

    Every run is given the series of another one, as by `permuted_runs`. A series that ended earlier
    keeps its last value, so the test is conservative for deviations that drift.

    Args:
        outcomes: runs.
        name: of a series or trait.
        sets: risk sets of these runs.
        settings: for lag, resamples and seed.
    """
    values = everywhere(outcomes, name, sets, settings.lag)
    known = np.isfinite(values).all(axis=1) if len(sets.first) else np.zeros(len(outcomes), bool)
    own = np.isfinite(lagged(outcomes, name, sets, settings.lag))
    some, index = sets.select(own), sets.set_of_row[sets.kept(own)]
    order = np.flatnonzero(known)
    cluster, stratum = clusters(outcomes)[order], strata(outcomes)[order]
    moved = permuted_runs(
        cluster, stratum, settings.resamples, np.random.default_rng(settings.seed)
    )
    place = np.searchsorted(order, some.run)
    statistics = [score_statistic(some, values[some.run, index])]
    statistics += [score_statistic(some, values[order[row[place]], index]) for row in moved]
    return p_value(statistics[0], np.array(statistics[1:]))


def score_statistic(sets: RiskSets, x: Floats) -> float:
    """Return U²/I of one covariate at β = 0: (Σ_events (x − x̄))² / Σ_events var(x).

    Args:
        sets: risk sets.
        x: (n_rows,).
    """
    size, deaths = sets.sums(np.ones(len(x))), sets.sums(sets.event.astype(float))
    mean = sets.sums(x) / size
    score = x[sets.event].sum() - deaths @ mean
    information = deaths @ (sets.sums(x * x) / size - mean**2)
    return float(score**2 / information) if information > 1e-12 * (x @ x) else np.nan


def cox_by_lifelines(sets: RiskSets, x: Floats) -> tuple[float, str]:
    """Return the first coefficient of lifelines' Cox fit, and its complaint, "" without one.

    Each row of a risk set is an interval that ends at its onset, because the partial likelihood
    uses covariates at onsets only.

    Args:
        sets: risk sets; those of different strata never share a row.
        x: (n_rows, K).
    """
    require_lifelines()
    from lifelines import CoxTimeVaryingFitter
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning

    index = sets.set_of_row.astype(np.float64)
    table = pd.DataFrame(x, columns=[f"x{k}" for k in range(x.shape[1])])
    # Sets follow each other on one time axis, so that an interval covers only its own onset.
    table = table.assign(start=index, stop=index + 1, event=sets.event)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            fitted = CoxTimeVaryingFitter().fit(table, "event", fit_options={"step_size": 0.95})
    except (ConvergenceError, np.linalg.LinAlgError, ValueError) as error:
        return np.nan, f"no convergence: {str(error).strip().splitlines()[0][:80]}"
    coefficient = float(fitted.params_.iloc[0])
    complaints = [w for w in said if issubclass(w.category, ConvergenceWarning)]
    if not (abs(coefficient) < 8):
        return coefficient, "separation: the likelihood grows without a maximum"
    if complaints and "converge" in str(complaints[-1].message):
        return coefficient, "no convergence"
    return coefficient, ""


def _adjusted(
    sets: RiskSets, x: Floats, beside: dict[str, Floats], cluster: Ints
) -> dict[str, Any]:
    """Return the hazard ratio beside those plain predictors that 95 % of the rows have."""
    row: dict[str, Any] = {
        "adjusted": np.nan, "adjusted_lower": np.nan, "adjusted_upper": np.nan, "adjusted_for": "",
    }  # fmt: skip
    have = np.isfinite(x)
    names = [n for n, v in beside.items() if have.any() and np.isfinite(v[have]).mean() >= 0.95]
    columns = [x, *(beside[n] for n in names)]
    keep = np.all([np.isfinite(c) for c in columns], axis=0)
    some, kept = sets.select(keep), sets.kept(keep)
    scaled = [standardised(c[kept]) for c in columns]
    used = [n for n, (_, spread) in zip(names, scaled[1:], strict=True) if spread]
    if not scaled[0][1] or not used:
        return row
    z = np.stack([v for v, spread in scaled if spread], axis=1)
    fitted: CoxFit = fit_cox(some, z)
    n = len(np.unique(cluster[some.run]))
    row["adjusted_for"] = ", ".join(used)
    if fitted.problem or some.event.sum() < 2 * z.shape[1] or n < 3:
        return row
    beta, error = fitted.coefficients[0], clustered_errors(some, z, fitted, cluster)[0]
    reach = float(stats.t.ppf(0.975, n - 1)) * error
    return row | {
        "adjusted": float(np.exp(beta)),
        "adjusted_lower": float(np.exp(beta - reach)),
        "adjusted_upper": float(np.exp(beta + reach)),
    }


def with_q(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Add Benjamini and Hochberg's q of a column of p-values, within each kind of predictor."""
    q = np.full(len(table), np.nan)
    for kind in table["kind"].unique():
        here = np.flatnonzero((table["kind"] == kind) & table[column].notna())
        if len(here):
            q[here] = stats.false_discovery_control(table[column].to_numpy(float)[here])
    return table.assign(**{"q" if column == "p" else f"{column}_q": q})
