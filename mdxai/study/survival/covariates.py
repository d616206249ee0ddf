"""The values by which runs are compared: lagged, or averaged over a landmark window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mdxai.frame import Floats
from mdxai.study.run_outcome import Outcome
from mdxai.study.run_series import kind_of_series
from mdxai.study.survival.cox import RiskSets

KINDS = ("explanation", "relevance", "motion", "probe", "plain", "other", "trait")
TOLERANCE = 1e-9  # fs, by which sums of time steps miss their value


def features(outcomes: Sequence[Outcome], min_share: float = 0.5) -> dict[str, str]:
    """Return the kind of every series that at least `min_share` of the runs have, and of traits.

    Kinds are those of `kind_of_series`, and "trait" for numbers of the model.
    """
    need = max(2, min_share * len(outcomes))
    counts: dict[str, int] = {}
    for outcome in outcomes:
        for name, values in outcome.series.items():
            counts[name] = counts.get(name, 0) + bool(np.isfinite(values).any())
    found: dict[str, str] = {name: kind_of_series(name) for name, n in counts.items() if n >= need}
    traits = dict.fromkeys(name for o in outcomes for name in o.traits)
    found |= {n: "trait" for n in traits if sum(n in o.traits for o in outcomes) >= need}
    return dict(sorted(found.items(), key=lambda item: (KINDS.index(item[1]), item[0])))


def lagged(outcomes: Sequence[Outcome], name: str, sets: RiskSets, lag: float) -> Floats:
    """Return the last value measured at or before (onset − lag) for every row, (n_rows,).

    A trait is the same at all times. NaN where nothing was measured until then.
    """
    found = np.full(len(sets.run), np.nan)
    for k in np.unique(sets.run):
        outcome, rows = outcomes[k], sets.run == k
        if name in outcome.traits:
            found[rows] = outcome.traits[name]
        elif name in outcome.series:
            found[rows] = last_values(outcome, name, sets.time[rows] - lag)
    return found


def everywhere(outcomes: Sequence[Outcome], name: str, sets: RiskSets, lag: float) -> Floats:
    """Return the value that every run has, or would have, at every onset, (n_runs, n_sets).

    Like `lagged`, but extended: before its first measurement a run has its first value, after its
    end the last one. NaN for runs without any value.
    """
    times = sets.time[sets.first] - lag
    found = np.full((len(outcomes), len(times)), np.nan)
    for k, outcome in enumerate(outcomes):
        if name in outcome.traits:
            found[k] = outcome.traits[name]
        elif name in outcome.series and np.isfinite(outcome.series[name]).any():
            values = outcome.series[name][np.isfinite(outcome.series[name])]
            found[k] = last_values(outcome, name, times)
            found[k, np.isnan(found[k])] = values[0]
    return found


def last_values(outcome: Outcome, name: str, times: Floats) -> Floats:
    """Return the last value of a series measured at or before each time (fs), NaN without any."""
    values = outcome.series[name]
    measured = np.flatnonzero(np.isfinite(values))
    place = np.searchsorted(outcome.times[measured], times + TOLERANCE, side="right") - 1
    found = np.full(len(times), np.nan)
    known = place >= 0
    found[known] = values[measured[place[known]]]
    return found


def landmark_means(outcomes: Sequence[Outcome], name: str, window: float) -> Floats:
    """Return the mean of a series over the first `window` fs of each run, (n_runs,); NaN if none.

    A trait is its own mean.
    """
    found = np.full(len(outcomes), np.nan)
    for k, outcome in enumerate(outcomes):
        if name in outcome.traits:
            found[k] = outcome.traits[name]
        elif name in outcome.series:
            values = outcome.series[name][outcome.times <= window + TOLERANCE]
            values = values[np.isfinite(values)]
            found[k] = values.mean() if len(values) else np.nan
    return found


def standardised(values: Floats) -> tuple[Floats, float]:
    """Return (values − mean)/standard deviation, and that deviation; zeros for a constant."""
    spread = float(np.std(values)) if len(values) else 0.0
    if not (spread > 1e-12 * float(np.abs(values).max(initial=0.0))):
        return np.zeros(len(values)), 0.0
    return (values - values.mean()) / spread, spread
