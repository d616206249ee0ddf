"""Runs with a known hazard: λ exp(β x(t) + frailty of the model), censored at a known time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import lfilter

from mdxai.study.resampling import strata
from mdxai.study.run_outcome import Outcome
from mdxai.study.survival.association import AssociationSettings
from mdxai.study.survival.covariates import lagged
from mdxai.study.survival.cox import RiskSets
from mdxai.study.survival.estimators import endings

STEP = 10.0  # fs
FAST = AssociationSettings(lag=STEP, resamples=200)


@dataclass(frozen=True)
class Hazard:
    """How runs break. x = between·a + within·b(t), a per model, b an AR(1) of unit variance."""

    beta: float = 0.0
    rate: float = 1 / 2000  # 1/fs
    between: float = 0.6
    within: float = 0.8
    memory: float = 300.0  # fs
    frailty: float = 0.0  # standard deviation over models of the log hazard
    duration: float = 3000.0  # fs
    delay: float = 0.0  # fs by which the hazard follows x


def made_runs(
    hazard: Hazard, seed: int, *, models: int = 12, replicas: int = 4, temperatures=(500.0,)
) -> list[Outcome]:
    """Return runs whose series "decay_rise" is x; all other series and traits do nothing."""
    rng = np.random.default_rng(seed)
    runs = []
    for m in range(models):
        a, log_frailty = rng.normal(), hazard.frailty * rng.normal()
        force_error = rng.normal()
        for kelvin in temperatures:
            for r in range(replicas):
                x = hazard.between * a + hazard.within * _ar1(hazard, rng)
                hot = np.log(kelvin / 500.0)
                end, unstable = _break(hazard, x, log_frailty + 2 * hot, rng)
                times = np.arange(len(x)) * STEP
                before = times < end if unstable else times <= end
                noise = {name: _ar1(hazard, rng)[before] for name in ("bond_order", "equivalence")}
                runs.append(
                    Outcome(
                        f"m{m}/{kelvin:g}K/{r}", f"m{m}", "C2H6O", kelvin, end, unstable,
                        times[before],
                        {"decay_rise": x[before], "force_norm": _ar1(hazard, rng)[before],
                         "bond": np.abs(_ar1(hazard, rng))[before]} | noise,
                        {"force_mae_mev_per_ang": force_error},
                    )
                )  # fmt: skip
    return runs


def _ar1(hazard: Hazard, rng: np.random.Generator) -> np.ndarray:
    """Return values[k] = keep · values[k−1] + kicks[k], of unit variance."""
    n = int(hazard.duration / STEP) + 1
    keep = np.exp(-STEP / hazard.memory)
    kicks = rng.normal(size=n) * np.sqrt(1 - keep**2)
    kicks[0] = rng.normal()
    return lfilter([1.0], [1.0, -keep], kicks)


def _break(hazard: Hazard, x: np.ndarray, log_hazard: float, rng: np.random.Generator):
    """Invert the cumulated hazard of a piecewise constant x: exact."""
    shift = round(hazard.delay / STEP)
    driving = np.concatenate([np.full(shift, x[0]), x[: len(x) - shift]])
    rates = hazard.rate * np.exp(hazard.beta * driving[:-1] + log_hazard)
    cumulated = np.append(0.0, np.cumsum(rates * STEP))
    target = rng.exponential()
    if target >= cumulated[-1]:
        return hazard.duration, False
    k = int(np.searchsorted(cumulated, target, side="right")) - 1
    return k * STEP + float((target - cumulated[k]) / rates[k]), True


def only(runs, *names):
    """Return the runs with some of their series, and no traits."""
    return [
        replace(o, series={k: v for k, v in o.series.items() if k in names}, traits={})
        for o in runs
    ]


def risk_sets(runs, name="decay_rise", lag=STEP):
    """Return the risk sets of runs, and the lagged values of a series in their rows."""
    sets = RiskSets.of(*endings(runs), strata(runs))
    x = lagged(runs, name, sets, lag)
    keep = np.isfinite(x)
    return sets.select(keep), x[sets.kept(keep)]
