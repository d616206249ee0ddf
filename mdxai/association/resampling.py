"""What is resampled and permuted: whole models, never runs or frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from mdxai.association.outcome import Outcome
from mdxai.frame import Floats, Ints

EXACT = 12  # clusters up to which all patterns of signs are tried


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
    """Return the percentile interval; NaN where under nine tenths of the resamples have a value."""
    usable = values[~np.isnan(values)]
    if len(usable) < 0.9 * len(values) or not len(usable):
        return np.nan, np.nan
    tail = (1 - level) / 2
    low, high = np.quantile(usable, [tail, 1 - tail], method="nearest")
    return float(low), float(high)


def permuted_runs(cluster: Ints, stratum: Ints, n: int, rng: np.random.Generator) -> Ints:
    """Return rearrangements of runs that whole models being exchangeable allows, (n, n_runs).

    Row p says which run's covariates each run receives. Models change places as a whole, at every
    temperature at once, so what the runs of one model have in common stays together; within a model
    and stratum the runs, which differ in their seeds alone, are shuffled. A model can only change
    places with one that has runs in the same strata. Where it has fewer there, some of them serve
    several times.

    Args:
        cluster: (n_runs,) model of each run.
        stratum: (n_runs,) molecule and temperature of each run.
        n: number of rearrangements.
        rng: random generator.
    """
    cells: dict[tuple[int, int], Ints] = {
        (c, s): np.flatnonzero((cluster == c) & (stratum == s))
        for c, s in set(zip(cluster.tolist(), stratum.tolist(), strict=True))
    }
    alike = defaultdict(list)
    for c in np.unique(cluster).tolist():
        alike[tuple(sorted(s for k, s in cells if k == c))].append(c)
    found = np.empty((n, len(cluster)), dtype=np.int64)
    for p in range(n):
        donor: dict[int, int] = {}
        for members in alike.values():
            donor |= dict(zip(members, rng.permutation(members).tolist(), strict=True))
        for (c, s), runs in cells.items():
            given = rng.permutation(cells[donor[c], s])
            found[p, runs] = np.resize(given, len(runs))
    return found


def n_exchangeable(cluster: Ints, stratum: Ints) -> int:
    """Return how many models can change places with another one."""
    kinds: dict[tuple[int, ...], int] = defaultdict(int)
    for c in np.unique(cluster):
        kinds[tuple(np.unique(stratum[cluster == c]).tolist())] += 1
    return sum(count for count in kinds.values() if count > 1)


def p_value(observed: float, permuted: Floats) -> float:
    """Return (1 + #{permuted ≥ observed}) / (1 + n), which is never 0; NaN where not defined."""
    usable = permuted[~np.isnan(permuted)]
    if np.isnan(observed) or not len(usable):
        return np.nan
    return float((1 + np.sum(usable >= observed - 1e-12)) / (1 + len(usable)))


def sign_flip_p(scores: Floats, n: int, rng: np.random.Generator) -> float:
    """Return the p-value of Σ scores = 0 when the sign of each cluster's score is arbitrary.

    Sign-flipping of score contributions (Hemerik, Goeman and Finos 2020), a cluster at a time; all
    2^C patterns for up to 12 clusters.

    Args:
        scores: (n_clusters,) score contributions at β = 0; zeros take no part.
        n: random patterns for more clusters.
        rng: random generator.
    """
    u = scores[scores != 0]
    if len(u) < 2:
        return np.nan
    if len(u) <= EXACT:
        bits = (np.arange(2 ** len(u))[:, None] >> np.arange(len(u))) & 1
        return float(np.mean(np.abs((1 - 2 * bits) @ u) >= abs(u.sum()) - 1e-12))
    signs = rng.choice([-1.0, 1.0], size=(n, len(u)))
    return p_value(abs(u.sum()), np.abs(signs @ u))
