"""Sequential detectors of change; each value is read once and not stored.

A detector watches many independent streams at once, element by element, and returns a statistic
per stream. An alarm is a statistic above a threshold. Values are given as deviations from their
usual level, in standard deviations; `Baseline` learns both. NaN is counted and otherwise ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike

from mdxai.frame import Bools, Floats, Ints
from mdxai.statistics.bins import StatisticsError

Sides = Literal["up", "down", "both"]
SIGNS: Mapping[str, tuple[float, ...]] = {"up": (1.0,), "down": (-1.0,), "both": (1.0, -1.0)}
FARTHEST = 1e6  # standard deviations; values are clipped here, so that sums stay finite
TO_DEVIATION = 1.482602218505602  # σ of a normal distribution over its median absolute deviation
FEWEST = 8  # values that a baseline needs


class Detector(Protocol):
    """Watches streams for a change."""

    n_missing: Ints

    @property
    def statistic(self) -> Floats: ...

    def update(self, values: ArrayLike) -> Floats: ...

    def restart(self, streams: Bools) -> None: ...


class Shewhart:
    """A threshold on the value itself: the statistic is the last value (Shewhart 1931).

    Args:
        n_streams: number of streams.
        sides: "up" watches for a rise, "down" for a fall, "both" for either.

    Attributes:
        n_missing: (n_streams,) NaN values so far.

    Raises:
        StatisticsError: for unknown sides or no streams.
    """

    def __init__(self, n_streams: int = 1, *, sides: Sides = "up") -> None:
        self._signs = _signs(sides, n_streams)
        self.n_missing: Ints = np.zeros(n_streams, dtype=np.int64)
        self._last: Floats = np.zeros((len(self._signs), n_streams))

    @property
    def statistic(self) -> Floats:
        """(n_streams,)."""
        return _largest(self._last)

    def update(self, values: ArrayLike) -> Floats:
        """Take in the next value of each stream, (n_streams,); return the statistic."""
        given, missing = _taken(values, self.n_missing)
        self._last = np.where(missing, self._last, self._signs * given)
        return self.statistic

    def restart(self, streams: Bools) -> None:
        """Forget what was seen of some streams, (n_streams,) bool."""
        self._last[:, streams] = 0.0


class Cusum:
    """Cumulative sum S ← max(0, S ± z − k) (Page, Biometrika 41, 100, 1954).

    Best for a lasting shift by 2k.

    Args:
        n_streams: number of streams.
        allowance: k, standard deviations.
        sides: "up", "down", or the larger of "both".

    Attributes:
        n_missing: (n_streams,) NaN values so far.

    Raises:
        StatisticsError: for unknown sides, no streams, or a negative allowance.
    """

    def __init__(self, n_streams: int = 1, *, allowance: float = 0.5, sides: Sides = "up") -> None:
        self._signs = _signs(sides, n_streams)
        self._allowance = _allowance(allowance)
        self.n_missing: Ints = np.zeros(n_streams, dtype=np.int64)
        self._sums: Floats = np.zeros((len(self._signs), n_streams))

    @property
    def statistic(self) -> Floats:
        """(n_streams,)."""
        return _largest(self._sums)

    def update(self, values: ArrayLike) -> Floats:
        """Take in the next value of each stream, (n_streams,); return the statistic."""
        given, missing = _taken(values, self.n_missing)
        sums = np.maximum(self._sums + (self._signs * given - self._allowance), 0.0)
        self._sums = np.where(missing, self._sums, sums)
        return self.statistic

    def restart(self, streams: Bools) -> None:
        """Forget what was seen of some streams, (n_streams,) bool."""
        self._sums[:, streams] = 0.0


class Ewma:
    """Exponentially weighted mean E ← (1 − λ) E + λ z, over its own deviation √(λ/(2 − λ)).

    Roberts, Technometrics 1, 239 (1959); run lengths in Lucas and Saccucci, Technometrics 32, 1
    (1990). The deviation is that of a long stream.

    Args:
        n_streams: number of streams.
        weight: λ, between 0 and 1; 1 is a Shewhart chart.
        sides: "up", "down", or the larger of "both".

    Attributes:
        n_missing: (n_streams,) NaN values so far.

    Raises:
        StatisticsError: for unknown sides, no streams, or a weight outside (0, 1].
    """

    def __init__(self, n_streams: int = 1, *, weight: float = 0.1, sides: Sides = "up") -> None:
        if not 0 < weight <= 1:
            raise StatisticsError(f"the weight of an EWMA must be in (0, 1], got {weight}")
        self._signs = _signs(sides, n_streams)
        self._weight = float(weight)
        self.n_missing: Ints = np.zeros(n_streams, dtype=np.int64)
        self._mean: Floats = np.zeros(n_streams)

    @property
    def statistic(self) -> Floats:
        """(n_streams,)."""
        spread = math.sqrt(self._weight / (2 - self._weight))
        return _largest(self._signs * (self._mean / spread))

    def update(self, values: ArrayLike) -> Floats:
        """Take in the next value of each stream, (n_streams,); return the statistic."""
        given, missing = _taken(values, self.n_missing)
        mean = self._mean + self._weight * (given - self._mean)
        self._mean = np.where(missing, self._mean, mean)
        return self.statistic

    def restart(self, streams: Bools) -> None:
        """Forget what was seen of some streams, (n_streams,) bool."""
        self._mean[streams] = 0.0


class PageHinkley:
    """Page and Hinkley's test against the stream's own mean: m_t − min m, m_t = Σ (z_i − z̄_i − δ).

    z̄_i is the mean up to and including z_i (Hinkley, Biometrika 58, 509, 1971; in this form Mouss
    et al., Asian Control Conference 2004), so the test recovers from a wrong baseline and follows a
    slow drift. It equals the cumulative sum of z_i − z̄_i, and is stored as such.

    Args:
        n_streams: number of streams.
        allowance: δ, standard deviations.
        sides: "up", "down", or the larger of "both".

    Attributes:
        n_missing: (n_streams,) NaN values so far.

    Raises:
        StatisticsError: for unknown sides, no streams, or a negative allowance.
    """

    def __init__(self, n_streams: int = 1, *, allowance: float = 0.5, sides: Sides = "up") -> None:
        self._signs = _signs(sides, n_streams)
        self._allowance = _allowance(allowance)
        self.n_missing: Ints = np.zeros(n_streams, dtype=np.int64)
        self._count: Floats = np.zeros(n_streams)
        self._mean: Floats = np.zeros(n_streams)
        self._sums: Floats = np.zeros((len(self._signs), n_streams))

    @property
    def statistic(self) -> Floats:
        """(n_streams,)."""
        return _largest(self._sums)

    def update(self, values: ArrayLike) -> Floats:
        """Take in the next value of each stream, (n_streams,); return the statistic."""
        given, missing = _taken(values, self.n_missing)
        self._count += ~missing
        mean = self._mean + (given - self._mean) / np.maximum(self._count, 1.0)
        sums = self._sums + (self._signs * (given - mean) - self._allowance)
        self._mean = np.where(missing, self._mean, mean)
        self._sums = np.where(missing, self._sums, np.maximum(sums, 0.0))
        return self.statistic

    def restart(self, streams: Bools) -> None:
        """Forget what was seen of some streams, (n_streams,) bool."""
        self._count[streams] = self._mean[streams] = 0.0
        self._sums[:, streams] = 0.0


DETECTORS: Mapping[str, type[Shewhart] | type[Cusum] | type[Ewma] | type[PageHinkley]] = {
    "shewhart": Shewhart,
    "cusum": Cusum,
    "ewma": Ewma,
    "page_hinkley": PageHinkley,
}


def make_detector(
    name: str, n_streams: int, parameters: Mapping[str, Any] | None = None
) -> Detector:
    """Return a detector by name.

    Args:
        name: "shewhart", "cusum", "ewma" or "page_hinkley".
        n_streams: number of streams.
        parameters: its further arguments.

    Raises:
        StatisticsError: for an unknown name, or parameters that the detector does not take.
    """
    if name not in DETECTORS:
        raise StatisticsError(f"expected a detector of {', '.join(DETECTORS)}, got {name!r}")
    try:
        return DETECTORS[name](n_streams, **(parameters or {}))
    except TypeError as error:
        raise StatisticsError(f"{name} does not take {dict(parameters or {})}: {error}") from error


def robust_baseline(values: Floats) -> tuple[float, float]:
    """Return median and 1.4826 × median absolute deviation of values, (n,).

    If half of the values are equal, the standard deviation replaces the latter. Both are NaN for
    fewer than 8 values.
    """
    if len(values) < FEWEST:
        return math.nan, math.nan
    location = float(np.median(values))
    scale = TO_DEVIATION * float(np.median(np.abs(values - location)))
    return location, scale if scale > 0 else float(np.std(values))


def standardised(values: Floats, location: Floats | float, scale: Floats | float) -> Floats:
    """Return (values − location)/scale, clipped to ±10⁶, which any change of a constant gives."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (values - location) / scale
    still = (values == location) & (np.asarray(scale) == 0)
    result: Floats = np.clip(np.where(still, 0.0, z), -FARTHEST, FARTHEST)
    return result


class Baseline:
    """Usual level and spread of many streams, given or learnt from the first `span` fs of each.

    Args:
        span: fs, counted from the first value of a stream.
        every: (n_streams,) fs between values; closer ones are left out, so memory is bounded.
        location: (n_streams,) level; NaN for streams whose baseline is to be learnt.
        scale: (n_streams,) spread; NaN likewise.

    Attributes:
        location, scale: (n_streams,) NaN until learnt.

    Raises:
        StatisticsError: for a span or spacing that is not > 0.
    """

    def __init__(
        self, span: float, every: Floats, location: Floats | None = None,
        scale: Floats | None = None,
    ) -> None:  # fmt: skip
        if not (0 < span < math.inf and bool(np.all(every > 0)) and len(every)):
            raise StatisticsError(f"expected a span and spacings > 0 fs, got {span} and {every}")
        n = len(every)
        self._span, self._every = float(span), np.array(every, dtype=np.float64)
        unknown: Floats = np.full(n, np.nan)
        self.location: Floats = (unknown if location is None else location).astype(float)
        self.scale: Floats = (unknown if scale is None else scale).astype(float)
        self._given = np.isfinite(self.location) & np.isfinite(self.scale)
        self._learning: Bools = ~self._given
        self._since: Floats = np.full(n, np.nan)
        self._next: Floats = np.full(n, -np.inf)
        self._values: Floats = np.zeros((n, math.ceil(span / every.min()) + 2))
        self._count: Ints = np.zeros(n, dtype=np.int64)

    def update(self, time: float, values: Floats) -> Floats:
        """Take in values, (n_streams,), at `time` (fs); return them standardised.

        NaN for a missing value, one too soon after the last, and while the baseline is learnt.
        """
        taken = ~np.isnan(values) & (time >= self._next - 1e-6)
        self._next = np.where(taken, time + self._every, self._next)
        if self._learning.any():
            self._learn(time, values, taken & self._learning)
        return np.where(
            taken & ~self._learning, standardised(values, self.location, self.scale), np.nan
        )

    def _learn(self, time: float, values: Floats, taken: Bools) -> None:
        self._since = np.where(taken & np.isnan(self._since), time, self._since)
        over = taken & (time >= self._since + self._span - 1e-6)
        for stream in np.flatnonzero(over):
            seen = self._values[stream, : self._count[stream]]
            self.location[stream], self.scale[stream] = robust_baseline(seen)
        self._learning = self._learning & ~over
        held = taken & ~over
        self._values[held, self._count[held]] = values[held]
        self._count[held] += 1

    def restart(self, streams: Bools) -> None:
        """Learn the baseline of some streams, (n_streams,) bool, anew; given ones stay."""
        anew = streams & ~self._given
        self._learning = self._learning | anew
        self._since[anew] = np.nan
        self._count[anew] = 0


def _signs(sides: str, n_streams: int) -> Floats:
    if sides not in SIGNS or n_streams < 1:
        raise StatisticsError(
            f"expected at least one stream and sides of {', '.join(SIGNS)}, got {n_streams} and "
            f"{sides!r}"
        )
    return np.array(SIGNS[sides])[:, None]


def _allowance(value: float) -> float:
    if not 0 <= value < math.inf:
        raise StatisticsError(f"the allowance must be 0 or positive, got {value}")
    return float(value)


def _taken(values: ArrayLike, n_missing: Ints) -> tuple[Floats, Bools]:
    given = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if given.shape != n_missing.shape:
        raise StatisticsError(
            f"expected a value for each of {len(n_missing)} streams, got {given.shape}"
        )
    missing = np.isnan(given)
    n_missing += missing
    return given, missing


def _largest(sides: Floats) -> Floats:
    result: Floats = sides[0].copy() if len(sides) == 1 else sides.max(axis=0)
    return result
