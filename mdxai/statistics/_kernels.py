"""All numba code. Every kernel has a NumPy twin in the tests and adds nothing but speed."""

from __future__ import annotations

import math

import numba


@numba.njit(cache=True, nogil=True)
def update_moments(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917 (flat arrays for numba)
    channels, distances, values, inverse_width, count, mean, m2, low, high, skipped
):
    """Welford's update of running moments, sample by sample.

    channels, distances, values: (n,). count, mean, m2, low, high: (n_channels, n_bins), updated in
    place. skipped: (2,), counts samples outside the bins and samples that are not finite.
    """
    n_bins = count.shape[1]
    for k in range(len(values)):
        position = distances[k] * inverse_width
        if not (math.isfinite(values[k]) and math.isfinite(position)):
            skipped[1] += 1
            continue
        if position < 0 or position >= n_bins:
            skipped[0] += 1
            continue
        c, b = channels[k], int(position)
        count[c, b] += 1
        delta = values[k] - mean[c, b]
        mean[c, b] += delta / count[c, b]
        m2[c, b] += delta * (values[k] - mean[c, b])
        low[c, b] = min(low[c, b], values[k])
        high[c, b] = max(high[c, b], values[k])
