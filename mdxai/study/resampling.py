"""Resampling and permutation of whole models, never of single runs or frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from mdxai.frame import Floats, Ints
from mdxai.study.run_outcome import Outcome


def clusters(outcomes: Sequence[Outcome]) -> Ints:
    """Return the index of each run's model, (n_runs,)."""
    names = [(o.molecule, o.model) for o in outcomes]
    order = {name: k for k, name in enumerate(dict.fromkeys(names))}
    return np.array([order[name] for name in names], dtype=np.int64)


def strata(outcomes: Sequence[Outcome]) -> Ints:
    """Return the index of each run's molecule and temperature, (n_runs,)."""
    kinds = [(o.molecule, o.temperature) for o in outcomes]
    order = {kind: k for k, kind in enumerate(sorted(set(kinds)))}
    return np.array([order[kind] for kind in kinds], dtype=np.int64)


def drawn(cluster: Ints, n: int, rng: np.random.Generator) -> Floats:
    """Return how often each cluster is drawn in n bootstrap samples, (n, n_clusters)."""
    k = int(cluster.max()) + 1
    counts: Floats = rng.multinomial(k, np.full(k, 1 / k), size=n).astype(np.float64)
    return counts


def interval(values: Floats, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval; NaN where less than 90 % of the resamples have a value."""
    usable = values[~np.isnan(values)]
    if len(usable) < 0.9 * len(values) or not len(usable):
        return np.nan, np.nan
    tail = (1 - level) / 2
    low, high = np.quantile(usable, [tail, 1 - tail], method="nearest")
    return float(low), float(high)


def permuted_runs(cluster: Ints, stratum: Ints, n: int, rng: np.random.Generator) -> Ints:
    """Return rearrangements of runs in which whole models are exchanged, (n, n_runs).

    Row p says whose covariates each run receives. Models change places as a whole, at every
    temperature at once, so what the runs of one model have in common stays together. Runs of one
    model and stratum differ only in their seeds and are shuffled. A model changes places only with
    one that has runs in the same strata; where that one has fewer runs, some are used repeatedly.

    Args:
        cluster: (n_runs,) model of each run.
        stratum: (n_runs,) molecule and temperature of each run.
        n: number of rearrangements.
        rng: random generator.
    """
    found = np.empty((n, len(cluster)), dtype=np.int64)
    for members in _alike(cluster, stratum):
        places = np.tile(np.arange(len(members)), (n, 1))
        donor = rng.permuted(places, axis=1)  # (n, n_members)
        for s in np.unique(stratum[cluster == members[0]]):
            cells = [np.flatnonzero((cluster == c) & (stratum == s)) for c in members]
            most = max(map(len, cells))
            given = np.stack(
                [
                    np.resize(rng.permuted(np.tile(cell, (n, 1)), axis=1).T, (most, n)).T
                    for cell in cells
                ]
            )  # (n_members, n, most); np.resize repeats whole rows of the transposed array
            for k, cell in enumerate(cells):
                found[:, cell] = given[donor[:, k], np.arange(n), : len(cell)]
    return found


def _alike(cluster: Ints, stratum: Ints) -> list[list[int]]:
    """Return the models that have runs in the same strata, group by group."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for c in np.unique(cluster).tolist():
        groups[tuple(np.unique(stratum[cluster == c]).tolist())].append(c)
    return list(groups.values())


def n_exchangeable(cluster: Ints, stratum: Ints) -> int:
    """Return how many models can change places with another one."""
    return sum(len(group) for group in _alike(cluster, stratum) if len(group) > 1)


def p_value(observed: float, permuted: Floats) -> float:
    """Return (1 + #{permuted ≥ observed}) / (1 + n), which is never 0; NaN where not defined."""
    usable = permuted[~np.isnan(permuted)]
    if np.isnan(observed) or not len(usable):
        return np.nan
    return float((1 + np.sum(usable >= observed - 1e-12)) / (1 + len(usable)))
