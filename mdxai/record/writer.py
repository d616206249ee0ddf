"""Writing a run directory in the background, without delaying the simulation."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mdxai.attribution import Attribution
from mdxai.frame import Frame
from mdxai.principles import Deviation, Principle
from mdxai.record.background_thread import BackgroundThread
from mdxai.record.checkpoint import Checkpoint, pack_state, write_checkpoint
from mdxai.record.columns import PendingRows, event_text, profile_table
from mdxai.record.compaction import drop_checkpoints, merge_all, merge_tail, retain_last
from mdxai.record.durable_files import RecordError, make_folder
from mdxai.record.explanations import MEASURES
from mdxai.record.header import SCHEMA, versions, without_none, write_header, write_verdict
from mdxai.record.layout import BY_STEP, EXPLAINED, FORECAST, ROWS
from mdxai.record.parts import Part, write_part
from mdxai.record.record_settings import RecordSettings
from mdxai.record.superseded import drop_repeated
from mdxai.record.truncate import truncate
from mdxai.record.writer_lock import DirectoryTakenOver, WriterLock
from mdxai.serialization import Packed
from mdxai.statistics import BinnedMoments

THREAD = "mdxai-record"


@dataclass(slots=True)
class _Batch:
    """What one commit hands to the background thread."""

    step: int
    rows: PendingRows
    state: Packed | None
    last: dict[str, int]
    n_events: int


class RunWriter:
    """Writes one run directory; nothing else in mdxai does.

    Rows wait in memory until `commit` hands them to one background thread. It writes the parts,
    then the checkpoint that names them, then merges parts and deletes old checkpoints. An error
    there is raised as RecordError by the next `check` or `commit`; the rows are kept, and the next
    commit or `finish` tries again.

    Attributes:
        open: whether rows can be added: after `start` or `resume`, until `finish` or `close`.
        commits_at: MD step from which on a commit is due because of `checkpoint_steps`, if any.

    Args:
        path: directory. `start` creates it, so a run that fails before leaves nothing behind.
        settings: what is kept, and how often it is written.

    Raises:
        RecordError: when the settings are not `RecordSettings`.
    """

    def __init__(
        self, path: str | os.PathLike[str], settings: RecordSettings | None = None
    ) -> None:
        if settings is not None and not isinstance(settings, RecordSettings):
            raise RecordError(f"record must be RecordSettings(...) or None, got {settings!r}")
        self.path = Path(path)
        self.settings = settings or RecordSettings()
        self.open = False
        self.commits_at: int | None = None
        self._lock = WriterLock(self.path)
        self._taken_over: DirectoryTakenOver | None = None
        self._thread = BackgroundThread(THREAD)
        self._begin({"deviations": {}})

    def start(self, header: Mapping[str, Any], principles: Sequence[Principle]) -> None:
        """Create the directory with its run.toml.

        Raises:
            RecordError: when the directory holds a run or cannot be created, or another process may
                be writing to it.
        """
        refuse_other_run(self.path)
        try:
            make_folder(self.path)
        except OSError as error:
            raise RecordError(
                f"cannot create the run directory {self.path}: {error.strerror or error}; choose "
                "another directory"
            ) from error
        self._lock.take()
        content = {
            "schema": SCHEMA,
            **header,
            "record": self.settings.as_dict(),
            "deviations": {p.name: p.unit for p in principles},
            "versions": versions(),
        }
        self._begin(without_none(content))
        write_header(self.path, self._header)
        self._open()

    def resume(self, checkpoint: Checkpoint, into: str | None = None) -> None:
        """Reopen the directory at a checkpoint. What was recorded later is renamed, not deleted.

        An open writer drops its pending rows.

        Args:
            checkpoint: to return to.
            into: name of a folder in the directory to which superseded files are moved instead.

        Raises:
            RecordError: when a part that the checkpoint names is missing, when the record was kept
                with other settings, when another process may be writing to the directory, or when
                the file system refuses.
        """
        self._thread.wait_silently()
        self._lock.take()
        try:
            folder = None if into is None else self.path / into
            header, parts = truncate(self.path, checkpoint, self.settings, folder)
        except RecordError:
            self._lock.release()
            raise
        self._begin(header)
        self._parts |= parts
        self._last |= checkpoint.last
        self._n_events = checkpoint.n_events
        self._last_step = checkpoint.step
        self._commit_from(checkpoint.step)
        self._open()

    def _begin(self, header: Mapping[str, Any]) -> None:
        """Forget all rows and parts of a run before."""
        self._header = header
        self._deviations = list(header["deviations"])
        self._pending = PendingRows(self._deviations, self.settings)
        self._spare: PendingRows | None = None
        self._queue: deque[_Batch] = deque()
        self._parts: dict[str, list[Part]] = {kind: [] for kind in ROWS}
        self._last = dict.fromkeys(BY_STEP, -1)
        self._n_events = 0
        self._last_step = 0
        self._commit_from(0)

    def _open(self) -> None:
        if self.open:
            return
        # Arrow's own allocator would keep tens of MB once used for a run's parts.
        pa.set_memory_pool(pa.system_memory_pool())
        self._thread = BackgroundThread(THREAD)
        self.open = True

    def add_frame(self, frame: Frame, deviations: Mapping[str, Deviation | None]) -> None:
        """Record one frame with its deviations; missing ones become null, NaN stays NaN.

        Raises:
            RecordError: when this step or a later one is recorded already.
        """
        step, settings = frame.step, self.settings
        if step % settings.frame_every == 0:
            self._advance("frames", step)
            self._pending.frames.append(frame, deviations)
        if step % settings.trajectory_every == 0:
            self._advance("trajectory", step)
            self._pending.add_trajectory(frame)

    def add_attribution(self, frame: Frame, attribution: Attribution) -> None:
        """Record the explanation of one frame. Its arrays must not change afterwards.

        Raises:
            RecordError: as `add_frame`, and for another measure of pairs than `MEASURES`.
        """
        if attribution.measure not in MEASURES:
            raise RecordError(
                f"a record can hold {' or '.join(MEASURES)} of pairs, got {attribution.measure}; "
                'explain the run with method "walks" or "flow"'
            )
        for kind in EXPLAINED:
            self._advance(kind, frame.step)
        self._pending.add_attribution(frame, attribution)

    def add_event(self, step: int, time: float, kind: str, content: Mapping[str, Any]) -> None:
        """Record an event.

        Args:
            step: MD step.
            time: fs.
            kind: short name of this kind of event.
            content: stored as JSON; NumPy numbers become plain ones, NaN and infinity null.

        Raises:
            RecordError: when JSON cannot express the content.
        """
        try:
            text = event_text(content)
        except (TypeError, ValueError) as error:
            raise RecordError(f"event {kind!r} cannot be stored as JSON: {error}") from error
        self._last_step = max(self._last_step, step)
        self._pending.events.append(self._n_events, step, time, (kind, text))
        self._n_events += 1

    def _advance(self, kind: str, step: int) -> None:
        if step <= self._last[kind]:
            raise RecordError(
                f"{kind} of step {step} cannot be recorded after those of step {self._last[kind]}"
            )
        self._last[kind] = step
        self._last_step = max(self._last_step, step)

    def due(self, step: int) -> bool:
        """Return whether a commit is due, by rows, memory, steps or wall time.

        While the last commit is still being written, only twice the rows or memory make one due.
        """
        settings, pending = self.settings, self._pending
        busy = self.is_writing
        limit = 2 if busy else 1
        if pending.n_rows >= limit * settings.rows_per_part:
            return True
        if pending.n_bytes >= limit * settings.bytes_per_part:
            return True
        if busy:
            return False
        waited = time.monotonic() - self._waiting_since
        return (
            waited >= settings.seconds_per_part
            or (settings.checkpoint_seconds is not None and waited >= settings.checkpoint_seconds)
            or (self.commits_at is not None and step >= self.commits_at)
        )

    def commit(self, step: int, state: Mapping[str, Any] | None = None) -> None:
        """Hand pending rows to the background thread; wait only for the commit before.

        Args:
            step: MD step of the state; all its rows must have been added.
            state: content of the checkpoint, copied here; None writes no checkpoint.

        Raises:
            RecordError: when the state cannot be stored, or when the commit before failed.
        """
        packed = None if state is None else pack_state(state)
        self._wait()
        self._hand_over(step, packed)

    def _hand_over(self, step: int, state: Packed | None) -> None:
        self._queue.append(_Batch(step, self._pending, state, dict(self._last), self._n_events))
        self._pending = self._spare or PendingRows(self._deviations, self.settings)
        self._spare = None
        self._commit_from(step)
        self._thread.run(self._write_queue)

    def _commit_from(self, step: int) -> None:
        """Count steps and wall time to the next commit from here."""
        steps = self.settings.checkpoint_steps
        self.commits_at = None if steps is None else step + steps
        self._waiting_since = time.monotonic()

    @property
    def is_writing(self) -> bool:
        """Whether the last commit is still being written."""
        return self._thread.is_busy

    def check(self) -> None:
        """Raise the error of the last commit, if it is done and failed.

        Raises:
            RecordError: once; but every time when another process has taken over the directory.
        """
        if self._taken_over is not None:
            raise self._taken_over
        if not self._thread.is_busy:
            self._wait()

    def _wait(self) -> None:
        """Wait for the last commit and raise its error, once; DirectoryTakenOver closes this."""
        try:
            self._thread.wait()
        except DirectoryTakenOver as error:
            self._taken_over = error
            self.close()
            raise

    def _write_queue(self) -> None:
        """Write queued batches; a batch that fails stays queued. Runs in the background thread."""
        while self._queue:
            batch = self._queue[0]
            self._write(batch)
            self._queue.popleft()
            self._spare = batch.rows
            self._compact()

    def _write(self, batch: _Batch) -> None:
        self._lock.confirm()
        for kind, columns in batch.rows.columns().items():
            part, _ = write_part(self.path, kind, [columns.table()])
            self._parts[kind].append(part)
            columns.clear()
        if batch.state is not None:
            self._lock.confirm()
            parts = self._names_of_parts()
            checkpoint = Checkpoint(batch.step, {}, self._header, parts, batch.last, batch.n_events)
            write_checkpoint(self.path, checkpoint, batch.state)

    def _names_of_parts(self) -> dict[str, list[str]]:
        return {kind: [part.name for part in parts] for kind, parts in self._parts.items()}

    def _compact(self) -> None:
        for kind, parts in self._parts.items():
            self._parts[kind] = merge_tail(self.path, parts)
        oldest = drop_checkpoints(self.path, self.settings.keep_checkpoints)
        if self.settings.retain is not None:
            until = self._last["trajectory"] if oldest is None else oldest
            self._parts["trajectory"] = retain_last(
                self.path, self._parts["trajectory"], self.settings.retain, until
            )

    def finish(
        self,
        verdict: Mapping[str, Any],
        profile: BinnedMoments | None,
        state: Mapping[str, Any] | None = None,
        step: int | None = None,
    ) -> None:
        """Write pending rows, merge the parts, then write the profile and, last, the verdict.

        Args:
            verdict: content of verdict.json.
            profile: relevance against distance, if any.
            state: content of a last checkpoint, from which the run can be continued.
            step: MD step of the state; by default the last one recorded.

        Raises:
            RecordError: when the file system refuses. The writer stays open, so that `finish` can
                be called again once there is room.
        """
        packed = None if state is None else pack_state(state)
        self._thread.wait_silently()  # a batch that failed is still queued, and is tried again
        self._hand_over(self._last_step if step is None else step, packed)
        self._wait()
        self._thread.run(self._merge_all)
        self._wait()
        if profile is not None and profile.count.any():
            write_part(self.path, "profile", [profile_table(profile, self._last_step)])
        write_verdict(self.path, {**verdict, "parts": self._names_of_parts()})
        drop_repeated(self.path, retained=self.settings.retain is not None)
        self.close()

    def _merge_all(self) -> None:
        self._lock.confirm()
        for kind, parts in self._parts.items():
            self._parts[kind] = merge_all(self.path, parts)
        if self.settings.retain is not None:
            self._parts["trajectory"] = retain_last(
                self.path, self._parts["trajectory"], self.settings.retain
            )

    def close(self) -> None:
        """Wait for the last commit and end the thread. Pending rows are not written.

        Raises:
            RecordError: when the last commit failed.
        """
        self.open = False
        self._thread.close()
        self._lock.release()
        self._wait()


def refuse_other_run(path: Path) -> None:
    """Raise RecordError when `path` holds a run already or is not a directory."""
    try:
        if path.exists() and not path.is_dir():
            raise RecordError(f"{path} is a file; expected a directory to write the run to")
        names = [entry.name for entry in path.iterdir()] if path.exists() else []
    except OSError as error:
        raise RecordError(f"{path} cannot be used: {error.strerror or error}") from error
    if any(name == "run.toml" or name.endswith(".parquet") for name in names):
        raise RecordError(
            f"{path} already holds a run; choose another directory, or continue that run "
            "(Monitor.resume, `mdxai run --resume`)"
        )
    if not set(FORECAST).isdisjoint(names):
        raise RecordError(f"{path} holds a forecast; choose another directory for the run")
