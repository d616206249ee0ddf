"""Monitoring schnetpack's MD of many replicas: one run directory and one verdict per replica."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from schnetpack.md.simulation_hooks import BarostatHook, SimulationHook, ThermostatHook

from mdxai.engines.schnetpack_engine import ReplicaReader
from mdxai.engines.schnetpack_restart_state import put_forces, put_state
from mdxai.monitoring.monitor import Monitor
from mdxai.monitoring.options import MonitorOptions, OptionError, PathLike
from mdxai.monitoring.overhead import Cost
from mdxai.monitoring.replica_group import ReplicaGroup, replica_names
from mdxai.monitoring.signals import StopSignal
from mdxai.record import Checkpoint
from mdxai.record.resume import abandon_starts, common_checkpoint
from mdxai.stability.verdict import Verdict

REACTIONS = ("ignore", "warn", "drop", "halt")


class UnstableReplica(RuntimeError):
    """A replica became unstable and, with `on_unstable="halt"`, ended the simulation.

    The step is complete: every hook has run, and `simulate` may be called again.
    """


class SimulationInterrupted(RuntimeError):
    """A signal ended the simulation; all is recorded, and `ReplicaMonitor.resume` continues it."""


class ReplicaMonitor(SimulationHook):  # type: ignore[misc]
    """Monitors every replica of a schnetpack simulation, as the last of its `simulator_hooks`.

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
    on, with its own verdict. The monitor reads what the calculator has computed anyway and explains
    all replicas of a due step in one batch, so every trajectory is bit-identical to the unmonitored
    one. Without a `with` block the records are finished at the end of `simulate`. In a `with`
    block, SIGTERM and SIGUSR1 end the simulation after the current step, with a checkpoint. All
    replicas write checkpoints at the same steps, from which `resume` continues.

    Args:
        path: directory of the run directories; None keeps no record.
        options: of each replica's monitor. `on_unstable` is "warn", "ignore", "drop" (fix the atoms
            of the unstable replica and finish its record, while the others continue unaffected) or
            "halt" (end the simulation after this step by raising `UnstableReplica`).
        calculator: the ASE calculator of the network that drives the simulation, to be explained;
            default: that of the ReplicaCalculator.
        **changes: single options by name, such as `on_unstable="drop"`; see `MonitorOptions`.

    Raises:
        RecordError: at the start of the simulation, when a directory already holds a run.
        OptionError: for options that replicas do not support.
    """

    def __init__(
        self,
        path: PathLike | None = None,
        options: MonitorOptions | None = None,
        *,
        calculator: Any = None,
        **changes: Any,
    ) -> None:
        super().__init__()
        self._options = (options or MonitorOptions()).with_changes(changes)
        if self._options.on_unstable not in REACTIONS:
            raise OptionError(
                f"on_unstable must be one of {REACTIONS} for replicas, got "
                f"{self._options.on_unstable!r}"
            )
        self.path = None if path is None else Path(path)
        self._calculator = calculator
        self._group: ReplicaGroup | None = None  # None until the simulation starts
        self._resumed: Checkpoint | None = None  # whose forces the next `simulate` starts with
        self._stop_signal = StopSignal()
        self._within = self._finished = False

    @property
    def monitors(self) -> list[Monitor]:
        """One monitor per replica; empty until the simulation starts."""
        return [] if self._group is None else self._group.monitors

    @property
    def dropped(self) -> dict[int, str]:
        """The reason for each dropped replica, by its number."""
        return {} if self._group is None else self._group.dropped

    @property
    def names(self) -> list[str]:
        """Names of the replicas and of their directories."""
        return [] if self._group is None else self._group.names

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The verdict of each replica so far, by name."""
        return {n: m.verdict for n, m in zip(self.names, self.monitors, strict=True)}

    @property
    def cost(self) -> Cost:
        """Wall time of all replicas together; explanations of a batch are counted once."""
        return Cost() if self._group is None else self._group.cost

    def on_simulation_start(self, simulator: Any) -> None:
        """Observe the current frames; at the first call, start the records.

        Raises:
            OptionError: for a simulation that cannot be monitored.
        """
        if self._finished:
            raise OptionError(
                "the records of this ReplicaMonitor are finished; to call simulate several times, "
                "make the calls in one `with monitor:` block"
            )
        if self._group is None:
            self._group = self._watch(self._read(simulator), None)
        group = self._group
        group.halted_by = ""
        if self._resumed is not None:
            put_forces(simulator, self._resumed.state["simulator"])
            self._resumed = None
        group.still.hold()
        self._observe(group, int(simulator.step))

    def on_step_begin(self, simulator: Any) -> None:
        """Keep dropped replicas at rest."""
        if self._group is not None:
            self._group.reader.in_step = True
            self._group.still.hold()

    def on_step_middle(self, simulator: Any) -> None:
        """Keep dropped replicas at rest."""
        if self._group is not None:
            self._group.still.hold()

    def on_step_finalize(self, simulator: Any) -> None:
        """Observe the completed step.

        Raises:
            UnstableReplica, SimulationInterrupted: to end the simulation here.
        """
        group = self._group
        if group is None:
            return
        group.reader.in_step = False
        group.still.hold()
        step = int(simulator.step) + 1  # the simulator counts it after this
        self._observe(group, step)
        if group.reader.stop_requested:
            group.save(step)  # for `resume`
            group.reader.stop_requested = False
            cause = group.halted_by or "its engine was told to stop"
            raise UnstableReplica(self._end(simulator, cause))
        if self._stop_signal.name is not None:
            raise SimulationInterrupted(self._end(simulator, self._stop_signal.name))

    def _observe(self, group: ReplicaGroup, step: int) -> None:
        group.observe(step)
        if self._stop_signal.name is not None or group.is_due:
            group.save(step)

    def on_simulation_end(self, simulator: Any) -> None:
        """Finish the records, unless a `with` block does so later."""
        if not self._within:
            self.finish()

    def resume(self, simulator: Any) -> bool:
        """Continue the runs in `path`: set the simulation to their last common checkpoint.

            with monitor:
                monitor.resume(simulator)
                simulator.simulate(20_000 - simulator.step)

        If there is no checkpoint of all replicas yet, the simulation starts from the beginning, so
        the same script serves both cases. Records without a checkpoint move to `abandoned-1`.

        Args:
            simulator: made as for the first start, with this monitor among its hooks.

        Returns:
            Whether there was a checkpoint to continue from.

        Raises:
            OptionError: without a path, or once the simulation is being monitored.
            RecordError: when the runs cannot be continued like this; says what differs.
            StateError: for another system or other hooks; says what differs.
        """
        if self.path is None or self._group is not None:
            raise OptionError("resume needs a path and must be called once, before `simulate`")
        reader = self._read(simulator)
        names = replica_names(len(reader))
        found = common_checkpoint(self.path, names)
        if found is None:
            abandon_starts(self.path, names)
            return False
        put_state(simulator, found.state["simulator"])
        self._group, self._resumed = self._watch(reader, found), found
        return True

    def _read(self, simulator: Any) -> ReplicaReader:
        if self._options.on_unstable == "drop":
            _refuse_to_hold(simulator, self)
        return ReplicaReader(simulator, watching=(ReplicaMonitor,))

    def _watch(self, reader: ReplicaReader, resumed: Checkpoint | None) -> ReplicaGroup:
        calculator = self._calculator
        if calculator is None:
            driving = reader.simulator.calculator
            calculator = getattr(driving, "ase_calculator", driving)
        return ReplicaGroup(reader, self.path, self._options, calculator, resumed)

    def _end(self, simulator: Any, cause: str) -> str:
        """End the simulation as the simulator does after its last step; return the message."""
        hooks = list(simulator.simulator_hooks)
        for hook in hooks[hooks.index(self) + 1 :]:
            hook.on_step_finalize(simulator)
        simulator.step += 1
        simulator.effective_steps += 1
        for hook in hooks:
            hook.on_simulation_end(simulator)
        return f"the simulation was ended after step {simulator.step}: {cause}"

    def finish(self, interrupted_by: str | None = None) -> None:
        """Write remaining data and every verdict. Leaving the `with` block calls this.

        Args:
            interrupted_by: what ended the run early; recorded beside each verdict.
        """
        self._finished = True
        if self._group is not None:
            self._group.finish(interrupted_by)

    def __enter__(self) -> Self:
        self._within = True
        if self.path is not None:
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
        finally:
            self._stop_signal.release()


def _refuse_to_hold(simulator: Any, monitor: ReplicaMonitor) -> None:
    """Raise OptionError if the atoms of a dropped replica could not be fixed."""
    if simulator.integrator.pressure_control:
        raise OptionError('on_unstable="drop" fixes atoms, but a barostat moves them; use "halt"')
    hooks = list(simulator.simulator_hooks)
    later = [
        type(h).__name__
        for h in hooks[hooks.index(monitor) :]
        if isinstance(h, ThermostatHook | BarostatHook)
    ]
    if later:
        raise OptionError(
            f'on_unstable="drop" needs the ReplicaMonitor after {", ".join(later)} in '
            "simulator_hooks, or noise would move the atoms that it fixes"
        )
