"""NumPy arrays and texts ↔ Arrow, without pandas.

pyarrow's own conversions import pandas, which takes half a second and 40 MB and blocks the
interpreter. Monitoring needs nothing of it, so what a running simulation writes goes through here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mdxai.frame import Bools


def arrow_array(values: NDArray[Any], missing: Bools | None = None) -> pa.Array:
    """Return numbers or bools (n,) as an Arrow array, null where `missing` (n,).

    Numbers that lie in sequence are not copied: they must not change while the array lives.
    """
    nulls = None if missing is None else pa.py_buffer(_bits(~missing))
    bits = values.dtype == np.bool_
    content = _bits(values) if bits else np.ascontiguousarray(values)
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [nulls, pa.py_buffer(content)])


def arrow_texts(texts: Sequence[str | None]) -> pa.StringArray:
    """Return texts as an Arrow array; None becomes null.

    Raises:
        pa.ArrowCapacityError: for more than 2 GiB of text.
    """
    encoded = [b"" if text is None else text.encode() for text in texts]
    missing = np.array([text is None for text in texts], dtype=bool)
    ends = np.cumsum([0, *map(len, encoded)])
    if ends[-1] > np.iinfo(np.int32).max:
        raise pa.ArrowCapacityError(f"{ends[-1]} bytes of text do not fit into one array")
    nulls = _bits(~missing) if missing.any() else None
    buffers = [nulls, ends.astype(np.int32), b"".join(encoded)]
    return pa.Array.from_buffers(
        pa.string(), len(texts), [None if b is None else pa.py_buffer(b) for b in buffers]
    )


def integers_in(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return a column of int64 without nulls as a NumPy array; read-only."""
    array = column.combine_chunks()
    if not len(array):
        return np.empty(0, dtype=np.int64)
    return np.frombuffer(array.buffers()[1], np.int64, len(array), 8 * array.offset)


def _bits(flags: Bools) -> NDArray[np.uint8]:
    return np.packbits(flags, bitorder="little")
