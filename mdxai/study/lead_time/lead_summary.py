"""Tables of lead times: shares, quartiles, intervals over models, and the chance level beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mdxai.frame import Floats

if TYPE_CHECKING:
    import pandas as pd

FS_PER_NS = 1e6
KEYS = ["alarms_per_ns", "series", "detector"]


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are made: percentiles over resamples of whole groups of runs.

    Attributes:
        over: column whose values are resampled.
        n_samples: number of resamples.
        seed: of the draws.
    """

    over: str = "model"
    n_samples: int = 1000
    seed: int = 0


OVER_MODELS = Bootstrap()


def summarise(rows: pd.DataFrame, bootstrap: Bootstrap = OVER_MODELS) -> pd.DataFrame:
    """Return a row per rate and candidate from the rows of `lead_times`, or some of them.

    Intervals (`…_low`, `…_high`) are 95 % percentiles of a bootstrap over models, all runs of a
    model together; NaN for a single one.

    Args:
        rows: as `lead_times` returns them, or those of some runs.
        bootstrap: for the intervals.

    Returns:
        kind: of the series, or the group of several;
        n_groups (models), n_unstable, n_stable;
        detected: share of unstable runs with an alarm before the onset;
        median_lead_fs, mean_lead_fs: over all unstable runs, 0 where missed;
        lower_fs, median_fs, upper_fs: quartiles over those detected;
        missed_at_start: runs that broke before they were watched;
        false_per_ns: alarms in stable runs per time watched, held out;
        chance_detected, chance_mean_lead_fs, chance_median_fs: what alarms at random times would
        give, at the rate asked for or the one found, whichever is higher;
        null_detected, null_mean_lead_fs: what the alarms of stable runs would give in unstable
        ones, over all pairs, which also allows for alarms that are more frequent early on.
    """
    import pandas as pd

    found = [
        dict(zip(KEYS, key, strict=True))
        | {"kind": part["kind"].iloc[0]}
        | _summary(part, bootstrap)
        for key, part in rows.groupby(KEYS, sort=False)
    ]
    table = pd.DataFrame(found)
    order = ["alarms_per_ns", "median_lead_fs", "detected"]
    return table.sort_values(order, ascending=[True, False, False], ignore_index=True)


def _summary(part: pd.DataFrame, bootstrap: Bootstrap) -> dict[str, Any]:
    unstable = part["unstable"].to_numpy(bool)
    leads = part["lead_fs"].to_numpy()[unstable]
    watched, alarmed = _false_alarms(part)
    rate = float(part["alarms_per_ns"].iloc[0])
    weights = resampled(part[bootstrap.over].to_numpy(), bootstrap)
    found = {
        "detected": _mean(leads > 0, weights[:, unstable]),
        "mean_lead_fs": _mean(leads, weights[:, unstable]),
        "median_lead_fs": _quantile(leads, weights[:, unstable], 0.5),
        "median_fs": _quantile(leads, weights[:, unstable] * (leads > 0), 0.5),
        "false_per_ns": _ratio(weights @ alarmed, weights @ watched),
    }
    result: dict[str, Any] = {
        "n_groups": part[bootstrap.over].nunique(),
        "n_unstable": int(unstable.sum()),
        "n_stable": int((~unstable).sum()),
    }
    for name, values in found.items():
        result |= _interval(name, values)
    for name, q in (("lower_fs", 0.25), ("upper_fs", 0.75)):
        result[name] = float(_quantile(leads, (leads > 0)[None, :].astype(float), q)[0])
    spans = _watched_spans(part)[unstable]
    result["missed_at_start"] = int((spans <= 0).sum())
    rate = max(rate, float(np.nan_to_num(found["false_per_ns"][0])))
    return result | chance(spans, rate) | as_in_stable_runs(spans, _delays(part)[~unstable])


def _false_alarms(part: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return time watched (ns) and alarms of stable runs; 0 for unstable ones; (n_runs,) each."""
    stable = ~part["unstable"].to_numpy(bool)
    alarm = part["alarm_fs"].to_numpy()
    until = np.where(np.isnan(alarm), part["end_fs"].to_numpy(), alarm)
    watched = np.nan_to_num(until - part["start_fs"].to_numpy())
    return stable * np.maximum(watched, 0.0) / FS_PER_NS, (stable & ~np.isnan(alarm)) * 1.0


def _watched_spans(part: pd.DataFrame) -> Floats:
    """Return the time from the beginning of watching to the end, fs; 0 where it never began."""
    spans: Floats = np.nan_to_num(part["end_fs"].to_numpy() - part["start_fs"].to_numpy())
    return np.maximum(spans, 0.0)


def _delays(part: pd.DataFrame) -> Floats:
    """Return the time from the beginning of watching to the alarm, fs; inf without one."""
    delays = (part["alarm_fs"] - part["start_fs"]).to_numpy()
    found: Floats = np.where(np.isnan(delays), np.inf, delays)
    return found


def as_in_stable_runs(spans: Floats, delays: Floats) -> dict[str, float]:
    """Return what the alarms of stable runs would have done in unstable ones.

    Args:
        spans: (n_unstable,) fs from the beginning of watching to the onset.
        delays: (n_stable,) fs from the beginning of watching to the alarm, inf without one.
    """
    if not (len(spans) and len(delays)):
        return {"null_detected": np.nan, "null_mean_lead_fs": np.nan}
    leads = np.maximum(spans[:, None] - delays[None, :], 0.0)
    return {
        "null_detected": float(np.mean(leads > 0)), "null_mean_lead_fs": float(leads.mean())
    }  # fmt: skip


def resampled(groups: Sequence[Any] | np.ndarray[Any, Any], bootstrap: Bootstrap) -> Floats:
    """Return weights of rows, (1 + n_samples, n): ones, then how often a row's group was drawn."""
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(bootstrap.seed)
    drawn = rng.multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=bootstrap.n_samples
    )
    if len(names) < 2:
        drawn = drawn[:0]
    weights: Floats = np.concatenate([np.ones((1, len(names))), drawn])[:, member]
    return weights


def _ratio(above: Floats, below: Floats) -> Floats:
    result: Floats = np.full(len(above), np.nan)
    return np.divide(above, below, out=result, where=below > 0)


def _mean(values: np.ndarray[Any, Any], weights: Floats) -> Floats:
    return _ratio(weights @ values.astype(float), weights.sum(axis=1))


def _quantile(values: Floats, weights: Floats, q: float) -> Floats:
    """Return weighted quantiles, (n_samples,), of values (n,); weights (n_samples, n).

    The smallest value at or below which the share q lies, averaged with the next one where the
    share is met exactly; for q = 0.5 the usual median.
    """
    if not len(values):
        return np.full(len(weights), np.nan)
    order = np.argsort(values)
    summed = np.cumsum(weights[:, order], axis=1)
    wanted = q * summed[:, -1:]
    low = np.argmax(summed >= wanted - 1e-9, axis=1)
    high = np.argmax(summed > wanted + 1e-9, axis=1)
    found: Floats = (values[order][low] + values[order][high]) / 2
    return np.where(summed[:, -1] > 0, found, np.nan)


def _interval(name: str, values: Floats) -> dict[str, float]:
    """Return an estimate, the first of the values, and the interval that the others make."""
    known = values[1:][~np.isnan(values[1:])]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
    return {name: float(values[0]), f"{name}_low": float(low), f"{name}_high": float(high)}


def chance(spans: Floats, alarms_per_ns: float) -> dict[str, float]:
    """Return what alarms at random times would do, exactly.

    In a run that is watched for D before its onset, the first alarm of a Poisson process of rate ν
    comes in time with probability 1 − exp(−νD), and leads by D − (1 − exp(−νD))/ν on average,
    missed ones counted as 0.

    Args:
        spans: D of each unstable run, fs.
        alarms_per_ns: ν.
    """
    rate = alarms_per_ns / FS_PER_NS
    if not len(spans) or rate <= 0:
        return {f"chance_{name}": np.nan for name in ("detected", "mean_lead_fs", "median_fs")}
    caught = -np.expm1(-rate * spans)
    grid = (np.arange(400) + 0.5) / 400
    leads = spans[:, None] + np.log1p(-grid[None, :] * caught[:, None]) / rate
    weights = np.repeat(caught, len(grid))[None, :]
    return {
        "chance_detected": float(caught.mean()),
        "chance_mean_lead_fs": float(np.mean(spans - caught / rate)),
        "chance_median_fs": float(_quantile(leads.ravel(), weights, 0.5)[0]),
    }


def advantage(
    rows: pd.DataFrame,
    candidate: tuple[str, str],
    rival: tuple[str, str],
    alarms_per_ns: float,
    bootstrap: Bootstrap = OVER_MODELS,
) -> dict[str, float]:
    """Return by how much one candidate warns earlier than another, run by run.

    Args:
        rows: as `lead_times` returns them, or some of them.
        candidate: series and detector.
        rival: series and detector.
        alarms_per_ns: rate of both.
        bootstrap: for the intervals.

    Returns:
        n_unstable; mean_fs: mean difference of lead times over unstable runs, missed counted as 0,
        with its interval; median_fs likewise; earlier, later: shares of the runs.

    Raises:
        KeyError: for a candidate or rate that is not there.
    """
    here = rows[rows["unstable"] & (rows["alarms_per_ns"] == alarms_per_ns)]
    tables = []
    for series, detector in (candidate, rival):
        part = here[(here["series"] == series) & (here["detector"] == detector)]
        if part.empty:
            raise KeyError(f"no unstable runs of {series} under {detector} at {alarms_per_ns:g}/ns")
        tables.append(part.set_index("run"))
    gain = tables[0]["lead_fs"] - tables[1]["lead_fs"]
    values = gain.to_numpy()
    weights = resampled(tables[0].loc[gain.index, bootstrap.over].to_numpy(), bootstrap)
    return {
        "n_unstable": len(values),
        "earlier": float((values > 0).mean()),
        "later": float((values < 0).mean()),
        **_interval("mean_fs", _mean(values, weights)),
        **_interval("median_fs", _quantile(values, weights, 0.5)),
    }
