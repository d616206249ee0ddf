"""How long replicas last: Arrhenius laws of the hazard, fitted to what was watched.

The hazard, onsets per ps of a run that is still sound, is h(T) = A exp(−E/k_B T). Replicas that
were sound when they were last seen are censored: their time counts, an onset does not. Data of
replicas at high temperatures give the hazard at a lower one (W. Nelson, "Accelerated Testing",
Wiley 1990, chapters 2 and 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.special import chdtrc, gammaincinv

from mdxai.errors import MdxaiError
from mdxai.frame import BOLTZMANN, Floats

TYPICAL_BARRIER = 0.7  # eV, to start from
LARGEST_BARRIER = 12.0  # eV; no bond is stronger
# Prefactors that a crossing of a barrier can have, per ps. Transition-state theory: k_B T/h, 6 per
# ps at 300 K and 40 at 2000 K, times exp(ΔS/k_B), times the number of equivalent ways.
PREFACTORS = (1.0, 1e6)
NEGLIGIBLE = -300.0  # ln of a hazard per ps that counts as 0


class LifeDataError(MdxaiError, ValueError):
    """Data of replicas from which no hazard follows."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the interval that holds the true value with a stated confidence."""

    value: float
    low: float
    high: float

    def map(self, function: Callable[[float], float]) -> Interval:
        """Return the estimate and the interval of a monotonic function of the quantity."""
        ends = sorted((function(self.low), function(self.high)))
        return Interval(function(self.value), *ends)

    def as_dict(self) -> dict[str, float | None]:
        """Return plain JSON; what is not finite becomes None."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {name: end if math.isfinite(end) else None for name, end in ends.items()}


def survival_of(hazard: Interval, duration: float) -> Interval:
    """Return the probability of no onset within a duration, ps, at a hazard per ps."""
    return hazard.map(lambda h: float(np.exp(-h * duration)))


def mean_time_of(hazard: Interval) -> Interval:
    """Return the inverse of a hazard per ps, ps; NaN where that is not known."""
    return hazard.map(lambda h: 1 / h if h > 1e-300 else math.inf if h >= 0 else math.nan)


def rate_of(onsets: int, time: float, confidence: float) -> Interval:
    """Return onsets per time, with Garwood's interval of a Poisson count."""
    tail = 0.5 * (1 - confidence)
    low = float(gammaincinv(onsets, tail)) if onsets else 0.0
    high = float(gammaincinv(onsets + 1, 1 - tail))
    return Interval(*(count / time for count in (onsets, low, high)))


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen of all replicas at one temperature.

    temperature: K. time: watched, summed over replicas, ps. onsets: number of them in that time.
    """

    temperature: float
    time: float
    onsets: int


@dataclass(frozen=True, slots=True)
class Lifetime:
    """What was seen of one replica.

    temperature: K. time: to its onset, or for which it was watched without one, ps.
    failed: whether there was an onset.
    """

    temperature: float
    time: float
    failed: bool


def totals(lifetimes: Sequence[Lifetime]) -> tuple[Watched, ...]:
    """Return sufficient statistics of the exponential law, one per temperature, hottest first."""
    found = sorted({life.temperature for life in lifetimes}, reverse=True)
    of = {t: [life for life in lifetimes if life.temperature == t] for t in found}
    return tuple(
        Watched(t, sum(life.time for life in of[t]), sum(life.failed for life in of[t]))
        for t in found
    )


@dataclass(frozen=True)
class ArrheniusExponential:
    """The law h(T) = A exp(−E/k_B T), fitted to what was watched.

    Estimates maximise Firth's penalised likelihood L·|I|^½ (Biometrika 80, 27 (1993)), I the
    information matrix: they are finite and nearly unbiased where few or no onsets were seen.
    Intervals are of the profile likelihood and so include that the law is extrapolated: the lower
    end of the plain one, which is 0 where only the hottest replicas broke; the upper end of the
    penalised one (Heinze and Schemper, Stat. Med. 21, 2409 (2002)), because the plain one is too
    low there.

    Args:
        watched: one entry or more per temperature.
        confidence: of intervals.
        prefactors: the smallest and largest A, per ps; E is not negative either way.

    Raises:
        LifeDataError: where nothing was watched, or for times and temperatures that cannot be.
    """

    watched: Sequence[Watched]
    confidence: float = 0.95
    prefactors: tuple[float, float] = PREFACTORS

    def __post_init__(self) -> None:
        for w in self.watched:
            if not (0 < w.temperature < math.inf and 0 <= w.time < math.inf and w.onsets >= 0):
                raise LifeDataError(
                    "expected a positive temperature, a time watched and a number of onsets that "
                    f"are not negative, got {w}"
                )
        if not sum(w.time for w in self.watched) > 0:
            raise LifeDataError("no replica was watched for any time, so no hazard follows")

    @cached_property
    def counts(self) -> Floats:
        """Onsets per entry."""
        return np.array([w.onsets for w in self.watched], dtype=np.float64)

    @cached_property
    def times(self) -> Floats:
        """Times watched, ps."""
        return np.array([w.time for w in self.watched])

    @cached_property
    def colds(self) -> Floats:
        """1/k_B T, per eV."""
        return 1 / (BOLTZMANN * np.array([w.temperature for w in self.watched]))

    @property
    def n_onsets(self) -> int:
        """Number of onsets seen."""
        return int(self.counts.sum())

    def hazard(self, temperature: float) -> Interval:
        """Return the hazard at a temperature, per ps.

        Where no onset was seen, the estimate is 0. It is NaN where one temperature was watched
        and this is another.
        """
        cold = 1 / (BOLTZMANN * temperature)
        plain = _Profile(self, cold, penalised=False)
        penalised = _Profile(self, cold, penalised=True)
        value = math.exp(penalised.best) if self.n_onsets else 0.0
        if len(set(self.colds)) == 1 and self.colds[0] != cold:
            value = math.nan
        return Interval(value, plain.lower_end(), penalised.upper_end())

    @cached_property
    def estimate(self) -> tuple[float, float]:
        """Ln A (A per ps) and E (eV)."""
        reference = float(self.colds.min())
        profile = _Profile(self, reference, penalised=True)
        barrier = profile.barrier(profile.best)
        return profile.best + barrier * reference, barrier

    def log_likelihood(self, at_reference: float, barrier: float, reference: float) -> float:
        """Return Σ d ln h − h t, of the logarithm of the hazard at 1/k_B T = reference, and E."""
        logs = at_reference - barrier * (self.colds - reference)
        return float(self.counts @ logs - self.times @ np.exp(np.minimum(logs, 300.0)))

    def log_penalty(self, at_reference: float, barrier: float, reference: float) -> float:
        """Return ½ ln |I|, up to a constant; of one temperature ½ ln of the expected onsets."""
        logs = at_reference - barrier * (self.colds - reference)
        weights = self.times * np.exp(np.clip(logs, -700.0, 300.0))
        apart = self.colds[:, None] - self.colds[None, :]
        if not apart.any():
            return 0.5 * math.log(max(weights.sum(), 1e-300))
        return 0.5 * math.log(max(0.5 * float(weights @ apart**2 @ weights), 1e-300))

    @property
    def lack_of_fit(self) -> float:
        """P of the deviance from one rate per temperature; NaN with fewer than 3 temperatures."""
        n = len(set(self.colds))
        if n < 3 or not self.n_onsets:
            return math.nan
        reference = float(self.colds.min())
        profile = _Profile(self, reference, penalised=False)
        barrier = profile.barrier(profile.best)
        expected = self.times * np.exp(profile.best - barrier * (self.colds - reference))
        seen = self.counts
        logs = np.log(np.where(seen > 0, seen / np.maximum(expected, 1e-300), 1.0))
        deviance = 2 * (seen @ logs - (seen - expected).sum())
        return float(chdtrc(n - 2, max(deviance, 0.0)))


class _Profile:
    """The likelihood as a function of ln h at one temperature, maximised over E."""

    def __init__(self, law: ArrheniusExponential, cold: float, *, penalised: bool) -> None:
        self._law, self._cold, self._penalised = law, cold, penalised
        self._allowed = float(gammaincinv(0.5, law.confidence))
        start = self._first_guess()
        found = minimize_scalar(
            lambda log: -self.height(log),
            bracket=(start - 1.0, start),
            options={"xtol": 1e-8},
        )
        self.best, self._top = float(found.x), -float(found.fun)

    def _first_guess(self) -> float:
        law = self._law
        rate = (law.n_onsets + 0.5) / float(law.times.sum())
        mean = float(law.colds @ (law.counts + 0.01)) / (law.n_onsets + 0.01 * len(law.colds))
        return math.log(rate) - TYPICAL_BARRIER * (self._cold - mean)

    def _value(self, log: float, barrier: float) -> float:
        low, high = self._barriers(log)
        barrier = min(max(barrier, low), high)
        value = self._law.log_likelihood(log, barrier, self._cold)
        if self._penalised:
            value += self._law.log_penalty(log, barrier, self._cold)
        return value

    def _barriers(self, log: float) -> tuple[float, float]:
        """Return the range of E that the prefactors leave."""
        low, high = (math.log(a) - log for a in self._law.prefactors)
        least = min(max(low / self._cold, 0.0), LARGEST_BARRIER)
        return least, min(max(high / self._cold, least), LARGEST_BARRIER)

    def barrier(self, log: float) -> float:
        """Return the likeliest E, eV."""
        low, high = self._barriers(log)
        if high - low < 1e-9:
            return low
        found = minimize_scalar(
            lambda barrier: -self._value(log, barrier), bounds=(low, high), method="bounded",
            options={"xatol": 1e-7},
        )  # fmt: skip
        return float(min((low, high, float(found.x)), key=lambda e: -self._value(log, e)))

    def height(self, log: float) -> float:
        return self._value(log, self.barrier(log))

    def _excess(self, log: float) -> float:
        return self.height(log) - self._top + float(self._allowed)

    def upper_end(self) -> float:
        """Return the hazard above which the data are too unlikely, per ps."""
        return math.exp(self._crossing(1.0))

    def lower_end(self) -> float:
        """Return the hazard below which the data are too unlikely, per ps; 0 if there is none."""
        log = self._crossing(-1.0)
        return 0.0 if log <= NEGLIGIBLE else math.exp(log)

    def _crossing(self, step: float) -> float:
        inside = outside = self.best
        while self._excess(outside) > 0:
            inside, outside, step = outside, outside + step, 2 * step
            if not NEGLIGIBLE < outside < -NEGLIGIBLE:
                return math.copysign(NEGLIGIBLE, step)
        return float(brentq(self._excess, inside, outside, xtol=1e-6))


@dataclass(frozen=True, slots=True)
class Memory:
    """Whether the hazard depends on how long a replica has lived.

    shape: of the Weibull law; 1 without memory, more where replicas wear out, less where the weak
    ones break first. p: of the likelihood ratio to shape 1.
    """

    shape: float
    p: float

    def __str__(self) -> str:
        if math.isnan(self.p):
            return "too few onsets to tell whether they have a memory"
        seen = "no memory is seen" if self.p >= 0.05 else "a memory is seen"
        return f"Weibull shape {self.shape:.2f} (p = {self.p:.2g} for 1): {seen}"


FEWEST = 5  # onsets from which a shape follows


def memory_of(lifetimes: Sequence[Lifetime]) -> Memory:
    """Test the exponential law against a Weibull law, by the likelihood ratio.

    The cumulated hazard of a replica at T after t is (λ t)^k with ln λ = a − E/k_B T; k = 1 is the
    exponential law.

    Args:
        lifetimes: of replicas, those without an onset included.
    """
    lives = [life for life in lifetimes if life.time > 0]
    failed = np.array([life.failed for life in lives], dtype=np.float64)
    if failed.sum() < FEWEST:
        return Memory(math.nan, math.nan)
    logs = np.log([life.time for life in lives])
    colds = 1 / (BOLTZMANN * np.array([life.temperature for life in lives]))
    slopes = colds - colds.mean() if np.ptp(colds) > 0 else np.zeros(len(colds))

    def unlikely(at: Floats) -> float:
        rates = at[0] - at[1] * slopes
        shape = np.exp(np.clip(at[2] if len(at) > 2 else 0.0, -5.0, 5.0))
        exponents = np.clip(shape * (rates + logs), -700.0, 50.0)
        return float(-failed @ (np.log(shape) + exponents - logs) + np.exp(exponents).sum())

    start = [math.log(failed.sum()) - math.log(np.exp(logs).sum()), TYPICAL_BARRIER]
    without = minimize(unlikely, start, method="Nelder-Mead", options=_PRECISE)
    with_shape = minimize(unlikely, [*without.x, 0.0], method="Nelder-Mead", options=_PRECISE)
    ratio = max(2 * (without.fun - with_shape.fun), 0.0)
    return Memory(float(np.exp(with_shape.x[2])), float(chdtrc(1, ratio)))


_PRECISE = {"xatol": 1e-6, "fatol": 1e-8, "maxiter": 4000}
