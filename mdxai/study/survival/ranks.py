"""Rank statistics within molecule and temperature, resampled and permuted by whole models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mdxai.frame import Bools, Floats, Ints
from mdxai.study.resampling import (
    clusters,
    drawn,
    interval,
    n_exchangeable,
    p_value,
    permuted_runs,
    strata,
)
from mdxai.study.run_outcome import AssociationError, Outcome
from mdxai.study.survival.association import AssociationSettings
from mdxai.study.survival.covariates import features, landmark_means
from mdxai.study.survival.estimators import endings, with_q

STATISTICS = ("concordance", "auroc", "spearman")


@dataclass(frozen=True, slots=True)
class Landmark:
    """Runs that were stable and followed for the landmark window, and what came after.

    Attributes:
        outcomes: the runs.
        window: fs, over which predictors are averaged.
        horizon: fs from the start of a run.
        end: (n_runs,) fs from the start.
        unstable, cluster, stratum: (n_runs,).
        broken_before: runs left out because they broke within the window.
        ended_before: runs left out because they were not followed for so long.
    """

    outcomes: tuple[Outcome, ...]
    window: float
    horizon: float
    end: Floats
    unstable: Bools
    cluster: Ints
    stratum: Ints
    broken_before: int
    ended_before: int

    @property
    def sooner(self) -> Floats:
        """(n, n): 1 where run i certainly broke before run j of its stratum, else 0."""
        earlier = self.end[:, None] < self.end
        tied = (self.end[:, None] == self.end) & ~self.unstable
        found: Floats = (self._together & self.unstable[:, None] & (earlier | tied)).astype(float)
        return found

    @property
    def broke(self) -> Floats:
        """(n, n): 1 where run i broke before the horizon and run j of its stratum did not."""
        case = self.unstable & (self.end <= self.horizon)
        control = (self.end > self.horizon) | (~self.unstable & (self.end >= self.horizon))
        found: Floats = (self._together & case[:, None] & control).astype(float)
        return found

    @property
    def _together(self) -> Bools:
        same: Bools = self.stratum[:, None] == self.stratum
        return same

    def take(self, keep: Bools) -> Landmark:
        """Return the landmark of some of the runs."""
        some = [o for o, k in zip(self.outcomes, keep, strict=True) if k]
        return _landmark(some, self.window, self.horizon, (self.broken_before, self.ended_before))


def landmark_of(outcomes: Sequence[Outcome], settings: AssociationSettings) -> Landmark:
    """Return the runs that outlast the landmark window.

    Raises:
        AssociationError: where fewer than three do, or none of them breaks after.
    """
    window, horizon = settings.landmark_of(outcomes), settings.horizon_of(outcomes)
    if not (window < horizon):
        raise AssociationError(f"the landmark ({window:g} fs) must come before the horizon "
                               f"({horizon:g} fs)")  # fmt: skip
    alive = [o for o in outcomes if o.end > window]
    broken = sum(o.unstable for o in outcomes if not o.end > window)
    gone = len(outcomes) - len(alive) - broken
    if len(alive) < 3 or not any(o.unstable for o in alive):
        raise AssociationError(
            f"{len(alive)} of {len(outcomes)} runs outlast the landmark of {window:g} fs, and "
            f"{sum(o.unstable for o in alive)} of these break; give a shorter landmark"
        )
    return _landmark(alive, window, horizon, (broken, gone))


def _landmark(
    outcomes: Sequence[Outcome], window: float, horizon: float, left: tuple[int, int]
) -> Landmark:
    return Landmark(
        tuple(outcomes), window, horizon, *endings(outcomes),
        clusters(outcomes), strata(outcomes), *left,
    )  # fmt: skip


def concordance(x: Floats, pairs: Floats, weights: Floats | None = None) -> Floats:
    """Return the share of pairs (i, j) with x_i > x_j, ties counting half.

    With the pairs of `Landmark.sooner` it is Harrell's C of "larger breaks sooner", with those of
    `broke` the AUROC; 0.5 is chance. Only runs of one molecule and temperature are compared.

    Args:
        x: (n_runs,), or (n_samples, n_runs).
        pairs: (n_runs, n_runs).
        weights: (n_resamples, n_runs) how often each run counts, with a one-dimensional x.
    """
    if weights is not None:
        won = pairs * _wins(x)
        above, all_pairs = (np.einsum("br,br->b", weights @ m, weights) for m in (won, pairs))
        nothing = np.full(len(all_pairs), np.nan)
        result: Floats = np.divide(above, all_pairs, out=nothing, where=all_pairs > 0)
        return result
    i, j = np.nonzero(pairs)
    values = np.atleast_2d(x)
    if not len(i):
        return np.full(len(values), np.nan)
    return np.array([np.mean((v[i] > v[j]) + 0.5 * (v[i] == v[j])) for v in values])


def _wins(x: Floats) -> Floats:
    result: Floats = (x[:, None] > x) + 0.5 * (x[:, None] == x)
    return result


@dataclass(frozen=True, slots=True)
class ModelMeans:
    """The points that Spearman's coefficient compares: one per model and stratum.

    Attributes:
        cell: (n_runs,) index of each run's point, −1 for a run without a point.
        stable: (n_points,) mean time that the runs stayed stable up to the horizon, fs.
        stratum, cluster: (n_points,).
    """

    cell: Ints
    stable: Floats
    stratum: Ints
    cluster: Ints

    @classmethod
    def of(cls, landmark: Landmark) -> ModelMeans:
        """Average runs that broke, or were followed up to the horizon: the restricted mean."""
        known = landmark.unstable | (landmark.end >= landmark.horizon)
        cells = landmark.cluster * (int(landmark.stratum.max()) + 1) + landmark.stratum
        kinds, index = np.unique(cells[known], return_inverse=True)
        cell = np.full(len(cells), -1)
        cell[known] = index
        followed = np.minimum(landmark.end, landmark.horizon)[known]
        n_strata = int(landmark.stratum.max()) + 1
        stable = np.bincount(index, followed) / np.bincount(index)
        return cls(cell, stable, kinds % n_strata, kinds // n_strata)

    def means(self, x: Floats) -> Floats:
        """Return the mean of (n_runs,) over the runs of each point, (n_points,)."""
        inside = self.cell >= 0
        n = len(self.stable)
        sums = np.bincount(self.cell[inside], x[inside], minlength=n)
        result: Floats = sums / np.bincount(self.cell[inside], minlength=n)
        return result

    def spearman(self, x: Floats, counts: Floats) -> Floats:
        """Return Spearman's coefficient of x with instability, pooled over strata, per resample.

        Ranks are taken and centred within each stratum, so that differences between strata do not
        count; positive where models with larger x break sooner.

        Args:
            x: (n_points,).
            counts: (n_resamples, n_clusters).
        """
        weights = counts[:, self.cluster]
        a, b = (self._centred_ranks(v, weights) for v in (x, -self.stable))
        ab, aa, bb = ((weights * p * q).sum(axis=1) for p, q in ((a, b), (a, a), (b, b)))
        scale = np.sqrt(aa * bb)
        result: Floats = np.full(len(weights), np.nan)
        return np.divide(ab, scale, out=result, where=scale > 1e-12)

    def _centred_ranks(self, values: Floats, weights: Floats) -> Floats:
        same = self.stratum[:, None] == self.stratum
        below = same * _wins(values).T  # [j, i]: whether j is below i, in its stratum
        total = weights @ same.astype(float)
        ranks = weights @ below
        centred: Floats = ranks - total / 2  # the weighted mean of mid-ranks is half the weight
        return centred


def landmark_table(landmark: Landmark, settings: AssociationSettings) -> pd.DataFrame:
    """Return how predictors averaged over the landmark window go with what came after.

    Per predictor: concordance (Harrell's C), auroc (instability up to the horizon), spearman (of
    models' means, with the restricted mean time that they stayed stable), each within molecule and
    temperature, positive direction: larger is worse. Intervals: 95 % percentiles of a bootstrap
    over models, all runs of a model together. p-values: two-sided, by exchanging whole models and
    shuffling the runs within a model and stratum (`permuted_runs`). q: Benjamini–Hochberg over
    predictors of a kind, of the concordance's p.
    """
    rows = [
        {"predictor": name, "kind": kind} | _row(landmark, name, settings)
        for name, kind in features(landmark.outcomes).items()
    ]
    return with_q(pd.DataFrame(rows), "p")


def _row(landmark: Landmark, name: str, settings: AssociationSettings) -> dict[str, Any]:
    values = landmark_means(landmark.outcomes, name, landmark.window)
    have = np.isfinite(values)
    some, x = landmark.take(have), values[have]
    empty = [f"{c}{e}" for c in STATISTICS for e in ("", "_lower", "_upper", "_p")]
    row: dict[str, Any] = {
        "runs": len(x), "unstable": int(some.unstable.sum()),
        "models": len(set(some.cluster.tolist())),
        "models_with_event": len(set(some.cluster[some.unstable].tolist())),
    }  # fmt: skip
    if row["runs"] < 3 or np.ptp(x) == 0:
        return row | dict.fromkeys((*empty, "p"), np.nan)
    rng = np.random.default_rng(settings.seed)
    several = row["models"] > 1
    counts = drawn(some.cluster, settings.resamples, rng)
    moved = permuted_runs(some.cluster, some.stratum, settings.resamples, rng)
    row["exchangeable_models"] = n_exchangeable(some.cluster, some.stratum)
    for label, pairs in (("concordance", some.sooner), ("auroc", some.broke)):
        observed = concordance(x, pairs)[0]
        boot = concordance(x, pairs, counts[:, some.cluster]) if several else np.full(1, np.nan)
        p = np.nan
        if several:
            p = p_value(abs(observed - 0.5), abs(concordance(x[moved], pairs) - 0.5))
        row |= _with_interval(label, observed, boot, p)
    return row | _spearman(some, x, counts, moved) | {"p": row["concordance_p"]}


def _with_interval(label: str, observed: float, boot: Floats, p: float) -> dict[str, float]:
    low, high = interval(boot)
    return {label: float(observed), f"{label}_lower": low, f"{label}_upper": high, f"{label}_p": p}


def _spearman(some: Landmark, x: Floats, counts: Floats, moved: Ints) -> dict[str, float]:
    points = ModelMeans.of(some)
    once = np.ones((1, counts.shape[1]))
    if len(points.stable) < 3:
        return _with_interval("spearman", np.nan, np.full(1, np.nan), np.nan)
    means = points.means(x)
    observed = points.spearman(means, once)[0]
    permuted = np.array([points.spearman(points.means(x[m]), once)[0] for m in moved])
    p = p_value(abs(observed), abs(permuted)) if counts.shape[1] > 1 else np.nan
    boot = points.spearman(means, counts) if counts.shape[1] > 1 else np.full(1, np.nan)
    return _with_interval("spearman", observed, boot, p) | {"points": len(points.stable)}
