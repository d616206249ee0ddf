"""Detectors at work in a run that is going on."""

from __future__ import annotations

import math
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
from mdxai.statistics import Baseline, BinChange, Detector, ElementPairChannels, make_detector

PROFILES = ("profile_rms", "profile_peak")
KEPT = 100  # last warnings held in memory; the record holds all
BINS = 3  # that a warning names
LABELS = {
    "shewhart": "value", "cusum": "CUSUM", "ewma": "EWMA", "page_hinkley": "Page–Hinkley statistic"
}  # fmt: skip


class EarlyWarningIssued(UserWarning):
    """A detector says that a monitored run behaves as it did not before."""


@dataclass(frozen=True, slots=True)
class EarlyWarning:
    """A change that came more often before a break than by chance.

    Attributes:
        step, time_fs: when.
        principle: the series: a principle, "profile_rms", "profile_peak" or a plain predictor.
        detector: its name.
        statistic, threshold: of the detector, in standard deviations.
        value: of the series at this moment, in its unit.
        usual, spread: what the value usually is.
        atoms: those that break the principle most, or the pairs in the first of the bins.
        bins: of the profile, those that carry most of the change.
        alarms_per_ns: false alarms that all watches together give.
        history: what happened to reference runs in which this came.
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

    @property
    def excess(self) -> float:
        """How far out: the statistic over its threshold."""
        return self.statistic / self.threshold

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON; what is not finite is null."""
        plain: dict[str, Any] = _finite(asdict(self) | {"text": str(self)})
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


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _temperature(frame: Frame) -> float:
    return frame.temperature


def _force_norm(frame: Frame) -> float:
    return float(np.sqrt(np.einsum("ij,ij->i", frame.forces, frame.forces).max()))


PLAIN: Mapping[str, Callable[[Frame], float]] = {
    "temperature_K": _temperature,
    "force_norm": _force_norm,
}


class EarlyWarnings:
    """Watches one run; its memory does not grow.

    A watch that has warned starts afresh, as at the beginning of the run: it learns its baseline
    anew, or, where that was given, is silent for as long. So the rate of false alarms stays that of
    the calibration, in runs of any length.

    Args:
        calibration: what is watched; of several rates the lowest counts.
        first: first frame.
        measured: principles that the run measures.
        cutoff: of the calculator, Å; None where frames are not explained.

    Attributes:
        calibration: as given.
        unavailable: series that are not watched, with the reason.
        issued: the last 100 warnings.
    """

    _not_state = ("calibration", "unavailable", "_watches", "_plain", "_threshold", "_channels")

    def __init__(
        self, calibration: Calibration, first: Frame, measured: set[str], cutoff: float | None
    ) -> None:
        self.calibration = calibration
        self.unavailable = _missing(calibration, first, measured, cutoff)
        self._watches = [w for w in calibration.watches if w.series not in self.unavailable]
        self.issued: deque[EarlyWarning] = deque(maxlen=KEPT)
        n = len(self._watches)
        self._plain = [(k, PLAIN[w.series]) for k, w in enumerate(self._watches)
                       if w.series in PLAIN and w.series not in measured]  # fmt: skip
        self._threshold: Floats = np.array([w.level.threshold for w in self._watches])
        self._values: Floats = np.full(n, np.nan)
        self._silent_until: Floats = np.full(n, -np.inf)
        self._baseline = _baseline(calibration, self._watches)
        self._detectors = _grouped(self._watches)
        self._channels = ElementPairChannels(first.numbers)
        self._profile: ProfileChange | None = None
        if cutoff is not None and any(w.series in PROFILES for w in self._watches):
            self._profile = ProfileChange(self._channels.names, cutoff, calibration.profile)

    def see(
        self, frame: Frame, deviations: Mapping[str, Deviation | None],
        attribution: Attribution | None,
    ) -> list[EarlyWarning]:  # fmt: skip
        """Take in one frame; return the warnings that it gives rise to."""
        if self._baseline is None:
            return []
        self._read(frame, deviations, attribution)
        z = self._baseline.update(frame.time, self._values)
        z[frame.time < self._silent_until - 1e-6] = np.nan
        taken = ~np.isnan(z)
        if not taken.any():
            return []
        statistic = np.empty(len(z))
        for places, detector in self._detectors:
            statistic[places] = detector.update(z[places])
        alarm = taken & (statistic > self._threshold)
        if not alarm.any():
            return []
        found = [
            self._warning(int(k), float(statistic[k]), frame, deviations, attribution)
            for k in np.flatnonzero(alarm)
        ]
        self._restart(alarm, frame.time)
        self.issued += found
        return found

    def _read(
        self, frame: Frame, deviations: Mapping[str, Deviation | None],
        attribution: Attribution | None,
    ) -> None:  # fmt: skip
        values = self._values
        values[:] = [
            math.nan if (d := deviations.get(watch.series)) is None else d.value
            for watch in self._watches
        ]
        for k, measure in self._plain:
            values[k] = measure(frame)
        if self._profile is not None and attribution is not None:
            pairs = attribution.pairs
            channels = self._channels.of(pairs.i, pairs.j)
            if self._profile.add_pairs(
                frame.time, channels, pairs.distances, np.abs(attribution.strengths)
            ):
                found = {"profile_rms": self._profile.rms, "profile_peak": self._profile.peak}
                for k, watch in enumerate(self._watches):
                    values[k] = found.get(watch.series, values[k])

    def _warning(
        self, k: int, statistic: float, frame: Frame,
        deviations: Mapping[str, Deviation | None], attribution: Attribution | None,
    ) -> EarlyWarning:  # fmt: skip
        assert self._baseline is not None
        watch, level = self._watches[k], self._watches[k].level
        deviation = deviations.get(watch.series)
        atoms = () if deviation is None else deviation.atoms
        bins: tuple[BinChange, ...] = ()
        if self._profile is not None and watch.series in PROFILES:
            bins = self._profile.largest(BINS)
            atoms = self._atoms_in(bins, attribution)
        return EarlyWarning(
            frame.step, frame.time, watch.series, watch.detector, statistic, level.threshold,
            float(self._values[k]), float(self._baseline.location[k]),
            float(self._baseline.scale[k]), atoms, bins, level.alarms_per_ns, level.history,
        )  # fmt: skip

    def _atoms_in(
        self, bins: tuple[BinChange, ...], attribution: Attribution | None
    ) -> tuple[int, ...]:
        """Return the atoms whose pairs lie in the first bin now."""
        if not bins or attribution is None:
            return ()
        pairs = attribution.pairs
        here = self._channels.of(pairs.i, pairs.j) == self._channels.names.index(bins[0].channel)
        here &= (pairs.distances >= bins[0].left) & (pairs.distances < bins[0].right)
        atoms = np.unique(np.concatenate([pairs.i[here], pairs.j[here]]))
        return tuple(atoms.tolist())

    def _restart(self, watches: Bools, time: float) -> None:
        assert self._baseline is not None
        self._baseline.restart(watches)
        self._silent_until[watches] = time + self.calibration.baseline_fs
        for places, detector in self._detectors:
            detector.restart(watches[places])


def _missing(
    calibration: Calibration, first: Frame, measured: set[str], cutoff: float | None
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


def _baseline(calibration: Calibration, watches: list[Watch]) -> Baseline | None:
    if not watches:
        return None
    every, location, scale = (
        np.array([getattr(watch, name) for watch in watches], dtype=np.float64)
        for name in ("every_fs", "location", "scale")
    )
    return Baseline(calibration.baseline_fs, every, location, scale)


def _grouped(watches: list[Watch]) -> list[tuple[Any, Detector]]:
    """Return detectors with the places of the watches that each serves."""
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
