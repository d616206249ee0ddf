"""The hazard of a run, from how far it came along the paths into what physics forbids.

A coordinate x crosses a level at the rate p(x) ⟨|v|⟩ / 2 (Rice, Bell Syst. Tech. J. 24, 46, 1945),
and p(x) ∝ exp(−F(x) / k_B T). Where the free energy F follows the energy E(x) along the path up to
a nearly linear term, highest points, one for each cluster of frames and taken as heights of E,
exceed a threshold u by exponentially distributed amounts of a mean θ near k_B T (peaks over
threshold; Davison and Smith, J. R. Stat. Soc. B 52, 393, 1990). The rate at the top is
λ_u exp(−(E‡ − u) / θ). Where the distance passed its top and the structure stayed sound, that rate
is multiplied by the probability of falling, from the passages that were seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mdxai.forecast.quantity_text import share_interval_text, time_text
from mdxai.forecast.survival_model import Interval, survival_of
from mdxai.frame import BOLTZMANN, Floats, named_atoms
from mdxai.principles.motion.followed_paths import PathTrace, WeakSpotProgress
from mdxai.serialization import as_json

PEAKS = 100  # highest points that the tail is taken from, where there are as many
OFTEN = 0.25  # share of the clusters that may lie in the tail
PRIOR = 25.0  # highest points that k_B T counts for: a spread of θ of 20 %
FEWEST = 4  # clusters along one path without which nothing is foretold
WIDEST = 1.05  # fs between frames, beyond which highest points are missed
DRAWS = 2000
ENDS = (0.5, 0.025, 0.975)


@dataclass(frozen=True, slots=True)
class PathSeen:
    """A path into what physics forbids, as one run saw it; equal coordinates together.

    trace: how far the run came. hazard: of passing the top, per ps; None where too little is seen.
    """

    trace: PathTrace
    hazard: Interval | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        trace, path = self.trace, self.trace.path
        return {
            "kind": path.kind, "label": path.label, "equal": len(path.atoms),
            "barrier_eV": path.barrier, "height_eV": path.height,
            "foretold_per_ps": path.rate_per_ps, "foretold_at_K": path.temperature,
            "highest": trace.highest, "time_fs": trace.time,
            "atoms": list(trace.atoms), "passed_top": int(trace.counts[-1]), "falls": trace.falls,
            "energy_counts": trace.counts.tolist(),
            "hazard_per_ps": None if self.hazard is None else self.hazard.as_dict(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunHazard:
    """How near a run came to its model's weak spots, and how soon it will pass one.

    Attributes:
        paths: the paths that are followed, the lowest barrier first.
        symbols: of the system, one per atom.
        watched: time in which highest points were counted, fs.
        temperature: mean of that time, K.
        per_ps: hazard of the run: rate of passing any top, per ps, with its 95 % interval; None
            where that is not known.
        unknown: why not; empty where it is known.
        left: planned time until the end, fs; None where nobody knows, and after a fall.
    """

    paths: tuple[PathSeen, ...]
    symbols: tuple[str, ...]
    watched: float
    temperature: float
    per_ps: Interval | None
    unknown: str = ""
    left: float | None = None

    @property
    def closest(self) -> PathSeen:
        """The path on which the least energy was left to the top, of those whose distance tells."""
        telling = [seen for seen in self.paths if seen.trace.tells]
        return min(telling or self.paths, key=lambda seen: seen.trace.energy_left)

    @property
    def survival(self) -> Interval | None:
        """Probability that no top is passed until the planned end; None where that is unknown."""
        if self.per_ps is None or self.left is None:
            return None
        return survival_of(self.per_ps, self.left / 1000)

    def __str__(self) -> str:
        trace = self.closest.trace
        name = named_atoms(self.symbols, trace.atoms)
        text = (
            f"closest to a weak spot: {name}, {trace.highest:.2f} of the path to its top at "
            f"{time_text(trace.time / 1000)}; "
        )
        if self.per_ps is None:
            return f"{text}hazard of this run unknown: {self.unknown}"
        hazard, survival = self.per_ps, self.survival
        text += f"hazard of this run {hazard.value:.2g} ({hazard.low:.2g}–{hazard.high:.2g}) per ps"
        if survival is None or not self.left:
            return text
        left = time_text(self.left / 1000)
        return f"{text}; the {left} left survive with probability {share_interval_text(survival)}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        hazard, survival = self.per_ps, self.survival
        plain: dict[str, Any] = as_json({
            "hazard_per_ps": None if hazard is None else hazard.as_dict(),
            "unknown": self.unknown, "watched_fs": self.watched, "temperature_K": self.temperature,
            "left_fs": self.left, "survival": None if survival is None else survival.as_dict(),
            "paths": [seen.as_dict() for seen in self.paths],
        })  # fmt: skip
        return plain


def run_hazard(
    followed: WeakSpotProgress, symbols: Sequence[str], left: float | None = None
) -> RunHazard:
    """Return what a run has told so far of its weak spots.

    Args:
        followed: the principle that follows them.
        symbols: of the system.
        left: planned time until the end of the run, fs.
    """
    watched, temperature = followed.watched, followed.temperature
    unknown = _unknown(followed)
    traces = followed.traces()
    rng = np.random.default_rng(0)  # the same data give the same interval
    draws = [None if unknown else tail_draws(t, watched, temperature, rng) for t in traces]
    known = [d for d in draws if d is not None]
    if not unknown and len(known) < len(draws):
        unknown = f"{time_text(watched / 1000)} after the first 0.5 ps are too little"
    paths = [
        PathSeen(t, None if d is None else _interval(d)) for t, d in zip(traces, draws, strict=True)
    ]
    together = None if unknown else _interval(np.sum(known, axis=0))
    return RunHazard(
        tuple(paths), tuple(symbols), watched, temperature, together, unknown,
        None if followed.has_fallen else left,
    )  # fmt: skip


def _unknown(followed: WeakSpotProgress) -> str:
    if followed.widest > WIDEST:
        return (
            f"frames are up to {followed.widest:g} fs apart; beyond 1 fs highest points are missed"
        )
    return "no temperature is known" if followed.watched and not followed.temperature > 0 else ""


def _interval(draws: Floats) -> Interval:
    return Interval(*map(float, np.quantile(draws, ENDS)))


def tail_draws(
    trace: PathTrace, watched: float, temperature: float, rng: np.random.Generator
) -> Floats | None:
    """Return draws (2000,) of the hazard along a path, per ps; None where too little was seen.

    λ_u follows from the share of clusters above u, with Jeffreys' prior; 1/θ from the amounts by
    which these exceed u, those that reached the top censored there, and a gamma prior around
    1/(k_B T).

    Args:
        trace: the highest points along the path.
        watched: time in which they were counted, fs.
        temperature: mean of that time, K.
        rng: of the draws.
    """
    counts, height = trace.counts, trace.path.height
    total, n_bins = int(counts.sum()), len(counts) - 1
    if total < FEWEST:
        return None
    above = np.cumsum(counts[::-1])[::-1]  # clusters in this bin or a higher one
    wanted = min(PEAKS, OFTEN * total / 2)
    edge = int(np.flatnonzero(above >= wanted)[-1])  # the highest threshold with as many above
    edge = max(edge, int(np.argmax(above <= OFTEN * total)))
    n, reached = int(above[edge]), int(counts[-1])
    excess = (np.arange(edge, n_bins) - edge + 0.5) @ counts[edge:-1] + (n_bins - edge) * reached
    share = rng.beta(n + 0.5, total - n + 0.5, DRAWS)
    rate = -np.log1p(-share) * total / (watched / 1000)
    energy = PRIOR * BOLTZMANN * temperature + float(excess) * height / n_bins
    slope = rng.gamma(PRIOR + n - reached, 1 / energy, DRAWS)
    found: Floats = rate * np.exp(-slope * height * (1 - edge / n_bins))
    if not trace.tells:
        found *= rng.beta(trace.falls + 0.5, reached - trace.falls + 0.5, DRAWS)
    return found
