"""Autocorrelation times of processes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from mdxai.statistics import StatisticsError, autocorrelation


def ar1(phi, shape, seed):
    """Return x_t = φ x_{t−1} + noise along the first axis, stationary, of unit variance."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=shape) * np.sqrt(1 - phi**2)
    noise[0] = rng.normal(size=shape[1:])
    return lfilter([1.0], [1.0, -phi], noise, axis=0)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, 0.98])
def test_autocorrelation_of_a_known_process(phi):
    """For AR(1) τ = (1 + φ)/(1 − φ)."""
    result = autocorrelation(ar1(phi, (200_000,), 1))
    exact = (1 + phi) / (1 - phi)
    # Sokal's window leaves out about exp(−5) of τ besides the noise.
    assert abs(result.time - exact) < 4 * result.error + 0.02 * exact
    assert result.effective_samples == pytest.approx(200_000 / result.time)
    assert result.reliable
    assert not autocorrelation(ar1(0.98, (500,), 1)).reliable


@pytest.mark.parametrize("bad", [[1.0], [1.0, np.nan, 2.0], [[1.0, 2.0]], [3.0, 3.0, 3.0]])
def test_series_without_an_autocorrelation(bad):
    with pytest.raises(StatisticsError, match=r"finite numbers|constant"):
        autocorrelation(bad)


@pytest.mark.parametrize("phi", [-0.9, -0.5, 0.5, 0.9])
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_autocorrelation_time_of_an_autoregressive_series(phi, scale):
    """x_k = φ x_{k−1} + noise has ρ(t) = φᵗ, so τ = (1 + φ)/(1 − φ), also where that is below 1."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=200_000)
    series = lfilter([1.0], [1.0, -phi], noise) * scale
    found = autocorrelation(series)
    assert found.time == pytest.approx((1 + phi) / (1 - phi), rel=0.1)
    assert found.reliable


def test_autocorrelation_refuses_what_has_none():
    for series in (["a", "b"], [1.0, np.nan], [[1.0, 2.0]]):
        with pytest.raises(StatisticsError, match="expected a series of"):
            autocorrelation(series)
    with pytest.raises(StatisticsError, match="c must be positive, got nan"):
        autocorrelation([1.0, 2.0], c=np.nan)
