"""Checkpoints: the state of a run at one step, stored exactly, without pickle.

A checkpoint is an .npz: one JSON text with references to arrays, and the arrays. The comment at
the end of the file is the SHA-256 of all before it, so every flipped bit is found.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mdxai.record.durable_files import RecordError, RecordWarning, read_file, write_file
from mdxai.record.parts import Part, list_parts

_NAME = re.compile(r"checkpoint-(\d{12})\.npz")
_DIGITS = 64
_TEXT = "state"
_SAFE_INTEGER = 1 << 62  # larger ones would meet Python's limit on decimal digits
_BROKEN = (
    ValueError, KeyError, TypeError, IndexError, OSError, EOFError, RecursionError, MemoryError,
    OverflowError, NotImplementedError, zipfile.BadZipFile, struct.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State of a run at one step.

    Attributes:
        step: MD step.
        state: what the monitor and its engine need to go on.
        header: content of run.toml.
        parts: names of the parts that hold the record up to this step, by kind.
        last: last recorded step by kind, for kinds that have one.
        n_events: number of events so far.
        path: the file, where it was read from one.
    """

    step: int
    state: Mapping[str, Any]
    header: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, list[str]] = field(default_factory=dict)
    last: Mapping[str, int] = field(default_factory=dict)
    n_events: int = 0
    path: Path | None = None


def checkpoint_path(folder: Path, step: int) -> Path:
    return folder / f"checkpoint-{step:012d}.npz"


def encode(value: Any) -> bytes:
    """Return nested mappings, lists, plain values and NumPy arrays as the bytes of a checkpoint.

    Raises:
        RecordError: naming what cannot be stored exactly.
    """
    arrays: list[np.ndarray[Any, Any]] = []
    text = json.dumps(_encoded(value, arrays, "state"), ensure_ascii=True, allow_nan=False)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        entries = {_TEXT: np.frombuffer(text.encode(), dtype=np.uint8)}
        entries |= {str(n): array for n, array in enumerate(arrays)}
        for name, array in entries.items():
            info = zipfile.ZipInfo(f"{name}.npy")  # of a fixed date: equal states, equal bytes
            with archive.open(info, "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
        archive.comment = b"0" * _DIGITS
    content = stream.getvalue()[:-_DIGITS]
    return content + hashlib.sha256(content).hexdigest().encode()


def decode(content: bytes) -> Any:
    """Return what `encode` was given.

    Raises:
        RecordError: for bytes that are not whole.
    """
    body, digest = content[:-_DIGITS], content[-_DIGITS:]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise RecordError("its SHA-256 is not the one it ends with")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return _decoded(json.loads(archive[_TEXT].tobytes()), archive)
    except _BROKEN as error:
        raise RecordError(f"its content makes no sense ({error})") from error


def _encoded(value: Any, arrays: list[np.ndarray[Any, Any]], where: str) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise RecordError(f"{where} is an array of objects, which no checkpoint can hold")
        arrays.append(array.copy(order="K"))
        return {"array" if isinstance(value, np.ndarray) else "scalar": len(arrays) - 1}
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value) if -_SAFE_INTEGER < value < _SAFE_INTEGER else {"int": hex(value)}
    if isinstance(value, float):
        return value if np.isfinite(value) else {"float": struct.pack(">d", value).hex()}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise RecordError(f"{where} has keys that are no strings, which no checkpoint can hold")
        entries = {key: _encoded(v, arrays, f"{where}.{key}") for key, v in value.items()}
        return {"dict": entries}
    if isinstance(value, list | tuple):
        return [_encoded(entry, arrays, f"{where}[{n}]") for n, entry in enumerate(value)]
    raise RecordError(f"{where} is a {type(value).__name__}, which no checkpoint can hold")


def _decoded(value: Any, archive: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(entry, archive) for entry in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "dict":
        return {key: _decoded(entry, archive) for key, entry in content.items()}
    if kind == "int":
        return int(content, 16)
    if kind == "float":
        return struct.unpack(">d", bytes.fromhex(content))[0]
    array = archive[str(int(content))]
    return array if kind == "array" else array[()]


def snapshot(state: Mapping[str, Any]) -> bytes:
    """Return the state as bytes, taken now: what changes later does not reach the checkpoint."""
    return encode(state)


def write_checkpoint(folder: Path, checkpoint: Checkpoint, state: bytes | None = None) -> Path:
    """Write a checkpoint into a run directory; return its path.

    Args:
        folder: run directory.
        checkpoint: what to write; all parts it names must be there already.
        state: its state as `snapshot` gave it, where that was done before.

    Raises:
        RecordError: when the state cannot be stored, or the file system refuses.
    """
    taken = snapshot(checkpoint.state) if state is None else state
    content = {
        "step": checkpoint.step,
        "header": _lists(checkpoint.header),
        "parts": {kind: list(names) for kind, names in checkpoint.parts.items()},
        "last": dict(checkpoint.last),
        "n_events": checkpoint.n_events,
        "state": np.frombuffer(taken, dtype=np.uint8),
    }
    path = checkpoint_path(folder, checkpoint.step)
    write_file(path, encode(content))
    return path


def _lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _lists(entry) for key, entry in value.items()}
    return [_lists(entry) for entry in value] if isinstance(value, list | tuple) else value


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read one checkpoint.

    Raises:
        RecordError: where there is none, or it is damaged.
    """
    path = Path(path)
    try:
        content = decode(read_file(path))
        checkpoint = Checkpoint(
            int(content["step"]), decode(content["state"].tobytes()), content["header"],
            {kind: list(names) for kind, names in content["parts"].items()},
            {kind: int(step) for kind, step in content["last"].items()},
            int(content["n_events"]), path,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise RecordError(f"there is no checkpoint {path}") from error
    except (RecordError, AttributeError, *_BROKEN) as error:
        raise RecordError(f"{path} is damaged: {error}") from error
    if path.name != checkpoint_path(path.parent, checkpoint.step).name:
        raise RecordError(f"{path} is damaged: it holds step {checkpoint.step}")
    return checkpoint


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the files of a run's checkpoints, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*.npz") if _NAME.fullmatch(path.name))


def latest_checkpoint(folder: Path | str) -> Checkpoint:
    """Return the newest checkpoint that is whole and whose parts are all there.

    Warns:
        RecordWarning: for each newer one that cannot be used, with the reason.

    Raises:
        RecordError: when there is none.
    """
    folder = Path(folder)
    for path in reversed(list_checkpoints(folder)):
        try:
            checkpoint = read_checkpoint(path)
            refuse_missing_parts(folder, checkpoint)
        except RecordError as reason:
            warnings.warn(f"checkpoint skipped: {reason}", RecordWarning, stacklevel=2)
        else:
            return checkpoint
    raise RecordError(f"{folder} has no checkpoint that a run could be resumed from")


def refuse_missing_parts(folder: Path, checkpoint: Checkpoint) -> None:
    """Check that every part which a checkpoint names is there, merged or not.

    Trajectory parts before the first that is left may have been dropped, where only the last
    frames are retained.

    Raises:
        RecordError: naming a part that is missing.
    """
    for kind, names in checkpoint.parts.items():
        present = list_parts(folder, kind)
        retained = kind == "trajectory" and "retain" in checkpoint.header.get("record", {})
        for name in names:
            part = Part.parse(folder / name)
            if part is None:
                raise RecordError(f"{checkpoint.path} is damaged: it names {name!r} as a part")
            dropped = retained and (not present or part.last <= present[0].last)
            if not dropped and not any(part == p or part.inside(p) for p in present):
                raise RecordError(
                    f"{folder / name} is missing, which checkpoint {checkpoint.step} builds on; "
                    f"`mdxai repair {folder}` keeps what is whole"
                )
