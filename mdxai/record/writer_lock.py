"""One writer per run directory, without locks: a file `writer` says who it is.

File locks are not to be relied on where several machines share a file system. So whoever writes
looks before each commit whether the file is still its own; who has lost the directory stops there.
A writer that ended without saying so (SIGKILL, power) leaves its file behind: on its own machine
one can see that it is gone, on another one only that it has been silent for long.
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

_POLL = 5.0  # s between looks at whether a writer elsewhere shows life
SILENT_SECONDS = 120.0  # after which a writer elsewhere counts as dead; it commits every 30 s


class DirectoryTakenOver(RecordError):
    """Another process writes to the run directory now."""


@dataclass(frozen=True, slots=True)
class Writer:
    """The process that writes to a run directory.

    Attributes:
        id: unique.
        host: machine, its boot and its PID name space.
        pid: process number.
        born: when the process started, in clock ticks since the boot, where the system tells.
            PIDs are recycled.
    """

    id: str
    host: str
    pid: int
    born: int | None

    @classmethod
    def here(cls) -> Self:
        """Return a new writer of this process."""
        return cls(uuid4().hex, _host(), os.getpid(), _born(os.getpid()))

    @property
    def is_this_process(self) -> bool:
        return (self.host, self.pid, self.born) == (_host(), os.getpid(), _born(os.getpid()))

    def is_gone(self) -> bool | None:
        """Whether its process has ended; None for one of another machine, where nobody can see."""
        if self.host != _host():
            return None
        if self.born is not None:
            return _born(self.pid) != self.born
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # it is somebody else's, and alive
            return False
        return False


class WriterLock:
    """The right to write to one run directory."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / WRITER
        self._writer = Writer.here()

    def take(self) -> None:
        """Take the directory: a free one, one whose writer has ended, or one of this process.

        Raises:
            RecordError: when another process seems to be writing to it, or the file system refuses.
        """
        content = json.dumps(asdict(self._writer)).encode()
        refuse_other_writer(self._path.parent)
        with suppress(FileExistsError):
            write_file(self._path, content, new=True)
            return
        refuse_other_writer(self._path.parent)  # of two that came at once, one was first
        write_file(self._path, content)

    def confirm(self) -> None:
        """Check, before something is written, that the directory is still ours, and show life.

        Raises:
            DirectoryTakenOver: when it is not.
            RecordError: when the file system refuses.
        """
        holder = _read(self._path)
        if holder is None or holder.id != self._writer.id:
            by = f"somebody who is done with it: {WRITER} is gone" if holder is None else ""
            raise DirectoryTakenOver(
                f"{self._path.parent} was taken over by {by or _named(holder)}; this process stops "
                "writing to it, and what it had written by then is intact"
            )
        touch(self._path)

    def release(self) -> None:
        """Leave the directory to others."""
        with suppress(RecordError):
            holder = _read(self._path)
            if holder is not None and holder.id == self._writer.id:
                remove(self._path)


def refuse_other_writer(folder: Path) -> None:
    """Raise RecordError where another process seems to be writing to a run directory.

    One of this process does not count: it finds out at its next commit. Where nobody can see
    whether the process lives, since it is on another machine, this waits for what it does: a job
    that was killed and is started anew on another node goes on by itself.
    """
    path = folder / WRITER
    before = None
    while (gone := _has_ended(path)) is None:
        silent = _silent_seconds(path)
        if silent >= SILENT_SECONDS:
            return
        if before is not None and silent < before:
            break  # it has shown life
        if before is None:
            warnings.warn(
                f"{folder} was written to {silent:.0f} s ago by {_named(_holder(path))}; waiting "
                f"{SILENT_SECONDS - silent:.0f} s to see whether that has ended",
                RecordWarning, stacklevel=2,
            )  # fmt: skip
        before = silent
        time.sleep(_POLL)
    if not gone:
        raise RecordError(
            f"{folder} is being written by {_named(_holder(path))}: end that first, or choose "
            "another directory"
        )


def _has_ended(path: Path) -> bool | None:
    """Return whether the directory is free; None where nobody can tell."""
    if not path.exists():
        return True
    try:
        holder = _read(path)
    except RecordError:  # damaged
        return None
    return holder is None or holder.is_this_process or holder.is_gone()


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
        raise RecordError(f"{path} does not say who writes to the run: {error}") from error


def _silent_seconds(path: Path) -> float:
    """Return how long ago a file was touched, by the clock of the file system that it is on."""
    probe = path.with_name(f".{uuid4().hex}{TEMPORARY}")
    try:
        then = path.stat().st_mtime
        probe.touch()
        try:
            return max(0.0, probe.stat().st_mtime - then)
        finally:
            probe.unlink()
    except FileNotFoundError:  # it has been released in the meantime
        return SILENT_SECONDS
    except OSError as error:
        raise RecordError(f"{path.parent} cannot be used: {error.strerror or error}") from error


def _named(writer: Writer | None) -> str:
    if writer is None:
        return "a process that does not say who it is"
    return f"process {writer.pid} on {writer.host.partition(' ')[0]}"


def _host() -> str:
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return " ".join(parts)


def _born(pid: int) -> int | None:
    """Return when a process was started, in ticks since the boot; None where none runs, or the
    system does not tell.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(rest[18])
