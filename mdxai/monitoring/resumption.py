"""Going on with a recorded run: where it was, or, after a rollback, from an earlier checkpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdxai.engines import Branchable, Engine, Restartable
from mdxai.monitoring.description import describe_run, describe_system
from mdxai.monitoring.live_forecast import paths_to_follow
from mdxai.monitoring.monitored_run import MonitoredRun
from mdxai.monitoring.options import MonitorOptions
from mdxai.monitoring.persistence import Persistence
from mdxai.monitoring.setup import set_up
from mdxai.monitoring.signals import StopSignal
from mdxai.record import Checkpoint, RecordError, differences
from mdxai.record.rollbacks import is_pending, n_rollbacks, rollbacks_of, rolled_back_folder
from mdxai.serialization import restore


@dataclass(frozen=True, slots=True)
class Resumption:
    """Puts an engine, the record and a monitored run where a checkpoint was.

    Attributes:
        folder: run directory.
        engine: made as for the first start, or, for a rollback, with other dynamics.
        options: those of the first start.
        record: of the run, to be reopened.
        stop_signal: of the monitor.
    """

    folder: Path
    engine: Engine
    options: MonitorOptions
    record: Persistence
    stop_signal: StopSignal

    def resume(self, checkpoint: Checkpoint) -> MonitoredRun:
        """Go on where the run was.

        Raises:
            RecordError: when the run cannot be continued like this; it lists the differences.
            StateError: when the checkpoint does not fit these dynamics.
        """
        engine = self.engine
        if not isinstance(engine, Restartable):
            raise RecordError(f"{type(engine).__name__} cannot be resumed")
        rollbacks = rollbacks_of(self.folder)
        if is_pending(self.folder, rollbacks):
            raise RecordError(
                f"{self.folder} was being rolled back when it was ended; use Monitor.rollback, or "
                "`mdxai run --rollback`, once more"
            )
        run, header = self._prepared(checkpoint)
        expected = dict(checkpoint.header)
        if n_rollbacks(checkpoint):
            expected["engine"] = restore(None, checkpoint.state["described"])
        self._refuse_differences(expected, header)
        run.restore(checkpoint.state)
        engine.restore(checkpoint.state["engine"])
        self.record.resume(checkpoint)
        return self._begun(run, checkpoint, rollbacks)

    def roll_back(self, checkpoint: Checkpoint) -> MonitoredRun:
        """Take the atoms from the checkpoint, and go on with these dynamics.

        Raises:
            RecordError: when the run cannot be rolled back like this, with the reason.
            StateError: when the checkpoint is one of other atoms.
        """
        engine = self.engine
        if not isinstance(engine, Branchable):
            raise RecordError(f"{type(engine).__name__} cannot be rolled back")
        _refuse_counted_heat(engine)
        rollbacks = rollbacks_of(self.folder)
        run, header = self._prepared(checkpoint)
        old, new = checkpoint.header["engine"], header["engine"]
        if old["name"] != new["name"]:
            raise RecordError(f"a rollback goes on with {old['name']}, got {new['name']}")
        self._refuse_differences({**checkpoint.header, "engine": new}, header)
        run.restore(checkpoint.state)
        engine.restart_from(checkpoint.state["engine"])
        self.record.resume(checkpoint, rolled_back_folder(len(rollbacks)))
        self._begun(run, checkpoint, rollbacks)
        for number, rollback in enumerate(rollbacks, start=1):
            if number > n_rollbacks(checkpoint):  # the record, taken back, does not know of these
                content = {"number": number, **rollback.as_dict()}
                self.record.add_event(checkpoint.step, rollback.to_time_fs, "rollback", content)
        self.record.commit(checkpoint.step, run.state())  # from here on it is not pending
        return run

    def _prepared(self, checkpoint: Checkpoint) -> tuple[MonitoredRun, dict[str, Any]]:
        """Return a run as it was at its first frame, and its header with what drives it now."""
        first = restore(None, checkpoint.state["first"])
        found = paths_to_follow(self.engine, first, self.options, self.folder)
        setup = set_up(self.engine, first, self.options, found)
        header = describe_run(self.engine, setup, self.options)
        header["system"] |= describe_system(self.engine.frame())
        run = MonitoredRun(self.engine, setup, self.options, self.record, self.stop_signal)
        return run, header

    def _refuse_differences(self, expected: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        changed = differences(expected, header)
        if changed:
            raise RecordError(
                f"{self.folder} cannot be continued like this:\n  "
                + "\n  ".join(changed)
                + "\nUse the same calculator, system and parameters, or another directory"
            )

    @staticmethod
    def _begun(run: MonitoredRun, checkpoint: Checkpoint, rollbacks: list[Any]) -> MonitoredRun:
        run.rollbacks[:] = rollbacks
        run.cost.resumed_at.append(checkpoint.step)
        run.begin(time.perf_counter())
        return run


def _refuse_counted_heat(engine: Engine) -> None:
    thermostat = engine.frame().thermostat
    if thermostat is not None and thermostat.energy is not None:
        raise RecordError(
            f"{engine.describe().name} counts the heat of its thermostat from its own start, so "
            "energies before and after a rollback could not be compared; use Langevin"
        )
