"""Writing the record of a monitored run, where one is kept."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mdxai.attribution import Attribution
from mdxai.frame import Frame
from mdxai.principles import Deviation, Principle
from mdxai.record import Checkpoint, RecordError, RecordSettings, RunWriter, refuse_other_run
from mdxai.record.resume import supersede_start
from mdxai.statistics import BinnedMoments


class Persistence:
    """Passes what a monitor finds to the writer of a run directory.

    Without a path every method does nothing, so callers need not distinguish the two cases.

    Args:
        path: run directory; None keeps no record.
        settings: what is kept, in which precision, and how often it is written.
        takes_over: when a new run starts, rename the files of an earlier start of the same run that
            ended before its first checkpoint; otherwise refuse a directory that holds a run.
        saves: commit when it is due; otherwise only by a call of `commit`.

    Attributes:
        is_finished: whether the run has come to its end.

    Raises:
        RecordError: when `path` already holds a run, unless `takes_over`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        settings: RecordSettings,
        *,
        takes_over: bool = False,
        saves: bool = True,
    ) -> None:
        self._writer = None if path is None else RunWriter(path, settings)
        self._takes_over, self._saves = takes_over, saves
        self.is_finished = False
        if self._writer is not None and not takes_over:
            refuse_other_run(self._writer.path)

    @property
    def folder(self) -> Path | None:
        """The run directory."""
        return None if self._writer is None else self._writer.path

    @property
    def is_open(self) -> bool:
        """Whether the record has been started and not yet finished."""
        return self._writer is not None and self._writer.open

    @property
    def commits_at(self) -> int | None:
        """MD step from which on a commit is due for its steps alone, if any."""
        return None if self._writer is None else self._writer.commits_at

    def start(self, header: Mapping[str, Any], principles: Sequence[Principle]) -> None:
        """Create the run directory.

        Raises:
            RecordError: when it holds another run or cannot be created.
        """
        if self._writer is None:
            return
        if self._takes_over:
            supersede_start(self._writer.path, header)
        self._writer.start(header, principles)

    def resume(self, checkpoint: Checkpoint, into: str | None = None) -> None:
        """Reopen the run directory at a checkpoint.

        Args:
            checkpoint: of this run.
            into: name of a folder to which later files are moved.

        Raises:
            RecordError: as `RunWriter.resume`.
        """
        if self._writer is not None:
            self._writer.resume(checkpoint, into)

    def check(self) -> None:
        """Raise, as RecordError, an error of writing in the background."""
        if self._writer is not None:
            self._writer.check()

    def add(
        self,
        frame: Frame,
        deviations: Mapping[str, Deviation | None],
        attribution: Attribution | None,
    ) -> None:
        """Record a frame, its deviations and its explanation."""
        if self._writer is None:
            return
        self._writer.add_frame(frame, deviations)
        if attribution is not None:
            self._writer.add_attribution(frame, attribution)

    def add_event(self, step: int, time: float, kind: str, content: Mapping[str, Any]) -> None:
        """Record an event at an MD step and a time (fs)."""
        if self._writer is not None:
            self._writer.add_event(step, time, kind, content)

    def is_due(self, step: int) -> bool:
        """Return whether a commit is due at an MD step."""
        return self._writer is not None and self._writer.due(step)

    def commits_by_itself(self, step: int) -> bool:
        """Return whether a commit is due and this record commits when it is."""
        return self._saves and self.is_due(step)

    def commit(self, step: int, state: Mapping[str, Any] | None) -> None:
        """Write pending rows, and a checkpoint with this state.

        Raises:
            RecordError: without a record, and when the file system refuses.
        """
        if self._writer is None:
            raise RecordError("a checkpoint needs a run directory: give the monitor a path")
        self._writer.commit(step, state)

    def finish(
        self,
        content: Mapping[str, Any],
        profile: BinnedMoments | None,
        state: Mapping[str, Any] | None,
        step: int | None,
    ) -> None:
        """Write pending rows, the profile and verdict.json; see `RunWriter.finish`."""
        if self._writer is not None:
            self._writer.finish(content, profile, state, step)
