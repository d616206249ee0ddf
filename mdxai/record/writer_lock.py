"""One writer per run directory, without file locks: a file `writer` names the process that writes.

File locks are unreliable on shared file systems. So a process checks before each commit that the
file still names it, and stops writing when it does not. A process that was killed leaves its file
behind. On the same machine the process table shows that it has ended; on another machine only a
long silence does.
"""

from __future__ import annotations

import json
import os
import platform
import time
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self
from uuid import uuid4

from mdxai.record.durable_files import (
    RecordError,
    RecordWarning,
    read_file,
    remove,
    touch,
    write_file,
)
from mdxai.record.layout import TEMPORARY, WRITER

_POLL = 5.0  # s between checks of the file of a writer on another machine
SILENT_SECONDS = 120.0  # after which a writer on another machine, due every 30 s, counts as ended


class DirectoryTakenOver(RecordError):
    """Another process has become the writer of the run directory."""


@dataclass(frozen=True, slots=True)
class Writer:
    """The process that writes to a run directory.

    Attributes:
        id: unique.
        host: machine, its boot and its PID name space.
        pid: process number.
        started: when the process started, in clock ticks since the boot, where the system tells.
            PIDs are recycled.
    """

    id: str
    host: str
    pid: int
    started: int | None

    @classmethod
    def here(cls) -> Self:
        """Return a new writer in this process."""
        return cls(uuid4().hex, _host(), os.getpid(), _start_of(os.getpid()))

    @property
    def is_this_process(self) -> bool:
        """Whether this process is the writer."""
        here = (_host(), os.getpid(), _start_of(os.getpid()))
        return (self.host, self.pid, self.started) == here

    def has_ended(self) -> bool | None:
        """Return whether the process has ended; None on another machine, where that is unknown."""
        if self.host != _host():
            return None
        if self.started is not None:
            return _start_of(self.pid) != self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # alive, and of another user
            return False
        return False


class WriterLock:
    """The right to write to one run directory."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / WRITER
        self._writer = Writer.here()

    def take(self) -> None:
        """Become the writer of the directory.

        The directory must be free, its writer must have ended, or it must be this process.

        Raises:
            RecordError: when another process may be writing to it, or the file system refuses.
        """
        content = json.dumps(asdict(self._writer)).encode()
        refuse_other_writer(self._path.parent)
        with suppress(FileExistsError):
            write_file(self._path, content, new=True)
            return
        refuse_other_writer(self._path.parent)  # another process was first
        write_file(self._path, content)

    def confirm(self) -> None:
        """Check before writing that this is still the writer, and renew the file's time.

        Raises:
            DirectoryTakenOver: when it is not.
            RecordError: when the file system refuses.
        """
        holder = _read(self._path)
        if holder is None or holder.id != self._writer.id:
            finished = f"a process that has finished with it ({WRITER} is gone)"
            by = finished if holder is None else _named(holder)
            raise DirectoryTakenOver(
                f"{self._path.parent} was taken over by {by}; "
                "this process writes no more to it. What it wrote before is intact"
            )
        touch(self._path)

    def release(self) -> None:
        """Stop being the writer, so that another process can be."""
        with suppress(RecordError):
            holder = _read(self._path)
            if holder is not None and holder.id == self._writer.id:
                remove(self._path)


def refuse_other_writer(folder: Path) -> None:
    """Raise RecordError when another process may be writing to a run directory.

    An earlier writer in this process is no reason: it stops at its next commit. A writer on another
    machine is given `SILENT_SECONDS` since its last commit: when it commits again in that time this
    raises, else it counts as ended. So a killed job that restarts on another node continues by
    itself.
    """
    path = folder / WRITER
    before = None
    while (free := _is_free(path)) is None:
        silent = _silent_seconds(path)
        if silent >= SILENT_SECONDS:
            return
        if before is not None and silent < before:
            break  # it has committed
        if before is None:
            warnings.warn(
                f"{_named(_holder(path))} wrote to {folder} {silent:.0f} s ago; waiting "
                f"{SILENT_SECONDS - silent:.0f} s to see whether that has ended",
                RecordWarning, stacklevel=2,
            )  # fmt: skip
        before = silent
        time.sleep(_POLL)
    if not free:
        raise RecordError(
            f"{folder} is being written by {_named(_holder(path))}; end that process first, or "
            "choose another directory"
        )


def _is_free(path: Path) -> bool | None:
    """Return whether nobody writes to the directory; None where that is unknown."""
    if not path.exists():
        return True
    try:
        holder = _read(path)
    except RecordError:  # damaged
        return None
    return holder is None or holder.is_this_process or holder.has_ended()


def writer_of(folder: Path) -> Writer | None:
    """Return the process that writes to a run directory, or was killed while it did; else None."""
    return _holder(folder / WRITER)


def _holder(path: Path) -> Writer | None:
    with suppress(RecordError):
        return _read(path)
    return None


def _read(path: Path) -> Writer | None:
    try:
        content = json.loads(read_file(path))
        return Writer(**{field.name: content[field.name] for field in fields(Writer)})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RecordError(f"{path} does not name the process that writes: {error}") from error


def _silent_seconds(path: Path) -> float:
    """Return how long ago a file was touched, s, by the clock of its file system."""
    probe = path.with_name(f".{uuid4().hex}{TEMPORARY}")
    try:
        then = path.stat().st_mtime
        probe.touch()
        try:
            return max(0.0, probe.stat().st_mtime - then)
        finally:
            probe.unlink()
    except FileNotFoundError:  # released in the meantime
        return SILENT_SECONDS
    except OSError as error:
        raise RecordError(f"{path.parent} cannot be used: {error.strerror or error}") from error


def _named(writer: Writer | None) -> str:
    if writer is None:
        return "an unknown process"
    return f"process {writer.pid} on {writer.host.partition(' ')[0]}"


def _host() -> str:
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return " ".join(parts)


def _start_of(pid: int) -> int | None:
    """Return when a process started, clock ticks since the boot; None when there is none, or the
    system does not tell.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(rest[18])
