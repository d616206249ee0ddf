"""Runs with a known hazard: λ exp(β x(t) + frailty of the model), censored at a known time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mdxai.study.run_outcome import Outcome

STEP = 10.0  # fs


@dataclass(frozen=True)
class Measure:
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
    principle: Measure, seed: int, *, models: int = 12, replicas: int = 4, temperatures=(500.0,)
) -> list[Outcome]:
    rng = np.random.default_rng(seed)
    runs = []
    for m in range(models):
        a, log_frailty = rng.normal(), principle.frailty * rng.normal()
        force_error = rng.normal()
        for kelvin in temperatures:
            for r in range(replicas):
                x = principle.between * a + principle.within * _ar1(principle, rng)
                hot = np.log(kelvin / 500.0)
                end, unstable = _break(principle, x, log_frailty + 2 * hot, rng)
                times = np.arange(len(x)) * STEP
                before = times < end if unstable else times <= end
                noise = {f"noise{k}": _ar1(principle, rng)[before] for k in range(2)}
                runs.append(
                    Outcome(
                        f"m{m}/{kelvin:g}K/{r}", f"m{m}", "C2H6O", kelvin, end, unstable,
                        times[before],
                        {"decay_rise": x[before], "force_norm": _ar1(principle, rng)[before],
                         "bond": np.abs(_ar1(principle, rng))[before]} | noise,
                        {"force_mae_mev_per_ang": force_error},
                    )
                )  # fmt: skip
    return runs


def _ar1(principle: Measure, rng: np.random.Generator) -> np.ndarray:
    n = int(principle.duration / STEP) + 1
    keep = np.exp(-STEP / principle.memory)
    kicks = rng.normal(size=n) * np.sqrt(1 - keep**2)
    values = np.empty(n)
    values[0] = rng.normal()
    for k in range(1, n):
        values[k] = keep * values[k - 1] + kicks[k]
    return values


def _break(principle: Measure, x: np.ndarray, log_hazard: float, rng: np.random.Generator):
    """Invert the cumulated hazard of a piecewise constant x: exact."""
    shift = round(principle.delay / STEP)
    driving = np.concatenate([np.full(shift, x[0]), x[: len(x) - shift]])
    hazard = principle.rate * np.exp(principle.beta * driving[:-1] + log_hazard)
    cumulated = np.append(0.0, np.cumsum(hazard * STEP))
    target = rng.exponential()
    if target >= cumulated[-1]:
        return principle.duration, False
    k = int(np.searchsorted(cumulated, target, side="right")) - 1
    return k * STEP + float((target - cumulated[k]) / hazard[k]), True
