"""Whether, when and why a trajectory became unstable: thresholds and a pure function."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from mdxai.principles import Deviation
from mdxai.record import Run


class Stability(StrEnum):
    """stable: nothing broken. suspect: only warnings. inconclusive: fewer than two frames."""

    STABLE = "stable"
    SUSPECT = "suspect"
    UNSTABLE = "unstable"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Threshold:
    """When a deviation counts.

    A deviation that is not at or below `warn` makes a run suspect, one not at or below `unstable`
    makes it unstable, once it has lasted for `patience` fs. NaN is never at or below anything.
    """

    principle: str
    warn: float
    unstable: float
    patience: float
    advice: str


# What each number rests on is written in docs/thresholds.md.
THRESHOLDS = (
    Threshold(
        "non_finite", 0, 0, 0.0,
        "the run is lost from here on; restart before this time, and look at what broke first",
    ),
    Threshold(
        "bond", 0.4, 0.5, 0.0,
        "train on stretched geometries and higher temperatures, or lower the temperature",
    ),
    Threshold(
        "contact", 0.15, 0.3, 0.0,
        "add short contacts to the training data, or a repulsive core such as ZBL",
    ),
    Threshold(
        "temperature", 8.0, 12.0, 5.0,
        "halve the timestep; if the heating stays, the forces are at fault: check the energy",
    ),
    Threshold(
        "energy", 10.0, 100.0, 0.0,
        "halve the timestep; if it stays, the forces are not the gradient of a smooth energy",
    ),
    Threshold(
        "net_force", 1e-3, 1e-2, 0.0,
        "forces do not sum to zero: use float64, and a model whose forces derive from an energy",
    ),
    Threshold(
        "broken_bonds", 0, 0, 10.0,
        "train on stretched geometries and higher temperatures, or lower the temperature",
    ),
    Threshold(
        "formed_bonds", 0, 2, 10.0,
        "atoms have come together: unless a reaction is wanted, add short contacts to the training",
    ),
    Threshold(
        "fragments", 0, 0, 10.0,
        "the molecule has fallen apart; restart before this time, train on stretched bonds",
    ),
    Threshold(
        "lone_hydrogen", 0.7, 1.4, 0.0,
        "a hydrogen has left its partner: halve the timestep, train on stretched X–H bonds",
    ),
    Threshold(
        "beyond_training", 0.5, 1.0, 0.0,
        "the molecule is longer than in training, where the network extrapolates: add such shapes",
    ),
    Threshold(
        "distance_drift", 0.6, 1.2, 0.0,
        "the structure is no longer that of the start: look whether it melted or changed shape, "
        "and whether the training data has such shapes",
    ),
    Threshold(
        "force_spike", 4.0, 10.0, 0.0,
        "one atom feels an unusual force: look at its neighbours, halve the timestep",
    ),
    Threshold(
        "force_beyond_training", 0.25, 1.0, 0.0,
        "forces are larger than in training: add hotter or more strained geometries to it",
    ),
    Threshold(
        "energy_drift", 3.0, 30.0, 0.0,
        "halve the timestep; if the drift stays, the forces are not the gradient of the energy",
    ),
    Threshold(
        "energy_jump", 50.0, 500.0, 0.0,
        "the energy jumped in a single step: look for a cutoff or a neighbour list that is not "
        "smooth, or for atoms that came too close",
    ),
    Threshold(
        "net_torque", 1e-2, 1e-1, 0.0,
        "forces turn the system as a whole: use a model whose energy does not depend on direction",
    ),
    Threshold(
        "momentum", 0.05, 0.5, 0.0,
        "the system as a whole gains speed: forces that do not add up to zero push it",
    ),
    Threshold(
        "angular_momentum", 0.05, 0.5, 0.0,
        "the system as a whole starts to turn: use a model whose energy does not depend on "
        "direction",
    ),
    Threshold(
        "flying_ice_cube", 6.0, 10.0, 500.0,
        "the system flies or spins rather than vibrates: use a thermostat that pushes every atom "
        "(Langevin), or remove the motion of the whole",
    ),
    Threshold(
        "kinetic_spread", 0.5, 3.0, 0.0,
        "the thermostat does not keep the canonical ensemble: weaken it, or use Langevin or Bussi "
        "rather than Berendsen",
    ),
    Threshold(
        "mode_temperature", 0.5, 2.0, 0.0,
        "kinds of motion differ in temperature: couple the bath more strongly, halve the timestep",
    ),
    Threshold(
        "element_temperature", 0.5, 2.0, 0.0,
        "elements differ in temperature: halve the timestep, couple the bath more strongly",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken principle: since when, how badly at first and at worst, and what to do."""

    principle: str
    severity: str  # "warn" or "unstable"
    time_fs: float
    value: float
    worst: float
    threshold: float
    unit: str
    atoms: tuple[int, ...]
    advice: str

    def label(self, symbols: Sequence[str]) -> str:
        """Return its atoms as a chemist reads them, such as "C1–H5", from the system's symbols."""
        return "–".join(f"{symbols[a]}{a}" for a in self.atoms)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of a run. `onset_fs` is the start of the first instability, if any."""

    stability: Stability
    onset_fs: float | None
    duration_fs: float
    n_frames: int
    findings: tuple[Finding, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)

    @property
    def cause(self) -> Finding | None:
        """The finding that came first among the gravest."""
        grave = [f for f in self.findings if f.severity == "unstable"] or list(self.findings)
        return min(grave, key=lambda f: f.time_fs, default=None)

    def as_dict(self) -> dict[str, Any]:
        """Return what verdict.json holds: plain JSON, so values that are not finite are null."""
        plain = asdict(self)
        for finding in plain["findings"]:
            for key in ("value", "worst"):
                if not math.isfinite(finding[key]):
                    finding[key] = None
        return plain

    def __str__(self) -> str:
        lines = [f"{self.stability} over {self.duration_fs:g} fs ({self.n_frames} frames)"]
        if self.onset_fs is not None:
            lines[0] += f", onset at {self.onset_fs:g} fs"
        for f in self.findings:
            atoms = f" (atoms {', '.join(map(str, f.atoms))})" if f.atoms else ""
            lines.append(
                f"  {f.severity}: {f.principle} {f.value:.3g} {f.unit} at {f.time_fs:g} fs{atoms}, "
                f"allowed {f.threshold:g}, worst {f.worst:.3g}; {f.advice}"
            )
        lines += [f"  not checked: {name}: {why}" for name, why in self.unavailable.items()]
        return "\n".join(lines)


@dataclass(slots=True)
class _Exceedance:
    """One threshold watched over time; remembers the first violation that lasted."""

    limit: float
    patience: float
    since: tuple[float, Deviation] | None = None
    broken: tuple[float, Deviation] | None = None
    worst: float = 0.0

    def update(self, time: float, deviation: Deviation) -> None:
        if deviation.value <= self.limit:  # false for NaN, which never passes
            self.since = None
            return
        self.since = self.since or (time, deviation)
        if self.broken is None and not (time - self.since[0] < self.patience):
            self.broken = self.since
        if not (deviation.value <= self.worst) and self.worst == self.worst:  # NaN stays
            self.worst = deviation.value


class Court:
    """Judges a run frame by frame, in memory that does not grow.

    Args:
        thresholds: one per principle; deviations without a threshold are not judged.
        unavailable: principles that could not be checked, with reasons; passed on.
    """

    def __init__(
        self,
        thresholds: Sequence[Threshold] = THRESHOLDS,
        unavailable: Mapping[str, str] | None = None,
    ) -> None:
        self._thresholds = {t.principle: t for t in thresholds}
        self._watches = {
            (t.principle, severity): _Exceedance(limit, t.patience)
            for t in thresholds
            for severity, limit in (("warn", t.warn), ("unstable", t.unstable))
        }
        self._unavailable = dict(unavailable or {})
        self._silent: dict[str, float] = {}  # since when a principle could not be measured
        self._span: tuple[float, float] | None = None
        self._n_frames = 0
        self.unstable = False

    def hear(self, time: float, deviations: Mapping[str, Deviation | None]) -> None:
        """Take in the deviations of the frame at `time` (fs), by principle; None: not measured."""
        self._n_frames += 1
        self._span = (self._span[0] if self._span else time, time)
        for name, deviation in deviations.items():
            if deviation is None:
                self._silent.setdefault(name, time)
            else:
                self._silent.pop(name, None)
            if deviation is None or name not in self._thresholds:
                continue
            for severity in ("warn", "unstable"):
                self._watches[deviation.principle, severity].update(time, deviation)
            self.unstable |= self._watches[deviation.principle, "unstable"].broken is not None

    def verdict(self) -> Verdict:
        """Return the judgement so far."""
        findings = tuple(sorted(self._findings(), key=lambda f: f.time_fs))
        grave = [f.time_fs for f in findings if f.severity == "unstable"]
        if grave:
            stability = Stability.UNSTABLE
        elif findings:
            stability = Stability.SUSPECT
        else:
            stability = Stability.STABLE if self._n_frames > 1 else Stability.INCONCLUSIVE
        start, end = self._span or (0.0, 0.0)
        return Verdict(
            stability, min(grave, default=None), end - start, self._n_frames, findings,
            self._unspoken() | self._unavailable,
        )  # fmt: skip

    def _unspoken(self) -> dict[str, str]:
        """Return the principles that had nothing to say up to the last frame."""
        return {
            name: f"could not be measured from {time:g} fs on"
            for name, time in self._silent.items()
        }

    def _findings(self) -> Iterable[Finding]:
        for principle, threshold in self._thresholds.items():
            grave, mild = (self._watches[principle, s] for s in ("unstable", "warn"))
            watch, severity = (grave, "unstable") if grave.broken else (mild, "warn")
            # A violation that the end of the run cut short of its patience is worth a warning.
            broken = watch.broken or mild.since
            if broken is None:
                continue
            time, deviation = broken
            yield Finding(
                principle, severity, time, deviation.value, watch.worst, watch.limit,
                deviation.unit, deviation.atoms, threshold.advice,
            )  # fmt: skip


def judge(run: Run, thresholds: Sequence[Threshold] | None = None) -> Verdict:
    """Judge a recorded run; the same verdict that its monitor reached live.

    Args:
        run: a run directory, opened.
        thresholds: those that the run was recorded with by default.
    """
    units = run.deviations
    thresholds = thresholds or recorded_thresholds(run)
    court = Court(thresholds, run.header.get("unavailable"))
    columns = ["time_fs", *units, *(f"{name}_atoms" for name in units)]
    for row in run.frames(columns).to_pylist():
        court.hear(
            row["time_fs"],
            {
                name: None
                if row[name] is None
                else Deviation(name, unit, row[name], tuple(row[f"{name}_atoms"]))
                for name, unit in units.items()
            },
        )
    return court.verdict()


def recorded_thresholds(run: Run) -> tuple[Threshold, ...]:
    """Return the thresholds that a run was judged by while it ran."""
    return tuple(Threshold(**entry) for entry in run.header["thresholds"].values())
