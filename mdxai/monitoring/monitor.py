"""Monitor: an observer of molecular dynamics that explains, checks, records and judges."""

from __future__ import annotations

import atexit
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ase.md.md import MolecularDynamics

from mdxai.attribution import Attribution
from mdxai.early_warning import EarlyWarning
from mdxai.engines import AseEngine, Engine, Evaluated, Restartable
from mdxai.frame import Frame
from mdxai.monitoring.description import describe_run
from mdxai.monitoring.live_forecast import paths_to_follow
from mdxai.monitoring.monitored_run import MonitoredRun
from mdxai.monitoring.options import MonitorOptions, OptionError, PathLike
from mdxai.monitoring.overhead import Cost
from mdxai.monitoring.persistence import Persistence
from mdxai.monitoring.reactions import OURS, InstabilityWarning, UnstableTrajectory
from mdxai.monitoring.resumption import Resumption
from mdxai.monitoring.setup import set_up
from mdxai.monitoring.signals import StopSignal
from mdxai.record import RecordError, RecordWarning
from mdxai.record.checkpoint import read_checkpoint
from mdxai.record.layout import checkpoint_path
from mdxai.record.resume import checkpoint_of, refuse_start
from mdxai.record.rollbacks import Rollback, plan_rollback
from mdxai.record.writer_lock import DirectoryTakenOver, refuse_other_writer
from mdxai.stability.verdict import Verdict, VerdictBuilder
from mdxai.statistics import BinnedMoments

if TYPE_CHECKING:
    from mdxai.forecast.run_hazard import RunHazard

__all__ = ["InstabilityWarning", "Monitor", "UnstableTrajectory"]


class UnseenRunWarning(UserWarning):
    """A run that its monitor was not attached to."""


class Monitor:
    """Watches an ASE run. Attach it like any observer; leave the `with` block to finish the record.

        with mdxai.Monitor(dyn, "runs/ethanol", attribute_every=10) as monitor:
            dyn.attach(monitor, interval=1)
            dyn.run(20_000)
        print(monitor.verdict)

    It reads what the calculator has computed anyway and explains on a twin of the model, so the
    trajectory is bit-identical to the unmonitored one. With a path, it writes checkpoints from
    which `Monitor.resume` goes on. Within the `with` block, in the main thread, SIGTERM and SIGUSR1
    end the run after the present step, with a checkpoint; once the record is finished, the signal
    is passed on to its previous handler.

    Frames are judged and recorded ten at a time, with the same result as one by one; asking for the
    verdict judges all of them. Where `on_unstable` or `on_warning` calls for more than a message,
    each frame is judged at once.

    Args:
        dynamics: an ASE MolecularDynamics object, or another Engine.
        path: run directory to write; None keeps no record.
        options: what to check, explain, record and do.
        saves: write checkpoints when they are due; False leaves that to calls of `checkpoint`.
        **changes: single options by name, such as `attribute_every=10`; see `MonitorOptions`.

    Raises:
        RecordError: when `path` already holds a run.
        OptionError: for unusable options; ThresholdError, CalibrationError: for unusable files.
        TypeError: for dynamics of another kind.
    """

    def __init__(
        self,
        dynamics: MolecularDynamics | Engine,
        path: PathLike | None = None,
        options: MonitorOptions | None = None,
        *,
        saves: bool = True,
        **changes: Any,
    ) -> None:
        options = _options(options, changes)
        self._assemble(_engine(dynamics), options, Persistence(path, options.record, saves=saves))

    def _assemble(self, engine: Engine, options: MonitorOptions, record: Persistence) -> None:
        self._engine, self._options, self._record = engine, options, record
        self._stop_signal = StopSignal()
        self._run: MonitoredRun | None = None  # from the first frame on

    @classmethod
    def resume(
        cls,
        dynamics: MolecularDynamics | Engine,
        path: PathLike,
        options: MonitorOptions | None = None,
        *,
        step: int | None = None,
        saves: bool = True,
        **changes: Any,
    ) -> Self:
        """Return a monitor that continues the run in `path`, and put the dynamics where it stopped.

            monitor = mdxai.Monitor.resume(dyn, "runs/ethanol", attribute_every=10)
            with monitor:
                dyn.attach(monitor, interval=1)
                dyn.run(20_000 - dyn.nsteps)

        Without a checkpoint the run starts anew, so the same script serves both cases. Files that
        an earlier start left without a checkpoint are renamed at the first frame.

        Args:
            dynamics: made as for the first start.
            path: run directory.
            options: as for the first start.
            step: MD step of the checkpoint to go on from; by default that of the last.
            saves: as for Monitor.
            **changes: as for Monitor.

        Raises:
            RecordError: when the run cannot be continued like this; it lists the differences.
            StateError: when the checkpoint does not fit these dynamics.
        """
        folder = Path(path)
        refuse_other_writer(folder)
        newest = checkpoint_of(folder)
        checkpoint = newest if step is None else read_checkpoint(checkpoint_path(folder, step))
        monitor = cls._reopened(dynamics, path, _options(options, changes), saves)
        if checkpoint is None:
            refuse_start(folder)
        else:
            monitor._go_on(monitor._resumption(folder).resume(checkpoint))
        return monitor

    @classmethod
    def rollback(
        cls,
        dynamics: MolecularDynamics | Engine,
        path: PathLike,
        options: MonitorOptions | None = None,
        *,
        margin: float = 100.0,
        notes: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Self:
        """Return a monitor that takes an unstable run back and goes on with these other dynamics.

            dyn = Langevin(atoms, 0.25 * units.fs, ..., rng=np.random.default_rng(2))
            with mdxai.Monitor.rollback(dyn, "runs/ethanol", on_unstable="halt") as monitor:
                dyn.attach(monitor, interval=1)
                dyn.run(20_000)

        Positions, velocities, step count and time, the record and all that the monitor has learned
        are those of the last good checkpoint; timestep, thermostat and random numbers those of
        `dynamics`. What was recorded after that checkpoint is moved to `rolled-back-1`, not
        deleted. The rollback is an event, and appears in rollbacks.json and verdict.json.

        Args:
            dynamics: made as for the first start, with a smaller timestep or another seed.
            path: run directory of a run whose verdict is unstable.
            options: as for the first start.
            margin: fs that should lie between the checkpoint and the onset; where no checkpoint is
                that old, the oldest from before the onset is taken.
            notes: what is different now, for the record.
            **changes: as for Monitor.

        Raises:
            RecordError: when the run cannot be taken back, with the reason.
            StateError: when the checkpoint is one of other atoms.
        """
        folder = Path(path)
        refuse_other_writer(folder)
        plan = plan_rollback(folder, margin, dict(notes or {}))
        monitor = cls._reopened(dynamics, path, _options(options, changes), saves=True)
        checkpoint = read_checkpoint(checkpoint_path(folder, plan.to_step))
        monitor._go_on(monitor._resumption(folder).roll_back(checkpoint))
        return monitor

    @classmethod
    def _reopened(
        cls,
        dynamics: MolecularDynamics | Engine,
        path: PathLike,
        options: MonitorOptions,
        saves: bool,
    ) -> Self:
        """Return a monitor of a directory that may hold a run already."""
        monitor = cls.__new__(cls)
        record = Persistence(path, options.record, takes_over=True, saves=saves)
        monitor._assemble(_engine(dynamics), options, record)
        return monitor

    def _resumption(self, folder: Path) -> Resumption:
        return Resumption(folder, self._engine, self._options, self._record, self._stop_signal)

    def _go_on(self, run: MonitoredRun) -> None:
        self._run = run
        if self._record.folder is not None:
            atexit.register(self._finish_late)

    def __repr__(self) -> str:
        where = "no record" if self._record.folder is None else f"record in {self._record.folder}"
        when = "no frame yet" if self.last_step is None else f"step {self.last_step}"
        return f"<Monitor: {when}, {self.verdict.stability}, {where}>"

    @property
    def verdict(self) -> Verdict:
        """The judgement of what has been seen so far."""
        if self._run is not None:
            return self._run.verdict
        unseen = self._unseen()
        return VerdictBuilder(unavailable={} if unseen is None else {"all": unseen}).verdict()

    def _unseen(self) -> str | None:
        """Return that nobody showed the run to the monitor; None where somebody did."""
        engine = self._engine
        steps = engine.steps_taken() if isinstance(engine, Evaluated) else 0
        if self._run is not None or not steps:
            return None
        return (
            f"the monitor saw none of {steps} steps: attach it before the run, with "
            "dyn.attach(monitor)"
        )

    @property
    def warnings(self) -> tuple[EarlyWarning, ...]:
        """Early warnings so far, the last 100; the record holds all, as events."""
        return () if self._run is None else self._run.warnings

    @property
    def profile(self) -> BinnedMoments | None:
        """Relevance against distance, per element pair, where frames are explained."""
        return None if self._run is None else self._run.profile

    @property
    def weak_spots(self) -> RunHazard | None:
        """How near the run came to its model's weak spots, and its hazard, now; None where these
        are not followed (`forecast=`).
        """
        return None if self._run is None else self._run.weak_spots

    @property
    def cost(self) -> Cost:
        """Wall time spent so far."""
        return Cost() if self._run is None else self._run.cost

    @property
    def last_step(self) -> int | None:
        """MD step of the last frame; None before the first."""
        return None if self._run is None else self._run.last_step

    @property
    def last_attribution(self) -> Attribution | None:
        """The last explanation."""
        return None if self._run is None else self._run.last_attribution

    @property
    def rollbacks(self) -> tuple[Rollback, ...]:
        """How often, and why, this run was taken back to an earlier checkpoint."""
        return () if self._run is None else tuple(self._run.rollbacks)

    @property
    def stopped_by(self) -> str | None:
        """Name of the signal that ended the run, such as "SIGTERM"."""
        return self._stop_signal.name

    @property
    def halted_by(self) -> str | None:
        """The reason for which the run was halted, where it was."""
        return None if self._run is None else self._run.reactions.halted_by

    @property
    def due(self) -> bool:
        """Whether a checkpoint is due."""
        step = self.last_step
        return step is not None and self._record.is_due(step)

    def __call__(self) -> None:
        """Take in the current frame; ASE calls this."""
        if self._record.is_finished:
            warnings.warn("the monitor is finished and sees no more frames", stacklevel=2)
            return
        begun = time.perf_counter()
        self._take(self._engine.frame(), None, explain=True, begun=begun)

    def take(
        self, frame: Frame, attribution: Attribution | None = None, *, explain: bool = True
    ) -> None:
        """Take in one frame, with its explanation where the caller has made it already.

        For engines that hand out frames in batches; ASE's call the monitor itself.

        Args:
            frame: the current instant.
            attribution: its explanation.
            explain: whether to explain a frame that comes without an explanation, when it is due.
        """
        self._take(frame, attribution, explain=explain, begun=time.perf_counter())

    def _take(
        self, frame: Frame, attribution: Attribution | None, *, explain: bool, begun: float
    ) -> None:
        run = self._run
        if run is not None:
            run.take(frame, attribution, explain=explain, begun=begun)
            return
        run = self._start(frame, begun)
        run.take(frame, attribution, explain=explain, begun=begun)
        run.count_setup(begun)

    def _start(self, first: Frame, begun: float) -> MonitoredRun:
        why = self._staleness()
        if why is not None:
            raise OptionError(
                f"the calculator holds no forces of the present positions ({why}), and the monitor "
                "computes none: attach it with `dyn.attach(monitor)`, before any observer that "
                "changes the atoms, and let `dyn.run` call it"
            )
        engine, options, folder = self._engine, self._options, self._record.folder
        found = paths_to_follow(engine, first, options)
        setup = set_up(engine, first, options, found)
        if folder is not None:
            self._record.start(describe_run(engine, setup, options), setup.principles)
            if found is not None:
                from mdxai.forecast.kept_paths import write_paths

                write_paths(folder, found)
        run = MonitoredRun(engine, setup, options, self._record, self._stop_signal)
        run.begin(begun)
        self._go_on(run)
        return run

    def checkpoint(self) -> None:
        """Write a checkpoint of the last frame, beyond those that come due.

        Raises:
            RecordError: without a record, and when the file system refuses.
        """
        if self._run is None or self._record.folder is None:
            raise RecordError("a checkpoint needs a run directory and a frame taken in")
        if not self._between_steps():
            raise RecordError(
                "the calculator holds no forces of the present positions, so a run could not go on "
                "from here; write checkpoints between the steps of a run"
            )
        self._run.checkpoint()

    def lose_end(self, reason: str) -> None:
        """Note that the frames after the last one are lost: such a run is never stable.

        Args:
            reason: what happened to them, for the verdict.
        """
        if self._run is not None:
            self._run.lose_end(reason)

    def finish(self, interrupted_by: str | None = None, halted_by: str | None = None) -> None:
        """Write what is left and the verdict. Leaving the `with` block calls this.

        Args:
            interrupted_by: what ended the run before its time; noted beside the verdict.
            halted_by: what it was halted for, where not by this monitor; noted as well.
        """
        by = interrupted_by or self.stopped_by
        was_open = self._record.is_open
        unseen = self._unseen()
        if unseen is not None and interrupted_by is None:
            warnings.warn(unseen, UnseenRunWarning, skip_file_prefixes=OURS)
        if self._run is not None:
            self._run.settle()
            if was_open:
                resumable = interrupted_by is None and self._between_steps()
                self._run.write_end(by, halted_by, resumable=resumable)
        atexit.unregister(self._finish_late)
        self._record.is_finished = True
        if was_open and by is None and self._options.report:
            self._write_page()

    def _write_page(self) -> None:
        from mdxai.report import attempt_report  # draws, so it takes a while to import

        folder = self._record.folder
        complaint = None if folder is None else attempt_report(folder)
        if complaint is not None:
            warnings.warn(complaint, RecordWarning, stacklevel=3)

    def _staleness(self) -> str | None:
        """Return why the present frame is not one of a run, where one can tell."""
        if isinstance(self._engine, Evaluated):
            return self._engine.staleness()
        return None if self._between_steps() else "the engine is in the middle of a step"

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
        if self._record.is_finished:
            raise OptionError(
                "this monitor is finished and sees no more frames; make another one, or go on with "
                "its record: Monitor.resume(dynamics, path)"
            )
        if self._record.folder is not None:
            self._stop_signal.catch()
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
            if error is None:  # else that error says why the run ended, and what to do
                raise
        finally:
            self._stop_signal.release()


def _engine(dynamics: MolecularDynamics | Engine) -> Engine:
    return dynamics if isinstance(dynamics, Engine) else AseEngine(dynamics)


def _options(options: MonitorOptions | None, changes: Mapping[str, Any]) -> MonitorOptions:
    if not isinstance(options, MonitorOptions | None):
        raise OptionError(f"options must be MonitorOptions(...), got {options!r}")
    chosen = (options or MonitorOptions()).with_changes(changes)
    if chosen.on_unstable == "drop":
        raise OptionError(
            'on_unstable="drop" holds one of several replicas still; a single run takes "halt"'
        )
    return chosen
