"""What a life test was asked, and what it found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mdxai.forecast.allocation import is_slow, usable
from mdxai.forecast.bond_strengths import Ceiling
from mdxai.forecast.hot_replicas import LifeTestError, Motion, Replica
from mdxai.forecast.quantity_text import share_interval_text, time_interval_text, time_text
from mdxai.forecast.survival_model import (
    PREFACTORS,
    ArrheniusExponential,
    Interval,
    Lifetime,
    Memory,
    Watched,
    mean_time_of,
    memory_of,
    survival_of,
    totals,
)
from mdxai.serialization import as_json
from mdxai.stability.thresholds import THRESHOLDS, Threshold

SEEN = ("T / K", "watched / ps", "onsets", "per ps")  # headings of what replicas did
SETTLED = 10, 3  # onsets that a law rests on, and of these below its hottest temperature
UNFIT = 0.01  # p below which the data follow no Arrhenius law
PS = 1000.0  # fs


@dataclass(frozen=True, slots=True)
class LifeTestOptions:
    """How a life test is made, and when it ends.

    Attributes:
        width: the test ends when the interval of the survival is no wider than this.
        at_least: it also ends when the survival is known to be above or below this; None to know
            it to `width` either way.
        most: largest simulated time of all replicas together, ps.
        seconds: largest wall time of this call; None for any. A test that is continued goes on.
        replicas: at a time; None takes 16 for a network of mdxai, whose replicas are one batch,
            and 4 for other calculators.
        hottest: K; None takes what real bonds withstand.
        seed: of all random numbers.
        confidence: of intervals.
        prefactors: smallest and largest prefactor of an Arrhenius law, per ps; physics, not data.
        motion: how replicas move.
        thresholds: by which a replica has broken.

    Raises:
        LifeTestError: for values that cannot be.
    """

    width: float = 0.1
    at_least: float | None = None
    most: float = 200.0
    seconds: float | None = None
    replicas: int | None = None
    hottest: float | None = None
    seed: int = 1
    confidence: float = 0.95
    prefactors: tuple[float, float] = PREFACTORS
    motion: Motion = field(default_factory=Motion)
    thresholds: tuple[Threshold, ...] = THRESHOLDS

    def __post_init__(self) -> None:
        for name in ("most", "seconds", "replicas", "hottest"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise LifeTestError(f"{name} must be positive and finite, got {value!r}")
        for name in ("width", "at_least", "confidence"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise LifeTestError(f"{name} must be between 0 and 1, got {value!r}")
        if self.seed < 0:
            raise LifeTestError(f"seed must be 0 or above, got {self.seed!r}")
        low, high = self.prefactors
        if not 0 < low <= high < np.inf:
            raise LifeTestError(f"expected 0 < smallest ≤ largest prefactor, got {low}, {high}")


@dataclass(frozen=True)
class LifeTest:
    """The result of a life test.

    Attributes:
        temperature: that it is about, K. duration: of a run, ps.
        replicas: all of them; those in the slots at the end are sound.
        ceiling: the hottest temperature that was allowed, K, and why.
        options: how it was made.
        stopped: why it ended: "narrow enough", "decided", "time is up" or "budget used up".
        seconds: wall time of all calls together.
        model: name of the calculator.
    """

    temperature: float
    duration: float
    replicas: tuple[Replica, ...]
    ceiling: Ceiling
    options: LifeTestOptions
    stopped: str
    seconds: float
    model: str = ""

    @cached_property
    def lifetimes(self) -> tuple[Lifetime, ...]:
        """What was seen of each replica after its warm-up; from its start if none outlived that."""
        found = tuple(lifetimes_of(self.replicas))
        if any(life.time > 0 for life in found):
            return found
        return tuple(lifetimes_of(self.replicas, self.options.motion.warm_up))

    @cached_property
    def watched(self) -> tuple[Watched, ...]:
        """What was seen at each temperature, hottest first."""
        return totals(self.lifetimes)

    @cached_property
    def law(self) -> ArrheniusExponential:
        """The fitted law, of temperatures at which replicas live long enough."""
        return law_of(self.watched, self.temperature, self.options)

    @cached_property
    def hazard(self) -> Interval:
        """Onsets per ps of a run that is still sound."""
        return self.law.hazard(self.temperature)

    @property
    def survival(self) -> Interval:
        """Probability that a run of the duration has no onset."""
        return self.survival_of(self.duration)

    def survival_of(self, duration: float) -> Interval:
        """Return the probability that a run of another duration, ps, has no onset."""
        return survival_of(self.hazard, duration)

    @property
    def mean_time_to_failure(self) -> Interval:
        """The inverse of the hazard, ps."""
        return mean_time_of(self.hazard)

    @cached_property
    def memory(self) -> Memory:
        """Whether onsets have a memory, by those that the law rests on."""
        used = {w.temperature for w in self.law.watched}
        return memory_of([life for life in self.lifetimes if life.temperature in used])

    @property
    def is_narrow(self) -> bool:
        """Whether the interval of the survival is as narrow as was asked for."""
        return is_narrow(self.survival, self.options)

    @property
    def is_settled(self) -> bool:
        """Whether the law rests on data enough for the test to end: ten onsets, three of them below
        its hottest temperature, where other weak spots may rule, and none of where replicas break
        at once; or no onset at all, or those of the target alone.
        """
        watched = self.law.watched
        if not all(is_slow(w, self.temperature) for w in watched):
            return False
        hottest = max(w.temperature for w in watched)
        colder = sum(w.onsets for w in watched if w.temperature < hottest)
        few = self.law.n_onsets < SETTLED[0] or colder < SETTLED[1]
        return not few or not self.law.n_onsets or hottest <= self.temperature

    @property
    def causes(self) -> dict[str, int]:
        """How often each principle was the cause of an onset, warm-ups included."""
        return dict(Counter(r.cause for r in self.replicas if r.fate == "failed").most_common())

    @property
    def n_reacted(self) -> int:
        """Number of replicas that reacted or melted, which are no onsets."""
        return sum(r.fate in ("reacted", "melted") for r in self.replicas)

    @property
    def sentence(self) -> str:
        """The forecast in one sentence."""
        run = f"a run of {time_text(self.duration)} at {self.temperature:g} K survives with"
        survival, mean = self.survival, self.mean_time_to_failure
        if not self.law.n_onsets:
            seen = time_text(sum(w.time for w in self.watched))
            return (
                f"no replica broke in {seen} at up to {self.watched[0].temperature:.0f} K: {run} "
                f"probability at least {survival.low:.2g}; mean time to failure at least "
                f"{time_text(mean.low)}"
            )
        known = f"probability {share_interval_text(survival)}"
        return f"{run} {known}; mean time to failure {time_interval_text(mean)}"

    def notes(self) -> list[str]:
        """Return what a reader of the numbers should know."""
        law, found = self.law, self.notes_on_data()
        if law.lack_of_fit < UNFIT:
            found.append(
                f"the hazards do not follow one Arrhenius law (p = {law.lack_of_fit:.2g}): several "
                "weak spots compete, and the interval is too narrow; test closer to the target"
            )
        if not self.is_settled:
            found.append(
                "the law rests on few onsets, or on replicas that break at once: a longer test may "
                "change it by more than the interval says"
            )
        if not self.is_narrow:
            width = self.survival.high - self.survival.low
            found.append(
                f"{self.stopped}: the interval of the survival is {width:.2g} wide, asked for was "
                f"{self.options.width:g}; a longer test narrows it"
            )
        return found

    def notes_on_data(self) -> list[str]:
        """Return what a reader should know of the replicas, whatever law they are used for."""
        found = [str(self.memory)]
        left = [w.temperature for w in self.watched if w not in self.law.watched]
        if left:
            found.append(
                f"left out of the law, as replicas break there at once: "
                f"{', '.join(f'{t:.0f} K' for t in left)}"
            )
        if self.n_reacted:
            some = "1 replica" if self.n_reacted == 1 else f"{self.n_reacted} replicas"
            found.append(f"{some} reacted or melted, which counts as no onset")
        return found

    @property
    def simulated(self) -> float:
        """Simulated time of all replicas together, warm-ups included, ps."""
        warm_up = self.options.motion.warm_up
        return sum(max(r.time + warm_up, 0.0) for r in self.replicas) / PS

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Per temperature: K, time watched (ps), onsets, onsets per ps, and those of the law."""
        return rows_of(self.watched, self.law.hazard)

    @property
    def table(self) -> str:
        """The rows as text."""
        return table_text((*SEEN, "by the law"), self.rows)

    def __str__(self) -> str:
        return "\n".join([self.sentence, self.table, *self.notes()])

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON; what is not finite becomes None."""
        log_prefactor, barrier = self.law.estimate
        fitted = self.law.n_onsets > 0
        return {
            "temperature_K": self.temperature,
            "duration_ps": self.duration,
            "survival": self.survival.as_dict(),
            "hazard_per_ps": self.hazard.as_dict(),
            "mean_time_to_failure_ps": self.mean_time_to_failure.as_dict(),
            "life_test": as_json({
                "model": self.model, "stopped": self.stopped, "is_narrow": self.is_narrow,
                "activation_eV": barrier if fitted else None,
                "prefactor_per_ps": float(np.exp(log_prefactor)) if fitted else None,
                "confidence": self.options.confidence, "seed": self.options.seed,
                "hottest_K": self.ceiling.temperature, "hottest_because": self.ceiling.reason,
                "watched": [asdict(w) for w in self.watched], "causes": self.causes,
                "reacted": self.n_reacted, "weibull_shape": self.memory.shape,
                "memoryless_p": self.memory.p, "arrhenius_p": self.law.lack_of_fit,
                "seconds": self.seconds, "notes": self.notes(),
            }),
        }  # fmt: skip


def rows_of(
    watched: Sequence[Watched], hazard: Callable[[float], Interval]
) -> list[tuple[str, ...]]:
    """Return a row of text per temperature: what was seen, and the hazard that a law says."""
    return [
        (
            f"{w.temperature:.0f}", f"{w.time:.2f}", f"{w.onsets}",
            f"{w.onsets / w.time:.3g}" if w.time else "", _number(hazard(w.temperature).value),
        )
        for w in watched
    ]  # fmt: skip


def _number(value: float) -> str:
    return "unknown" if np.isnan(value) else f"{value:.3g}"


def table_text(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under their headings as text."""
    return "\n".join("  ".join(f"{c:>12}" for c in row) for row in (headings, *rows))


def lifetimes_of(replicas: Sequence[Replica], earlier: float = 0.0) -> list[Lifetime]:
    """Return lifetimes from the end of the warm-up, or from some fs earlier."""
    times = [r.time + earlier for r in replicas]
    return [
        Lifetime(r.temperature, max(t, 0.0) / PS, r.fate == "failed" and t > 0)
        for r, t in zip(replicas, times, strict=True)
    ]


def law_of(
    watched: Sequence[Watched], target: float, options: LifeTestOptions
) -> ArrheniusExponential:
    return ArrheniusExponential(usable(watched, target), options.confidence, options.prefactors)


def is_narrow(survival: Interval, options: LifeTestOptions) -> bool:
    return survival.high - survival.low <= options.width
