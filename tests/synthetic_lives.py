"""Lifetimes of replicas that obey a known Arrhenius law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mdxai.forecast.survival_model import Lifetime
from mdxai.frame import BOLTZMANN


@dataclass(frozen=True)
class Law:
    """h(T) = prefactor (per ps) · exp(−barrier (eV)/k_B T)."""

    prefactor: float
    barrier: float

    def hazard(self, temperature):
        return self.prefactor * np.exp(-self.barrier / (BOLTZMANN * temperature))


def study(rng, law, temperatures, n, durations, shape=1.0):
    """Return n lifetimes per temperature, censored at its duration (ps); of a Weibull law."""
    lives = []
    for temperature, duration in zip(temperatures, durations, strict=True):
        times = rng.weibull(shape, n) / law.hazard(temperature)
        lives += [
            Lifetime(temperature, min(float(t), duration), bool(t <= duration)) for t in times
        ]
    return lives
