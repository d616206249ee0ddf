"""The hazard of a model: what its weak spots foretell, corrected by what replicas did.

The rates of all weak spots together, W(T) = Σ n ν exp(−E/k_B T), hold several mechanisms of which
one wins at low temperature and another at high ones. What the search leaves out (recrossing,
anharmonic motion, ways that it did not find) is a factor and an error of the barrier:

    h(T) = exp(a − b (1/k_B T − 1/k_B T₀)) W(T),  T₀ = 1000 K.

Both have a prior distribution, from models whose runs were watched, and the onsets of replicas at
any temperature sharpen it (Bayes' theorem, on a grid).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.special import logsumexp

from mdxai.forecast.survival_model import (
    ArrheniusExponential,
    Interval,
    LifeDataError,
    Watched,
    rate_of,
)
from mdxai.frame import BOLTZMANN, Floats

REFERENCE = 1000.0  # K, T₀


class Passage(Protocol):
    """What the law needs of a weak spot.

    multiplicity: equal ones, itself included. prefactor_per_ps: of one of them. barrier: eV.
    """

    @property
    def multiplicity(self) -> int: ...
    @property
    def prefactor_per_ps(self) -> float: ...
    @property
    def barrier(self) -> float: ...


def log_hazard_of(spots: Sequence[Passage], temperature: float) -> float:
    """Return ln W(T), W per ps, at a temperature, K; minus infinity without weak spots."""
    if not spots:
        return -math.inf
    cold = 1 / (BOLTZMANN * temperature)
    return float(logsumexp([
        math.log(s.multiplicity * s.prefactor_per_ps) - s.barrier * cold for s in spots
    ]))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Prior:
    """What is known of the correction of weak spots before any replica was watched.

    a is centre + spread·t with Student's t of a few degrees of freedom, so that onsets which
    contradict the weak spots prevail; b is normal.

    Attributes:
        centre, spread: of a, the logarithm of seen over foretold hazard at 1000 K.
        freedom: degrees of freedom of a.
        barrier: standard deviation of b, eV.

    The defaults were fitted to the runs of 31 models of ethanol, but for freedom and barrier, which
    were chosen (`runs/forecast/ANALYSIS.md`).
    """

    centre: float = -0.65
    spread: float = 0.5
    freedom: float = 4.0
    barrier: float = 0.05


@dataclass(frozen=True)
class CombinedLaw:
    """The hazard of a model from its weak spots and from replicas that were watched.

    Args:
        watched: of replicas, at any temperatures; may be empty.
        spots: weak spots of the model, such as `WeakSpots.spots`; without any the law is an
            Arrhenius law of the replicas.
        confidence: of intervals.
        prior: of the correction.

    Raises:
        LifeDataError: where there are neither weak spots nor time that was watched.
    """

    watched: Sequence[Watched]
    spots: Sequence[Passage]
    confidence: float = 0.95
    prior: Prior = Prior()

    def __post_init__(self) -> None:
        if not self.spots and not sum(w.time for w in self.watched) > 0:
            raise LifeDataError("no weak spot is known and no replica was watched, so no hazard is")

    @property
    def n_onsets(self) -> int:
        """Onsets of replicas that the law rests on."""
        return sum(w.onsets for w in self.watched)

    def hazard(self, temperature: float) -> Interval:
        """Return the hazard at a temperature (K), per ps: its median and equal tails.

        Without weak spots those of `ArrheniusExponential`.

        Raises:
            LifeDataError: for a temperature that is not positive and finite.
        """
        if not 0 < temperature < math.inf:
            raise LifeDataError(
                f"the temperature must be positive and finite, got {temperature!r} K"
            )
        if not self.spots:
            return ArrheniusExponential(self.watched, self.confidence).hazard(temperature)
        logs = log_hazard_of(self.spots, temperature) + self._corrections(temperature)
        order = np.argsort(logs, axis=None)
        shares = np.cumsum(self._posterior.ravel()[order])
        tail = 0.5 * (1 - self.confidence)
        low, middle, high = np.interp([tail, 0.5, 1 - tail], shares, logs.ravel()[order])
        return Interval(math.exp(middle), math.exp(low), math.exp(high))

    @property
    def agreement(self) -> Interval:
        """How many times as often replicas broke as the weak spots say, at their temperatures.

        Onsets over those foretold without any correction; NaN where nothing was foretold.
        """
        expected = sum(
            w.time * math.exp(log_hazard_of(self.spots, w.temperature)) for w in self.watched
        )
        if not expected > 0:
            return Interval(math.nan, math.nan, math.nan)
        return rate_of(self.n_onsets, expected, self.confidence)

    @cached_property
    def _grid(self) -> tuple[Floats, Floats]:
        """The factors' logarithms (n, 1) and the shifts of barriers (1, m), eV."""
        prior = self.prior
        a = prior.centre + prior.spread * np.linspace(-12.0, 12.0, 361)
        return a[:, None], prior.barrier * np.linspace(-4.5, 4.5, 61)[None, :]

    def _corrections(self, temperature: float) -> Floats:
        a, b = self._grid
        corrections: Floats = a - b * (1 / temperature - 1 / REFERENCE) / BOLTZMANN
        return corrections

    @cached_property
    def _posterior(self) -> Floats:
        """Shares (n, m) of the grid."""
        a, b = self._grid
        prior = self.prior
        t = (a - prior.centre) / prior.spread
        heights = -0.5 * (prior.freedom + 1) * np.log1p(t**2 / prior.freedom)
        heights = heights - 0.5 * (b / prior.barrier) ** 2
        for w in self.watched:
            logs = log_hazard_of(self.spots, w.temperature) + self._corrections(w.temperature)
            heights += w.onsets * logs - w.time * np.exp(np.minimum(logs, 300.0))
        posterior: Floats = np.exp(heights - logsumexp(heights))
        return posterior


def law_of_all(
    watched: Sequence[Watched], spots: Sequence[Passage], confidence: float = 0.95
) -> CombinedLaw | None:
    """Return the law of weak spots and replicas; None where there are neither."""
    try:
        return CombinedLaw(watched, spots, confidence)
    except LifeDataError:
        return None


def foretold_hazard(
    law: CombinedLaw | None, temperature: float, *, searched: bool = True
) -> Interval:
    """Return the hazard at a temperature (K), per ps, whatever is known of it.

    Without weak spots and onsets the estimate is 0 where weak spots were looked for in vain, and
    else NaN. Without a law nothing bounds it.

    Args:
        law: that `law_of_all` returned.
        temperature: K.
        searched: whether weak spots were looked for.

    Raises:
        LifeDataError: as `CombinedLaw.hazard`.
    """
    nothing = 0.0 if searched else math.nan
    if law is None:
        return Interval(nothing, 0.0, math.inf)
    found = law.hazard(temperature)
    return found if law.spots or law.n_onsets else replace(found, value=nothing)
