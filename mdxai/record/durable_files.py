"""Files that appear complete or not at all, and survive a loss of power."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from mdxai.errors import MdxaiError
from mdxai.record.layout import ORPHAN, TEMPORARY

CHUNK = 1 << 20


class RecordError(MdxaiError, ValueError):
    """A run directory that cannot be written or read as asked."""


class RecordWarning(UserWarning):
    """A run directory that can be used although something in it is damaged or missing."""


class FileSystem:
    """The record's calls to the operating system. Tests replace it to inject faults."""

    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def write(self, descriptor: int, content: memoryview) -> int:
        return os.write(descriptor, content)

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    def link(self, old: Path, new: Path) -> None:
        """Rename a file to a name that must be free.

        File systems without hard links get a check followed by a rename: nearly atomic.
        """
        try:
            os.link(old, new)
        except FileExistsError:
            raise
        except OSError:
            if new.exists():
                raise FileExistsError(new) from None
            self.rename(old, new)

    def remove(self, path: Path) -> None:
        path.unlink()

    def touch(self, path: Path) -> None:
        os.utime(path)

    def sync_folder(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def make_folder(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)


system = FileSystem()


class DurableFile:
    """A new file in a folder, under a temporary name until `finalize`.

    Leaving the `with` block without `finalize` deletes it. What is written is counted and hashed,
    so that the final name can carry the hash.

    Attributes:
        size: bytes written so far.
        closed: whether the file is finalized or deleted. pyarrow asks for it.

    Raises:
        OSError: from every method; no half-written file is left.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hash = hashlib.sha256()
        self._temporary = folder / f".{uuid4().hex}{TEMPORARY}"
        self._descriptor = system.create(self._temporary)
        self.size = 0
        self.closed = False

    @property
    def digest(self) -> str:
        """SHA-256 of what has been written, hexadecimal."""
        return self._hash.hexdigest()

    def write(self, content: Any) -> int:
        """Write all of `content`, in as many calls as that takes.

        Raises:
            ValueError: when the file is closed.
        """
        if self.closed:
            raise ValueError(f"{self._temporary} is closed already")
        left = memoryview(content).cast("B")
        total = left.nbytes
        self._hash.update(left)
        while left.nbytes:
            left = left[system.write(self._descriptor, left) :]
        self.size += total
        return total

    def tell(self) -> int:
        """Return how many bytes were written. pyarrow asks for it."""
        return self.size

    def flush(self) -> None:
        """Do nothing: `write` buffers nothing."""

    def finalize(self, name: str, *, new: bool = False) -> Path:
        """Give the file its final name, durably, and return its path.

        Raises:
            FileExistsError: with `new`, when a file has that name.
            ValueError: when the file is closed.
        """
        if self.closed:
            raise ValueError(f"{self._temporary} is closed already")
        path = self._folder / name
        system.sync(self._descriptor)
        self.closed = True
        system.close(self._descriptor)
        if new:
            system.link(self._temporary, path)
            self._temporary.unlink(missing_ok=True)
        else:
            system.rename(self._temporary, path)
        system.sync_folder(self._folder)
        return path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.closed:
            self.closed = True
            os.close(self._descriptor)
        self._temporary.unlink(missing_ok=True)  # gone already where it got its final name


def write_file(path: Path, content: bytes, *, new: bool = False) -> None:
    """Write a file completely and durably, or leave the one that was there unchanged.

    Args:
        path: of the file.
        content: all of it.
        new: refuse to replace a file.

    Raises:
        FileExistsError: with `new`, when the file exists.
        RecordError: when the file system refuses.
    """
    try:
        with DurableFile(path.parent) as file:
            file.write(content)
            file.finalize(path.name, new=new)
    except FileExistsError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> RecordError:
    """Return the error that says what failed, what is intact, and how to continue."""
    return RecordError(
        f"cannot write {path}: {error.strerror or error}. What was written before is intact: "
        "make room or restore access, then resume the run from its last checkpoint"
    )


@contextmanager
def as_record_error(path: Path) -> Iterator[None]:
    """Turn an OSError into a RecordError that says that `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def make_folder(path: Path) -> None:
    """Create a directory and its parents; an existing one is fine.

    Raises:
        OSError: when the file system refuses.
    """
    system.make_folder(path)


def copy_file(source: Path, folder: Path) -> None:
    """Copy a file into a folder, durably, a piece at a time.

    Raises:
        OSError: when it cannot be read or written.
    """
    with source.open("rb") as origin, DurableFile(folder) as copy:
        while chunk := origin.read(CHUNK):
            copy.write(chunk)
        copy.finalize(source.name)


def read_file(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        FileNotFoundError: when it does not exist.
        RecordError: when it cannot be read.
    """
    try:
        return system.read(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror or error}") from error


def remove(path: Path) -> None:
    """Delete a file; one that does not exist is fine.

    Raises:
        RecordError: when the file system refuses.
    """
    try:
        system.remove(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_write(path, error) from error


def supersede(path: Path, into: Path | None = None) -> Path:
    """Rename a file, so that readers ignore it; return its new path.

    The new name ends in `ORPHAN`. Where another file has that name, a number is added; a file of
    the same content is replaced, and of verdicts only the last is kept.

    Args:
        path: the file, or a folder with `into`.
        into: move it, under its own name, to this folder instead.

    Raises:
        RecordError: when the file system refuses.
    """
    superseded = _free_name(path) if into is None else into / path.name
    with as_record_error(superseded):
        system.rename(path, superseded)
        for folder in {path.parent, superseded.parent}:
            system.sync_folder(folder)
    return superseded


def _free_name(path: Path) -> Path:
    name, number = path.with_name(path.name + ORPHAN), 1
    while name.exists() and path.suffix != ".json" and hash_of(name) != hash_of(path):
        number += 1
        name = path.with_name(f"{path.name}.{number}{ORPHAN}")
    return name


def touch(path: Path) -> None:
    """Set the modification time of a file to now; one that does not exist is fine.

    Raises:
        RecordError: when the file system refuses.
    """
    try:
        system.touch(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_write(path, error) from error


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal; it is read a piece at a time.

    Raises:
        OSError: when it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
