"""Arrhenius laws of the hazard: coverage of known laws, few events, and lifelines."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from lifelines import WeibullAFTFitter
from scipy.stats import chi2

from mdxai.forecast.survival_model import (
    ArrheniusExponential,
    Interval,
    LifeDataError,
    Lifetime,
    Watched,
    mean_time_of,
    memory_of,
    totals,
)
from mdxai.frame import BOLTZMANN

from .synthetic_lives import Law, study

SMALL = Law(150.0, 0.62), (2000.0, 1500.0, 1000.0), 12, (2.0, 3.0, 10.0)
RARE = Law(1000.0, 1.0), (2000.0, 1700.0, 1400.0), 12, (2.0, 2.0, 2.0)


def covered(case, target, n, seed=1):
    law, *design = case
    rng = np.random.default_rng(seed)
    found = [ArrheniusExponential(totals(study(rng, law, *design))).hazard(target)
             for _ in range(n)]  # fmt: skip
    return np.mean([h.low <= law.hazard(target) <= h.high for h in found]), found


@pytest.mark.parametrize(
    ("case", "target"), [(SMALL, 500.0), (RARE, 300.0)], ids=["small", "strong extrapolation"]
)
def test_a_known_law_lies_within_its_interval(case, target):
    """50 studies of 3 temperatures × 12 replicas; see the slow test for the share itself."""
    share, found = covered(case, target, 50)
    assert share >= 0.9
    true = case[0].hazard(target)
    assert 0.3 < np.mean([h.value > true for h in found]) < 0.7  # as often above as below


@pytest.mark.slow
@pytest.mark.parametrize("target", [300.0, 500.0, 800.0])
@pytest.mark.parametrize(
    "case",
    [SMALL, RARE, (Law(50.0, 1.0), *RARE[1:]),
     (Law(5.0, 0.3), (1500.0, 1200.0, 900.0), 12, (3, 3, 5)),
     (Law(1000.0, 0.8), (2000.0, 1700.0, 1400.0, 1100.0), 48, (3.0, 3.0, 5.0, 10.0))],
    ids=["small", "rare", "hardly any", "low barrier", "large"],
)  # fmt: skip
def test_coverage(case, target):
    share, _ = covered(case, target, 200)
    assert share >= 0.92  # 0.95 less two standard errors


def test_the_coverage_test_would_see_intervals_that_are_too_narrow():
    law, *design = SMALL
    rng = np.random.default_rng(1)
    laws = [ArrheniusExponential(totals(study(rng, law, *design)), 0.5) for _ in range(20)]
    found = [a.hazard(500.0) for a in laws]
    assert np.mean([h.low <= law.hazard(500.0) <= h.high for h in found]) < 0.9


@pytest.mark.parametrize("onsets", [0, 1, 7])
def test_at_the_watched_temperature_the_interval_is_that_of_a_poisson_rate(onsets):
    """Garwood's exact limits: χ²(α/2, 2d)/2t and χ²(1−α/2, 2d+2)/2t."""
    found = ArrheniusExponential([Watched(600.0, 20.0, onsets)]).hazard(600.0)
    low, high = chi2.ppf(0.025, 2 * onsets) / 40, chi2.ppf(0.975, 2 * onsets + 2) / 40
    assert found.low == pytest.approx(low, abs=0.04) if onsets else found.low == 0.0
    assert found.high == pytest.approx(high, rel=0.12)
    assert found.value == pytest.approx((onsets + 0.5) / 20 if onsets else 0.0, rel=1e-4)


def test_two_temperatures_give_the_law_through_their_rates():
    """With many onsets the estimate is the straight line through two points."""
    law = Law(120.0, 0.7)
    seen = [Watched(t, 1e5 / law.hazard(t), 100_000) for t in (2000.0, 1400.0)]
    found = ArrheniusExponential(seen)
    log_a, barrier = found.estimate
    assert (math.exp(log_a), barrier) == pytest.approx((law.prefactor, law.barrier), rel=1e-4)
    assert found.hazard(700.0).value == pytest.approx(law.hazard(700.0), rel=1e-3)


def test_without_an_onset_there_is_an_upper_limit_from_physics():
    seen = [Watched(2000.0, 50.0, 0), Watched(1500.0, 50.0, 0)]
    found = ArrheniusExponential(seen).hazard(300.0)
    assert (found.value, found.low) == (0.0, 0.0)
    assert 0 < found.high < 1e-4
    any_prefactor = ArrheniusExponential(seen, prefactors=(1e-30, 1e30)).hazard(300.0)
    assert any_prefactor.high == pytest.approx(3.7 / 100, rel=0.3)  # a barrier may be missing


def test_where_only_the_hottest_broke_the_hazard_below_may_vanish():
    found = ArrheniusExponential([Watched(2000.0, 5.0, 12), Watched(1200.0, 30.0, 0)])
    hazard = found.hazard(300.0)
    assert hazard.low < 1e-9 * hazard.high
    assert 0 < hazard.value < 1e-9


def test_one_temperature_tells_nothing_of_another_but_limits():
    found = ArrheniusExponential([Watched(1500.0, 20.0, 25)]).hazard(500.0)
    assert math.isnan(found.value)
    assert 0 <= found.low < 1e-6 < found.high <= 1.25 * 1.6


def test_curvature_is_seen_as_lack_of_fit():
    """Two weak spots, of 0.4 and 1.4 eV, make no straight line."""
    laws = Law(3.0, 0.4), Law(4e4, 1.4)
    temperatures = (2000.0, 1500.0, 1000.0, 700.0)
    rates = [sum(law.hazard(t) for law in laws) for t in temperatures]
    bent = [Watched(t, 300 / r, 300) for t, r in zip(temperatures, rates, strict=True)]
    straight = [Watched(t, 300 / laws[0].hazard(t), 300) for t in temperatures]
    assert ArrheniusExponential(bent).lack_of_fit < 1e-3
    assert ArrheniusExponential(straight).lack_of_fit > 0.5
    assert math.isnan(ArrheniusExponential(straight[:2]).lack_of_fit)


@pytest.mark.parametrize("shape", [0.6, 1.0, 2.0])
def test_the_weibull_shape_is_that_of_lifelines(shape):
    rng = np.random.default_rng(4)
    lives = study(rng, Law(150.0, 0.62), *SMALL[1:2], 40, SMALL[3], shape=shape)
    found = memory_of(lives)
    table = pd.DataFrame(
        {"time": [x.time for x in lives], "failed": [x.failed for x in lives],
         "cold": [1 / (BOLTZMANN * x.temperature) for x in lives]}
    )  # fmt: skip
    fitted = WeibullAFTFitter().fit(table, "time", "failed")
    assert found.shape == pytest.approx(math.exp(fitted.params_["rho_", "Intercept"]), rel=1e-3)
    assert (found.p < 0.01) == (shape != 1.0)


def test_too_few_onsets_show_no_memory():
    found = memory_of([Lifetime(1000.0, 1.0, True)] * 4 + [Lifetime(1000.0, 2.0, False)])
    assert math.isnan(found.p)
    assert "too few" in str(found)


def test_totals_are_the_sufficient_statistics():
    lives = [Lifetime(900.0, 2.0, False), Lifetime(1500.0, 0.5, True), Lifetime(900.0, 1.0, True)]
    assert totals(lives) == (Watched(1500.0, 0.5, 1), Watched(900.0, 3.0, 1))


def test_an_interval_keeps_its_order_and_is_plain_json():
    hazard = Interval(0.1, 0.0, 0.3)
    times = hazard.map(lambda h: 1 / h if h else math.inf)
    assert times.low < times.value < times.high
    assert times.as_dict()["high"] is None


@pytest.mark.parametrize(
    "wrong", [[], [Watched(1000.0, 0.0, 0)], [Watched(-1.0, 1.0, 0)], [Watched(900.0, 1.0, -1)]]
)
def test_data_from_which_nothing_follows_are_refused(wrong):
    with pytest.raises(LifeDataError, match=r"no hazard follows|expected a positive temperature"):
        ArrheniusExponential(wrong)


def test_the_mean_time_of_a_hazard_that_is_not_known_is_not_known():
    assert mean_time_of(Interval(0.1, 0.0, 0.2)) == Interval(10.0, 5.0, math.inf)
    unknown = mean_time_of(Interval(math.nan, 0.0, 0.2))
    assert math.isnan(unknown.value)
    assert (unknown.low, unknown.high) == (5.0, math.inf)
