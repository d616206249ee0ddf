"""Monitoring schnetpack's MD of many replicas: one run directory and one verdict per replica."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
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
from mdxai.early_warning import (
    Calibration,
    EarlyWarning,
    EarlyWarningIssued,
    load_calibration,
)
from mdxai.engines.schnetpack_engine import ReplicaReader, SchNetPackEngine
from mdxai.frame import Frame
from mdxai.monitor import InstabilityWarning, Monitor
from mdxai.overhead import Cost
from mdxai.record import RecordSettings
from mdxai.thresholds import THRESHOLDS, Threshold
from mdxai.verdict import Verdict

Reaction = Literal["ignore", "warn", "drop", "halt"]
REACTIONS = ("ignore", "warn", "drop", "halt")


class UnstableReplica(RuntimeError):
    """A replica became unstable and its monitor ended the simulation, as `on_unstable="halt"` asks.

    The step is complete: every hook has seen it, and `simulate` may be called again.
    """


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
    Without a `with` block the records are finished at the end of `simulate`.

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
        on_unstable: Reaction = "warn",
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
        self._make: Callable[..., Monitor] = partial(
            Monitor, attribute_every=attribute_every, gamma=gamma, thresholds=tuple(thresholds),
            expected=expected, record=record, context=context,
            early_warning=None if early_warning is None else load_calibration(early_warning),
        )  # fmt: skip
        self._on_unstable = on_unstable
        self._attributor: AutomaticAttributor | None = None
        self._reader: ReplicaReader | None = None
        self._news: list[tuple[int, Verdict]] = []
        self._held: dict[int, torch.Tensor] = {}
        self._within = self._finished = False
        self._batch_time = 0.0
        self._halted_by = "its engine was told to stop"
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
            self._start(simulator)
        self._hold(simulator.system)
        self._observe(simulator, int(simulator.step))

    def on_step_begin(self, simulator: Any) -> None:
        """Keep dropped replicas at rest."""
        self._hold(simulator.system)

    def on_step_middle(self, simulator: Any) -> None:
        """Keep dropped replicas at rest."""
        self._hold(simulator.system)

    def on_step_finalize(self, simulator: Any) -> None:
        """Take in the step just made."""
        self._hold(simulator.system)
        self._observe(simulator, int(simulator.step) + 1)  # the simulator counts it after this
        if self._reader is not None and self._reader.stop_requested:
            self._halt(simulator)

    def on_simulation_end(self, simulator: Any) -> None:
        """Finish the records, unless a `with` block will do so."""
        if not self._within:
            self.finish()

    def _start(self, simulator: Any) -> None:
        if self._on_unstable == "drop":
            _refuse_to_hold(simulator, self)
        reader = ReplicaReader(simulator, watching=(ReplicaMonitor,))
        calculator = self._calculator
        if calculator is None:
            calculator = getattr(simulator.calculator, "ase_calculator", simulator.calculator)
        if self._attribute_every:
            with suppress(AttributionUnavailable):  # each monitor finds the reason and states it
                explain = attributor(calculator, gamma=self._gamma)
                assert isinstance(explain, AutomaticAttributor)
                self._attributor = explain
        self.monitors = [None] * len(reader)  # type: ignore[list-item]  # for the names
        for k, name in enumerate(self.names):
            self.monitors[k] = self._make(
                SchNetPackEngine(reader, k, calculator),
                None if self.path is None else self.path / name,
                on_unstable="ignore" if self._on_unstable == "ignore" else partial(self._note, k),
                on_warning=partial(_tell, name),
            )
        self._reader = reader
        self._finite = simulator.system.positions.clone()

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

    def _halt(self, simulator: Any) -> None:
        """End the simulation as the simulator would after its last step."""
        assert self._reader is not None
        self._reader.stop_requested = False
        hooks = list(simulator.simulator_hooks)
        for hook in hooks[hooks.index(self) + 1 :]:
            hook.on_step_finalize(simulator)
        simulator.step += 1
        simulator.effective_steps += 1
        for hook in hooks:
            hook.on_simulation_end(simulator)
        raise UnstableReplica(
            f"the simulation was ended after step {simulator.step}, for {self._halted_by}"
        )

    def finish(self, interrupted_by: str | None = None) -> None:
        """Write what is left and every verdict. Leaving the `with` block calls this.

        Args:
            interrupted_by: what ended the run before its time; noted beside each verdict.
        """
        self._finished = True
        with ExitStack() as every:  # a record that cannot be finished does not keep the others
            for k, monitor in enumerate(self.monitors):
                if k not in self.dropped:
                    every.callback(monitor.finish, interrupted_by)

    def __enter__(self) -> Self:
        self._within = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish(None if kind is None else f"{kind.__name__}: {error}".rstrip(": "))


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
