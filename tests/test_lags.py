"""Association at several lags."""

from __future__ import annotations

from mdxai.study.survival.association import AssociationSettings
from mdxai.study.survival.lags import correlation_in, lag_table
from tests.synthetic_hazards import STEP, Hazard, made_runs, only


def test_the_auroc_is_highest_at_the_delay_of_the_hazard():
    """The hazard follows x by 200 fs with a short memory: that lag is where it shows."""
    hazard = Hazard(beta=1.5, delay=200.0, memory=40.0, between=0.0, within=1.0, rate=1 / 2500)
    runs = only(made_runs(hazard, 41, models=16, replicas=6), "decay_rise")
    settings = AssociationSettings(lags=(10.0, 200.0, 500.0), resamples=200)
    table = lag_table(runs, settings).set_index("lag_fs")
    assert table["auroc"].idxmax() == 200.0
    assert table.loc[200.0, "auroc_lower"] > 0.6
    assert table.loc[10.0, "auroc_lower"] < 0.5 < table.loc[10.0, "auroc_upper"]


def test_effective_samples_of_slow_series_are_few():
    """Two AR(1) of memory T: independent samples of their covariance are T·STEP/2 apart."""
    (fast,) = made_runs(Hazard(memory=1.0, duration=20_000.0, rate=0.0), 1, models=1, replicas=1)
    (slow,) = made_runs(Hazard(memory=300.0, duration=20_000.0, rate=0.0), 1, models=1, replicas=1)
    n_fast = correlation_in(fast, "force_norm", STEP)[1]
    n_slow = correlation_in(slow, "force_norm", STEP)[1]
    assert n_fast > 1000
    # ρ of |AR(1)| times ρ of AR(1) falls at least as exp(−2t/T): n/τ between n·STEP/T and 5 times.
    assert 2000 * STEP / 300 < n_slow < 5 * 2000 * STEP / 300
