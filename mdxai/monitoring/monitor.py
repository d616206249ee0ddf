"""Monitor: an observer of molecular dynamics that explains, checks, records and judges."""

from __future__ import annotations

import atexit
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from ase.md.md import MolecularDynamics

from mdxai.attribution import Attribution
from mdxai.calculators import CalculatorError
from mdxai.early_warning import Calibration, EarlyWarning, EarlyWarningIssued, load_calibration
from mdxai.engines import AseEngine, Engine, Restartable
from mdxai.frame import Frame
from mdxai.monitoring.blackbox import BlackBox
from mdxai.monitoring.overhead import Cost, Overhead
from mdxai.monitoring.setup import (
    MonitorOptions,
    MonitorSetup,
    OptionError,
    deviations_of,
    header_of,
    prepare,
    system_of,
)
from mdxai.monitoring.signals import Interruption
from mdxai.principles import Deviation
from mdxai.record import (
    Checkpoint,
    RecordError,
    RecordSettings,
    RecordWarning,
    RunWriter,
    differences,
    refuse_other_run,
)
from mdxai.record.checkpoint import read_checkpoint
from mdxai.record.header import refuse_unstorable
from mdxai.record.layout import checkpoint_path
from mdxai.record.resume import checkpoint_of, give_up_start, refuse_start
from mdxai.record.rollbacks import (
    Rollback,
    aside_folder,
    is_pending,
    n_rollbacks,
    plan_rollback,
    rollbacks_of,
)
from mdxai.record.writer_lock import DirectoryTakenOver, refuse_other_writer
from mdxai.serialization import restore, snapshot
from mdxai.stability.thresholds import THRESHOLDS, Threshold, require_known
from mdxai.stability.verdict import Verdict, VerdictBuilder
from mdxai.statistics import BinnedMoments

OnUnstable = Literal["ignore", "warn", "halt", "raise"] | Callable[[Verdict], None]
OnWarning = Literal["ignore", "warn"] | Callable[[EarlyWarning], None]


# The evaluation of a network drives all other code out of the processor's caches. Run once a step,
# the principles take four times as long as run for ten frames in a row.
TOGETHER = 10


class InstabilityWarning(UserWarning):
    """A monitored trajectory became unstable."""


class UnstableTrajectory(RuntimeError):
    """A monitored trajectory became unstable, and `on_unstable="raise"` was asked for.

    Attributes:
        verdict: the judgement at that moment.
    """

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(str(verdict))
        self.verdict = verdict


class _Instant(NamedTuple):
    """A frame that waits to be judged, and what would be gone by then.

    temperature, bath_energy: of the thermostat, K and eV; see `Engine`.
    """

    frame: Frame
    attribution: Attribution | None
    temperature: float | None
    bath_energy: float | None


class Monitor:
    """Watches an ASE run. Attach it like any observer; leave the `with` block to finish the record.

        with mdxai.Monitor(dyn, "runs/ethanol", attribute_every=10) as monitor:
            dyn.attach(monitor, interval=1)
            dyn.run(20_000)
        print(monitor.verdict)

    It reads what the calculator has computed anyway and explains on a twin of the model, so the
    trajectory is bit-identical to the unmonitored one. With a path, it writes checkpoints from
    which `Monitor.resume` goes on. Within the `with` block, in the main thread, SIGTERM and SIGUSR1
    end the run after the present step, with a checkpoint; when the record is finished, the signal
    goes on to whoever handled it before.

    Frames are judged and recorded ten at a time, each as if it had been at once; whoever asks for
    the verdict gets that of all of them. Where something is to happen when the run becomes unstable
    (`on_unstable` or `on_warning` other than "ignore" and "warn"), every frame is judged at once.

    Args:
        dynamics: an ASE MolecularDynamics object, or another Engine.
        path: run directory to write; None keeps no record.
        attribute_every: explain frames whose MD step is a multiple of this; 0 never.
        probe_every: probe a twin of the calculator, as `mdxai check` does, at frames whose MD step
            is a multiple of this; 0 never. One round takes as long as thousands of steps.
        gamma: γ of the attribution rule.
        thresholds: what deviations count; `mdxai.load_thresholds` reads a file of changes.
        expected: reactions that are wanted: bonds that may break and form, such as "C1-O2" (atoms
            numbered from 0) or "O-H" (elements).
        on_unstable: "warn" (default), "ignore", "halt" (end the run after this step; told to run
            again, it ends at the next frame), "raise" (UnstableTrajectory), or a function that is
            given the verdict. Called once.
        blackbox: number of the last steps held in full detail, and written, explained, when the
            run becomes unstable; 0 for none. Where the monitor sees only every n-th step, the
            steps between are held too, from the second frame on.
        max_overhead: share of the wall time that the monitor may take: explanations and probes
            become rarer to keep to it. Which frames are explained then depends on the clock.
        early_warning: calibration of early warnings, or its file: which series are watched, and
            the rate of false alarms (the lowest that it has; `Calibration.at` chooses another).
        on_warning: "warn" (default): EarlyWarningIssued, "ignore", or a function that is given
            each early warning.
        record: what is kept, in which precision, and how often it is written.
        context: entries for run.toml, such as seeds and the command line.
        report: write report.html, the page of the run, when it has come to its end: not after a
            signal or an exception, when time is short.

    Raises:
        RecordError: when `path` already holds a run.
        TypeError, ValueError: for unusable arguments (`OptionError` and those of each module).
    """

    def __init__(  # noqa: PLR0913 (every choice of a user's one line)
        self,
        dynamics: MolecularDynamics | Engine,
        path: str | os.PathLike[str] | None = None,
        *,
        attribute_every: int = 10,
        probe_every: int = 0,
        gamma: float = 0.1,
        thresholds: Sequence[Threshold] = THRESHOLDS,
        expected: Sequence[str] = (),
        on_unstable: OnUnstable = "warn",
        blackbox: int = 50,
        max_overhead: float | None = None,
        early_warning: Calibration | str | os.PathLike[str] | None = None,
        on_warning: OnWarning = "warn",
        record: RecordSettings | None = None,
        context: Mapping[str, Any] | None = None,
        report: bool = True,
    ) -> None:
        wanted = (expected,) if isinstance(expected, str) else tuple(expected)
        self._options = MonitorOptions(
            attribute_every,
            probe_every,
            gamma,
            require_known(thresholds),
            wanted,
            blackbox,
            max_overhead,
            None if early_warning is None else load_calibration(early_warning),
        )
        if not (callable(on_unstable) or on_unstable in ("ignore", "warn", "halt", "raise")):
            raise OptionError(
                "on_unstable must be 'ignore', 'warn', 'halt', 'raise' or a function, got "
                f"{on_unstable!r}"
            )
        if not (callable(on_warning) or on_warning in ("ignore", "warn")):
            raise ValueError(
                f"on_warning must be 'ignore', 'warn' or a function, got {on_warning!r}"
            )
        self._engine = dynamics if isinstance(dynamics, Engine) else AseEngine(dynamics)
        self._writer: RunWriter | None = None
        if path is not None:
            self._writer = RunWriter(path, record)
            refuse_other_run(self._writer.path)
        self._on_unstable, self._on_warning = on_unstable, on_warning
        refuse_unstorable(context or {})
        self._context = dict(context or {})
        self._builder = VerdictBuilder()
        self._ready: MonitorSetup | None = None
        acts = on_unstable not in ("ignore", "warn") or on_warning not in ("ignore", "warn")
        self._together = 1 if acts else TOGETHER
        self._waiting: deque[_Instant] = deque()
        self._reacted = self._finished = self._looks_between = self._takes_over = False
        self._halted_by: str | None = None
        self._rollbacks: list[Rollback] = []
        self._started = 0.0
        self._box = BlackBox(blackbox)
        self._interruption = Interruption()
        self.cost = Cost()
        self._overhead = Overhead(max_overhead, self.cost)
        self._news: list[EarlyWarning] = []
        self._writes_page = report
        self.saves = True  # checkpoints by itself when they are due
        self.last_step: int | None = None
        self.last_attribution: Attribution | None = None

    @classmethod
    def resume(
        cls,
        dynamics: MolecularDynamics | Engine,
        path: str | os.PathLike[str],
        *,
        step: int | None = None,
        **arguments: Any,
    ) -> Self:
        """Return a monitor that goes on where the run in `path` was, and put the dynamics there.

            monitor = mdxai.Monitor.resume(dyn, "runs/ethanol", attribute_every=10)
            with monitor:
                dyn.attach(monitor, interval=1)
                dyn.run(20_000 - dyn.nsteps)

        Where there is no checkpoint yet, the run starts afresh: the same script serves both. What
        was recorded without one is put aside at the first frame, if it was the same run.

        Args:
            dynamics: made as for the first start.
            path: run directory.
            step: MD step of the checkpoint to go on from, one that is there; the last by default.
            **arguments: the others of Monitor, as for the first start.

        Raises:
            RecordError: when the run cannot be continued like this, with what is different.
            StateError: when the checkpoint does not fit these dynamics.
        """
        folder = Path(path)
        refuse_other_writer(folder)
        newest = checkpoint_of(folder)
        checkpoint = newest if step is None else read_checkpoint(checkpoint_path(folder, step))
        record = arguments.pop("record", None)
        monitor = cls(dynamics, None, **arguments)
        monitor._writer = RunWriter(path, record)
        if checkpoint is None:
            refuse_start(folder)
            monitor._takes_over = True
        else:
            monitor._continue(checkpoint)
        return monitor

    @classmethod
    def rollback(
        cls,
        dynamics: MolecularDynamics | Engine,
        path: str | os.PathLike[str],
        *,
        margin: float = 100.0,
        changes: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> Self:
        """Return a monitor that takes an unstable run back, to go on with these other dynamics.

            dyn = Langevin(atoms, 0.25 * units.fs, ..., rng=np.random.default_rng(2))
            with mdxai.Monitor.rollback(dyn, "runs/ethanol", on_unstable="halt") as monitor:
                dyn.attach(monitor, interval=1)
                dyn.run(20_000)

        Positions, velocities, step count and time, the record and all that the monitor has learned
        are those of the last good checkpoint; timestep, bath and random numbers those of
        `dynamics`. What was recorded after it is put aside, not deleted. The rollback is an event,
        and stands in rollbacks.json and verdict.json.

        Args:
            dynamics: made as for the first start, with a smaller timestep or another seed.
            path: run directory of a run whose verdict is unstable.
            margin: fs that should lie between the checkpoint and the onset; where none is so old,
                the oldest from before the onset is taken.
            changes: what is different now, for the record.
            **arguments: the others of Monitor, as for the first start.

        Raises:
            RecordError: when the run cannot be taken back, with the reason.
            StateError: when the checkpoint is one of other atoms.
        """
        folder = Path(path)
        refuse_other_writer(folder)
        plan = plan_rollback(folder, margin, dict(changes or {}))
        record = arguments.pop("record", None)
        monitor = cls(dynamics, None, **arguments)
        monitor._writer = RunWriter(path, record)
        monitor._continue(read_checkpoint(checkpoint_path(folder, plan.to_step)), branch=True)
        return monitor

    @property
    def rollbacks(self) -> tuple[Rollback, ...]:
        """How often, and why, this run was taken back to an earlier checkpoint."""
        return tuple(self._rollbacks)

    def checkpoint(self) -> None:
        """Write a checkpoint of the last instant that was taken in, beyond those that come due.

        Raises:
            RecordError: without a record, and when the file system refuses.
        """
        self._catch_up()
        if self._writer is None or self.last_step is None:
            raise RecordError("a checkpoint needs a run directory and a frame taken in")
        if not self._between_steps():
            raise RecordError(
                "the calculator holds no forces of the present positions, so a run could not go on "
                "from here; write checkpoints between the steps of a run"
            )
        self._writer.commit(self.last_step, self._state())

    @property
    def verdict(self) -> Verdict:
        """The judgement of what has been seen so far."""
        self._catch_up()
        return self._builder.verdict()

    @property
    def warnings(self) -> tuple[EarlyWarning, ...]:
        """Early warnings so far, the last 100; the record holds all, as events."""
        self._catch_up()
        early = None if self._ready is None else self._ready.early
        return () if early is None else tuple(early.issued)

    @property
    def profile(self) -> BinnedMoments | None:
        """Relevance against distance, per element pair, where frames are explained."""
        return None if self._ready is None else self._ready.profile

    @property
    def stopped_by(self) -> str | None:
        """Name of the signal that ended the run, such as "SIGTERM"."""
        return self._interruption.name

    @property
    def halted_by(self) -> str | None:
        """What the run was halted for, where it was."""
        return self._halted_by

    def __call__(self) -> None:
        """Take in the present instant; ASE calls this."""
        if self._finished:
            warnings.warn("the monitor is finished and sees no more frames", stacklevel=2)
            return
        begin = time.perf_counter()
        self._take(self._engine.frame(), begin)

    def take(
        self, frame: Frame, attribution: Attribution | None = None, *, explain: bool = True
    ) -> None:
        """Take in one frame, with its explanation where the caller has made it already.

        For engines that hand out frames in batches; ASE's call the monitor itself.

        Args:
            frame: the present instant.
            attribution: its explanation.
            explain: whether the monitor explains a frame itself that comes without, when it is due.
        """
        self._take(frame, time.perf_counter(), attribution, explain=explain)

    def _take(
        self,
        frame: Frame,
        begin: float,
        given: Attribution | None = None,
        *,
        explain: bool = True,
    ) -> None:
        if frame.step == self.last_step:  # attached twice, or called by hand
            return
        begins = self._ready is None
        if self._ready is None:
            self._start(frame, begin)
        elif self._engine.calculator is not self._calculator:
            raise OptionError(
                f"the atoms have got another calculator before step {frame.step}; a monitor judges "
                "and explains one: make another monitor, with a directory of its own"
            )
        elif self.last_step is not None and frame.step - self.last_step > 1:
            self._catch_up()
            self._look_between()
        one_by_one = self.last_step is not None and frame.step - self.last_step == 1
        self.last_step = frame.step
        if given is not None:
            attribution: Attribution | None = self._keep(given)
        else:
            attribution = self._explain(frame) if explain else None
        bath = self._engine.temperature(), self._engine.bath_energy()
        self._waiting.append(_Instant(frame, attribution, *bath))
        if self._is_time(frame.step):
            if self._writer is not None:
                self._writer.check()
            self._catch_up()
            self._save(frame.step)
        self._count(begin, begins)
        self._announce_next(frame, one_by_one)

    def _count(self, begin: float, begins: bool) -> None:
        """Add to the cost what passed since `begin`; `begins`: at the first frame of this process,
        where setting up is most of it.
        """
        end = time.perf_counter()
        self.cost.monitor += end - begin
        self.cost.total = end - self._started
        if begins:
            self.cost.start += end - begin
            self._overhead.begin()
        self._overhead.review()

    def _is_time(self, step: int) -> bool:
        """Whether what waits is to be judged now."""
        if len(self._waiting) >= self._together or self._interruption.name is not None:
            return True
        at = None if self._writer is None else self._writer.commits_at
        return self._looks_between or (at is not None and step >= at)

    def _catch_up(self) -> None:
        """Judge and record the frames that wait."""
        while self._waiting:
            instant = self._waiting.popleft()
            frame = instant.frame
            deviations = self._observe(instant)
            self._box.see(frame, deviations)
            if self._news:
                self._announce(frame)
            if self._builder.unstable and not self._reacted:
                self._reacted = True
                self._react(frame)

    def _start(self, first: Frame, begin: float) -> None:
        if not self._between_steps():
            raise OptionError(
                "the calculator holds no forces of the present positions, and the monitor computes "
                "none: attach it with `dyn.attach(monitor)` and let `dyn.run` call it, with a "
                "calculator that keeps its results"
            )
        self._started = begin
        self._calculator = self._engine.calculator
        self._ready = prepare(self._engine, first, self._options)
        self._builder = VerdictBuilder(self._ready.thresholds, self._ready.unavailable)
        if self._writer is not None:
            header = header_of(self._engine, self._ready, self._options, self._context)
            if self._takes_over:
                give_up_start(self._writer.path, header)
            self._writer.start(header, self._ready.principles)
            atexit.register(self._finish_late)

    def _announce_next(self, frame: Frame, one_by_one: bool) -> None:
        """Tell the attributor whether the next frame is due, where every step is monitored."""
        assert self._ready is not None
        will_explain_next = getattr(self._ready.explain, "will_explain_next", None)
        if will_explain_next is not None:
            due = self._overhead.due(frame.step + 1, self._options.attribute_every)
            will_explain_next(due or not one_by_one)

    def _look_between(self) -> None:
        """From now on hold the steps between monitored frames for the black box."""
        every_step = getattr(self._engine, "every_step", None)
        if every_step is None or self._looks_between or not self._box.n_frames:
            return
        self._looks_between = True
        every_step(self._look)

    def _look(self) -> None:
        if self._finished:
            return
        begin = time.perf_counter()
        self._box.see(self._engine.frame())
        self.cost.monitor += time.perf_counter() - begin

    def _observe(self, instant: _Instant) -> dict[str, Deviation | None]:
        assert self._ready is not None
        frame, attribution, *_ = instant
        bath = self._ready.bath
        bath.temperature, bath.energy = instant.temperature, instant.bath_energy
        probe = self._overhead.due(frame.step, self._options.probe_every)
        deviations = deviations_of(self._ready.principles, frame, attribution, probe=probe)
        self._builder.add(frame.time, deviations)
        if self._writer is not None:
            self._writer.add_frame(frame, deviations)
            if attribution is not None:
                self._writer.add_attribution(frame, attribution)
        if self._ready.early is not None:
            self._news = self._ready.early.see(frame, deviations, attribution)
        return deviations

    def _announce(self, frame: Frame) -> None:
        """Record early warnings, and tell whoever listens."""
        news, self._news = self._news, []
        for warning in news:
            if self._writer is not None:
                self._writer.add_event(frame.step, frame.time, "warning", warning.as_dict())
            if callable(self._on_warning):
                self._on_warning(warning)
            elif self._on_warning == "warn":
                warnings.warn(str(warning), EarlyWarningIssued, stacklevel=4)

    def _explain(self, frame: Frame) -> Attribution | None:
        assert self._ready is not None
        explain = self._ready.explain
        due = self._overhead.due(frame.step, self._options.attribute_every)
        if explain is None or not due or not np.isfinite(frame.positions).all():
            return None
        begin = time.perf_counter()
        try:
            attribution = self._keep(explain.attribute(frame))
        except (
            CalculatorError
        ):  # such as atoms on top of each other: other principles speak of that
            return None
        self.cost.attribution += time.perf_counter() - begin
        return attribution

    def _keep(self, attribution: Attribution) -> Attribution:
        """Add an explanation to the statistics and return it."""
        ready = self._ready
        if ready is not None and ready.profile is not None:
            ready.profile.update(*attribution.profile.samples)
        self.last_attribution = attribution
        self.cost.n_attributions += 1
        return attribution

    def _react(self, frame: Frame) -> None:
        verdict = self._builder.verdict()  # without the frames that still wait
        self._tell(frame, verdict)
        if callable(self._on_unstable):
            self._on_unstable(verdict)
        elif self._on_unstable in ("halt", "raise"):
            self._halted_by = verdict.reason
            self._engine.stop()
        elif self._on_unstable == "warn":
            warnings.warn(str(verdict), InstabilityWarning, stacklevel=4)
        if self._on_unstable == "raise":
            raise UnstableTrajectory(verdict)

    def _tell(self, frame: Frame, verdict: Verdict) -> None:
        """Record the violation, and write the black box."""
        if self._writer is None:
            return
        content = {"reason": verdict.reason, "onset_fs": verdict.onset_fs}
        if len(self._box):
            explain = None if self._ready is None else self._ready.explain
            content["blackbox"] = self._box.write(self._writer.path, explain).name
        self._writer.add_event(frame.step, frame.time, "unstable", content)

    def _save(self, step: int) -> None:
        """Commit what has gathered where it is due, and whenever the run is asked to stop."""
        stopped = self._interruption.name is not None
        halted = self._halted_by is not None and self._on_unstable == "halt"
        if stopped or halted:  # also when the dynamics are told to run once more
            self._engine.stop()
        if self._writer is not None and (stopped or (self.saves and self._writer.due(step))):
            self._writer.commit(step, self._state())

    @property
    def due(self) -> bool:
        """Whether a checkpoint is due."""
        step = self.last_step
        return self._writer is not None and step is not None and self._writer.due(step)

    def _state(self) -> dict[str, Any] | None:
        """Return what a checkpoint holds; None for an engine that cannot be restarted."""
        ready = self._ready
        if ready is None or not isinstance(self._engine, Restartable):
            return None
        explain = ready.explain
        return {
            "engine": self._engine.state(),
            "monitor": snapshot(self._parts()),
            "first": snapshot(ready.first),
            "n_rollbacks": len(self._rollbacks),
            "described": snapshot(asdict(self._engine.describe())),
            "blackbox": self._box.state(),
            "explain": explain.state() if explain is not None and hasattr(explain, "state") else {},
        }

    def _parts(self) -> dict[str, Any]:
        assert self._ready is not None
        early = self._ready.early
        return ({} if early is None else {"early": early}) | {
            "principles": self._ready.principles,
            "profile": self._ready.profile,
            "builder": self._builder,
            "cost": self.cost,
            "last_step": self.last_step,
            "reacted": self._reacted,
            "halted_by": self._halted_by,
            "looks_between": self._looks_between,
        }

    def _continue(self, checkpoint: Checkpoint, *, branch: bool = False) -> None:
        """Go on from a checkpoint: monitor, engine and record.

        Args:
            checkpoint: of this run.
            branch: take from it where the atoms are, not how they move on.

        Raises:
            RecordError: when the run cannot be continued like this, with what is different.
        """
        assert self._writer is not None
        folder, state = self._writer.path, checkpoint.state
        if not isinstance(self._engine, Restartable):
            raise RecordError(f"{type(self._engine).__name__} cannot be resumed")
        if branch:
            _refuse_to_branch(self._engine)
        self._ready = prepare(self._engine, restore(None, state["first"]), self._options)
        header = header_of(self._engine, self._ready, self._options, self._context)
        rollbacks = rollbacks_of(folder)
        if not branch and is_pending(folder, rollbacks):
            raise RecordError(
                f"{folder} was being rolled back when it was ended; use Monitor.rollback, or "
                "`mdxai run --rollback`, once more"
            )
        # The first frame is the recorded one: what drives the atoms now is what counts.
        header["system"] |= system_of(self._engine.frame())
        changed = differences(_expected(checkpoint, header, branch), header)
        if changed:
            raise RecordError(
                f"{folder} cannot be continued like this:\n  " + "\n  ".join(changed)
                + "\nUse the same calculator, system and parameters, or another directory"
            )  # fmt: skip
        self._calculator = self._engine.calculator
        self._builder = VerdictBuilder(self._ready.thresholds, self._ready.unavailable)
        parts = restore(self._parts(), state["monitor"])
        self._ready.profile = parts["profile"]
        self.last_step, self._reacted = parts["last_step"], parts["reacted"]
        self._halted_by = parts["halted_by"]
        self._box.restore(state["blackbox"])
        if parts["looks_between"]:
            self._look_between()
        if state["explain"] and self._ready.explain is not None:
            self._ready.explain.restore(state["explain"])  # type: ignore[attr-defined]
        if branch:
            self._engine.restart_from(state["engine"])  # type: ignore[attr-defined]
        else:
            self._engine.restore(state["engine"])
        self._writer.resume(checkpoint, aside_folder(len(rollbacks)) if branch else None)
        atexit.register(self._finish_late)
        self._rollbacks = rollbacks
        self.cost.resumed_at.append(checkpoint.step)
        self._started = time.perf_counter() - self.cost.total
        if branch:
            self._tell_rollbacks(n_rollbacks(checkpoint))
            # From here on the rollback is not pending.
            self._writer.commit(checkpoint.step, self._state())

    def _tell_rollbacks(self, n_told: int) -> None:
        """Record as events what the record, taken back to a checkpoint, does not know of."""
        assert self._writer is not None
        assert self.last_step is not None
        for number, rollback in enumerate(self._rollbacks[n_told:], start=n_told + 1):
            content = {"number": number, **rollback.as_dict()}
            self._writer.add_event(self.last_step, rollback.to_time_fs, "rollback", content)

    def finish(self, interrupted_by: str | None = None, halted_by: str | None = None) -> None:
        """Write what is left and the verdict. Leaving the `with` block calls this.

        Args:
            interrupted_by: what ended the run before its time; noted beside the verdict.
            halted_by: what it was halted for, where not by this monitor; noted, too.
        """
        self._catch_up()
        by = interrupted_by or self.stopped_by
        written = None
        if self._writer is not None and self._writer.open:
            written = self._writer.path
            content = self.verdict.as_dict() | {
                "interrupted_by": by,
                "halted_by": self._halted_by or halted_by,
                "cost": self.cost.as_dict(),
            }
            if self._rollbacks:
                content["rollbacks"] = [rollback.as_dict() for rollback in self._rollbacks]
            if self._options.early_warning is not None:
                content["warnings"] = [warning.as_dict() for warning in self.warnings]
            state = self._state() if interrupted_by is None and self._between_steps() else None
            step = None if state is None else self._engine.frame().step
            self._writer.finish(content, self.profile, state, step)
        atexit.unregister(self._finish_late)
        self._finished = True
        if written is not None and by is None and self._writes_page:
            from mdxai.report import attempt_report  # draws, so it takes a while to import

            complaint = attempt_report(written)
            if complaint is not None:
                warnings.warn(complaint, RecordWarning, stacklevel=2)

    def _between_steps(self) -> bool:
        """Whether the engine is: after an error that the caller has dealt with it may not be."""
        return not isinstance(self._engine, Restartable) or self._engine.between_steps()

    def _finish_late(self) -> None:
        """Finish the record of a script that ends without having left a `with` block."""
        try:
            with suppress(DirectoryTakenOver):  # another monitor has gone on with the run
                self.finish("the script ended before the monitor was finished")
        except RecordError as error:  # such as a directory that was deleted meanwhile
            warnings.warn(f"a record could not be finished: {error}", RecordWarning, stacklevel=2)

    def __enter__(self) -> Self:
        if self._finished:
            raise OptionError(
                "this monitor is finished and sees no more frames; make another one, or go on with "
                "its record: Monitor.resume(dynamics, path)"
            )
        if self._writer is not None:
            self._interruption.catch()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.finish(None if kind is None else f"{kind.__name__}: {error}".rstrip(": "))
        except RecordError:
            if error is None:  # else that says why the run ended, and what is to be done
                raise
        finally:
            self._interruption.release()


def _refuse_to_branch(engine: Engine) -> None:
    if not hasattr(engine, "restart_from"):
        raise RecordError(f"{type(engine).__name__} cannot be rolled back")
    if engine.temperature() is not None and engine.bath_energy() is not None:
        raise RecordError(
            f"{engine.describe().name} counts the heat of its bath from its own start, so energies "
            "before and after a rollback could not be compared; use Langevin"
        )


def _expected(checkpoint: Checkpoint, header: Mapping[str, Any], branch: bool) -> dict[str, Any]:
    """Return the header that a run which goes on from a checkpoint must have.

    Raises:
        RecordError: for a rollback to another kind of dynamics.
    """
    expected = dict(checkpoint.header)
    if branch:
        old, new = checkpoint.header["engine"], header["engine"]
        if old["name"] != new["name"]:
            raise RecordError(f"a rollback goes on with {old['name']}, got {new['name']}")
        expected["engine"] = new
    elif n_rollbacks(checkpoint):
        expected["engine"] = restore(None, checkpoint.state["described"])
    return expected
