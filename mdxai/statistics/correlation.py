"""The autocorrelation time of a series, and how many independent samples it is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mdxai.frame import Floats
from mdxai.statistics.bins import StatisticsError


@dataclass(frozen=True, slots=True)
class Autocorrelation:
    """Correlation time of a series, in samples; multiply by their spacing to get fs.

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
        """Number of independent samples whose mean has the same error, n/τ."""
        return self.n_samples / self.time

    @property
    def reliable(self) -> bool:
        return self.n_samples >= 50 * max(self.time, self.window)


def autocorrelation(series: ArrayLike, *, c: float = 5.0) -> Autocorrelation:
    """Return the integrated autocorrelation time of a stationary series.

    Sokal's automatic window: sum up to the smallest M with M ≥ c·max(τ(M), 1) (Sokal 1997, "Monte
    Carlo methods in statistical mechanics"). If that gives τ < 1, neighbours are anticorrelated and
    the terms alternate in sign; pairs ρ(2k) + ρ(2k + 1) are then summed while they are positive
    (Geyer 1992). ρ is computed by fast Fourier transform.

    Args:
        series: (n,), n ≥ 2.
        c: window in units of τ; a larger c has less bias and more noise.

    Raises:
        StatisticsError: for fewer than two samples, samples that are not finite, a constant series
            (its autocorrelation is not defined), or a c that is not positive.
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
    scaled = series / np.abs(series).max()  # squares of extreme numbers over- or underflow
    centred = scaled - scaled.mean()
    centred /= np.abs(centred).max()
    n = len(series)
    padded = 1 << (2 * n - 1).bit_length()
    lagged = np.fft.irfft(np.abs(np.fft.rfft(centred, padded)) ** 2, padded)[:n]
    rho: Floats = lagged / lagged[0]
    return rho
