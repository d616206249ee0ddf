"""Detectors watch a run while it goes on and issue early warnings."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mdxai.attribution import Attribution
from mdxai.early_warning.calibration import Calibration, History, Watch
from mdxai.early_warning.profiles import ProfileChange
from mdxai.frame import Bools, Floats, Frame
from mdxai.principles import Deviation
from mdxai.serialization import as_json
from mdxai.statistics import Baseline, BinChange, Detector, element_pair_channels, make_detector

PROFILES = ("profile_rms", "profile_peak")
KEPT = 100  # most recent warnings kept in memory; the record has all of them
BINS = 3  # named in a warning
LABELS = {
    "shewhart": "value", "cusum": "CUSUM", "ewma": "EWMA", "page_hinkley": "Page–Hinkley statistic"
}  # fmt: skip


class EarlyWarningIssued(UserWarning):
    """A detector finds that the behaviour of a monitored run has changed."""


class CalibrationMismatch(UserWarning):
    """Values come less often than in the reference runs behind the thresholds."""


@dataclass(frozen=True, slots=True)
class EarlyWarning:
    """A change that preceded instabilities more often than chance would explain.

    Attributes:
        step, time_fs: when.
        principle: the series that changed: a principle, "profile_rms", "profile_peak" or a plain
            predictor.
        detector: its name.
        statistic, threshold: of the detector, in standard deviations.
        value: of the series at this moment, in its unit.
        usual, spread: level and spread that the value usually has.
        atoms: those that break the principle most, or those of the pairs in the first bin.
        bins: the bins of the profile that carry most of the change.
        alarms_per_ns: rate of false alarms of all watches together.
        history: what happened to the reference runs in which this alarm was raised.
    """

    step: int
    time_fs: float
    principle: str
    detector: str
    statistic: float
    threshold: float
    value: float
    usual: float
    spread: float
    atoms: tuple[int, ...]
    bins: tuple[BinChange, ...]
    alarms_per_ns: float
    history: History

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON; numbers that are not finite become null."""
        plain: dict[str, Any] = as_json(asdict(self) | {"text": str(self)})
        return plain

    def __str__(self) -> str:
        where = f", atoms {', '.join(map(str, self.atoms))}" if self.atoms else ""
        if self.bins:
            where = ", most in " + " and ".join(
                f"{b.channel} at {b.left:.2f}–{b.right:.2f} Å ({b.before:.3g} → {b.after:.3g} eV)"
                for b in self.bins[:2]
            )
        return (
            f"early warning at {self.time_fs:g} fs: {self.principle} has changed, "
            f"{LABELS[self.detector]} {self.statistic:.3g} σ, threshold {self.threshold:.3g} σ; it "
            f"is {self.value:.3g}, usually {self.usual:.3g} ± {self.spread:.2g}{where}; "
            f"{self.history}"
        )


def _temperature(frame: Frame) -> float:
    return frame.temperature


def _force_norm(frame: Frame) -> float:
    return float(np.sqrt(np.einsum("ij,ij->i", frame.forces, frame.forces).max()))


PLAIN: Mapping[str, Callable[[Frame], float]] = {
    "kinetic_temperature": _temperature,
    "force_norm": _force_norm,
}


class _Group:
    """Watches whose values are read at the same times.

    Args:
        calibration: that the watches belong to.
        watches: with the same `every_fs`.
    """

    _not_state = ("watches", "_threshold", "_every", "_hold")

    def __init__(self, calibration: Calibration, watches: list[Watch]) -> None:
        self.watches = watches
        self._every, self._hold = watches[0].every_fs, calibration.baseline_fs
        self._threshold: Floats = np.array([w.level.threshold for w in watches])
        self._due = self._last = -math.inf
        self._compared = False
        self._silent_until: Floats = np.full(len(watches), -np.inf)
        every, location, scale = (
            np.array([getattr(watch, name) for watch in watches], dtype=np.float64)
            for name in ("every_fs", "location", "scale")
        )
        self.baseline = Baseline(calibration.baseline_fs, every, location, scale)
        self._detectors = _detectors(watches)

    def due(self, time: float) -> bool:
        """Whether values are read at this time (fs)."""
        return time >= self._due - 1e-6

    def update(self, time: float, given: list[float]) -> list[tuple[int, float]]:
        """Take in one value per watch (NaN if missing); return the alarms with their statistics.

        A watch starts afresh after an alarm, as at the beginning of a run.
        """
        if all(map(math.isnan, given)):
            return []
        self._compare(time)
        self._due = time + self._every
        z = self.baseline.update(time, np.array(given))
        z[time < self._silent_until - 1e-6] = np.nan
        taken = ~np.isnan(z)
        if not taken.any():
            return []
        statistic: Floats = np.empty(len(z))
        for places, detector in self._detectors:
            statistic[places] = detector.update(z[places])
        alarm = taken & (statistic > self._threshold)
        return [(int(k), float(statistic[k])) for k in np.flatnonzero(alarm)]

    def _compare(self, time: float) -> None:
        """Warn once if values come less often than the thresholds were made for."""
        gap, self._last = time - self._last, time
        if math.isinf(gap) or self._compared:
            return
        self._compared = True
        if not (gap <= 1.5 * self._every):
            names = ", ".join(watch.series for watch in self.watches)
            warnings.warn(
                f"{names}: a value every {gap:g} fs, but the calibration is made for one every "
                f"{self._every:g} fs; early warnings will come later, at another rate of false "
                "alarms. Monitor and explain frames as often as in the reference runs",
                CalibrationMismatch,
                stacklevel=8,
            )

    def restart(self, time: float, watches: list[int]) -> None:
        """Start some watches afresh: learn the baseline anew or, if it is given, wait as long."""
        chosen: Bools = np.zeros(len(self.watches), dtype=np.bool_)
        chosen[watches] = True
        self.baseline.restart(chosen)
        self._silent_until[chosen] = time + self._hold
        for places, detector in self._detectors:
            detector.restart(chosen[places])


class EarlyWarnings:
    """Watches one run, in memory that does not grow.

    After a warning a watch starts afresh, as at the beginning of the run: it learns its baseline
    anew or, if the calibration gives the baseline, stays silent for as long. So the rate of false
    alarms remains that of the calibration in runs of any length.

    Args:
        calibration: what is watched; the lowest of its rates applies.
        first: first frame.
        measured: what each principle of the run costs, by name.
        cutoff: of the calculator, Å; None if frames are not explained.

    Attributes:
        unavailable: series that are not watched, with the reason.
        issued: the last 100 warnings.
    """

    _not_state = ("unavailable", "_plain")

    def __init__(
        self, calibration: Calibration, first: Frame, measured: Mapping[str, str],
        cutoff: float | None,
    ) -> None:  # fmt: skip
        self.unavailable = _missing(calibration, first, measured, cutoff)
        self.issued: deque[EarlyWarning] = deque(maxlen=KEPT)
        watches = [w for w in calibration.watches if w.series not in self.unavailable]
        self._plain = {w.series for w in watches if w.series in PLAIN} - set(measured)
        self._groups: dict[str, list[_Group]] = {"free": [], "attribution": []}
        for key, members in _rhythms(watches, measured).items():
            self._groups[key[0]].append(_Group(calibration, members))
        self._profile: ProfileChange | None = None
        if cutoff is not None and any(w.series in PROFILES for w in watches):
            names = element_pair_channels(first.numbers).names
            self._profile = ProfileChange(names, cutoff, calibration.profile)

    def see(
        self, frame: Frame, deviations: Mapping[str, Deviation | None],
        attribution: Attribution | None,
    ) -> list[EarlyWarning]:  # fmt: skip
        """Take in one frame; return the warnings that it causes."""
        profile = {} if attribution is None else self._profiles(frame, attribution)
        found: list[EarlyWarning] = []
        for kind, groups in self._groups.items():
            if kind == "attribution" and attribution is None:
                continue
            for group in groups:
                if not group.due(frame.time):
                    continue
                values = [self._value(w.series, frame, deviations, profile) for w in group.watches]
                alarms = group.update(frame.time, values)
                if alarms:
                    instant = (frame, deviations, attribution)
                    found += [self._warning(group, alarm, values, instant) for alarm in alarms]
                    group.restart(frame.time, [k for k, _ in alarms])
        self.issued += found
        return found

    def _value(
        self, series: str, frame: Frame, deviations: Mapping[str, Deviation | None],
        profile: Mapping[str, float],
    ) -> float:  # fmt: skip
        deviation = deviations.get(series)
        if deviation is not None:
            return deviation.value
        if series in self._plain:
            return PLAIN[series](frame)
        return profile.get(series, math.nan)

    def _profiles(self, frame: Frame, attribution: Attribution) -> dict[str, float]:
        """Return how far the profile has moved; empty if there is no new value."""
        if self._profile is None:
            return {}
        if not self._profile.add(frame.time, attribution.profile):
            return {}
        return dict(zip(PROFILES, (self._profile.rms, self._profile.peak), strict=True))

    def _warning(
        self, group: _Group, alarm: tuple[int, float], values: list[float], instant: Instant
    ) -> EarlyWarning:
        (k, statistic), (frame, deviations, attribution) = alarm, instant
        watch, level = group.watches[k], group.watches[k].level
        deviation = deviations.get(watch.series)
        atoms = () if deviation is None else deviation.atoms
        bins: tuple[BinChange, ...] = ()
        if self._profile is not None and watch.series in PROFILES:
            bins = self._profile.largest(BINS)
            atoms = self._atoms_in(bins, attribution)
        return EarlyWarning(
            frame.step, frame.time, watch.series, watch.detector, statistic, level.threshold,
            values[k], float(group.baseline.location[k]), float(group.baseline.scale[k]), atoms,
            bins, level.alarms_per_ns, level.history,
        )  # fmt: skip

    def _atoms_in(
        self, bins: tuple[BinChange, ...], attribution: Attribution | None
    ) -> tuple[int, ...]:
        """Return the atoms of the pairs that now lie in the first bin."""
        if not bins or attribution is None:
            return ()
        pairs, profile = attribution.pairs, attribution.profile
        here = profile.channels == profile.names.index(bins[0].channel)
        here &= (pairs.distances >= bins[0].left) & (pairs.distances < bins[0].right)
        atoms = np.unique(np.concatenate([pairs.i[here], pairs.j[here]]))
        return tuple(atoms.tolist())


Instant = tuple[Frame, Mapping[str, Deviation | None], Attribution | None]


def _missing(
    calibration: Calibration, first: Frame, measured: Mapping[str, str], cutoff: float | None
) -> dict[str, str]:
    """Return the series of a calibration that this run does not have, with reasons."""
    found = {}
    for name in dict.fromkeys(watch.series for watch in calibration.watches):
        if name in PROFILES:
            if cutoff is None or len(first.numbers) < 2:
                found[name] = "frames are not explained"
        elif name not in measured and name not in PLAIN:
            found[name] = "not measured in this run"
    return found


def _rhythms(
    watches: list[Watch], measured: Mapping[str, str]
) -> dict[tuple[str, float], list[Watch]]:
    """Group watches by `every_fs` and by whether they need explanations."""
    found: dict[tuple[str, float], list[Watch]] = {}
    for watch in watches:
        explained = watch.series in PROFILES or measured.get(watch.series) == "attribution"
        key = ("attribution" if explained else "free", watch.every_fs)
        found.setdefault(key, []).append(watch)
    return found


def _detectors(watches: list[Watch]) -> list[tuple[Any, Detector]]:
    """Return the detectors, each with the indices of the watches that it serves."""
    groups: dict[str, list[int]] = {}
    for k, watch in enumerate(watches):
        groups.setdefault(f"{watch.detector} {sorted(watch.parameters.items())}", []).append(k)
    return [
        (
            np.array(places),
            make_detector(watches[places[0]].detector, len(places), watches[places[0]].parameters),
        )
        for places in groups.values()
    ]
