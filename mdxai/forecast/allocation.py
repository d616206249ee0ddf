"""At which temperatures the next replicas say most about the target temperature."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mdxai.forecast.survival_model import Watched
from mdxai.frame import BOLTZMANN, Floats

STEP = 0.85  # from one temperature of the ladder to the next lower one, about
TOO_FAST = 3.0  # onsets per ps: a replica must live longer than its energy takes to relax
HORIZON = 1.0  # ps that a slot is planned for, at the least; later, as long as was watched so far
FEW = 4.0  # onsets that all slots together must be expected to see at a temperature in that time
USUAL, DOUBT = 0.7, 0.3  # eV, the barrier that is planned with before anything is known


def ladder_of(hottest: float, target: float) -> tuple[float, ...]:
    """Return the temperatures that a test may use, K, in equal ratios; the target is the last."""
    if hottest <= target:
        return (target,)
    n = max(round(math.log(target / hottest) / math.log(STEP)), 1)
    hotter = [float(hottest * (target / hottest) ** (k / n)) for k in range(n)]
    return (*hotter, target)


def is_slow(seen: Watched, target: float) -> bool:
    """Return whether replicas live long enough; at the target any do."""
    return seen.temperature <= target or seen.onsets <= TOO_FAST * seen.time


def usable(watched: Sequence[Watched], target: float) -> list[Watched]:
    """Return what an extrapolation may rest on: not where replicas break at once.

    Above some 3 onsets per ps they do so before their energy has relaxed, which no Arrhenius law
    describes. Such temperatures are left out where others have onsets.
    """
    slow = [w for w in watched if w.time > 0 and is_slow(w, target)]
    return slow if any(w.onsets for w in slow) else [w for w in watched if w.time > 0]


@dataclass(frozen=True, slots=True)
class Allocation:
    """Distributes the slots of a life test over the ladder.

    Attributes:
        ladder: temperatures, K, hottest first; the last is the target.
        n_slots: number of slots.
        warm_up: ps that a fresh replica is not watched.
    """

    ladder: tuple[float, ...]
    n_slots: int
    warm_up: float

    def first(self) -> list[float]:
        """Return temperatures to begin with: hot, but two of them, since the right one is unknown.

        The second and the fourth of the ladder.
        """
        rungs = [self.ladder[min(k, len(self.ladder) - 1)] for k in (1, 3)]
        return [rungs[k % 2] for k in range(self.n_slots)]

    def following(self, lived: Sequence[Watched], now: Sequence[float]) -> list[float]:
        """Return the temperature of each slot from what was seen so far, warm-ups included.

        Without an onset all go to the hottest. Else each slot goes where it lowers the variance of
        the logarithm of the hazard at the target most (c-optimal design, Nelson, chapter 6), by the
        information that is to be expected under the law so far; but only where replicas live long
        enough, and where some onsets are to be expected.

        Args:
            lived: one entry per temperature.
            now: temperature of each slot, K.
        """
        if not any(w.onsets for w in lived):
            return [self.ladder[0]] * self.n_slots
        return self._placed(self._best(lived, Counter(now)), now)

    def _best(self, lived: Sequence[Watched], now: Counter[float]) -> list[float]:
        cold = 1 / (BOLTZMANN * np.array(self.ladder))
        hazards = _planned(lived, cold)
        horizon = max(HORIZON, sum(w.time for w in lived) / self.n_slots)
        candidates = [
            k for k, h in enumerate(hazards)
            if h <= TOO_FAST and self.n_slots * horizon * h >= FEW
        ]  # fmt: skip
        if not candidates:  # the nearest to one that would do
            candidates = [int(np.argmin(np.abs(np.log(hazards / TOO_FAST))))]
        centre = float(cold.mean())
        rows = np.stack([np.ones(len(cold)), centre - cold], axis=1)
        information = np.diag([1e-6, DOUBT**-2])
        for w in lived:
            row = np.array([1.0, centre - 1 / (BOLTZMANN * w.temperature)])
            if is_slow(w, self.ladder[-1]):  # else it is left out of the law
                information += w.onsets * np.outer(row, row)
        wanted: list[float] = []
        for _ in range(self.n_slots):
            trials = [
                information
                + self._expected(k, hazards[k], horizon, now, wanted) * np.outer(rows[k], rows[k])
                for k in candidates
            ]
            variances = [float(rows[-1] @ np.linalg.solve(t, rows[-1])) for t in trials]
            best = int(np.argmin(variances))
            information = trials[best]
            wanted.append(self.ladder[candidates[best]])
        return wanted

    def _expected(
        self, k: int, hazard: float, horizon: float, now: Counter[float], wanted: Sequence[float]
    ) -> float:
        """Return the onsets that one more slot at rung k is expected to see."""
        there = now[self.ladder[k]] > wanted.count(self.ladder[k])
        watched = (horizon - (0.0 if there else self.warm_up)) / (1 + hazard * self.warm_up)
        return float(hazard * watched)

    def _placed(self, wanted: Sequence[float], now: Sequence[float]) -> list[float]:
        """Return the wanted temperatures by slot; as few slots as possible change theirs."""
        left = Counter(wanted)
        placed: list[float | None] = [None] * self.n_slots
        for k, temperature in enumerate(now):
            if left[temperature]:
                left[temperature] -= 1
                placed[k] = temperature
        rest = iter(sorted(left.elements(), reverse=True))
        return [next(rest) if t is None else t for t in placed]


def _planned(lived: Sequence[Watched], cold: Floats) -> Floats:
    """Return the hazards to plan with at 1/k_B T: the likeliest law, if E is about as usual."""
    onsets = np.array([w.onsets for w in lived], dtype=np.float64)
    times = np.array([w.time for w in lived])
    seen = 1 / (BOLTZMANN * np.array([w.temperature for w in lived]))
    barriers = np.linspace(0.1, 2.5, 97)
    prefactors = onsets.sum() / (np.exp(-barriers[:, None] * seen) @ times)  # the best for each E
    heights = (
        onsets.sum() * np.log(prefactors)
        - barriers * (onsets @ seen)
        - 0.5 * ((barriers - USUAL) / DOUBT) ** 2
    )
    best = int(np.argmax(heights))
    hazards: Floats = prefactors[best] * np.exp(-barriers[best] * cold)
    return hazards
