"""Writing a run directory without holding up the simulation."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mdxai.attribution import Attribution
from mdxai.frame import Frame
from mdxai.principles import Deviation, Principle
from mdxai.record.checkpoint import Checkpoint, pack_state, write_checkpoint
from mdxai.record.columns import Gathered, event_text, profile_table
from mdxai.record.compaction import drop_checkpoints, merge_all, merge_tail, retain_last
from mdxai.record.durable_files import RecordError, make_folder
from mdxai.record.explanations import MEASURES
from mdxai.record.header import SCHEMA, versions, without_none, write_header, write_verdict
from mdxai.record.layout import BY_STEP, EXPLAINED, ROWS
from mdxai.record.parts import Part, write_part
from mdxai.record.record_settings import RecordSettings
from mdxai.record.superseded import drop_repeated
from mdxai.record.truncate import truncate
from mdxai.record.writer_lock import DirectoryTakenOver, WriterLock
from mdxai.serialization import Packed
from mdxai.statistics import BinnedMoments


@dataclass(slots=True)
class _Batch:
    """What one commit hands to the writer thread."""

    step: int
    rows: Gathered
    state: Packed | None
    last: dict[str, int]
    n_events: int


class RunWriter:
    """Writes one run directory; the only code in mdxai that does.

    Rows gather in memory. `commit` hands them to one background thread, which writes the parts,
    then the checkpoint that names them, then tidies up. What goes wrong there is raised as
    RecordError by the next `check` or `commit`; the rows wait, and the next commit or `finish`
    tries again.

    Attributes:
        commits_at: MD step from which on a commit is due for its steps alone, if any.

    Args:
        path: directory; created by `start`, so that a run which fails to start leaves nothing.
        settings: what is kept, and how often it is written.

    Raises:
        RecordError: for settings of another kind.
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
        self._lost: DirectoryTakenOver | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._future: Future[None] | None = None

    def start(self, header: Mapping[str, Any], principles: Sequence[Principle]) -> None:
        """Create the directory with its run.toml.

        Raises:
            RecordError: when the directory holds a run or cannot be created, or another process
                writes to it.
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
        self.open = True

    def resume(self, checkpoint: Checkpoint, into: str | None = None) -> None:
        """Reopen the directory at a checkpoint; what was recorded after it is put aside.

        A writer that is open forgets what it has gathered.

        Args:
            checkpoint: what to go back to.
            into: name of a folder in the directory for what is put aside.

        Raises:
            RecordError: when the record lacks what the checkpoint builds on, when it was kept with
                other settings, or when the file system refuses.
        """
        self._forget()
        self._lock.take()
        try:
            aside = None if into is None else self.path / into
            header, parts = truncate(self.path, checkpoint, self.settings, aside)
        except RecordError:
            self._lock.release()
            raise
        self._begin(header)
        self._parts |= parts
        self._last |= checkpoint.last
        self._n_events = checkpoint.n_events
        self._seen = checkpoint.step
        self._commit_from(checkpoint.step)
        self.open = True

    def _forget(self) -> None:
        if self._future is not None:
            self._future.exception()
            self._future = None

    def _begin(self, header: Mapping[str, Any]) -> None:
        self._header = header
        self._names = list(header["deviations"])
        self._gathered = Gathered(self._names, self.settings)
        self._spare: Gathered | None = None
        self._queue: deque[_Batch] = deque()
        self._parts: dict[str, list[Part]] = {kind: [] for kind in ROWS}
        self._last = dict.fromkeys(BY_STEP, -1)
        self._n_events = 0
        self._seen = 0
        self._commit_from(0)
        if self._thread is None:
            # Arrow's own allocator would keep tens of MB that a run's parts once took.
            pa.set_memory_pool(pa.system_memory_pool())
            # The first array makes pyarrow import pandas, which holds the interpreter's lock for
            # half a second: better here than during an MD step.
            pa.array(np.empty(0))
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="mdxai-record")

    def add_frame(self, frame: Frame, deviations: Mapping[str, Deviation | None]) -> None:
        """Record one frame with its deviations; missing ones are null, NaN stays NaN.

        Raises:
            RecordError: for a step that is recorded already.
        """
        step, settings = frame.step, self.settings
        if step % settings.frame_every == 0:
            self._advance("frames", step)
            self._gathered.frames.append(frame, deviations)
        if step % settings.trajectory_every == 0:
            self._advance("trajectory", step)
            self._gathered.add_trajectory(frame)

    def add_attribution(self, frame: Frame, attribution: Attribution) -> None:
        """Record the explanation of one frame, whose arrays must not change from now on.

        Raises:
            RecordError: as `add_frame`, and for an explanation whose measure of pairs the record
                has no column for.
        """
        if attribution.measure not in MEASURES:
            raise RecordError(
                f"a record holds explanations by {' or '.join(MEASURES)}, got "
                f'{attribution.measure}; explain the run with method "walks" or "flow"'
            )
        for kind in EXPLAINED:
            self._advance(kind, frame.step)
        self._gathered.add_attribution(frame, attribution)

    def add_event(self, step: int, time: float, kind: str, content: Mapping[str, Any]) -> None:
        """Record something that happened.

        Args:
            step: MD step.
            time: fs.
            kind: a short name by which events are found.
            content: stored as JSON; NumPy numbers become plain ones, NaN and infinity null.

        Raises:
            RecordError: for content that JSON cannot express.
        """
        try:
            text = event_text(content)
        except (TypeError, ValueError) as error:
            raise RecordError(f"event {kind!r} cannot be stored as JSON: {error}") from error
        self._seen = max(self._seen, step)
        self._gathered.events.append(self._n_events, step, time, (kind, text))
        self._n_events += 1

    def _advance(self, kind: str, step: int) -> None:
        if step <= self._last[kind]:
            raise RecordError(
                f"{kind} of step {step} cannot be recorded after those of step {self._last[kind]}"
            )
        self._last[kind] = step
        self._seen = max(self._seen, step)

    @property
    def is_writing(self) -> bool:
        """Whether the last commit is still being written."""
        return self._future is not None and not self._future.done()

    def due(self, step: int) -> bool:
        """Whether a commit is due, by rows, memory, steps or wall time.

        While the last one is still being written, only twice the rows or memory make it due.
        """
        settings, gathered = self.settings, self._gathered
        busy = self.is_writing
        limit = 2 if busy else 1
        if gathered.n_rows >= limit * settings.rows_per_part:
            return True
        if gathered.n_bytes >= limit * settings.bytes_per_part:
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
        """Hand what has gathered to the writer thread; wait only for the commit before.

        Args:
            step: MD step that the state belongs to; all its rows must have been added.
            state: what a checkpoint is to hold, copied here; None writes parts alone.

        Raises:
            RecordError: for a state that cannot be stored, or what the writer thread met.
        """
        packed = None if state is None else pack_state(state)
        self._wait()
        self._hand_over(step, packed)

    def _hand_over(self, step: int, state: Packed | None) -> None:
        self._queue.append(_Batch(step, self._gathered, state, dict(self._last), self._n_events))
        self._gathered = self._spare or Gathered(self._names, self.settings)
        self._spare = None
        self._commit_from(step)
        self._submit(self._work)

    def _commit_from(self, step: int) -> None:
        """Count what makes the next commit due from here on."""
        steps = self.settings.checkpoint_steps
        self.commits_at = None if steps is None else step + steps
        self._waiting_since = time.monotonic()

    def _submit(self, work: Callable[[], None]) -> None:
        """Have the writer thread do it: what one thread frees, malloc keeps for that thread."""
        assert self._thread is not None
        try:
            self._future = self._thread.submit(work)
        except RuntimeError:  # the interpreter is on its way out and starts no thread any more
            work()

    def check(self) -> None:
        """Raise what the writer thread has met.

        Raises:
            RecordError: that; once, but for a directory that another process has taken over.
        """
        if self._lost is not None:
            raise self._lost
        if self._future is not None and self._future.done():
            self._wait()

    def _wait(self) -> None:
        """Wait for the commit in flight; raise what it met, once. A lost directory stays lost."""
        future, self._future = self._future, None
        try:
            if future is not None:
                future.result()
        except DirectoryTakenOver as lost:
            self._lost = lost
            self.close()
            raise

    def _work(self) -> None:
        """Write what is queued; on an error it stays queued. Runs in the writer thread."""
        while self._queue:
            batch = self._queue[0]
            self._write(batch)
            self._queue.popleft()
            self._spare = batch.rows
            self._tidy()

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

    def _tidy(self) -> None:
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
        """Write what is left, merge the parts, then write the profile and, last, the verdict.

        Args:
            verdict: content of verdict.json.
            profile: relevance against distance, where there is any.
            state: of a last checkpoint, from which the run could be continued.
            step: MD step of that; the last that was recorded by default.

        Raises:
            RecordError: when the file system refuses. The writer stays open: once there is room,
                `finish` can be called again.
        """
        packed = None if state is None else pack_state(state)
        if self._future is not None:
            self._future.exception()  # what failed is queued still, and tried again
        self._hand_over(self._seen if step is None else step, packed)
        self._wait()
        self._submit(self._merge_all)
        self._wait()
        if profile is not None and profile.count.any():
            write_part(self.path, "profile", [profile_table(profile, self._seen)])
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
        """Wait for the commit in flight and let the thread go; what gathered since is not written.

        Raises:
            RecordError: what the writer thread met.
        """
        self.open = False
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        self._lock.release()
        self._wait()


def refuse_other_run(path: Path) -> None:
    """Raise RecordError where `path` holds a run already or is no directory."""
    try:
        if path.exists() and not path.is_dir():
            raise RecordError(f"{path} is a file; expected a directory to write the run to")
        names = [entry.name for entry in path.iterdir()] if path.exists() else []
    except OSError as error:
        raise RecordError(f"{path} cannot be used: {error.strerror or error}") from error
    if any(name == "run.toml" or name.endswith(".parquet") for name in names):
        raise RecordError(
            f"{path} already holds a run; choose another directory, or remove that one first"
        )
