"""What a calculator reads besides geometry (total charge, spin, …) ↔ plain data of a record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from mdxai.frame import NO_INPUTS, CalculatorInputs

OWN = frozenset({"step", "time_fs"})  # entries of `info` that say when, not what
_ARRAY = "array"  # the only key but "dtype" of an array's entry


def plain_inputs(inputs: CalculatorInputs) -> dict[str, Any]:
    """Return inputs as mappings, lists, numbers and text; empty where there are none."""
    info = {str(k): _plain(v) for k, v in inputs.info.items() if k not in OWN and v is not None}
    arrays = {"charges": inputs.charges, "magnetic_moments": inputs.magnetic_moments}
    plain: dict[str, Any] = {"info": info} if info else {}
    return plain | {name: v.tolist() for name, v in arrays.items() if v is not None}


def inputs_of(plain: Mapping[str, Any]) -> CalculatorInputs:
    """Return the inputs that `plain_inputs` described."""
    if not plain:
        return NO_INPUTS
    info = {name: _value(entry) for name, entry in plain.get("info", {}).items()}
    arrays = [plain.get("charges"), plain.get("magnetic_moments")]
    charges, moments = (None if a is None else np.array(a, dtype=np.float64) for a in arrays)
    return CalculatorInputs(info, charges, moments)


def inputs_text(inputs: CalculatorInputs) -> str | None:
    """Return inputs as JSON text, of the same bytes for the same inputs; None without any."""
    plain = plain_inputs(inputs)
    return json.dumps(plain, ensure_ascii=False, sort_keys=True) if plain else None


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {_ARRAY: value.tolist(), "dtype": value.dtype.str}
    if isinstance(value, np.generic):
        return value.item()
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _value(entry: Any) -> Any:
    if isinstance(entry, Mapping):
        return np.array(entry[_ARRAY], dtype=entry["dtype"])
    return [_value(part) for part in entry] if isinstance(entry, list) else entry
