"""Weak spots corrected by replicas: against the prior, counts, integrals and drawn studies."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.stats import chi2, norm, t

from mdxai.forecast.combined_law import CombinedLaw, Prior
from mdxai.forecast.survival_model import ArrheniusExponential, LifeDataError, Watched
from mdxai.frame import BOLTZMANN


@dataclass(frozen=True)
class Spot:
    barrier: float
    prefactor_per_ps: float = 100.0
    multiplicity: int = 1


TWO = (Spot(0.6, 20.0, 2), Spot(1.2, 5e4))  # one rules below some 1000 K, the other above
PRIOR = Prior(centre=-0.5, spread=0.8, freedom=4.0, barrier=0.05)


def true_hazard(spots, temperature, a=0.0, b=0.0):
    cold = 1 / (BOLTZMANN * temperature)
    rate = sum(s.multiplicity * s.prefactor_per_ps * math.exp(-s.barrier * cold) for s in spots)
    return rate * math.exp(a - b * (cold - 1 / (BOLTZMANN * 1000.0)))


def test_without_replicas_the_prior_remains():
    found = CombinedLaw((), TWO, prior=PRIOR).hazard(1000.0)
    foretold = true_hazard(TWO, 1000.0)
    assert found.value == pytest.approx(foretold * math.exp(-0.5), rel=0.03)
    assert found.high == pytest.approx(foretold * math.exp(-0.5 + 0.8 * t.ppf(0.975, 4)), rel=0.1)
    cold = CombinedLaw((), TWO, prior=PRIOR).hazard(300.0)
    assert cold.high / cold.low > found.high / found.low  # the barrier's error counts there


def test_many_onsets_prevail_over_weak_spots_that_are_wrong():
    truth = 100 * true_hazard(TWO, 1000.0)
    seen = [Watched(1000.0, 1000 / truth, 1000)]
    found = CombinedLaw(seen, TWO, prior=PRIOR).hazard(1000.0)
    assert found.value == pytest.approx(truth, rel=0.05)
    assert found.low < truth < found.high < 1.2 * truth


def test_time_without_onset_lowers_the_hazard():
    long = [Watched(1000.0, 100 / true_hazard(TWO, 1000.0), 0)]
    before, after = (CombinedLaw(w, TWO, prior=PRIOR).hazard(1000.0) for w in ((), long))
    assert after.high < 0.2 * before.high
    assert after.value < before.low


def test_quantiles_are_those_of_the_posterior_integrated():
    seen = [Watched(1400.0, 2.0, 5), Watched(700.0, 30.0, 1)]
    found = CombinedLaw(seen, TWO, prior=PRIOR).hazard(500.0)

    def density(a, b):
        heights = 0.0
        for w in seen:
            hazard = true_hazard(TWO, w.temperature, a, b)
            heights += w.onsets * math.log(hazard) - hazard * w.time
        return math.exp(heights) * t.pdf((a + 0.5) / 0.8, 4) * norm.pdf(b, scale=0.05)

    def share_below(hazard):
        """Integrate over a up to where the hazard at 500 K is this one, then over b."""
        return dblquad(
            density, -0.25, 0.25, -9.0, lambda b: math.log(hazard / true_hazard(TWO, 500.0, 0.0, b))
        )[0]

    everything = dblquad(density, -0.25, 0.25, -9.0, 6.0)[0]
    for end, share in ((found.low, 0.025), (found.value, 0.5), (found.high, 0.975)):
        assert share_below(end) / everything == pytest.approx(share, abs=0.004)


def test_two_mechanisms_are_carried_down_where_one_line_fails():
    """Onsets at 2000 and 1400 K are those of the high barrier, at 600 K the low one rules."""
    seen = [Watched(T, 400 / true_hazard(TWO, T), 400) for T in (2000.0, 1400.0)]
    truth = true_hazard(TWO, 600.0)
    found = CombinedLaw(seen, TWO, prior=PRIOR).hazard(600.0)
    assert found.low < truth < found.high
    assert ArrheniusExponential(seen).hazard(600.0).high < truth


def test_drawn_models_lie_within_their_intervals():
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(200):
        a = PRIOR.centre + PRIOR.spread * rng.standard_t(4)
        b = PRIOR.barrier * rng.standard_normal()
        seen = [
            Watched(T, time, rng.poisson(true_hazard(TWO, T, a, b) * time))
            for T, time in ((1800.0, 0.5), (1500.0, 2.0), (1250.0, 5.0))
        ]
        found = CombinedLaw(seen, TWO, prior=PRIOR).hazard(500.0)
        inside += found.low <= true_hazard(TWO, 500.0, a, b) <= found.high
    assert 180 <= inside <= 199  # 95 % of 200, give or take three standard deviations


def test_agreement_is_onsets_over_those_foretold():
    foretold = true_hazard(TWO, 1500.0) * 3.0
    found = CombinedLaw([Watched(1500.0, 3.0, 7)], TWO, prior=PRIOR).agreement
    assert found.value == pytest.approx(7 / foretold)
    assert found.low == pytest.approx(0.5 * chi2.ppf(0.025, 14) / foretold)
    assert math.isnan(CombinedLaw([Watched(1500.0, 3.0, 7)], ()).agreement.value)


def test_without_weak_spots_it_is_the_law_of_the_replicas():
    seen = [Watched(1500.0, 3.0, 7), Watched(1200.0, 5.0, 2)]
    assert CombinedLaw(seen, ()).hazard(800.0) == ArrheniusExponential(seen).hazard(800.0)
    with pytest.raises(LifeDataError, match="no weak spot is known and no replica was watched"):
        CombinedLaw((), ())
