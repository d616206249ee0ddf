"""What can be said of runs while they go on, from their directories alone. Nothing is written."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from ase import Atoms
from ase.data import chemical_symbols

from mdxai.errors import MdxaiError, one_line
from mdxai.frame import Floats
from mdxai.record import RecordError, Run
from mdxai.record.layout import (
    HEADER,
    TEMPORARY,
    VERDICT,
    WRITER,
    checkpoint_step,
    list_checkpoints,
)
from mdxai.record.reader import read_run
from mdxai.record.writer_lock import SILENT_SECONDS, writer_of
from mdxai.serialization import as_json, from_plain
from mdxai.stability.outcomes import Stability
from mdxai.stability.verdict import (
    Verdict,
    VerdictBuilder,
    add_rows,
    builder_of,
    judged_columns,
    recorded_thresholds,
)

if TYPE_CHECKING:
    from mdxai.forecast.survival_model import Interval

POINTS = 64  # of a principle's past, at most twice as many
WORST = 6  # principles that are shown
EVENTS, FINDINGS = 2, 3  # the last ones, which are shown
WARM = 60.0  # s, after which the time that a run took to start hardly counts
DEEP = 5  # folders below the one given in which runs are looked for
ROLLED_BACK = "rolled-back-"  # what a rollback replaced is no run that goes on


class Activity(StrEnum):
    """Whether a run goes on. awaited: the folder holds none yet. silent: on another machine, and
    nothing was committed for long.
    """

    AWAITED = "awaited"
    RUNNING = "running"
    FINISHED = "finished"
    SILENT = "silent"
    ENDED = "ended early"
    KILLED = "killed"
    UNREADABLE = "unreadable"

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be expected."""
        return self not in (Activity.AWAITED, Activity.RUNNING, Activity.SILENT)


@dataclass(frozen=True, slots=True)
class PrincipleNow:
    """A principle in a run. share: its largest value lately as a share of the limit beyond which
    the run is judged; inf where it was not finite. past: (n,) the same over time, each stretch by
    its largest or, where it was not measured, as it was last; NaN before that. value, limit: in
    `unit`.
    """

    name: str
    share: float
    past: tuple[float, ...]
    value: float
    limit: float
    unit: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. step: the last one recorded. steps: planned; None where no one said so.
    time: fs. per_second: steps; 0 where that is not known. left: s to go; None where unknown.
    """

    step: int = -1
    steps: int | None = None
    time: float = 0.0
    per_second: float = 0.0

    @property
    def left(self) -> float | None:
        if self.steps is None or not self.per_second:
            return None
        return max(0, self.steps - self.step) / self.per_second


@dataclass(frozen=True, slots=True)
class Disk:
    """What a run takes and what is left. used, free: bytes. checkpoint: step of the last; None
    without any. checkpoint_age: s. since_commit: s since the run last wrote; None once it is over.
    """

    used: int = 0
    free: int = 0
    checkpoint: int | None = None
    checkpoint_age: float = 0.0
    since_commit: float | None = None


@dataclass(frozen=True, slots=True)
class RunState:
    """A run as it is now. foretold: of the whole run, by its calculator's card; left: of what
    remains of it; both in words, or empty. complaint: why there is nothing to read, or empty.
    """

    path: str
    calculator: str
    formula: str
    activity: Activity
    progress: Progress
    verdict: Verdict | None
    worst: tuple[PrincipleNow, ...]
    foretold: str
    left: str
    events: tuple[str, ...]
    disk: Disk
    complaint: str = ""

    @property
    def key(self) -> str:
        """A short name that stays the same."""
        return hashlib.sha256(self.path.encode()).hexdigest()[:12]

    @property
    def trouble(self) -> tuple[float, ...]:
        """What puts a run before another one: larger is worse."""
        rank = -1.0 if self.verdict is None else float(self.verdict.stability.rank)
        judged = self.verdict is not None and self.verdict.stability is not Stability.INCONCLUSIVE
        bad = self.activity in (Activity.UNREADABLE, Activity.KILLED, Activity.SILENT)
        share = self.worst[0].share if self.worst else 0.0
        return float(judged and self.verdict_fails), float(bad), rank, share

    @property
    def last_findings(self) -> tuple[str, ...]:
        """The last few findings in words."""
        findings = () if self.verdict is None else self.verdict.findings[-FINDINGS:]
        return tuple(f"{finding.severity}: {finding}" for finding in findings)

    @property
    def verdict_fails(self) -> bool:
        """Whether the run has become unusable."""
        return self.verdict is not None and self.verdict.stability.is_failure

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON; what is not finite becomes null."""
        plain: dict[str, Any] = as_json(asdict(self))
        plain["progress"]["left_s"] = self.progress.left
        plain["verdict"] = None if self.verdict is None else self.verdict.as_dict()
        return plain


class _Past:
    """The shares of several principles over time in few points, updated row by row."""

    def __init__(self, n: int) -> None:
        self._stride = 1
        self.points: Floats = np.empty((0, n))
        self._pending: Floats = np.empty((0, n))

    def add(self, rows: Floats) -> None:
        """Add rows (n_rows, n); NaN where nothing was measured."""
        rows = np.concatenate([self._pending, rows])
        whole = len(rows) // self._stride * self._stride
        blocks = rows[:whole].reshape(-1, self._stride, rows.shape[1])
        self.points = np.concatenate([self.points, np.fmax.reduce(blocks, axis=1)])
        self._pending = rows[whole:]
        while len(self.points) > 2 * POINTS:
            even = len(self.points) // 2 * 2
            pairs = np.fmax(self.points[:even:2], self.points[1:even:2])
            self.points = np.concatenate([pairs, self.points[even:]])
            self._stride *= 2

    @property
    def now(self) -> Floats:
        """All points, with the rows that are no whole point yet."""
        if not len(self._pending):
            return self.points
        return np.concatenate([self.points, np.fmax.reduce(self._pending, axis=0)[None]])


class WatchedRun:
    """A run directory that is looked at again and again; each look reads what is new.

    Args:
        path: the directory. It need not hold a run yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._done: RunState | None = None
        self._forget()

    def _forget(self) -> None:
        self._run: Run | None = None
        self._began = 0.0
        self._last, self._time = -1, 0.0
        self._builder: VerdictBuilder | None = None
        self._values: Floats = np.empty(0)
        self._marks: list[tuple[float, int]] = []  # when which step was seen
        self._hazard: Interval | None = None
        self._asked = False

    def look(self) -> RunState:
        """Return the run as it is now. A run that cannot be read is a state, not an error."""
        if self._done is not None and (self.path / VERDICT).exists():
            return self._done
        if not (self.path / HEADER).exists():
            return self._without(Activity.AWAITED, "no run here yet")
        try:
            state = self._look()
        except (MdxaiError, OSError) as error:
            return self._without(Activity.UNREADABLE, one_line(error))
        self._done = state if state.activity is Activity.FINISHED else None
        return state

    def _without(self, activity: Activity, reason: str) -> RunState:
        self._forget()
        return RunState(
            str(self.path), "", "", activity, Progress(), None, (), "", "", (), Disk(), reason
        )

    def _look(self) -> RunState:
        began = (self.path / HEADER).stat().st_mtime
        if self._run is None or began != self._began or self._was_taken_back():
            self._forget()
            self._run, self._began = read_run(self.path), began
            self._builder = builder_of(self._run)
            self._past = _Past(len(self._run.deviations))
        run, activity = self._run, self._activity()
        self._read_on(run, judged=activity is not Activity.FINISHED)
        verdict = self._verdict(run)
        progress = self._progress(run, activity)
        foretold, left = self._foretold(run, progress, verdict, activity)
        return RunState(
            str(self.path), str(run.header["calculator"].get("name", "")), _formula(run), activity,
            progress, verdict, self._worst(run), foretold, left, _events(run),
            self._disk(activity),
        )  # fmt: skip

    def _was_taken_back(self) -> bool:
        """Whether a rollback or a resumed run replaced frames that were read."""
        parts = [] if self._run is None else self._run.parts("frames")
        return bool(parts) and parts[-1].last < self._last

    def _activity(self) -> Activity:
        if (self.path / VERDICT).exists():
            return Activity.FINISHED
        writer = writer_of(self.path)
        if writer is None:
            return Activity.RUNNING if (self.path / WRITER).exists() else Activity.ENDED
        ended = writer.has_ended()
        if ended is None and (_age(self.path / WRITER) or 0.0) > SILENT_SECONDS:
            return Activity.SILENT
        return Activity.KILLED if ended else Activity.RUNNING

    def _read_on(self, run: Run, *, judged: bool) -> None:
        """Read new frames; only those of a run without a verdict are judged, which takes longer."""
        limits = self._limits(run)
        columns = judged_columns(run) if judged else ["step", "time_fs", *run.deviations]
        if not len(self._values):
            self._values = np.full(len(limits), np.nan)
        for table in run.tables("frames", columns, after=self._last):
            if judged and self._builder is not None:
                add_rows(self._builder, run, table)
            values = _values_of(table, list(run.deviations))
            self._past.add(values / limits)
            self._values = np.where(np.isnan(values[-1]), self._values, values[-1])
            self._last, self._time = table["step"][-1].as_py(), table["time_fs"][-1].as_py()
        self._marks = [*self._marks[-50:], (time.monotonic(), self._last)]

    def _limits(self, run: Run) -> Floats:
        """Return the limit of each principle beyond which a run is judged; NaN without any."""
        known = {
            t.principle: t.unstable if 0 < t.unstable < np.inf else t.warn
            for t in recorded_thresholds(run)
        }
        limits = np.array([known.get(name, np.nan) for name in run.deviations], dtype=float)
        limits[limits == 0] = 1.0  # of counts and the like: 1 is the least that exceeds 0
        return limits

    def _verdict(self, run: Run) -> Verdict | None:
        with suppress(RecordError):
            return Verdict.from_dict(run.verdict)
        if self._builder is None or not self._builder.n_frames:
            return None
        return self._builder.verdict()

    def _worst(self, run: Run) -> tuple[PrincipleNow, ...]:
        past, limits = self._past.now, self._limits(run)
        if not len(past):
            return ()
        past = _filled(past)
        recent = past[-max(1, len(past) // 8) :]
        shares = np.nan_to_num(np.fmax.reduce(recent, axis=0), nan=-1.0, posinf=np.inf)
        names = list(run.deviations)
        order = np.argsort(-shares, kind="stable")[:WORST]
        return tuple(
            PrincipleNow(
                names[k], float(shares[k]), tuple(past[:, k].tolist()), float(self._values[k]),
                float(limits[k]), run.deviations[names[k]],
            )
            for k in order if shares[k] >= 0
        )  # fmt: skip

    def _progress(self, run: Run, activity: Activity) -> Progress:
        settings = run.header.get("context", {}).get("settings", {})
        steps = settings.get("steps") if isinstance(settings, dict) else None
        planned = steps if isinstance(steps, int) else None
        rate = 0.0 if activity.is_over else self._rate()
        return Progress(self._last, planned, self._time, rate)

    def _rate(self) -> float:
        """Return steps per second: as seen or, before two looks differ, since the run began."""
        then, step = next((m for m in self._marks if m[1] >= 0), self._marks[0])
        now, last = next((m for m in self._marks if m[1] == self._last), self._marks[-1])
        if last > step >= 0 and now > then:
            return (last - step) / (now - then)
        running = time.time() - self._began - (_age(self.path / WRITER) or 0.0)
        return max(0, self._last) / running if running > WARM else 0.0

    def _foretold(
        self, run: Run, progress: Progress, verdict: Verdict | None, activity: Activity
    ) -> tuple[str, str]:
        foretold = str(run.header.get("context", {}).get("forecast", ""))
        failed = verdict is not None and verdict.stability.is_failure
        timestep = run.header.get("engine", {}).get("timestep")
        if activity.is_over or failed or not progress.steps or not timestep or not foretold:
            return foretold, ""
        if not self._asked:
            self._hazard, self._asked = _hazard(run), True
        hazard = self._hazard
        remaining = (progress.steps - progress.step) * timestep / 1000
        if hazard is None or remaining <= 0:
            return foretold, ""
        from mdxai.forecast.quantity_text import share_interval_text, time_text
        from mdxai.forecast.survival_model import survival_of

        share = share_interval_text(survival_of(hazard, remaining))
        return foretold, f"survives the remaining {time_text(remaining)} with probability {share}"

    def _disk(self, activity: Activity) -> Disk:
        used = 0
        for path in self.path.iterdir():
            with suppress(OSError):  # merged meanwhile
                used += path.stat().st_size if path.is_file() else 0
        checkpoints = [p for p in list_checkpoints(self.path) if not p.name.endswith(TEMPORARY)]
        last = checkpoints[-1] if checkpoints else None
        return Disk(
            used, shutil.disk_usage(self.path).free,
            None if last is None else checkpoint_step(last),
            0.0 if last is None else _age(last) or 0.0,
            None if activity.is_over else _age(self.path / WRITER),
        )  # fmt: skip


def _formula(run: Run) -> str:
    symbols = [chemical_symbols[z] for z in run.header["system"]["numbers"]]
    return str(Atoms(symbols).get_chemical_formula("hill"))


def _age(path: Path) -> float | None:
    """Return how long ago a file was written, s; None where there is none."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return None


def _values_of(table: pa.Table, names: list[str]) -> Floats:
    """Return (n_rows, n_names); NaN where nothing was measured, inf for what was not finite."""
    values = np.empty((table.num_rows, len(names)))
    for k, name in enumerate(names):
        column = table[name].to_numpy(zero_copy_only=False).astype(float)
        measured = ~table[name].is_null().to_numpy()
        values[:, k] = np.where(measured & ~np.isfinite(column), np.inf, column)
        values[~measured, k] = np.nan
    return values


def _filled(past: Floats) -> Floats:
    """Return the same with the last value in place of NaN."""
    rows = np.where(np.isnan(past), -1, np.arange(len(past))[:, None])
    last = np.maximum.accumulate(rows, axis=0)
    return np.where(last < 0, np.nan, np.take_along_axis(past, np.maximum(last, 0), axis=0))


def _events(run: Run) -> tuple[str, ...]:
    rows = run.events_table().to_pylist()[-EVENTS:]
    return tuple(f"step {row['step']:,}: {row['kind']}: {_said(row['content'])}" for row in rows)


def _said(content: str) -> str:
    with suppress(ValueError, RecursionError):
        found = json.loads(content)
        if isinstance(found, dict):
            words = [value for value in found.values() if isinstance(value, str)]
            return words[0] if words else ", ".join(map(str, found.values()))
    return content


def _hazard(run: Run) -> Interval | None:
    """Return what the calculator's card foretells of the hazard, per ps; None where it does not."""
    from mdxai.forecast import CardForecast

    temperature = run.header.get("engine", {}).get("temperature")
    stated, frame = run.header.get("card", {}).get("forecast"), run.first_frame()
    if not stated or not temperature or frame is None:
        return None
    with suppress(MdxaiError):
        found = from_plain(CardForecast, stated).about(frame)
        return None if found is None else found.hazard(float(temperature))
    return None


def runs_below(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield run directories: the folders themselves, or those below them, in order.

    A folder that holds no run yet is yielded itself.
    """
    for folder in folders:
        found = [] if (folder / HEADER).exists() else sorted(_below(folder, DEEP))
        yield from found or [folder]


def _below(folder: Path, deep: int) -> Iterator[Path]:
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.name.startswith((ROLLED_BACK, ".")):
                if (path / HEADER).exists():
                    yield path
                elif deep:
                    yield from _below(path, deep - 1)


class Watch:
    """Several runs that are looked at together; those that appear later are found.

    Args:
        folders: run directories, or folders that contain some.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = tuple(folders)
        self._runs: dict[Path, WatchedRun] = {}

    def look(self) -> list[RunState]:
        """Return all runs as they are now, those in trouble first."""
        paths = dict.fromkeys(runs_below(self._folders))
        self._runs = {path: self._runs.get(path) or WatchedRun(path) for path in paths}
        states = [run.look() for run in self._runs.values()]
        return sorted(states, key=lambda s: (*(-t for t in s.trouble), s.path))
