"""The verdict: whether, when and why a trajectory became unstable."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import pyarrow as pa
from ase.data import chemical_symbols

from mdxai.frame import named_atoms
from mdxai.principles import Deviation
from mdxai.record import RecordError, Run
from mdxai.serialization import as_json
from mdxai.showing import ShowsItself
from mdxai.stability.attendance import Coverage
from mdxai.stability.outcomes import Stability
from mdxai.stability.thresholds import THRESHOLDS, Threshold

NON_FINITE = "non_finite"
OF_A_BOND = ("bond", "broken_bonds", "formed_bonds")  # name the two atoms of a bond
END = "end of the trajectory"  # among what could not be checked, where frames are lost


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken principle: since when, the first and worst deviation, and what to do.

    until_fs: since when the deviation has been within its limit again, to the end of the run; None
    where it has not. what: what happened, in words, where the principle tells; or empty.
    """

    principle: str
    severity: str  # the outcome it leads to: "warn", "reacted", "melted", "broken", "unstable"
    time_fs: float
    value: float
    worst: float
    threshold: float
    unit: str
    atoms: tuple[int, ...]
    advice: str
    until_fs: float | None = None
    what: str = ""

    def __str__(self) -> str:
        atoms = f" (atoms {', '.join(map(str, self.atoms))})" if self.atoms else ""
        atoms = f" ({self.what})" if self.what else atoms
        return (
            f"{self.principle} {self.value:.3g} {self.unit} at {self.time_fs:g} fs{atoms}, allowed "
            f"{self.threshold:g}"
        )

    @property
    def over(self) -> str:
        """What holds from `until_fs` on, in words."""
        if self.principle in (*OF_A_BOND, "reaction"):
            return "bonds as at the start again"
        return "within its limit again"

    @property
    def outcome(self) -> Stability:
        """What a run with this finding is, unless another one is graver."""
        return Stability.of_finding(self.severity)

    def label(self, symbols: Sequence[str]) -> str:
        """Return its atoms with their element symbols, such as "C1–H5"."""
        return named_atoms(symbols, self.atoms)


@dataclass(frozen=True, slots=True)
class Verdict(ShowsItself):
    """The judgement of a run. `onset_fs` is the start of the first finding that makes it unusable.

    Findings and onset carry the time of their frame; `start_fs` is the time of the first frame.
    `reference`: what distances and forces were compared with. `closest`: how near the run came to
    its model's weak spots, in words, where these were followed.
    """

    stability: Stability
    onset_fs: float | None
    duration_fs: float
    n_frames: int
    findings: tuple[Finding, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)
    start_fs: float = 0.0
    reference: str = ""
    closest: str = ""

    @property
    def cause(self) -> Finding | None:
        """The first of the most severe findings."""
        return min(self.findings, key=lambda f: (-f.outcome.rank, f.time_fs), default=None)

    @property
    def reason(self) -> str:
        """The cause in a few words; empty if there is none."""
        cause = self.cause
        return "" if cause is None else str(cause)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON, as in verdict.json; values that are not finite become null."""
        plain: dict[str, Any] = as_json(asdict(self) | {"reason": self.reason})
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the verdict that `as_dict` wrote; null becomes NaN, or inf for a threshold.

        Raises:
            RecordError: for anything but the output of `as_dict`.
        """
        try:
            findings = tuple(
                Finding(**finding | {
                    "atoms": tuple(finding["atoms"]),
                    **{key: math.nan if finding[key] is None else float(finding[key])
                       for key in ("value", "worst")},
                    "threshold": math.inf if finding["threshold"] is None
                    else float(finding["threshold"]),
                })
                for finding in plain["findings"]
            )  # fmt: skip
            return cls(
                Stability(plain["stability"]), plain["onset_fs"], plain["duration_fs"],
                plain["n_frames"], findings, dict(plain["unavailable"]), plain["start_fs"],
                plain.get("reference", ""), plain.get("closest", ""),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(
                f"expected the JSON of a verdict, got {plain!r:.200}: {error!r}"
            ) from error

    def __str__(self) -> str:
        start = f" from {self.start_fs:g} fs on" if self.start_fs else ""
        lines = [f"{self.stability} over {self.duration_fs:g} fs{start} ({self.n_frames} frames)"]
        if self.onset_fs is not None:
            lines[0] += f", onset at {self.onset_fs:g} fs"
        for f in self.findings:
            back = "" if f.until_fs is None else f", {f.over} from {f.until_fs:g} fs on"
            lines.append(f"  {f.severity}: {f}, worst {f.worst:.3g}{back}; {f.advice}")
        if self.closest:
            lines.append(f"  {self.closest}")
        if self.reference:
            lines.append(f"  distances and forces compared with {self.reference}")
        by_reason: dict[str, list[str]] = {}
        for name, why in self.unavailable.items():
            by_reason.setdefault(why, []).append(name)
        lines += [f"  not checked: {', '.join(n)}: {why}" for why, n in by_reason.items()]
        return "\n".join(lines)


@dataclass(slots=True)
class _Exceedance:
    """One limit over time; remembers the first violation that outlasted the patience."""

    limit: float
    patience: float
    since: tuple[float, Deviation] | None = None
    broken: tuple[float, Deviation] | None = None
    worst: float = 0.0
    until: float | None = None

    def update(self, time: float, deviation: Deviation) -> None:
        if deviation.value <= self.limit:  # false for NaN
            if self.since is not None:
                self.since, self.until = None, time
            return
        self.since = self.since or (time, deviation)
        self.until = None
        if self.broken is None and not (time - self.since[0] < self.patience):
            self.broken = self.since
        if not (deviation.value <= self.worst) and self.worst == self.worst:  # NaN stays
            self.worst = deviation.value


@dataclass(slots=True)
class _Attendance:
    """When a principle was measured, and the longest gap between two measurements, fs.

    last: time of the last measurement or, before any, of the first frame. calm: deviations up to
    this value change nothing and need no update.
    """

    last: float
    measured: bool = False
    usual: float = 0.0
    calm: float = -math.inf

    def complaint(self, end: float, reason: str | None) -> str | None:
        if not self.measured:
            return reason or f"could not be measured from {self.last:g} fs on"
        if not end - self.last > 2 * self.usual:
            return None
        after = f"could not be measured after {self.last:g} fs"
        return after if reason is None else f"{after}: {reason}"


class VerdictBuilder:
    """Judges a run frame by frame, in memory that does not grow.

    Args:
        thresholds: one per principle; deviations without a threshold are not judged.
        unavailable: principles that could not be checked, with reasons; part of the verdict.
        symbols: one per atom, by which findings name atoms in words.
        reference: what distances and forces are compared with, in words.

    Attributes:
        failed: whether the run has become unusable; see `Stability.is_failure`.
    """

    def __init__(
        self,
        thresholds: Sequence[Threshold] = THRESHOLDS,
        unavailable: Mapping[str, str] | None = None,
        symbols: Sequence[str] = (),
        reference: str = "",
    ) -> None:
        self._reference = reference
        self._symbols = tuple(symbols)
        self._thresholds = {t.principle: t for t in thresholds}
        self._watches = {
            t.principle: (_Exceedance(t.warn, t.patience), _Exceedance(t.unstable, t.patience))
            for t in thresholds
        }
        self._unavailable = dict(unavailable or {})
        self._attendance: dict[str, _Attendance] = {}
        self._shown: dict[str, Deviation | None] = {}  # beside a principle that is above its limit
        self._span: tuple[float, float] | None = None
        self._coverage = Coverage()
        self._lost = ""
        self.failed = False

    def add(
        self,
        time: float,
        deviations: Mapping[str, Deviation | None],
        *,
        step: int | None = None,
        absent: frozenset[str] = frozenset(),
    ) -> None:
        """Take in the deviations of the frame at `time` (fs), by principle; None: not measured.

        Many principles have no value in most frames, which are not explained. A principle whose
        last gap is more than twice its longest earlier one is reported as no longer measured.

        Args:
            time: fs.
            deviations: by principle.
            step: MD step, where it is known.
            absent: what the frame lacked, of "velocities", "forces" and "energy".
        """
        self._span = (self._span[0] if self._span else time, time)
        lost = deviations.get(NON_FINITE)
        self._coverage.add(time, step, absent, is_finite=lost is None or lost.value <= 0)
        attendances = self._attendance
        for name, deviation in deviations.items():
            if deviation is None:
                if name not in attendances:
                    attendances[name] = _Attendance(time)
                continue
            attendance = attendances.get(name)
            if attendance is None:
                attendance = attendances[name] = _Attendance(time)
            silent = time - attendance.last
            attendance.usual = max(attendance.usual, silent)
            attendance.last, attendance.measured = time, True
            if deviation.value <= attendance.calm:  # the usual case
                continue
            watches = self._watches.get(name)
            if watches is None:
                continue
            mild, grave = watches
            mild.update(time, deviation)
            grave.update(time, deviation)
            if grave.broken is not None and not self.failed:
                severity = _severity(self._thresholds[name], grave.broken[1])
                self.failed = Stability.of_finding(severity).is_failure
            shows = self._thresholds[name].shows
            if shows and mild.since is not None:
                self._shown[name] = deviations.get(shows)
            attendance.calm = mild.limit if mild.since is None else -math.inf

    @property
    def n_frames(self) -> int:
        """Number of frames so far."""
        return self._coverage.n_frames

    def lose_end(self, reason: str) -> None:
        """Note that frames after the last one are lost, so that nothing proves the run stable."""
        self._lost = reason

    def verdict(self) -> Verdict:
        """Return the verdict so far."""
        findings = tuple(sorted(self._findings(), key=lambda f: f.time_fs))
        failures = [f.time_fs for f in findings if f.outcome.is_failure]
        whole = self._coverage.n_frames > 1 and not self._lost
        clean = Stability.STABLE if whole else Stability.INCONCLUSIVE
        stability = max((f.outcome for f in findings), key=lambda o: o.rank, default=clean)
        start, end = self._span or (0.0, 0.0)
        coverage = self._coverage
        silent = coverage.partly() | {
            name: complaint
            for name, attendance in self._attendance.items()
            if (complaint := attendance.complaint(coverage.end, coverage.reason(name))) is not None
        }
        return Verdict(
            stability, min(failures, default=None), end - start, self._coverage.n_frames, findings,
            silent | self._unavailable | ({END: self._lost} if self._lost else {}), start,
            self._reference,
        )  # fmt: skip

    def _findings(self) -> Iterable[Finding]:
        for principle, threshold in self._thresholds.items():
            mild, grave = self._watches[principle]
            watch = grave if grave.broken else mild
            # A violation whose patience was cut short by the end of the run is a warning.
            broken = watch.broken or mild.since
            if broken is None:
                continue
            time, deviation = broken
            severity = _severity(threshold, deviation) if grave.broken else "warn"
            yield Finding(
                principle, severity, time, deviation.value, watch.worst, watch.limit,
                deviation.unit, deviation.atoms, self._advice(threshold, deviation), watch.until,
                self._what(deviation),
            )  # fmt: skip

    def _advice(self, threshold: Threshold, deviation: Deviation) -> str:
        """Return what to do; where a bond is at fault, how it is allowed to break or form."""
        atoms = [f"{self._symbols[a]}{a}" for a in deviation.atoms if a < len(self._symbols)]
        if deviation.principle not in OF_A_BOND or len(atoms) != 2:
            return threshold.advice
        bond = "-".join(atoms)
        return f"{threshold.advice}; if it is meant to happen, allow it: --allow-reaction {bond}"

    def _what(self, deviation: Deviation) -> str:
        shown = self._shown.get(deviation.principle)
        if shown is not None:
            return f"{shown.principle} {shown.value:.4g}"
        if deviation.principle != "reaction" or not deviation.atoms or not self._symbols:
            return ""
        left, moved, joined = (f"{self._symbols[a]}{a}" for a in deviation.atoms)
        return f"{moved} moved from {left} to {joined}"


def _severity(threshold: Threshold, deviation: Deviation) -> str:
    """Return what a deviation above the grave limit leads to; NaN is never physics."""
    return "unstable" if math.isnan(deviation.value) else threshold.outcome


def judge(run: Run, thresholds: Sequence[Threshold] | None = None) -> Verdict:
    """Judge a recorded run; the result is the verdict that its monitor reached live.

    Args:
        run: a run directory, opened.
        thresholds: default: those that the run was recorded with.

    Raises:
        RecordError: when no frame was recorded, or a file is damaged.
    """
    builder, closest = builder_of(run, thresholds), ""
    with suppress(RecordError):  # of a run that is not finished
        builder.lose_end(run.verdict.get("unavailable", {}).get(END, ""))
        closest = run.verdict.get("closest", "")
    if not run.parts("frames"):
        raise RecordError(f"{run.path} contains no recorded frames")
    for table in run.tables("frames", judged_columns(run)):
        add_rows(builder, run, table)
    return replace(builder.verdict(), closest=closest)


def builder_of(run: Run, thresholds: Sequence[Threshold] | None = None) -> VerdictBuilder:
    """Return what judges a recorded run, before its first frame.

    Args:
        run: a run directory, opened.
        thresholds: default: those that the run was recorded with.
    """
    symbols = [chemical_symbols[z] for z in run.header["system"]["numbers"]]
    unavailable, reference = run.header.get("unavailable"), run.header.get("reference", "")
    return VerdictBuilder(thresholds or recorded_thresholds(run), unavailable, symbols, reference)


def judged_columns(run: Run) -> list[str]:
    """Return the columns of the frames that `add_rows` reads."""
    names = run.deviations
    return ["step", "time_fs", "absent", *names, *(f"{name}_atoms" for name in names)]


def add_rows(builder: VerdictBuilder, run: Run, table: pa.Table) -> None:
    """Hand recorded frames, in order, to what judges them."""
    units = run.deviations
    for row in table.to_pylist():
        builder.add(
            row["time_fs"],
            {
                name: None
                if row[name] is None
                else Deviation(name, unit, row[name], tuple(row[f"{name}_atoms"]))
                for name, unit in units.items()
            },
            step=row["step"],
            absent=frozenset((row["absent"] or "").split()),
        )


def recorded_thresholds(run: Run) -> tuple[Threshold, ...]:
    """Return the thresholds that a run was recorded with."""
    return tuple(Threshold(**entry) for entry in run.header["thresholds"].values())
