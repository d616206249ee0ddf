"""When a deviation counts: limits, patience and advice, from thresholds.toml or a user's file."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


class ThresholdError(ValueError):
    """A file of thresholds that makes no sense."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """When a deviation counts.

    A deviation that is not at or below `warn` makes a run suspect, one not at or below `unstable`
    makes it unstable, once it has lasted for `patience` fs. NaN is never at or below anything.
    Where `unstable` is infinite, only NaN makes a run unstable.
    """

    principle: str
    warn: float
    unstable: float
    patience: float
    advice: str


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ThresholdError(f"thresholds cannot be read from {path}: {error}") from error


def _shipped() -> tuple[tuple[Threshold, ...], ...]:
    content = _read(Path(__file__).with_suffix(".toml"))
    return tuple(
        tuple(Threshold(name, patience=entry.pop("patience", 0.0), **entry)
              for name, entry in content[kind].items())
        for kind in ("monitored", "probed")
    )  # fmt: skip


# What each number rests on is written in docs/thresholds.md.
THRESHOLDS, PROBE_THRESHOLDS = _shipped()


def load_thresholds(path: str | os.PathLike[str]) -> tuple[Threshold, ...]:
    """Return the shipped thresholds of monitored principles, changed by a user's file.

    Args:
        path: TOML with a table per principle and any of `warn`, `unstable` (in the principle's
            unit; `inf` for never), `patience` (fs) and `advice`, such as `[bond]` `unstable = 0.7`.

    Raises:
        ThresholdError: for a file that cannot be read, an unknown principle or entry, or numbers
            that make no sense.
    """
    changes = _read(Path(path))
    known = {t.principle: t for t in THRESHOLDS}
    unknown = sorted(changes.keys() - known.keys())
    if unknown:
        raise ThresholdError(
            f"{path} names {', '.join(unknown)}, which is no monitored principle; known are "
            f"{', '.join(sorted(known))}"
        )
    return tuple(
        _changed(threshold, changes.get(name, {}), path) for name, threshold in known.items()
    )


def _changed(
    threshold: Threshold, entries: Mapping[str, Any], path: str | os.PathLike[str]
) -> Threshold:
    where = f"{path}, [{threshold.principle}]"
    if not isinstance(entries, dict) or not entries.keys() <= _KINDS.keys():
        raise ThresholdError(f"{where}: expected any of {', '.join(_KINDS)}, got {entries!r}")
    for key, value in entries.items():
        if isinstance(value, bool) or not isinstance(value, _KINDS[key]):
            raise ThresholdError(f"{where}: {key} must be a number or text, got {value!r}")
    changed = replace(threshold, **entries)
    numbers = (changed.warn, changed.unstable, changed.patience)
    if any(math.isnan(n) or n < 0 for n in numbers) or changed.warn > changed.unstable:
        raise ThresholdError(
            f"{where}: expected 0 ≤ warn ≤ unstable and patience ≥ 0, got warn {changed.warn:g}, "
            f"unstable {changed.unstable:g}, patience {changed.patience:g}"
        )
    return changed


_KINDS: dict[str, type | tuple[type, ...]] = {
    "warn": (int, float), "unstable": (int, float), "patience": (int, float), "advice": str,
}  # fmt: skip
