"""Laws of decay: a power, an exponential or the shape of the cutoff function, compared by AIC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from mdxai.frame import Floats

LAWS = ("power", "exponential", "cutoff")
MIN_BINS = 5
NEAR = 0.95  # of the cutoff; beyond it the cosine is all but zero and bins are too wide for it
HOLDS = 0.1  # of ln strength: a law holds where no bin is farther from it
FLOOR = 0.01  # of ln strength: means are not believed to be more exact


@dataclass(frozen=True, slots=True)
class Law:
    """One law fitted to the logarithm of the mean strength.

    Attributes:
        kind: "power": A r⁻ⁿ. "exponential": A exp(−r/λ). "cutoff": A f(r)ᵖ with the cosine
            f = ½(1 + cos πr/r_c).
        value, low, high: n, λ (Å) or p with its 95 % interval; of λ, low and high are those of 1/λ.
        prefactor: A, unit of the strength.
        aic: Akaike's criterion; differences between the laws of one element pair count.
        holds: the longest range of distances, Å, in which a fit of this law alone stays within
            10 % of every mean; (NaN, NaN) where it nowhere does.
    """

    kind: str
    value: float
    low: float
    high: float
    prefactor: float
    aic: float
    holds: tuple[float, float]


@dataclass(frozen=True, slots=True)
class PairDecay:
    """How the strength of one element pair falls.

    Attributes:
        pair: "C-H".
        fitted: range of distances of the fits, Å: from the end of the bonds to 0.95 of the cutoff.
        laws: the best first; empty where there are too few bins.
    """

    pair: str
    fitted: tuple[float, float]
    laws: tuple[Law, ...]

    def law(self, kind: str) -> Law | None:
        """Return the fit of one law."""
        return next((law for law in self.laws if law.kind == kind), None)

    @property
    def preference(self) -> float:
        """How much more likely the best law is than the next: half their difference of AIC."""
        if len(self.laws) < 2:
            return float("nan")
        return (self.laws[1].aic - self.laws[0].aic) / 2


def fit_laws(
    pair: str, profile: tuple[Floats, Floats, Floats], start: float, cutoff: float
) -> PairDecay:
    """Fit all laws to the mean strengths of one element pair.

    Each is a straight line in ln strength, weighted by the squares of the standard errors (at least
    1 %). Intervals are those of weighted least squares, widened where the scatter is larger than
    the errors say.

    Args:
        pair: its name.
        profile: distances (n_bins,) Å, mean strengths, standard errors of these; NaN where empty.
        start: where bonds end, Å.
        cutoff: of the network, Å.
    """
    r, mean, error = profile
    with np.errstate(invalid="ignore"):
        use = (r >= start) & (r <= NEAR * cutoff) & (mean > 0) & np.isfinite(error)
    r, y = r[use], np.log(mean[use])
    sigma = np.maximum(error[use] / mean[use], FLOOR)
    if len(r) < MIN_BINS:
        return PairDecay(pair, (np.nan, np.nan), ())
    laws = [_fit(kind, r, y, sigma, cutoff) for kind in LAWS]
    laws.sort(key=lambda law: law.aic)
    return PairDecay(pair, (float(r[0]), float(r[-1])), tuple(laws))


def _abscissa(kind: str, cutoff: float) -> Callable[[Floats], Floats]:
    if kind == "power":
        return lambda r: -np.log(r)
    if kind == "exponential":
        return lambda r: -r
    return lambda r: np.log(0.5 * (1 + np.cos(np.pi * r / cutoff)))


def _fit(kind: str, r: Floats, y: Floats, sigma: Floats, cutoff: float) -> Law:
    x = _abscissa(kind, cutoff)(r)
    slope, error, start, chi = straight_line(x, y, sigma)
    low, high = slope - error, slope + error
    if kind == "exponential":
        low, high = (1 / s if s > 0 else np.inf for s in (high, low))
        slope = 1 / slope if slope else np.inf
    n = len(r)
    # Errors are known up to a common factor, which is estimated: AIC of three parameters.
    aic = n * np.log(max(chi / n, 1e-12)) + 2 * 3
    return Law(kind, float(slope), float(low), float(high), float(np.exp(start)), float(aic),
               _range(x, y, sigma, r))  # fmt: skip


def straight_line(x: Floats, y: Floats, sigma: Floats) -> tuple[float, float, float, float]:
    """Return slope, half width of its 95 % interval, intercept and χ² of y on x, weighted by the
    inverse squares of sigma; all (n,). The interval is widened where the scatter exceeds sigma.
    """
    w = 1 / sigma**2
    centre, level = np.average(x, weights=w), np.average(y, weights=w)
    spread = float(w @ (x - centre) ** 2)
    slope = float(w @ ((x - centre) * (y - level))) / spread
    chi = float(w @ (y - level - slope * (x - centre)) ** 2)
    freedom = len(x) - 2
    scale = max(1.0, chi / freedom)
    half = float(stdtrit(freedom, 0.975)) * np.sqrt(scale / spread)
    return slope, float(half), level - slope * centre, chi


def _range(x: Floats, y: Floats, sigma: Floats, r: Floats) -> tuple[float, float]:
    """Return the longest run of at least five bins that a line of their own follows within 10 %."""
    n = len(x)
    for size in range(n, MIN_BINS - 1, -1):
        for start in range(n - size + 1):
            part = slice(start, start + size)
            slope, _, level, _ = straight_line(x[part], y[part], sigma[part])
            if np.abs(y[part] - level - slope * x[part]).max() <= HOLDS:
                return float(r[part][0]), float(r[part][-1])
    return np.nan, np.nan
