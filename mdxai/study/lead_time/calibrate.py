"""A calibration of early warnings from labelled runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mdxai.early_warning import Calibration, CalibrationError, History, Level, Rate, Watch
from mdxai.frame import Bools, Floats
from mdxai.study.lead_time.alarms import (
    AnyAlarm,
    FirstAlarms,
    Watching,
    threshold_for,
    with_profiles,
)
from mdxai.study.lead_time.lead_times import (
    RATES,
    Candidate,
    Detectors,
    best_of,
    candidates,
    group_of,
)
from mdxai.study.run_outcome import Outcome


def calibrate(
    outcomes: Sequence[Outcome],
    rates: Sequence[float] = RATES,
    *,
    watch: Sequence[Candidate] | None = None,
    chosen_at: float | None = None,
    watching: Watching | None = None,
    groups: Callable[[str], str] = group_of,
) -> Calibration:
    """Return thresholds at which all watches together keep to a rate of false alarms.

    Args:
        outcomes: labelled runs: stable ones set the thresholds, all of them the histories.
        rates: false alarms per ns, of all watches together.
        watch: series and the label of its detector, each; by default the candidate with the
            longest median lead time over unstable runs, which may be several series at once.
        chosen_at: rate at which that candidate is chosen; by default the middle one.
        watching: how series are watched.
        groups: group of a series by its name.

    Raises:
        CalibrationError: for a rate that the stable runs do not support, with one that they do; for
            a series or detector that is not there.
    """
    watching = watching or Watching()
    detectors = Detectors(with_profiles(outcomes, watching.profile), watching, groups)
    every_run = np.ones(len(outcomes), dtype=np.bool_)
    singles = detectors.singles(every_run)
    wanted = sorted(rates)
    if not wanted:
        raise CalibrationError("expected at least one rate of false alarms per ns")
    if watch is None:
        middle = wanted[len(wanted) // 2]
        watch = _best(detectors, singles, every_run, middle if chosen_at is None else chosen_at)
    unknown = [
        f"{series} under {label}" for series, label in watch if (series, label) not in singles
    ]
    if unknown or not watch:
        raise CalibrationError(
            f"there is no {', '.join(unknown) or 'series to watch'}; the runs hold "
            f"{', '.join(detectors.streams)}, the detectors are {', '.join(watching.detectors)}"
        )
    parts = [singles[key] for key in watch]
    levels: list[list[Level]] = [[] for _ in watch]
    found: list[Rate] = []
    for rate in wanted:
        thresholds, reached = _together(detectors, parts, rate)
        found.append(reached)
        for k, (alarms, threshold) in enumerate(zip(parts, thresholds, strict=True)):
            levels[k].append(Level(rate, threshold, _history(detectors, alarms, threshold)))
    watches = tuple(
        replace(_watch(detectors, key), levels=tuple(own))
        for key, own in zip(watch, levels, strict=True)
    )
    return Calibration(
        watches, tuple(found), watching.baseline_fs, watching.profile, _in_words(outcomes)
    )


def _best(
    detectors: Detectors, singles: dict[Candidate, FirstAlarms], rows: Bools, rate: float
) -> list[Candidate]:
    """Return the watches of the best candidate: one, or all that an "any of" draws on."""
    chosen = candidates(detectors, singles, rows, rate)
    best = best_of(detectors, chosen, rows)
    if best is None:
        stable = ~detectors.pool.unstable
        for alarms in singles.values():  # says what is supported
            threshold_for(alarms, detectors.pool.ends, stable, rate)
        raise CalibrationError("the runs hold no series that could be watched")
    if not best[0].startswith("any "):
        return [best]
    members = detectors.groups[best[0].removeprefix("any ")]
    return [(name, best[1]) for name in members if (name, best[1]) in chosen]


def _together(
    detectors: Detectors, parts: Sequence[FirstAlarms], rate: float
) -> tuple[list[float], Rate]:
    """Return thresholds whose alarms together keep to a rate, in the proportions of each alone."""
    pool = detectors.pool
    alone = [threshold_for(alarms, pool.ends, ~pool.unstable, rate) for alarms in parts]
    if len(parts) == 1:
        return [alone[0][0]], alone[0][1]
    scales = [threshold for threshold, _ in alone]
    common, reached = threshold_for(AnyAlarm(parts, scales), pool.ends, ~pool.unstable, rate)
    return [common * scale for scale in scales], reached


def _history(detectors: Detectors, alarms: FirstAlarms, threshold: float) -> History:
    pool = detectors.pool
    first = alarms.at(threshold)
    came = np.isfinite(first)
    leads: Floats = (pool.ends - first)[came & pool.unstable]
    if not len(leads):
        return History(int(came.sum()), 0)
    quartiles = np.quantile(leads, [0.25, 0.5, 0.75])
    return History(int(came.sum()), len(leads), *map(float, quartiles))


def _watch(detectors: Detectors, key: Candidate) -> Watch:
    series, label = key
    streams = detectors.streams[series]
    name, parameters = detectors.watching.detectors[label]
    level = (np.nan, np.nan)
    if detectors.pooled(series):
        level = streams.level(~detectors.pool.unstable)
    return Watch(series, name, streams.every, dict(parameters), *level)


def _in_words(outcomes: Sequence[Outcome]) -> str:
    stable = [outcome.end for outcome in outcomes if not outcome.unstable]
    models, molecules = ({getattr(o, name) for o in outcomes} for name in ("model", "molecule"))
    temperatures = [outcome.temperature for outcome in outcomes]
    return (
        f"{len(outcomes)} runs of {len(models)} models, {', '.join(sorted(molecules))}, "
        f"{min(temperatures):g} to {max(temperatures):g} K; {len(stable)} of them stable, "
        f"{sum(stable) / 1e6:.3g} ns in all"
    )
