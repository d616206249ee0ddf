"""Plain data ↔ bytes and JSON.

`encode` turns mappings with string keys, lists, plain values and NumPy arrays into bytes, exactly
and without pickle; `decode` reverses it. `pack` is the first half of `encode`: it copies now what
`Packed.to_bytes` writes later. `as_json` turns values into what JSON can say.

The bytes are an .npz of two arrays: "tree", JSON text in which each array is replaced by where it
lies, and "data", all arrays one after the other. The comment at the end of the file is the SHA-256
of all before it, so every flipped bit is found.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mdxai.errors import MdxaiError

_DIGITS = 64
_SAFE_INTEGER = 1 << 62  # larger ones would meet Python's limit on decimal digits
_BROKEN = (
    ValueError, KeyError, TypeError, IndexError, OSError, EOFError, RecursionError, MemoryError,
    OverflowError, AttributeError, NotImplementedError, zipfile.BadZipFile, struct.error,
)  # fmt: skip


class StateError(MdxaiError, ValueError):
    """A state that cannot be stored, or does not fit the object it is meant for."""


def as_json(value: Any) -> Any:
    """Return a value as plain JSON: keys are text, NumPy numbers plain, NaN and infinity null."""
    if isinstance(value, float):  # np.float64 too
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): as_json(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return as_json(value.tolist())
    if isinstance(value, list | tuple):
        return [as_json(entry) for entry in value]
    return value


@dataclass(frozen=True, slots=True)
class Packed:
    """Plain data, copied, on their way to bytes. Packed data may be part of other plain data.

    tree: JSON values. data: the arrays' bytes. size: their sum.
    """

    tree: Any
    data: tuple[bytes, ...]
    size: int

    def to_bytes(self) -> bytes:
        """Return the bytes that `decode` reads; equal data give equal bytes."""
        text = json.dumps(self.tree, ensure_ascii=True, allow_nan=False).encode()
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name, content in (("tree", text), ("data", b"".join(self.data))):
                info = zipfile.ZipInfo(f"{name}.npy")  # of a fixed date: equal data, equal bytes
                with archive.open(info, "w", force_zip64=True) as entry:
                    array = np.frombuffer(content, dtype=np.uint8)
                    np.lib.format.write_array(entry, array, allow_pickle=False)
            archive.comment = b"0" * _DIGITS
        content = stream.getvalue()[:-_DIGITS]
        return content + hashlib.sha256(content).hexdigest().encode()


def pack(value: Any, name: str = "state") -> Packed:
    """Return a copy, taken now, of nested mappings, lists, plain values and NumPy arrays.

    Raises:
        StateError: for what cannot be stored exactly; the message begins with `name`.
    """
    packing = _Packing()
    tree = packing.pack(value, name)
    return Packed(tree, tuple(packing.data), packing.size)


def encode(value: Any) -> bytes:
    """Return plain data as bytes, exactly.

    Raises:
        StateError: naming what cannot be stored exactly.
    """
    return pack(value).to_bytes()


def decode(content: bytes) -> Any:
    """Return the plain data that were encoded.

    Raises:
        StateError: for bytes that are not whole.
    """
    body, digest = content[:-_DIGITS], content[-_DIGITS:]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise StateError("its SHA-256 is not the one it ends with")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            tree, data = json.loads(archive["tree"].tobytes()), archive["data"].tobytes()
        return _unpacked(tree, data, 0)
    except _BROKEN as error:
        raise StateError(f"its content is damaged ({error})") from error


class _Packing:
    """One walk over plain data."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.size = 0

    def pack(self, value: Any, where: str) -> Any:  # noqa: PLR0911 (a case a line)
        if isinstance(value, np.ndarray | np.generic):
            return self._array(value, where)
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int):
            return int(value) if -_SAFE_INTEGER < value < _SAFE_INTEGER else {"int": hex(value)}
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}
        if isinstance(value, Mapping):
            if not all(isinstance(key, str) for key in value):
                raise StateError(
                    f"{where} has keys that are not text, which no checkpoint can hold"
                )
            return {"dict": {key: self.pack(v, f"{where}.{key}") for key, v in value.items()}}
        if isinstance(value, list | tuple):
            return [self.pack(entry, f"{where}[{n}]") for n, entry in enumerate(value)]
        if isinstance(value, Packed):
            start = self.size
            self.data += value.data
            self.size += value.size
            return {"packed": [start, value.tree]}
        raise StateError(f"{where} is a {type(value).__name__}, which no checkpoint can hold")

    def _array(self, value: Any, where: str) -> dict[str, Any]:
        array = np.asarray(value)
        if array.dtype.hasobject or array.dtype.names is not None:
            raise StateError(
                f"{where} is an array of {'objects' if array.dtype.hasobject else 'records'}, "
                "which no checkpoint can hold"
            )
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        order: Literal["C", "F"] = "F" if fortran else "C"
        start, content = self.size, array.tobytes(order)
        self.data.append(content)
        self.size += len(content)
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        return {kind: [array.dtype.str, list(array.shape), order, start]}


def _unpacked(value: Any, data: bytes, offset: int) -> Any:
    """Return what a tree holds; offset: where its arrays begin in the data."""
    if isinstance(value, list):
        return [_unpacked(entry, data, offset) for entry in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "dict":
        return {key: _unpacked(entry, data, offset) for key, entry in content.items()}
    if kind == "packed":
        return _unpacked(content[1], data, offset + content[0])
    if kind in ("int", "float"):
        return int(content, 16) if kind == "int" else _float(content)
    dtype, shape, order, start = content
    array = np.ndarray(shape, np.dtype(dtype), data, offset + start, order=order).copy(order="K")
    return array if kind == "array" else array[()]


def _float(hexadecimal: str) -> float:
    value: float = struct.unpack(">d", bytes.fromhex(hexadecimal))[0]
    return value
