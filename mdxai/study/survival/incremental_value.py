"""What a predictor adds to the plain ones: nested Cox models, judged on models left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mdxai.frame import Floats, Ints
from mdxai.study.resampling import drawn, interval, p_value, permuted_runs
from mdxai.study.survival.association import FEW_MODELS, AssociationSettings
from mdxai.study.survival.covariates import features, landmark_means, standardised
from mdxai.study.survival.cox import CoxFit, RiskSets, fit_cox
from mdxai.study.survival.estimators import BESIDE, with_q
from mdxai.study.survival.ranks import Landmark, concordance

MIN_MODELS = 3
COLUMNS = (
    "likelihood_ratio", "p", "hazard_ratio", "plain_concordance", "concordance", "gain",
    "gain_lower", "gain_upper", "plain_auroc", "auroc", "auroc_gain", "auroc_gain_lower",
    "auroc_gain_upper",
)  # fmt: skip


def plain_predictors(landmark: Landmark) -> dict[str, Floats]:
    """Return the plain predictors that every run has and that vary, averaged over the window.

    Temperature is not among them: runs are compared only at the same one.
    """
    found = {n: landmark_means(landmark.outcomes, n, landmark.window) for n in BESIDE}
    return {n: v for n, v in found.items() if np.isfinite(v).all() and np.ptp(v) > 0}


def added_value(landmark: Landmark, settings: AssociationSettings) -> pd.DataFrame:
    """Return what each predictor adds to the plain ones, a row per predictor.

    Two Cox models of the time to instability after the landmark window, stratified by molecule and
    temperature: the plain predictors, and these with one more.

    likelihood_ratio: 2 (log L − log L_plain). hazard_ratio: of the added predictor, per standard
    deviation. p: the added predictor's residual on the plain ones is permuted as by `permuted_runs`
    (Potter 2005), with the score statistic, which is the likelihood ratio for small effects. q:
    Benjamini–Hochberg over predictors of a kind. concordance and auroc: of the risk that each model
    is given by a fit to all other models (folds are models), without (plain_) and with the
    predictor; gain and auroc_gain: their difference, with 95 % percentiles of a bootstrap over
    models of these predictions. adds: "yes" where q < 0.1 and the gain's interval is above 0, else
    "nothing"; "not judged" for fewer than five models with an onset.
    """
    rows = []
    plain = plain_predictors(landmark)
    for name, kind in features(landmark.outcomes).items():
        beside = {n: v for n, v in plain.items() if n != name}
        row = _added(landmark, name, beside, settings)
        rows.append({"predictor": name, "kind": kind, "beside": ", ".join(beside)} | row)
    table = with_q(pd.DataFrame(rows), "p")
    sure = (table["q"] < 0.1) & (table["gain_lower"] > 0)
    judged = table["gain"].notna() & table["p"].notna()
    judged &= table["models_with_event"] >= FEW_MODELS
    sure &= judged
    return table.assign(adds=np.where(sure, "yes", np.where(judged, "nothing", "not judged")))


def _added(
    landmark: Landmark, name: str, beside: dict[str, Floats], settings: AssociationSettings
) -> dict[str, Any]:
    values = landmark_means(landmark.outcomes, name, landmark.window)
    have = np.isfinite(values)
    some = landmark.take(have)
    x, spread = standardised(values[have])
    columns = [standardised(v[have]) for v in beside.values()]
    plain = np.stack([np.zeros(len(x)), *(v for v, s in columns if s)], axis=1)[:, 1:]
    n_models = len(set(some.cluster.tolist()))
    row: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan) | {
        "runs": len(x), "unstable": int(some.unstable.sum()), "models": n_models, "problem": "",
        "models_with_event": len(set(some.cluster[some.unstable].tolist())),
    }  # fmt: skip
    sets = RiskSets.of(some.end, some.unstable, some.stratum)
    sets = sets.select(np.ones(len(sets.run), dtype=bool))
    if not spread or not len(sets.first) or n_models < MIN_MODELS:
        return row | {"problem": "constant" if not spread else "too few models or onsets"}
    both = np.column_stack([plain, x])
    null, full = (fit_cox(sets, v[sets.run]) for v in (plain, both))
    row["likelihood_ratio"] = 2 * (full.log_likelihood - null.log_likelihood)
    row |= {"hazard_ratio": float(np.exp(full.coefficients[-1])), "problem": full.problem}
    rng = np.random.default_rng(settings.seed)
    residual = x - plain @ np.linalg.lstsq(plain, x, rcond=None)[0] if plain.size else x
    if residual.std() < 1e-6:
        return row | {"problem": "the plain predictors determine it"}
    moved = permuted_runs(some.cluster, some.stratum, settings.resamples, rng)
    statistic = _score_statistics(sets, plain, null, residual[np.vstack([_same(x), moved])])
    row["p"] = p_value(statistic[0], statistic[1:])
    return row | _held_out(some, sets, (plain, both), (null, full), settings)


def _same(x: Floats) -> Ints:
    return np.arange(len(x))[None, :]


def _score_statistics(sets: RiskSets, plain: Floats, null: CoxFit, x: Floats) -> Floats:
    """Return Rao's statistic of adding a covariate to a fitted model, for each row of x.

    U²/(I_xx − I_xz I_zz⁻¹ I_zx) at the fit without it. x: (n_samples, n_runs); plain: (n_runs, K).
    """
    n = x.shape[1]
    index = sets.set_of_row
    z = plain[sets.run]
    phi = np.exp(z @ null.coefficients)
    deaths = sets.sums(sets.event.astype(float))
    share = phi / sets.sums(phi)[index]  # of each run at risk in the set's onset
    at_risk = np.zeros((len(sets.first), n))
    at_risk[index, sets.run] = share
    died = np.bincount(sets.run[sets.event], minlength=n).astype(float)
    expected = deaths @ at_risk
    form = np.diag(expected) - (at_risk * deaths[:, None]).T @ at_risk
    score = x @ (died - expected)
    cross = x @ form @ plain
    variance = np.einsum("pn,pn->p", x @ form, x)
    variance -= np.einsum("pk,pk->p", cross @ np.linalg.pinv(plain.T @ form @ plain), cross)
    found: Floats = np.full(len(x), np.nan)
    np.divide(score**2, variance, out=found, where=variance > 1e-9)
    return found


def _held_out(
    some: Landmark,
    sets: RiskSets,
    designs: tuple[Floats, Floats],
    fits: tuple[CoxFit, CoxFit],
    settings: AssociationSettings,
) -> dict[str, float]:
    """Return concordance and AUROC of risks predicted for models that the fit has not seen."""
    risks = [_predicted(some, sets, x, f) for x, f in zip(designs, fits, strict=True)]
    counts = drawn(some.cluster, settings.resamples, np.random.default_rng(settings.seed))
    weights = counts[:, some.cluster]
    row: dict[str, float] = {}
    for label, prefix, pairs in (
        ("concordance", "", some.sooner), ("auroc", "auroc_", some.broke),
    ):  # fmt: skip
        without, within = (float(concordance(r, pairs)[0]) for r in risks)
        gains = concordance(risks[1], pairs, weights) - concordance(risks[0], pairs, weights)
        low, high = interval(gains)
        row |= {f"plain_{label}": without, label: within, f"{prefix}gain": within - without,
                f"{prefix}gain_lower": low, f"{prefix}gain_upper": high}  # fmt: skip
    return row


def _predicted(some: Landmark, sets: RiskSets, x: Floats, fitted: CoxFit) -> Floats:
    """Return xβ of each run, β from all models but its own; (n_runs,)."""
    risk = np.zeros(len(x))
    if x.shape[1] == 0:
        return risk  # no plain predictor: every run is given the same risk
    rows = x[sets.run]
    for model in np.unique(some.cluster):
        own = some.cluster == model
        others = sets.select(~own[sets.run])
        if not len(others.first):
            continue
        start = fitted.coefficients if not fitted.problem else None
        beta = fit_cox(others, rows[sets.kept(~own[sets.run])], start=start).coefficients
        risk[own] = x[own] @ beta
    return risk
