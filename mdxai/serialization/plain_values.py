"""Frozen values ↔ plain JSON, by the types that their classes state.

`as_plain` turns a dataclass and all that it holds into what JSON can say; `from_plain` makes it
again. Numbers that are not finite become text ("nan", "inf"), so that nothing is lost.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdxai.serialization.encoding import StateError


def as_plain(value: Any) -> Any:  # noqa: PLR0911 (a case a line)
    """Return a value as plain JSON; dataclasses become mappings of their fields."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return as_plain(value.value)
    if isinstance(value, np.ndarray | np.generic):
        return as_plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): as_plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(entry) for entry in value]
    if isinstance(value, frozenset):
        return sorted(as_plain(entry) for entry in value)
    return value


def from_plain[T](kind: type[T], plain: Any) -> T:
    """Return the dataclass that `as_plain` has made plain.

    Fields that are missing take their defaults.

    Raises:
        StateError: for what is not the plain form of such a value.
    """
    try:
        made = _made(kind, plain)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise StateError(f"not a stored {kind.__name__}: {error}") from error
    return typing.cast(T, made)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _made(hint: Any, plain: Any) -> Any:  # noqa: PLR0911 (a case a line)
    origin, of = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (one for one in of if one is not type(None))
        return None if plain is None else _made(inner, plain)
    if origin in (np.ndarray, NDArray):  # an alias of its own in newer NumPy
        return np.array(plain, dtype=typing.get_args(of[1])[0] if origin is np.ndarray else of[0])
    if origin is tuple:
        kinds = [of[0]] * len(plain) if of[-1] is Ellipsis else of
        return tuple(_made(one, entry) for one, entry in zip(kinds, plain, strict=True))
    if origin is frozenset:
        return frozenset(plain)
    if is_dataclass(hint):
        known = _hints(typing.cast(type, hint))
        unknown = sorted(plain.keys() - known.keys())
        if unknown:
            raise ValueError(f"unknown entries {', '.join(unknown)}")
        given = {f.name: _made(known[f.name], plain[f.name])
                 for f in fields(hint) if f.name in plain}  # fmt: skip
        return typing.cast(Any, hint)(**given)
    if isinstance(hint, type) and (issubclass(hint, Enum) or hint in (float, int, str, bool)):
        return hint(plain)
    return plain
