"""A run from its first monitored frame on: every frame judged, recorded and reacted to."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mdxai.attribution import Attribution
from mdxai.attribution.attribution import Anticipating, Stateful
from mdxai.calculators import CalculatorError
from mdxai.early_warning import EarlyWarning
from mdxai.engines import Engine, Observable, Restartable
from mdxai.frame import Frame
from mdxai.monitoring.blackbox import BlackBox
from mdxai.monitoring.live_forecast import LiveForecast
from mdxai.monitoring.options import MonitorOptions, OptionError
from mdxai.monitoring.overhead import Cost, Overhead
from mdxai.monitoring.persistence import Persistence
from mdxai.monitoring.reactions import Reactions
from mdxai.monitoring.setup import MonitorSetup
from mdxai.monitoring.signals import StopSignal
from mdxai.record.rollbacks import Rollback
from mdxai.serialization import restore, snapshot
from mdxai.stability.verdict import Verdict, VerdictBuilder

if TYPE_CHECKING:
    from mdxai.forecast.run_hazard import RunHazard

# Frames that are judged in one go. Evaluating the network fills the processor's caches, so ten
# frames in a row take the principles a quarter of the time that they take one by one.
BATCH = 10


class MonitoredRun:
    """Judges the frames of a run, explains those that are due, and hands on what it finds.

    Frames wait until ten have gathered or something else makes it time to judge them; the result is
    the same as judging each at once. Where an instability or a warning calls for more than a
    message, each frame is judged at once.

    Args:
        engine: where the frames come from.
        setup: what watches them.
        options: of the monitor.
        record: what is written, started already.
        stop_signal: ends the run between two steps.

    Attributes:
        profile: moments of relevance against distance, where frames are explained.
        cost: wall time spent.
        reactions: what has been done about an instability.
        rollbacks: how often, and why, the run was taken back.
        last_step: MD step of the last frame.
        last_attribution: the last explanation.
    """

    def __init__(
        self,
        engine: Engine,
        setup: MonitorSetup,
        options: MonitorOptions,
        record: Persistence,
        stop_signal: StopSignal,
    ) -> None:
        self.setup, self.profile, self.cost = setup, setup.profile, Cost()
        self.reactions = Reactions(options, engine)
        self.rollbacks: list[Rollback] = []
        self.last_step: int | None = None
        self.last_attribution: Attribution | None = None
        self._engine, self._options, self._record = engine, options, record
        self._stop_signal = stop_signal
        self._calculator = engine.calculator
        # Settled once: asking None for a Protocol takes 5 µs, too long for every step.
        explainer = setup.explainer
        self._anticipating = explainer if isinstance(explainer, Anticipating) else None
        self._builder = VerdictBuilder(
            setup.thresholds, setup.unavailable, setup.first.symbols, setup.reference
        )
        self._forecast = LiveForecast(setup.principles, engine, setup.first.symbols)
        self._box = BlackBox(options.blackbox)
        self._overhead = Overhead(options.max_overhead, self.cost)
        self._waiting: deque[tuple[Frame, Attribution | None]] = deque()
        self._batch = 1 if options.acts else BATCH
        self._sees_every_step = False
        self._started = time.perf_counter()

    def begin(self, at: float) -> None:
        """Count wall time from `at` (s, of `time.perf_counter`), on top of the cost so far."""
        self._started = at - self.cost.total

    def count_setup(self, begun: float) -> None:
        """Count what passed since `begun`, up to the end of the first frame, as setting up."""
        self.cost.start += time.perf_counter() - begun
        self._overhead.begin()

    @property
    def verdict(self) -> Verdict:
        """The judgement of all frames so far."""
        self.catch_up()
        verdict = self._builder.verdict()
        near = self._forecast.now(verdict.n_frames)
        return verdict if near is None else replace(verdict, closest=str(near))

    @property
    def weak_spots(self) -> RunHazard | None:
        """What the run has told of its weak spots; None where none are followed."""
        self.catch_up()
        return self._forecast.latest(self._builder.n_frames)

    def settle(self) -> None:
        """Judge the frames that wait, so that the verdict is that of all."""
        self.catch_up()
        self._forecast.latest(self._builder.n_frames)

    @property
    def warnings(self) -> tuple[EarlyWarning, ...]:
        """Early warnings so far, the last 100; the record holds all, as events."""
        self.catch_up()
        return () if self.setup.early is None else tuple(self.setup.early.issued)

    def lose_end(self, reason: str) -> None:
        """Note that the frames after the last one are lost."""
        self._builder.lose_end(reason)

    def take(self, frame: Frame, given: Attribution | None, *, explain: bool, begun: float) -> None:
        """Take in one frame; one of the same step as the last is left out.

        Args:
            frame: the current instant.
            given: its explanation, where somebody has made it already.
            explain: whether to explain a frame that comes without, when it is due.
            begun: when this began, s, of `time.perf_counter`.

        Raises:
            OptionError: when the atoms have another calculator.
            RecordError: what the writer met since the last frame.
            UnstableTrajectory: with on_unstable="raise".
        """
        if frame.step == self.last_step:  # attached twice, or called by hand
            return
        gap = 1 if self.last_step is None else frame.step - self.last_step
        self._refuse_other_calculator(frame)
        if gap > 1:
            self.catch_up()
            self.see_every_step()
        one_by_one = self.last_step is not None and gap == 1
        self.last_step = frame.step
        self._waiting.append((frame, self._explained(frame, given, explain)))
        if self._is_time(frame.step):
            self._record.check()
            self.catch_up()
            self._save(frame.step)
        self._count(begun)
        self._announce_next(frame, one_by_one)

    def _refuse_other_calculator(self, frame: Frame) -> None:
        if self._engine.calculator is not self._calculator:
            raise OptionError(
                f"the atoms got another calculator before step {frame.step}; a monitor judges and "
                "explains one: make another monitor, with a directory of its own"
            )

    def _count(self, begun: float) -> None:
        """Add to the cost what passed since `begun`."""
        end = time.perf_counter()
        self.cost.monitor += end - begun
        self.cost.total = end - self._started
        self._overhead.review()

    def _is_time(self, step: int) -> bool:
        """Whether the frames that wait are to be judged now."""
        if len(self._waiting) >= self._batch or self._stop_signal.name is not None:
            return True
        at = self._record.commits_at
        return self._sees_every_step or (at is not None and step >= at)

    def _explained(
        self, frame: Frame, given: Attribution | None, explain: bool
    ) -> Attribution | None:
        attribution = given
        if given is None and explain and self._is_due(frame):
            attribution = self._explain(frame)
        if attribution is not None:
            if self.profile is not None:
                self.profile.update(*attribution.profile.samples)
            self.last_attribution = attribution
            self.cost.n_attributions += 1
        return attribution

    def _is_due(self, frame: Frame) -> bool:
        return self._overhead.due(frame.step, self._options.attribute_every)

    def _explain(self, frame: Frame) -> Attribution | None:
        if self.setup.explainer is None or not np.isfinite(frame.positions).all():
            return None
        begun = time.perf_counter()
        try:
            attribution = self.setup.explainer.attribute(frame)
        except CalculatorError:  # such as atoms on top of each other, which other principles report
            return None
        self.cost.attribution += time.perf_counter() - begun
        return attribution

    def _announce_next(self, frame: Frame, one_by_one: bool) -> None:
        """Tell the attributor whether the next frame is due, where every step is monitored."""
        if self._anticipating is not None:
            due = self._overhead.due(frame.step + 1, self._options.attribute_every)
            self._anticipating.will_explain_next(due or not one_by_one)

    def see_every_step(self) -> None:
        """Keep the steps between monitored frames for the black box from now on."""
        if self._sees_every_step or not self._box.n_frames:
            return
        if isinstance(self._engine, Observable):
            self._sees_every_step = True
            self._engine.every_step(self._see)

    def _see(self) -> None:
        if self._record.is_finished:
            return
        begun = time.perf_counter()
        self._box.see(self._engine.frame())
        self.cost.monitor += time.perf_counter() - begun

    def catch_up(self) -> None:
        """Judge and record the frames that wait.

        Raises:
            UnstableTrajectory: with on_unstable="raise".
        """
        while self._waiting:
            self._judge(*self._waiting.popleft())

    def _judge(self, frame: Frame, attribution: Attribution | None) -> None:
        probe = self._overhead.due(frame.step, self._options.probe_every)
        deviations = self.setup.deviations(frame, attribution, probe=probe)
        self._builder.add(frame.time, deviations, step=frame.step, absent=frame.absent)
        self._record.add(frame, deviations, attribution)
        self._box.see(frame, deviations, attribution)
        if self.setup.early is not None:
            issued = self.setup.early.see(frame, deviations, attribution)
            for warning in issued:
                self._record.add_event(frame.step, frame.time, "warning", warning.as_dict())
            self.reactions.to_warnings(issued)
        if self._builder.failed and not self.reactions.has_reacted:
            self.reactions.has_reacted = True
            self._react(frame)

    def _react(self, frame: Frame) -> None:
        verdict = self._builder.verdict()  # without the frames that still wait
        content = {"reason": verdict.reason, "onset_fs": verdict.onset_fs}
        if self._record.folder is not None:
            if len(self._box):
                written = self._box.write(self._record.folder, self.setup.explainer)
                content["blackbox"] = written.name
            self._record.add_event(frame.step, frame.time, str(verdict.stability), content)
        self.reactions.to_instability(verdict)

    def _save(self, step: int) -> None:
        """Commit what has gathered where it is due, and whenever the run is asked to stop."""
        stopped = self._stop_signal.name is not None
        if stopped or self.reactions.keeps_halting:
            self._engine.stop()
        if self._record.folder is not None and (stopped or self._record.commits_by_itself(step)):
            self._record.commit(step, self.state())

    def checkpoint(self) -> None:
        """Write a checkpoint of the last frame, beyond those that come due."""
        self.catch_up()
        if self.last_step is not None:
            self._record.commit(self.last_step, self.state())

    def write_end(self, ended_by: str | None, halted_by: str | None, *, resumable: bool) -> None:
        """Finish the record.

        Args:
            ended_by: what ended the run before its time.
            halted_by: what it was halted for, where not by these reactions.
            resumable: whether a last checkpoint can be written.
        """
        content = self.verdict.as_dict() | {
            "interrupted_by": ended_by,
            "halted_by": self.reactions.halted_by or halted_by,
            "cost": self.cost.as_dict(),
        }
        if (near := self.weak_spots) is not None:
            content["weak_spots"] = near.as_dict()
        if self.rollbacks:
            content["rollbacks"] = [rollback.as_dict() for rollback in self.rollbacks]
        if self.setup.early is not None:
            content["warnings"] = [warning.as_dict() for warning in self.setup.early.issued]
        state = self.state() if resumable else None
        step = None if state is None else self._engine.frame().step
        self._record.finish(content, self.profile, state, step)

    def state(self) -> dict[str, Any] | None:
        """Return what a checkpoint holds; None for an engine that cannot be restarted."""
        if not isinstance(self._engine, Restartable):
            return None
        explainer = self.setup.explainer
        return {
            "engine": self._engine.state(),
            "monitor": snapshot(self._parts()),
            "first": snapshot(self.setup.first),
            "n_rollbacks": len(self.rollbacks),
            "described": snapshot(asdict(self._engine.describe())),
            "blackbox": self._box.state(),
            "explain": explainer.state() if isinstance(explainer, Stateful) else {},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a state, except that of the engine, which the caller restores."""
        parts = restore(self._parts(), state["monitor"])
        self.profile, self.last_step = parts["profile"], parts["last_step"]
        self.reactions.has_reacted = parts["has_reacted"]
        self.reactions.halted_by = parts["halted_by"]
        self._box.restore(state["blackbox"])
        if parts["sees_every_step"]:
            self.see_every_step()
        if state["explain"] and isinstance(self.setup.explainer, Stateful):
            self.setup.explainer.restore(state["explain"])

    def _parts(self) -> dict[str, Any]:
        setup = self.setup
        return {
            "early": setup.early,
            "principles": setup.principles,
            "profile": self.profile,
            "builder": self._builder,
            "cost": self.cost,
            "last_step": self.last_step,
            "has_reacted": self.reactions.has_reacted,
            "halted_by": self.reactions.halted_by,
            "sees_every_step": self._sees_every_step,
        }
