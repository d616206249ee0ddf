"""Cox's partial likelihood on risk sets, against lifelines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, CoxTimeVaryingFitter

from mdxai.study.resampling import clusters, strata
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
)
from tests.synthetic_hazards import STEP, Hazard, made_runs, risk_sets


def test_cox_on_risk_sets_is_lifelines_on_intervals():
    """Our Newton, lifelines on our risk sets, and lifelines on intervals between all onsets."""
    runs = made_runs(Hazard(beta=0.8, duration=600.0, rate=1 / 400), 3, models=6, replicas=3)
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
    runs = made_runs(Hazard(beta=0.5), 5, models=5)
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
    runs = made_runs(Hazard(frailty=0.5), 8, models=9)
    sets = RiskSets.of(*endings(runs), strata(runs))
    sets = sets.select(np.ones(len(sets.run), dtype=bool))
    x = lagged(runs, "force_mae_mev_per_ang", sets, STEP)[:, None]
    ours = clustered_errors(sets, x, fit_cox(sets, x), clusters(runs))[0]
    table = pd.DataFrame({"t": [o.end for o in runs], "e": [o.unstable for o in runs],
                          "x": [o.traits["force_mae_mev_per_ang"] for o in runs],
                          "m": [o.model for o in runs]})  # fmt: skip
    theirs = CoxPHFitter().fit(table, "t", "e", cluster_col="m").standard_errors_["x"]
    assert ours == pytest.approx(theirs * np.sqrt(9 / 8), rel=1e-3)
