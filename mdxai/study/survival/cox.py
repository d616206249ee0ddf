"""Cox's partial likelihood on risk sets, with weights, and score contributions of clusters.

lifelines 0.30 fits Cox models with time-dependent covariates, but without clustered standard errors
(`CoxTimeVaryingFitter.fit(robust=True)` is not implemented, and the sandwich of `CoxPHFitter`
ignores entry times), and too slowly for resampling. So everything that is resampled is fitted here;
the tests compare it with lifelines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mdxai.frame import Bools, Floats, Ints

STEPS = 30  # of Newton's method; it needs fewer than ten where there is a maximum
LARGE = 8.0  # |log hazard ratio| per standard deviation that no finite maximum reaches


@dataclass(frozen=True, slots=True)
class RiskSets:
    """For every onset the runs of its stratum that were still followed then, a row per run.

    Attributes:
        run: (n_rows,) index of the run.
        time: (n_rows,) time of the onset, fs.
        event: (n_rows,) whether the onset is this run's.
        first: (n_sets,) first row of each set.
    """

    run: Ints
    time: Floats
    event: Bools
    first: Ints

    @classmethod
    def of(cls, end: Floats, unstable: Bools, stratum: NDArray[np.int64]) -> Self:
        """Form the sets. end: (n_runs,) fs; unstable: (n_runs,); stratum: (n_runs,) labels."""
        runs, times, events = [], [], []
        for label in np.unique(stratum):
            members = np.flatnonzero(stratum == label)
            for t in np.unique(end[members][unstable[members]]):
                at_risk = members[end[members] >= t]
                runs.append(at_risk)
                times.append(np.full(len(at_risk), t))
                events.append(unstable[at_risk] & (end[at_risk] == t))
        first = np.cumsum([0, *map(len, runs)])[:-1] if runs else np.empty(0, dtype=np.int64)
        return cls(
            np.concatenate([np.empty(0, dtype=np.int64), *runs]),
            np.concatenate([np.empty(0), *times]),
            np.concatenate([np.empty(0, dtype=bool), *events]),
            first.astype(np.int64),
        )

    @property
    def set_of_row(self) -> Ints:
        """(n_rows,) index of each row's set."""
        lengths = np.diff(np.append(self.first, len(self.run)))
        return np.repeat(np.arange(len(self.first)), lengths)

    def select(self, keep: Bools) -> Self:
        """Return the sets of the rows that a mask keeps, without sets that compare nothing."""
        rows = self.kept(keep)
        index = self.set_of_row
        first = np.flatnonzero(np.diff(index[rows], prepend=-1))
        return type(self)(self.run[rows], self.time[rows], self.event[rows], first)

    def kept(self, keep: Bools) -> Bools:
        """Return which rows `select(keep)` holds, (n_rows,)."""
        index = self.set_of_row
        n = len(self.first)
        useful = np.bincount(index[keep & self.event], minlength=n) > 0
        useful &= np.bincount(index[keep], minlength=n) > 1
        return keep & useful[index]

    def sums(self, values: Floats) -> Floats:
        """Sum (n_rows, …) over the rows of each set: (n_sets, …)."""
        total: Floats = np.add.reduceat(values, self.first, axis=0)
        return total


@dataclass(frozen=True, slots=True)
class CoxFit:
    """A maximum of the partial likelihood.

    Attributes:
        coefficients: (K,) log hazard ratios.
        information: (K, K), the negative Hessian.
        log_likelihood: at the maximum.
        null: log likelihood without covariates.
        problem: why the maximum cannot be trusted; "" where it can.
    """

    coefficients: Floats
    information: Floats
    log_likelihood: float
    null: float
    problem: str = ""


def fit_cox(
    sets: RiskSets, x: Floats, weights: Floats | None = None, start: Floats | None = None
) -> CoxFit:
    """Maximise Breslow's partial likelihood by Newton's method with halved steps.

    log L = Σ_sets Σ_events w (xβ − log Σ_at-risk w exp(xβ)).

    Args:
        sets: risk sets.
        x: (n_rows, K) covariates, roughly standardised.
        weights: (n_rows,) how often a row counts; once by default.
        start: (K,) coefficients to start from; zeros by default.
    """
    w = np.ones(len(x)) if weights is None else weights
    beta = np.zeros(x.shape[1]) if start is None else start.copy()
    null = _log_likelihood(sets, x, w, np.zeros(x.shape[1]))
    if not len(beta):
        return CoxFit(beta, np.empty((0, 0)), null, null)
    value = _log_likelihood(sets, x, w, beta)
    problem = f"no maximum within {STEPS} steps"
    for _ in range(STEPS):
        gradient, information = _derivatives(sets, x, w, beta)
        step = np.linalg.lstsq(information, gradient, rcond=1e-9)[0]
        size = 1.0
        while (better := _log_likelihood(sets, x, w, beta + size * step)) < value - 1e-12:
            size /= 2
            if size < 1e-6:
                break
        else:
            beta, gain, value = beta + size * step, better - value, better
            if gain < 1e-9 * (1 + abs(value)) and not (np.abs(beta).max(initial=0) > LARGE):
                problem = ""
                break
            if np.abs(beta).max(initial=0) > LARGE:
                problem = "separation: the likelihood grows without a maximum"
                break
            continue
        problem = "the likelihood cannot be improved"
        break
    information = _derivatives(sets, x, w, beta)[1]
    if not problem and np.linalg.matrix_rank(information, tol=1e-8) < len(beta):
        problem = "covariates are not independent of each other"
    return CoxFit(beta, information, value, null, problem)


def _risk(sets: RiskSets, x: Floats, w: Floats, beta: Floats) -> tuple[Floats, Floats, Floats]:
    """Return xβ, w exp(xβ) divided by its largest value per set, and log of that value."""
    linear = x @ beta
    top = np.maximum.reduceat(linear, sets.first)
    return linear, w * np.exp(linear - top[sets.set_of_row]), top


def _log_likelihood(sets: RiskSets, x: Floats, w: Floats, beta: Floats) -> float:
    linear, phi, top = _risk(sets, x, w, beta)
    died = w * sets.event
    deaths = sets.sums(died)
    total = sets.sums(phi)
    some = deaths > 0
    return float(died @ linear - deaths[some] @ (np.log(total[some]) + top[some]))


def _derivatives(sets: RiskSets, x: Floats, w: Floats, beta: Floats) -> tuple[Floats, Floats]:
    _, phi, _ = _risk(sets, x, w, beta)
    died = w * sets.event
    deaths, total = sets.sums(died), sets.sums(phi)
    share = np.divide(deaths, total, out=np.zeros(len(deaths)), where=deaths > 0)
    expected = phi * share[sets.set_of_row]  # deaths that each row is expected to have
    first = sets.sums(x * phi[:, None])
    means = np.divide(
        first, total[:, None], out=np.zeros(first.shape), where=total[:, None] > 0
    )  # x̄ per set
    gradient = died @ x - expected @ x
    information = (x * expected[:, None]).T @ x - (means * deaths[:, None]).T @ means
    return gradient, information


def contributions(sets: RiskSets, x: Floats, beta: Floats, cluster: Ints) -> Floats:
    """Return what each cluster contributes to the score, (n_clusters, K); their sum is its value.

    Score residuals of Lin and Wei (1989), summed over the runs of a cluster:
    Σ_sets (event − d exp(xβ)/S₀)(x − x̄).

    Args:
        sets: risk sets.
        x: (n_rows, K).
        beta: (K,).
        cluster: (n_runs,) index of each run's cluster, from 0.
    """
    _, phi, _ = _risk(sets, x, np.ones(len(x)), beta)
    index = sets.set_of_row
    total, deaths = sets.sums(phi), sets.sums(sets.event.astype(float))
    means = sets.sums(x * phi[:, None]) / total[:, None]
    residual = (sets.event - phi * (deaths / total)[index])[:, None] * (x - means[index])
    found: Floats = np.zeros((int(cluster.max()) + 1, x.shape[1]))
    np.add.at(found, cluster[sets.run], residual)
    return found


def clustered_errors(sets: RiskSets, x: Floats, fitted: CoxFit, cluster: Ints) -> Floats:
    """Return standard errors robust to dependence within clusters, (K,).

    √ diag(I⁻¹ (Σ_c u_c u_cᵀ) I⁻¹ · C/(C − 1)), u_c the score contributions of the C clusters
    (Lin and Wei 1989; C/(C − 1) is the usual correction for few clusters). NaN for one cluster.
    """
    u = contributions(sets, x, fitted.coefficients, cluster)
    n = len(np.unique(cluster[sets.run]))
    if n < 2:
        return np.full(x.shape[1], np.nan)
    inverse = np.linalg.pinv(fitted.information)
    variance = inverse @ (u.T @ u) @ inverse * n / (n - 1)
    errors: Floats = np.sqrt(np.diag(variance))
    return errors


def resampled_coefficients(
    sets: RiskSets, x: Floats, centre: tuple[float, float], cluster: Ints, counts: Floats
) -> Floats:
    """Return the coefficient of one covariate in every resample of clusters, (n_resamples,).

    A set's sums are linear in the counts of the clusters, so at one β a single matrix product gives
    the scores of all resamples. Their zeros are interpolated on a grid of β. Beyond the grid the
    coefficient is infinite (separation in that resample); NaN without any contrast.

    Args:
        sets: risk sets.
        x: (n_rows,) one covariate.
        centre: estimate and standard error; the grid spans eight of these to either side.
        cluster: (n_runs,) index of each run's cluster.
        counts: (n_resamples, n_clusters) how often each cluster was drawn.
    """
    estimate, error = centre
    grid = estimate + np.linspace(-8, 8, 97) * min(max(error, 1e-3), 2.0)
    rows, cells = cluster[sets.run], (len(sets.first), counts.shape[1])
    cell = sets.set_of_row * cells[1] + rows

    def per_cluster(values: Floats) -> Floats:
        summed = np.bincount(cell, values, minlength=cells[0] * cells[1])
        return summed.reshape(cells).T

    died = sets.event.astype(float)
    deaths, observed = counts @ per_cluster(died), (counts @ per_cluster(died * x)).sum(axis=1)
    scores = np.empty((len(grid), len(counts)))
    for k, beta in enumerate(grid):
        _, phi, _ = _risk(sets, x[:, None], np.ones(len(x)), np.array([beta]))
        total, first = counts @ per_cluster(phi), counts @ per_cluster(phi * x)
        mean = np.divide(first, total, out=np.zeros(first.shape), where=total > 0)
        scores[k] = observed - (deaths * mean).sum(axis=1)
    return _zeros_of(grid, scores)


def _zeros_of(grid: Floats, scores: Floats) -> Floats:
    """Return where each falling column of (n_grid, n) is zero."""
    above = (scores > 0).sum(axis=0)
    inside = np.clip(above, 1, len(grid) - 1)
    column = np.arange(scores.shape[1])
    high, low = scores[inside - 1, column], scores[inside, column]
    drop = np.where(high > low, high - low, 1.0)
    zero = grid[inside - 1] + (grid[inside] - grid[inside - 1]) * high / drop
    zero[above == 0], zero[above == len(grid)] = -np.inf, np.inf
    zero[np.ptp(scores, axis=0) < 1e-9] = np.nan
    found: Floats = zero
    return found
