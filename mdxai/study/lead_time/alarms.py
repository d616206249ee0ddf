"""When a detector would have given its first alarm in each of many runs, at any threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from mdxai.early_warning import CalibrationError, ProfileChange, ProfileSettings, Rate
from mdxai.frame import Bools, Floats
from mdxai.statistics import make_detector, robust_baseline
from mdxai.statistics.change_detection import standardised
from mdxai.study.run_outcome import Outcome
from mdxai.study.run_series import PROFILES, bin_of

FS_PER_NS = 1e6
LEAST = 1.0  # standard deviations; a lower threshold would lie within the usual spread

DETECTORS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "shewhart": ("shewhart", {}),
    "cusum": ("cusum", {"allowance": 0.5}),
    "ewma": ("ewma", {"weight": 0.1}),
    "page_hinkley": ("page_hinkley", {"allowance": 0.5}),
}


@dataclass(frozen=True, slots=True)
class Watching:
    """How series are watched.

    Attributes:
        baseline_fs: beginning of each run, from which its usual level and spread are taken.
        pooled: take level and spread from all stable training runs together, for every series; else
            only for series without values during the baseline, such as profiles.
        detectors: by a free label, name and parameters for `statistics.make_detector`.
        profile: how profiles are compared.
    """

    baseline_fs: float = 500.0
    pooled: bool = False
    detectors: Mapping[str, tuple[str, Mapping[str, Any]]] = field(
        default_factory=lambda: dict(DETECTORS)
    )
    profile: ProfileSettings = field(default_factory=ProfileSettings)


class FirstAlarms(Protocol):
    """When each run first exceeds a level."""

    @property
    def start(self) -> Floats: ...

    @property
    def peaks(self) -> Floats: ...

    def at(self, threshold: float) -> Floats: ...


@dataclass(frozen=True, slots=True)
class Alarms:
    """The record values that a statistic reached in each run: all that first alarms depend on.

    Attributes:
        levels: (n_runs, n_records) ascending, padded with inf.
        times: (n_runs, n_records) fs at which each was reached, padded with inf.
        start: (n_runs,) fs at which watching began, inf where it never did.
    """

    levels: Floats
    times: Floats
    start: Floats

    @property
    def peaks(self) -> Floats:
        """Largest statistic of each run, (n_runs,); −inf where it was never watched."""
        peaks: Floats = np.where(np.isfinite(self.levels), self.levels, -np.inf).max(axis=1)
        return peaks

    def at(self, threshold: float) -> Floats:
        """Return the time of the first alarm of each run, (n_runs,) fs; inf without one."""
        first = np.argmax(self.levels > threshold, axis=1)
        rows = np.arange(len(self.levels))
        times: Floats = np.where(
            self.levels[rows, first] > threshold, self.times[rows, first], np.inf
        )
        return times


@dataclass(frozen=True, slots=True)
class AnyAlarm:
    """An alarm as soon as any of several statistics is above its own share of a common level.

    Attributes:
        parts: first alarms of each.
        scales: threshold of each where the common level is 1.
    """

    parts: Sequence[FirstAlarms]
    scales: Sequence[float]

    @property
    def start(self) -> Floats:
        """(n_runs,) fs at which watching began."""
        start: Floats = np.array([part.start for part in self.parts]).min(axis=0)
        return start

    @property
    def peaks(self) -> Floats:
        """Largest level of each run, (n_runs,)."""
        levels = [p.peaks / s for p, s in zip(self.parts, self.scales, strict=True)]
        peaks: Floats = np.array(levels).max(axis=0)
        return peaks

    def at(self, threshold: float) -> Floats:
        """Return the time of the first alarm of each run, (n_runs,) fs; inf without one."""
        times = [p.at(threshold * s) for p, s in zip(self.parts, self.scales, strict=True)]
        first: Floats = np.array(times).min(axis=0)
        return first


def threshold_for(
    alarms: FirstAlarms, ends: Floats, stable: Bools, alarms_per_ns: float
) -> tuple[float, Rate]:
    """Return the lowest threshold that keeps to a rate of false alarms, and the rate it reaches.

    A run is watched until its first alarm. The threshold is the (k+1)-th highest peak of the stable
    runs, so that k of them alarm, with k the largest that keeps (k + 1)/(time watched) at or below
    the rate: in expectation a new run of the same kind exceeds that peak no more often. The plain
    k/(time watched) would be too low, above all where k is 0.

    Args:
        alarms: first alarms of all runs.
        ends: (n_runs,) fs until which each was followed.
        stable: (n_runs,) the stable runs to use.
        alarms_per_ns: the rate.

    Raises:
        CalibrationError: for a rate that the stable time does not support; says which it does.
    """
    peaks = np.sort(alarms.peaks[stable & np.isfinite(alarms.start)])[::-1]
    n_alarms, exposure = -1, watched_ns(alarms.at(np.inf), alarms, ends, stable)
    low, high = 0, len(peaks)  # the wanted k lies in low − 1 … high − 1
    while low < high:
        k = (low + high) // 2
        time = watched_ns(alarms.at(max(peaks[k], LEAST)), alarms, ends, stable)
        if k + 1 <= alarms_per_ns * time * (1 + 1e-9):
            low, n_alarms = k + 1, k
        else:
            high = k
    if n_alarms < 0:
        least = 1 / exposure if exposure > 0 else math.inf
        raise CalibrationError(
            f"{exposure:.3g} ns of stable runs do not support {alarms_per_ns:g} false alarms per "
            f"ns; they support rates from {least:.3g} on. Add stable runs, or ask for more alarms"
        )
    threshold = max(float(peaks[n_alarms]), LEAST)
    first = alarms.at(threshold)
    n_alarms = int(np.isfinite(first[stable]).sum())
    time = watched_ns(first, alarms, ends, stable)
    return threshold, Rate(alarms_per_ns, n_alarms, time, poisson_upper(n_alarms, time))


def poisson_upper(n: int, exposure: float, confidence: float = 0.95) -> float:
    """Return the upper bound of a Poisson process's rate: ½ χ²(2n + 2) over the exposure."""
    from scipy.stats import chi2

    return float(chi2.ppf(confidence, 2 * n + 2) / 2 / exposure) if exposure > 0 else math.inf


def watched_ns(first: Floats, alarms: FirstAlarms, ends: Floats, runs: Bools) -> float:
    """Return how long runs were watched until their first alarm or their end, ns in all."""
    until = np.minimum(first, ends)
    return float(np.maximum(until - alarms.start, 0.0)[runs].sum()) / FS_PER_NS


class Streams:
    """One series of all runs, as a detector sees it: one value per `every` fs.

    Args:
        outcomes: the runs.
        series: name.
        watching: how it is watched.

    Attributes:
        every: median time between values, fs; NaN where no run has the series.
        silent: whether most runs have no value of it during the baseline.
    """

    def __init__(self, outcomes: Sequence[Outcome], series: str, watching: Watching) -> None:
        found = [_measured(outcome, series) for outcome in outcomes]
        spacings = [float(np.median(np.diff(times))) for times, _ in found if len(times) > 1]
        self.every = float(np.median(spacings)) if spacings else math.nan
        firsts = [float(times[0]) for times, _ in found if len(times)]
        self.silent = bool(firsts and np.median(firsts) > watching.baseline_fs)
        self._watching = watching
        self._runs = [thinned(times, values, self.every) for times, values in found]

    def level(self, runs: Bools) -> tuple[float, float]:
        """Return median and robust deviation of some runs' values together."""
        values = [self._runs[k][1] for k in np.flatnonzero(runs)]
        return robust_baseline(np.concatenate(values)) if values else (math.nan, math.nan)

    def alarms(self, label: str, level: tuple[float, float] | None = None) -> Alarms:
        """Return the records that a detector's statistic sets in each run.

        Args:
            label: of the detector in `Watching.detectors`.
            level: location and scale; by default each run's own.
        """
        name, parameters = self._watching.detectors[label]
        times, z = self._standardised(level)
        detector = make_detector(name, len(z), parameters)
        running: Floats = np.full(len(z), -np.inf)
        paths: Floats = np.empty(z.shape)
        for n, column in enumerate(z.T):
            running = np.fmax(running, np.where(np.isnan(column), -np.inf, detector.update(column)))
            paths[:, n] = running
        return _records(times, z, paths)

    def _standardised(self, level: tuple[float, float] | None) -> tuple[Floats, Floats]:
        """Return times and standardised values, (n_runs, n_values); NaN in baselines and ends."""
        longest = max(1, *(len(times) for times, _ in self._runs))
        times, z = (np.full((len(self._runs), longest), np.nan) for _ in range(2))
        for k, (t, values) in enumerate(self._runs):
            first, (location, scale) = 0, level or (math.nan, math.nan)
            if level is None and len(t):
                over = t >= t[0] + self._watching.baseline_fs - 1e-6
                first = int(np.argmax(over)) if over.any() else len(t)
                location, scale = robust_baseline(values[:first])
            times[k, : len(t)] = t
            z[k, first : len(t)] = standardised(values[first:], location, scale)
        return times, z


def _records(times: Floats, z: Floats, paths: Floats) -> Alarms:
    before = np.concatenate([np.full((len(z), 1), -np.inf), paths[:, :-1]], axis=1)
    new = paths > before
    n_records = max(1, int(new.sum(axis=1).max()))
    levels, when = (np.full((len(z), n_records), np.inf) for _ in range(2))
    for k, row in enumerate(new):
        places = np.flatnonzero(row)
        levels[k, : len(places)], when[k, : len(places)] = paths[k, places], times[k, places]
    watched = ~np.isnan(z)
    begins = times[np.arange(len(z)), np.argmax(watched, axis=1)]
    return Alarms(levels, when, np.where(watched.any(axis=1), begins, np.inf))


def _measured(outcome: Outcome, series: str) -> tuple[Floats, Floats]:
    values = outcome.series.get(series)
    if values is None:
        return np.empty(0), np.empty(0)
    there = ~np.isnan(values)
    return outcome.times[there], values[there]


def thinned(times: Floats, values: Floats, every: float) -> tuple[Floats, Floats]:
    """Return values at least `every` fs apart, taken as `statistics.Baseline` takes them."""
    if not (len(times) > 1 and np.diff(times).min() < every - 1e-6):
        return times, values
    keep, due = [], -math.inf
    for k, time in enumerate(times.tolist()):
        if time >= due - 1e-6:
            keep.append(k)
            due = time + every
    return times[keep], values[keep]


def with_profiles(
    outcomes: Sequence[Outcome], settings: ProfileSettings | None = None
) -> list[Outcome]:
    """Return the outcomes with the series "profile_rms" and "profile_peak" in place of the bins'.

    They are made from series such as "C-H 1.05 Å", the mean relevance of an element pair at a
    distance; see `early_warning.ProfileChange`.

    Raises:
        CalibrationError: where the bins are not those of the settings.
    """
    return [_with_profile(outcome, settings or ProfileSettings()) for outcome in outcomes]


def _with_profile(outcome: Outcome, settings: ProfileSettings) -> Outcome:
    bins = {name: found for name in outcome.series if (found := bin_of(name))}
    rest = {name: values for name, values in outcome.series.items() if name not in bins}
    if not bins:
        return replace(outcome, series=rest)
    names = sorted({pair for pair, _ in bins.values()})
    channels = np.array([names.index(pair) for pair, _ in bins.values()])
    centers = np.array([center for _, center in bins.values()])
    if not np.all(np.abs(centers / settings.bin_ang % 1 - 0.5) < 1e-3):
        raise CalibrationError(
            f"{outcome.run} has bins at {centers.min():g} Å, which are no centres of bins of "
            f"{settings.bin_ang:g} Å; read it with bin_width={settings.bin_ang:g}, or change "
            "ProfileSettings"
        )
    rows = np.array([outcome.series[name] for name in bins]).T
    change = ProfileChange(names, float(centers.max()), settings)
    found_rms, found_peak = (np.full(len(outcome.times), np.nan) for _ in range(2))
    for n in np.flatnonzero(~np.isnan(rows).all(axis=1)):
        there = ~np.isnan(rows[n])
        if change.add_means(
            float(outcome.times[n]), channels[there], centers[there], rows[n, there]
        ):
            found_rms[n], found_peak[n] = change.rms, change.peak
    return replace(outcome, series=rest | dict(zip(PROFILES, (found_rms, found_peak), strict=True)))
