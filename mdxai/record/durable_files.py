"""Files that appear complete or not at all, and stay when the power goes."""

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
    """A run directory that can be used, though not everything in it is whole."""


class FileSystem:
    """What the record asks of the operating system. Tests put faults in its place."""

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
        """Give a file a name that no other has yet; where there are no links, nearly at once."""
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
    """A new file of a folder. It has a temporary name until `settle`; leaving discards it.

    It counts and hashes what is written, so that the name can carry the hash.

    Raises:
        OSError: from every method; no half-written file is left.
    """

    closed = False  # asked for by pyarrow, which writes to anything that looks like a file

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hash = hashlib.sha256()
        self._temporary: Path | None = folder / f".{uuid4().hex}{TEMPORARY}"
        self._descriptor: int | None = system.create(self._temporary)
        self.size = 0

    @property
    def digest(self) -> str:
        """SHA-256 of what has been written, hexadecimal."""
        return self._hash.hexdigest()

    def write(self, content: Any) -> int:
        """Write all of `content`, however many calls that takes."""
        assert self._descriptor is not None
        left = memoryview(content).cast("B")
        total = left.nbytes
        self._hash.update(left)
        while left.nbytes:
            left = left[system.write(self._descriptor, left) :]
        self.size += total
        return total

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """Nothing is held back."""

    def settle(self, name: str, *, new: bool = False) -> Path:
        """Give the file its name, durably; with `new`, a FileExistsError where it is taken."""
        assert self._descriptor is not None
        assert self._temporary is not None
        path = self._folder / name
        system.sync(self._descriptor)
        descriptor, self._descriptor = self._descriptor, None
        system.close(descriptor)
        if new:
            system.link(self._temporary, path)
            self._temporary.unlink(missing_ok=True)
        else:
            system.rename(self._temporary, path)
        self._temporary = None
        system.sync_folder(self._folder)
        return path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
        self._descriptor = self._temporary = None


def write_file(path: Path, content: bytes, *, new: bool = False) -> None:
    """Make `path` appear with `content`, complete and durable, or leave what was there.

    Args:
        path: of the file.
        content: all of it.
        new: whether a file that is there is an error.

    Raises:
        FileExistsError: with `new`, where there is one.
        RecordError: when the file system refuses.
    """
    try:
        with DurableFile(path.parent) as file:
            file.write(content)
            file.settle(path.name, new=new)
    except FileExistsError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> RecordError:
    """Return the error that says what failed, what is safe and how to go on."""
    return RecordError(
        f"cannot write {path}: {error.strerror or error}. What was written before is intact: "
        "make room or restore access, then resume the run from its last checkpoint"
    )


@contextmanager
def refusing_as_unwritable(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into a RecordError that names `path`."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def make_folder(path: Path) -> None:
    """Make a directory, and those above it; one that is there is fine.

    Raises:
        OSError: when the file system refuses.
    """
    system.make_folder(path)


def copy_file(source: Path, folder: Path) -> None:
    """Copy a file into a folder, durably and in pieces.

    Raises:
        OSError: when it cannot be read or written.
    """
    with source.open("rb") as origin, DurableFile(folder) as copy:
        while chunk := origin.read(CHUNK):
            copy.write(chunk)
        copy.settle(source.name)


def read_file(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        FileNotFoundError: where there is none.
        RecordError: when it cannot be read.
    """
    try:
        return system.read(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror or error}") from error


def remove(path: Path) -> None:
    """Remove a file; one that is gone already is fine.

    Raises:
        RecordError: when the file system refuses.
    """
    try:
        system.remove(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_write(path, error) from error


def put_aside(path: Path, into: Path | None = None) -> Path:
    """Move a file to where no reader takes it for a part of the record; return its new path.

    It gets the ending `ORPHAN`, with a number where another file has that name already; what has
    the same content is the same file, and of verdicts the last one is kept.

    Args:
        path: the file.
        into: a folder that it goes to under its own name instead.

    Raises:
        RecordError: when the file system refuses.
    """
    aside = _free_name(path) if into is None else into / path.name
    try:
        system.rename(path, aside)
        for folder in {path.parent, aside.parent}:
            system.sync_folder(folder)
    except OSError as error:
        raise cannot_write(aside, error) from error
    return aside


def _free_name(path: Path) -> Path:
    aside, number = path.with_name(path.name + ORPHAN), 1
    while aside.exists() and path.suffix != ".json" and hash_of(aside) != hash_of(path):
        number += 1
        aside = path.with_name(f"{path.name}.{number}{ORPHAN}")
    return aside


def touch(path: Path) -> None:
    """Set the time of a file to now; one that is gone is fine.

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
    """Return the SHA-256 of a file, hexadecimal, read in pieces.

    Raises:
        OSError: when it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
