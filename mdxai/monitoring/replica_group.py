"""The monitors of one simulation's replicas: explained in batches, saved together."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mdxai.attribution import Attribution, AttributionUnavailable, attributor
from mdxai.attribution.network_choice import AutomaticAttributor
from mdxai.calculators import CalculatorError
from mdxai.early_warning import EarlyWarning, EarlyWarningIssued
from mdxai.engines.schnetpack_engine import ReplicaReader, SchNetPackEngine
from mdxai.engines.schnetpack_restart_state import state_of
from mdxai.frame import Frame
from mdxai.monitoring.live_forecast import paths_to_follow
from mdxai.monitoring.monitor import Monitor
from mdxai.monitoring.options import MonitorOptions
from mdxai.monitoring.overhead import Cost
from mdxai.monitoring.reactions import OURS, InstabilityWarning
from mdxai.principles.motion.followed_paths import FollowedPaths
from mdxai.record import Checkpoint, write_checkpoint
from mdxai.record.compaction import drop_checkpoints
from mdxai.stability.verdict import Verdict


def replica_names(n: int) -> list[str]:
    """Return the names of n replicas and of their directories."""
    width = max(2, len(str(n - 1)))
    return [f"replica-{k:0{width}d}" for k in range(n)]


class StillReplicas:
    """Replicas whose atoms are fixed in place, without velocity or force."""

    def __init__(self, reader: ReplicaReader) -> None:
        self._reader = reader
        self._positions: dict[int, torch.Tensor] = {}
        self._finite = reader.simulator.system.positions.clone()  # where each atom last was

    def add(self, k: int, frame: Frame) -> None:
        """Fix replica k where it is, or where it last was if its positions are not finite."""
        replica, atoms = self._reader.atoms_of(k)
        sound = np.isfinite(frame.positions).all()
        positions = self._reader.simulator.system.positions if sound else self._finite
        self._positions[k] = positions[replica, atoms].clone()

    def hold(self) -> None:
        """Put the atoms of these replicas back, without velocity or force."""
        system = self._reader.simulator.system
        for k, positions in self._positions.items():
            replica, atoms = self._reader.atoms_of(k)
            system.positions[replica, atoms] = positions
            system.momenta[replica, atoms] = 0.0
            system.forces[replica, atoms] = 0.0

    def remember(self) -> None:
        """Store the current position of each atom if it is finite."""
        positions = self._reader.simulator.system.positions
        self._finite = torch.where(positions.isfinite(), positions, self._finite)

    def state(self) -> dict[str, Any]:
        """Return the fixed positions, for a checkpoint."""
        return {str(k): held.cpu().numpy() for k, held in self._positions.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Fix the atoms of a state."""
        like = self._reader.simulator.system.positions
        self._positions = {int(k): torch.from_numpy(v.copy()).to(like) for k, v in state.items()}


class ReplicaGroup:
    """The monitors of all replicas of a running simulation.

    Args:
        reader: of the simulation.
        path: directory of the run directories; None keeps no record.
        options: of each monitor; `on_unstable` says what happens to an unstable replica.
        calculator: the ASE calculator of the network, to be explained.
        resumed: the checkpoint of all replicas to continue from.

    Attributes:
        monitors: one per replica.
        dropped: the reason for each dropped replica, by its number.
        halted_by: the replica that ends the simulation and why; empty if there is none.

    Raises:
        RecordError: when a directory already contains a run, or a run cannot be continued.
    """

    def __init__(
        self,
        reader: ReplicaReader,
        path: Path | None,
        options: MonitorOptions,
        calculator: Any,
        resumed: Checkpoint | None = None,
    ) -> None:
        self.reader, self._path, self._options = reader, path, options
        self.names = replica_names(len(reader))
        self.still = StillReplicas(reader)
        self.dropped: dict[int, str] = {}
        self.halted_by = ""
        self._became_unstable: list[tuple[int, Verdict]] = []
        self._batch_time = 0.0
        self._attributor = _batch_attributor(calculator, options)
        self._found: dict[bytes, FollowedPaths] = {}  # of each molecule, by its atomic numbers
        if resumed is not None:
            self.dropped = {int(k): reason for k, reason in resumed.state["dropped"].items()}
            self.still.restore(resumed.state["held"])
        step = None if resumed is None else resumed.step
        engines = [SchNetPackEngine(reader, k, calculator) for k in range(len(reader))]
        self.monitors = [self._monitor(k, engine, step) for k, engine in enumerate(engines)]
        for k, reason in self.dropped.items():
            self.monitors[k].finish(reason)

    def _monitor(self, k: int, engine: SchNetPackEngine, step: int | None) -> Monitor:
        """Return the monitor of replica k, resumed from the checkpoint of a step if given."""
        ignores = self._options.on_unstable == "ignore"
        options = self._options.with_changes(
            {
                "report": False,  # `mdxai report` writes them on demand
                "on_unstable": "ignore" if ignores else partial(self._note, k),
                "on_warning": partial(_warn, self.names[k]),
            }
        )
        path = None if self._path is None else self._path / self.names[k]
        options = self._with_weak_spots(options, engine, None if step is None else path)
        if step is None or path is None:
            return Monitor(engine, path, options, saves=False)
        at = None if k in self.dropped else step  # a dropped replica stays at its last step
        return Monitor.resume(engine, path, options, step=at, saves=False)

    def _with_weak_spots(
        self, options: MonitorOptions, engine: SchNetPackEngine, resumed: Path | None
    ) -> MonitorOptions:
        """Return options with weak spots that are looked for once for all equal molecules."""
        if options.forecast is not True:
            return options
        first = engine.frame()
        key = first.numbers.tobytes()
        if key not in self._found:
            found = paths_to_follow(engine, first, options, resumed)
            self._found[key] = FollowedPaths() if found is None else found
        return options.with_changes({"forecast": self._found[key]})

    def _note(self, k: int, verdict: Verdict) -> None:
        self._became_unstable.append((k, verdict))

    @property
    def live(self) -> list[int]:
        """Numbers of the replicas that have not been dropped."""
        return [k for k in range(len(self.monitors)) if k not in self.dropped]

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

    @property
    def is_due(self) -> bool:
        """Whether any replica is due for a checkpoint; then all write one."""
        return any(self.monitors[k].due for k in self.live)

    def observe(self, step: int) -> None:
        """Observe the current frame of every replica, as MD step `step`."""
        frames = {k: f for k, f in enumerate(self.reader.frames(step)) if k not in self.dropped}
        explained = self._explain(frames, step)
        for k, frame in frames.items():
            self.monitors[k].take(frame, explained.get(k))
        news, self._became_unstable = self._became_unstable, []
        for k, verdict in news:
            self._react(k, verdict, frames[k])
        if self._options.on_unstable == "drop":
            self.still.hold()
            self.still.remember()

    def _explain(self, frames: Mapping[int, Frame], step: int) -> dict[int, Attribution]:
        """Explain all replicas in one batch; their monitors explain any that are left out."""
        every = self._options.attribute_every
        seen = {self.monitors[k].last_step for k in frames} == {step}
        if self._attributor is None or step % every != 0 or seen:
            return {}
        finite = [k for k, frame in frames.items() if np.isfinite(frame.positions).all()]
        begun = time.perf_counter()
        try:
            explained = self._attributor.attribute_many([frames[k] for k in finite])
        except (CalculatorError, AttributionUnavailable):  # the network refuses a replica
            return {}
        finally:
            self._batch_time += time.perf_counter() - begun
        return dict(zip(finite, explained, strict=True))

    def _react(self, k: int, verdict: Verdict, frame: Frame) -> None:
        name = self.names[k]
        if self._options.on_unstable == "drop":
            self.still.add(k, frame)
            self.dropped[k] = f"dropped after {frame.time:g} fs: {_cause(verdict)}"
            if self._path is not None:
                self.monitors[k].checkpoint()
            self.monitors[k].finish(self.dropped[k])
            message = f"{name} {self.dropped[k]}"
            warnings.warn(message, InstabilityWarning, skip_file_prefixes=OURS)
        elif self._options.on_unstable == "halt":
            self.reader.stop_requested = True
            self.halted_by = f"{name}: {_cause(verdict)}"
        else:
            warnings.warn(f"{name}: {verdict}", InstabilityWarning, skip_file_prefixes=OURS)

    def save(self, step: int) -> None:
        """Write the common state, then a checkpoint of every replica."""
        if self._path is None:
            return
        self._save_simulator(self._path, step)
        for k in self.live:
            self.monitors[k].checkpoint()

    def _save_simulator(self, path: Path, step: int) -> None:
        state = {
            "simulator": state_of(self.reader.simulator, step),
            "names": self.names,
            "dropped": {str(k): reason for k, reason in self.dropped.items()},
            "held": self.still.state(),
        }
        write_checkpoint(path, Checkpoint(step, state))
        # One more than each replica keeps, since it is written before theirs.
        drop_checkpoints(path, self._options.record.keep_checkpoints + 1)

    def finish(self, interrupted_by: str | None) -> None:
        """Finish every record, even if one of them fails."""
        reader = self.reader
        if interrupted_by is None and self._path is not None:
            whole = not reader.in_step and reader.step == int(reader.simulator.step)
            if whole and self.live:
                self._save_simulator(self._path, reader.step)
        with ExitStack() as every:
            for k in self.live:
                every.callback(self.monitors[k].finish, interrupted_by, self.halted_by or None)


def _batch_attributor(calculator: Any, options: MonitorOptions) -> AutomaticAttributor | None:
    """Return an attributor for batches; None if there is none, which each monitor explains."""
    if not options.attribute_every:
        return None
    try:
        explainer = attributor(calculator, gamma=options.gamma)
    except AttributionUnavailable:
        return None
    return explainer if isinstance(explainer, AutomaticAttributor) else None


def _warn(name: str, warning: EarlyWarning) -> None:
    warnings.warn(f"{name}: {warning}", EarlyWarningIssued, skip_file_prefixes=OURS)


def _cause(verdict: Verdict) -> str:
    cause = verdict.cause
    if cause is None:
        return "no finding"
    return f"{cause.principle} {cause.value:.3g} {cause.unit}, allowed {cause.threshold:g}"
