"""What varies together, and how many independent samples a correlated series is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mdxai.frame import Floats, Ints
from mdxai.statistics import _kernels as kernels
from mdxai.statistics.bins import Bins, State, StatisticsError, as_bins, run


class BinnedCovariance:
    """Covariance of pair strengths with one number per frame, per (channel, distance bin).

    Over the samples of a bin: cov = Σ (v − v̄)(s − s̄)/n, with v the strength of a pair and s the
    scalar of its frame (a deviation, say). Welford's update; merged as Chan, Golub and LeVeque
    (1983). The pairs of one frame share s, and frames are correlated: for the significance of a
    correlation count independent frames, not samples (`autocorrelation`).

    Attributes:
        bins: channels and bins.
    """

    def __init__(self, channels: Sequence[str], r_max: float, n_bins: int = 240) -> None:
        self.bins = as_bins(channels, r_max, n_bins)
        self._cells = np.zeros((*self.bins.shape, 6))
        self._skipped = np.zeros(3, dtype=np.int64)

    @property
    def count(self) -> Ints:
        """Number of samples, (n_channels, n_bins)."""
        return self._cells[..., 0].astype(np.int64)

    @property
    def not_finite(self) -> int:
        """Number of samples that are NaN or infinite, in value, distance or scalar."""
        return int(self._skipped[1])

    @property
    def covariance(self) -> Floats:
        """Population covariance, unit of value times scalar; NaN where empty."""
        return _divide(self._cells[..., 5], self._cells[..., 0])

    @property
    def correlation(self) -> Floats:
        """Pearson's coefficient, −1…1; NaN where either does not vary."""
        return _divide(self._cells[..., 5], np.sqrt(self._cells[..., 3] * self._cells[..., 4]))

    def update(self, channels: Ints, distances: Floats, values: Floats, scalar: float) -> None:
        """Add one frame: channel indices, distances (Å) and values, each (n,), and its scalar.

        Raises:
            StatisticsError: for different lengths or a channel that does not exist.
        """
        unknown = run(
            kernels.update_covariance,
            channels, distances, values, float(scalar), self.bins.inverse_width,
            self._cells, self._skipped,
        )  # fmt: skip
        self.bins.require_known(unknown)

    def merge(self, other: BinnedCovariance) -> None:
        """Add another accumulator's samples.

        Raises:
            StatisticsError: for different channels or bins.
        """
        self.bins.require_same(other.bins)
        a, b = self._cells, other._cells
        total = a[..., 0] + b[..., 0]
        share = np.divide(b[..., 0], total, out=np.zeros(total.shape), where=total > 0)
        dv, ds = b[..., 1] - a[..., 1], b[..., 2] - a[..., 2]
        joint = a[..., 0] * share
        a[..., 3] += b[..., 3] + dv**2 * joint
        a[..., 4] += b[..., 4] + ds**2 * joint
        a[..., 5] += b[..., 5] + dv * ds * joint
        a[..., 1] += dv * share
        a[..., 2] += ds * share
        a[..., 0] = total
        self._skipped += other._skipped

    def state(self) -> State:
        """Return arrays (fit for numpy.savez) from which `from_state` goes on bit by bit."""
        return self.bins.state() | {"cells": self._cells.copy(), "skipped": self._skipped.copy()}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """Return the accumulator whose `state` this is."""
        bins = Bins.from_state(state)
        self = cls(bins.channels, bins.upper, bins.n_bins)
        self._cells[:] = state["cells"]
        self._skipped[:] = state["skipped"]
        return self


@dataclass(frozen=True, slots=True)
class Autocorrelation:
    """How long a series remembers. Times are in samples; multiply by their spacing for fs.

    time: integrated autocorrelation time τ = 1 + 2 Σ ρ(t), 1 for independent samples.
    error: standard error of τ, √(2(2M + 1)/n)·τ (Madras and Sokal 1988).
    window: M, the last lag summed. n_samples: n. reliable: whether n ≥ 50 τ, and ≥ 50 M.
    """

    time: float
    error: float
    window: int
    n_samples: int

    @property
    def effective_samples(self) -> float:
        """Number of independent samples that give the mean the same error, n/τ."""
        return self.n_samples / self.time

    @property
    def reliable(self) -> bool:
        return self.n_samples >= 50 * max(self.time, self.window)


def autocorrelation(series: ArrayLike, *, c: float = 5.0) -> Autocorrelation:
    """Return the integrated autocorrelation time of a stationary series.

    Sokal's automatic window: sum up to the smallest M with M ≥ c·max(τ(M), 1) (Sokal 1997, "Monte
    Carlo methods in statistical mechanics"). Where that gives τ < 1, neighbours are anticorrelated
    and terms of either sign follow each other: then pairs ρ(2k) + ρ(2k + 1) are summed while they
    are positive (Geyer 1992). ρ by fast Fourier transform.

    Args:
        series: (n,), n ≥ 2.
        c: window in units of τ; a larger c has less bias and more noise.

    Raises:
        StatisticsError: for fewer than two samples, samples that are not finite, or a constant
            series, whose autocorrelation is not defined; or for a c that is not positive.
    """
    try:
        x = np.asarray(series, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StatisticsError(f"expected a series of numbers, got {series!r}") from error
    if not 0 < c < np.inf:
        raise StatisticsError(f"c must be positive, got {c}")
    if x.ndim != 1 or len(x) < 2 or not np.isfinite(x).all():
        raise StatisticsError(
            f"expected a series of at least two finite numbers, got shape {x.shape} with "
            f"{int((~np.isfinite(x)).sum())} not finite"
        )
    if np.ptp(x) == 0:
        raise StatisticsError("the series is constant; its autocorrelation is not defined")
    n = len(x)
    rho = _autocorrelations(x)
    times = 2 * np.cumsum(rho) - 1
    wide_enough = np.flatnonzero(np.arange(n) >= c * np.maximum(times, 1))
    window = int(wide_enough[0]) if len(wide_enough) else n - 1
    if times[window] < 1:
        pairs = rho[: n - n % 2].reshape(-1, 2).sum(axis=1)
        negative = np.flatnonzero(pairs <= 0)
        window = max(2 * int(negative[0]) - 1, 1) if len(negative) else n - 1
    # τ must stay positive to divide by; n samples are worth at most n² of them.
    tau = max(float(times[window]), 1 / n)
    return Autocorrelation(tau, float(np.sqrt(2 * (2 * window + 1) / n) * tau), window, n)


def _autocorrelations(series: Floats) -> Floats:
    """Return ρ of all lags, (n,)."""
    scaled = series / np.abs(series).max()  # squares of large or tiny numbers leave the range
    centred = scaled - scaled.mean()
    centred /= np.abs(centred).max()
    n = len(series)
    padded = 1 << (2 * n - 1).bit_length()
    lagged = np.fft.irfft(np.abs(np.fft.rfft(centred, padded)) ** 2, padded)[:n]
    rho: Floats = lagged / lagged[0]
    return rho


def _divide(above: Floats, below: Floats) -> Floats:
    result: Floats = np.full(above.shape, np.nan)
    return np.divide(above, below, out=result, where=below > 0)
