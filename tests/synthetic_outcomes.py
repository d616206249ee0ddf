"""Labelled runs whose truth is known: a drift that begins a known time before the onset."""

from __future__ import annotations

import numpy as np

from mdxai.study.run_outcome import Outcome

EVERY = 10.0  # fs
RATE = 10.0  # false alarms per ns
GROUPS = {"drift": "explanation", "noise": "explanation", "temperature": "plain"}.__getitem__


def outcomes(
    n_models=8, per_model=12, *, begins=600.0, size=4.0, length=5000.0, seed=0, molecules=("A", "B")
):
    """Return runs, half of them unstable.

    The series "drift" rises by `size` standard deviations `begins` fs before the onset; "noise"
    does nothing; "temperature" is a plain predictor that rises 150 fs before the onset.
    """
    rng = np.random.default_rng(seed)
    found = []
    for model in range(n_models):
        for n in range(per_model):
            unstable = n % 2 == 0
            end = rng.uniform(1800.0, length) if unstable else length
            times = np.arange(0.0, end, EVERY)
            before = end - times
            noise = rng.normal(size=(3, len(times)))
            offset = rng.normal(scale=3.0)  # every run has a level of its own
            series = {
                "drift": offset + noise[0] + size * (unstable & (before <= begins)),
                "noise": noise[1],
                "temperature": 300 + 20 * (noise[2] + size * (unstable & (before <= 150.0))),
            }
            found.append(
                Outcome(
                    f"m{model}-{n}", f"m{model}", molecules[model % len(molecules)], 300.0,
                    end, unstable, times, series,
                )
            )  # fmt: skip
    return found
