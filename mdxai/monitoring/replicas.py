"""Monitoring schnetpack's MD of many replicas: one run directory and one verdict per replica."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
from schnetpack.md.simulation_hooks import BarostatHook, SimulationHook, ThermostatHook

from mdxai.attribution import Attribution, AttributionUnavailable, attributor
from mdxai.attribution.attributor import AutomaticAttributor
from mdxai.calculators import CalculatorError
from mdxai.early_warning import Calibration, EarlyWarning, EarlyWarningIssued, load_calibration
from mdxai.engines.schnetpack_engine import ReplicaReader, SchNetPackEngine
from mdxai.engines.schnetpack_state import put_forces, put_state, state_of
from mdxai.frame import Frame
from mdxai.monitoring.monitor import InstabilityWarning, Monitor
from mdxai.monitoring.overhead import Cost
from mdxai.monitoring.signals import Interruption
from mdxai.record import Checkpoint, RecordSettings, write_checkpoint
from mdxai.record.compaction import drop_checkpoints
from mdxai.record.resume import common_checkpoint, put_starts_aside
from mdxai.stability.thresholds import THRESHOLDS, Threshold
from mdxai.stability.verdict import Verdict

OnUnstable = Literal["ignore", "warn", "drop", "halt"]
REACTIONS = ("ignore", "warn", "drop", "halt")


class UnstableReplica(RuntimeError):
    """A replica became unstable and its monitor ended the simulation, as `on_unstable="halt"` asks.

    The step is complete: every hook has seen it, and `simulate` may be called again.
    """


class SimulationInterrupted(RuntimeError):
    """A signal ended the simulation; all is recorded, and `ReplicaMonitor.resume` goes on."""


class ReplicaMonitor(SimulationHook):  # type: ignore[misc]
    """Watches every replica of a schnetpack simulation. Give it as the last of `simulator_hooks`.

        network = mdxai.load_calculator("schnet-ethanol")
        monitor = mdxai.ReplicaMonitor("runs/ethanol", on_unstable="drop")
        simulator = Simulator(
            system, VelocityVerlet(0.5), mdxai.ReplicaCalculator(network),
            simulator_hooks=[LangevinThermostat(500.0, 100.0), monitor],
        )
        with monitor:
            simulator.simulate(20_000)
        print(monitor.verdicts)

    Each replica (of each molecule) is a normal run in `path/replica-00`, `path/replica-01` and so
    on, with its own verdict. It reads what the calculator has computed anyway and explains all
    replicas of a due step in one batch, so that every trajectory has the same bits as without it.
    Without a `with` block the records are finished at the end of `simulate`; in one, SIGTERM and
    SIGUSR1 end the simulation after the present step, with a checkpoint. All replicas write their
    checkpoints at the same steps, from which `resume` goes on.

    Args:
        path: directory of the run directories; None keeps no record.
        calculator: the ASE calculator of the network that drives the simulation, for explanations;
            taken from a ReplicaCalculator by default.
        attribute_every: explain frames whose MD step is a multiple of this; 0 never.
        gamma: γ of the attribution rule.
        thresholds: what deviations count.
        expected: reactions that are wanted, as for `Monitor`.
        on_unstable: "warn" (default), "ignore", "drop": hold the atoms of the unstable replica
            where they are, at rest, and finish its record, while the others go on as if nothing had
            happened; "halt": end the simulation after this step by `UnstableReplica`.
        early_warning: as for `Monitor`; each replica is watched by itself.
        record: what each run keeps, in which precision, and how often it is written.
        context: entries for each run.toml.

    Attributes:
        monitors: one per replica, from the start of the simulation on.
        dropped: numbers of the replicas that were dropped, with the reason.

    Raises:
        RecordError: at the start of the simulation, when a directory already holds a run.
        ValueError: for unusable arguments.
    """

    def __init__(  # noqa: PLR0913 (every choice of a user's one line)
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        calculator: Any = None,
        attribute_every: int = 10,
        gamma: float = 0.1,
        thresholds: Sequence[Threshold] = THRESHOLDS,
        expected: Sequence[str] = (),
        on_unstable: OnUnstable = "warn",
        early_warning: Calibration | str | os.PathLike[str] | None = None,
        record: RecordSettings | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not (attribute_every >= 0 and attribute_every == int(attribute_every)):
            raise ValueError(
                f"attribute_every must be 0 or a positive whole number, got {attribute_every}"
            )
        if on_unstable not in REACTIONS:
            raise ValueError(f"on_unstable must be one of {REACTIONS}, got {on_unstable!r}")
        self.path = None if path is None else Path(path)
        self._calculator = calculator
        self._attribute_every, self._gamma = attribute_every, gamma
        self._settings = record or RecordSettings()
        self._arguments: dict[str, Any] = {
            "attribute_every": attribute_every, "gamma": gamma, "thresholds": tuple(thresholds),
            "expected": expected, "record": record, "context": context,
            "early_warning": None if early_warning is None else load_calibration(early_warning),
        }  # fmt: skip
        self._on_unstable = on_unstable
        self._attributor: AutomaticAttributor | None = None
        self._reader: ReplicaReader | None = None
        self._news: list[tuple[int, Verdict]] = []
        self._held: dict[int, torch.Tensor] = {}
        self._resumed: Mapping[str, Any] | None = None
        self._interruption = Interruption()
        self._within = self._finished = False
        self._batch_time = 0.0
        self._halted_by = ""
        self.monitors: list[Monitor] = []
        self.dropped: dict[int, str] = {}

    @property
    def names(self) -> list[str]:
        """Names of the replicas, which are those of their directories."""
        width = max(2, len(str(len(self.monitors) - 1)))
        return [f"replica-{k:0{width}d}" for k in range(len(self.monitors))]

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The judgement of each replica so far, by name."""
        return {n: m.verdict for n, m in zip(self.names, self.monitors, strict=True)}

    @property
    def cost(self) -> Cost:
        """Wall time of all replicas together; explanations of a batch are counted once."""
        alone = sum(m.cost.attribution for m in self.monitors)
        return Cost(
            total=max((m.cost.total for m in self.monitors), default=0.0),
            monitor=sum(m.cost.monitor for m in self.monitors) + self._batch_time,
            attribution=alone + self._batch_time,
            n_attributions=sum(m.cost.n_attributions for m in self.monitors),
        )

    def on_simulation_start(self, simulator: Any) -> None:
        """Take in the present instant; at the first call, start the records.

        Raises:
            ValueError: for a simulation that cannot be followed, with the reason.
        """
        if self._finished:
            raise ValueError(
                "the records of this ReplicaMonitor are finished; to call simulate several times, "
                "put the calls into one `with monitor:` block"
            )
        if self._reader is None:
            self._start(self._read(simulator))
        self._halted_by = ""
        if self._resumed is not None:
            put_forces(simulator, self._resumed)
            self._resumed = None
        self._hold(simulator.system)
        self._observe(simulator, int(simulator.step))

    def on_step_begin(self, simulator: Any) -> None:
        """Keep dropped replicas at rest."""
        if self._reader is not None:
            self._reader.in_step = True
        self._hold(simulator.system)

    def on_step_middle(self, simulator: Any) -> None:
        """Keep dropped replicas at rest."""
        self._hold(simulator.system)

    def on_step_finalize(self, simulator: Any) -> None:
        """Take in the step just made."""
        assert self._reader is not None
        self._reader.in_step = False
        self._hold(simulator.system)
        self._observe(simulator, int(simulator.step) + 1)  # the simulator counts it after this
        if self._reader.stop_requested:
            self._save(simulator, int(simulator.step) + 1)  # to go on from
            cause = self._halted_by or "its engine was told to stop"
            raise UnstableReplica(self._end(simulator, cause))
        if self._interruption.name is not None:
            raise SimulationInterrupted(self._end(simulator, self._interruption.name))

    def on_simulation_end(self, simulator: Any) -> None:
        """Finish the records, unless a `with` block will do so."""
        if not self._within:
            self.finish()

    def resume(self, simulator: Any) -> bool:
        """Go on where the runs in `path` were, and put the simulation there.

            with monitor:
                monitor.resume(simulator)
                simulator.simulate(20_000 - simulator.step)

        Where there is no checkpoint of all replicas yet, the simulation starts afresh: the same
        script serves both. What was recorded without one is put aside.

        Args:
            simulator: made as for the first start, this monitor among its hooks.

        Returns:
            Whether there was something to go on from.

        Raises:
            ValueError: without a path, or once the simulation is being watched.
            RecordError: when the runs cannot be continued like this, with what is different.
            StateError: for another system or other hooks, with what is different.
        """
        if self.path is None or self._reader is not None:
            raise ValueError("resume needs a path, and comes once, before `simulate`")
        reader = self._read(simulator)
        self.monitors = [None] * len(reader)  # type: ignore[list-item]  # for the names
        found = common_checkpoint(self.path, self.names)
        if found is None:
            put_starts_aside(self.path, self.names)
            self.monitors = []
            return False
        put_state(simulator, found.state["simulator"])
        self._resumed = found.state["simulator"]
        self.dropped = {int(k): reason for k, reason in found.state["dropped"].items()}
        self._held = {
            int(k): torch.from_numpy(held.copy()).to(simulator.system.positions)
            for k, held in found.state["held"].items()
        }
        self._start(reader, found.step)
        return True

    def _read(self, simulator: Any) -> ReplicaReader:
        if self._on_unstable == "drop":
            _refuse_to_hold(simulator, self)
        return ReplicaReader(simulator, watching=(ReplicaMonitor,))

    def _start(self, reader: ReplicaReader, step: int | None = None) -> None:
        """Make the monitors, which go on from the checkpoints of a step where one is given."""
        simulator, calculator = reader.simulator, self._calculator
        if calculator is None:
            calculator = getattr(simulator.calculator, "ase_calculator", simulator.calculator)
        if self._attribute_every:
            with suppress(AttributionUnavailable):  # each monitor finds the reason and states it
                explain = attributor(calculator, gamma=self._gamma)
                assert isinstance(explain, AutomaticAttributor)
                self._attributor = explain
        self.monitors = [None] * len(reader)  # type: ignore[list-item]  # for the names
        for k in range(len(reader)):
            self.monitors[k] = self._made(k, SchNetPackEngine(reader, k, calculator), step)
            self.monitors[k].saves = False
        self._reader = reader
        self._finite = simulator.system.positions.clone()
        for k, reason in self.dropped.items():
            self.monitors[k].finish(reason)

    def _made(self, k: int, engine: SchNetPackEngine, step: int | None) -> Monitor:
        name = self.names[k]
        reactions: dict[str, Any] = {
            "report": False,  # `mdxai report` writes those that are wanted
            "on_unstable": "ignore" if self._on_unstable == "ignore" else partial(self._note, k),
            "on_warning": partial(_tell, name),
        }
        if step is None or self.path is None:
            path = None if self.path is None else self.path / name
            return Monitor(engine, path, **reactions, **self._arguments)
        at = None if k in self.dropped else step  # a dropped one stays at its last
        return Monitor.resume(engine, self.path / name, step=at, **reactions, **self._arguments)

    def _note(self, k: int, verdict: Verdict) -> None:
        self._news.append((k, verdict))

    def _observe(self, simulator: Any, step: int) -> None:
        assert self._reader is not None
        frames = {k: f for k, f in enumerate(self._reader.frames(step)) if k not in self.dropped}
        explained = self._explain(frames, step)
        for k, frame in frames.items():
            self.monitors[k].take(frame, explained.get(k))
        news, self._news = self._news, []
        for k, verdict in news:
            self._react(k, verdict, frames[k], simulator.system)
        if self._on_unstable == "drop":
            self._hold(simulator.system)
            positions = simulator.system.positions
            self._finite = torch.where(positions.isfinite(), positions, self._finite)
        if self._interruption.name is not None or any(self.monitors[k].due for k in self._live):
            self._save(simulator, step)

    @property
    def _live(self) -> list[int]:
        return [k for k in range(len(self.monitors)) if k not in self.dropped]

    def _save(self, simulator: Any, step: int) -> None:
        """Have all replicas write a checkpoint, and before them what they have in common."""
        if self.path is None:
            return
        self._save_simulator(self.path, simulator, step)
        for k in self._live:
            self.monitors[k].checkpoint()

    def _save_simulator(self, path: Path, simulator: Any, step: int) -> None:
        state = {
            "simulator": state_of(simulator, step),
            "names": self.names,
            "dropped": {str(k): reason for k, reason in self.dropped.items()},
            "held": {str(k): held.cpu().numpy() for k, held in self._held.items()},
        }
        write_checkpoint(path, Checkpoint(step, state))
        # One more than a replica keeps: it is there before those of the replicas.
        drop_checkpoints(path, self._settings.keep_checkpoints + 1)

    def _explain(self, frames: Mapping[int, Frame], step: int) -> dict[int, Attribution]:
        """Explain all replicas that can be in one batch; those left out their monitors try."""
        last_steps = {self.monitors[k].last_step for k in frames}
        due = self._attributor is not None and step % self._attribute_every == 0
        if not due or last_steps == {step}:
            return {}
        finite = [k for k, frame in frames.items() if np.isfinite(frame.positions).all()]
        begin = time.perf_counter()
        assert self._attributor is not None
        try:
            explained = self._attributor.attribute_many([frames[k] for k in finite])
        except (CalculatorError, AttributionUnavailable):  # one that the network refuses
            return {}
        finally:
            self._batch_time += time.perf_counter() - begin
        return dict(zip(finite, explained, strict=True))

    def _react(self, k: int, verdict: Verdict, frame: Frame, system: Any) -> None:
        assert self._reader is not None
        name = self.names[k]
        if self._on_unstable == "drop":
            replica, atoms = self._reader.atoms_of(k)
            present = system.positions[replica, atoms]
            sound = np.isfinite(frame.positions).all()
            self._held[k] = (present if sound else self._finite[replica, atoms]).clone()
            self.dropped[k] = f"dropped after {frame.time:g} fs: {_cause(verdict)}"
            if self.path is not None:
                self.monitors[k].checkpoint()
            self.monitors[k].finish(self.dropped[k])
            warnings.warn(f"{name} {self.dropped[k]}", InstabilityWarning, stacklevel=5)
        elif self._on_unstable == "halt":
            self._reader.stop_requested = True
            self._halted_by = f"{name}: {_cause(verdict)}"
        else:
            warnings.warn(f"{name}: {verdict}", InstabilityWarning, stacklevel=5)

    def _hold(self, system: Any) -> None:
        """Put dropped replicas where they were dropped, at rest and free of force."""
        for k, positions in self._held.items():
            assert self._reader is not None
            replica, atoms = self._reader.atoms_of(k)
            system.positions[replica, atoms] = positions
            system.momenta[replica, atoms] = 0.0
            system.forces[replica, atoms] = 0.0

    def _end(self, simulator: Any, cause: str) -> str:
        """End the simulation as the simulator would after its last step; return what to say."""
        assert self._reader is not None
        self._reader.stop_requested = False
        hooks = list(simulator.simulator_hooks)
        for hook in hooks[hooks.index(self) + 1 :]:
            hook.on_step_finalize(simulator)
        simulator.step += 1
        simulator.effective_steps += 1
        for hook in hooks:
            hook.on_simulation_end(simulator)
        return f"the simulation was ended after step {simulator.step}, for {cause}"

    def finish(self, interrupted_by: str | None = None) -> None:
        """Write what is left and every verdict. Leaving the `with` block calls this.

        Args:
            interrupted_by: what ended the run before its time; noted beside each verdict.
        """
        self._finished = True
        reader = self._reader
        if interrupted_by is None and self.path is not None and reader is not None:
            whole = not reader.in_step and reader.step == int(reader.simulator.step)
            if whole and self._live:
                self._save_simulator(self.path, reader.simulator, reader.step)
        with ExitStack() as every:  # a record that cannot be finished does not keep the others
            for k, monitor in enumerate(self.monitors):
                if k not in self.dropped and monitor is not None:  # as after a refused resume
                    every.callback(monitor.finish, interrupted_by, self._halted_by or None)

    def __enter__(self) -> Self:
        self._within = True
        if self.path is not None:
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
        finally:
            self._interruption.release()


def _tell(name: str, warning: EarlyWarning) -> None:
    warnings.warn(f"{name}: {warning}", EarlyWarningIssued, stacklevel=6)


def _cause(verdict: Verdict) -> str:
    cause = verdict.cause
    assert cause is not None
    return f"{cause.principle} {cause.value:.3g} {cause.unit}, allowed {cause.threshold:g}"


def _refuse_to_hold(simulator: Any, monitor: ReplicaMonitor) -> None:
    """Raise ValueError where a dropped replica could not be held in place."""
    if simulator.integrator.pressure_control:
        raise ValueError(
            'on_unstable="drop" holds atoms in place, and a barostat moves them; use "halt"'
        )
    hooks = list(simulator.simulator_hooks)
    later = [
        type(h).__name__
        for h in hooks[hooks.index(monitor) :]
        if isinstance(h, ThermostatHook | BarostatHook)
    ]
    if later:
        raise ValueError(
            f'on_unstable="drop" needs the ReplicaMonitor after {", ".join(later)} in '
            "simulator_hooks, or noise would move the atoms that it holds"
        )
