"""Limits, patience and advice per principle, from thresholds.toml or a user's file."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mdxai.errors import MdxaiError
from mdxai.stability.outcomes import PHYSICS, Stability

OUTCOMES = ("unstable", "broken", "melted", "reacted")


class ThresholdError(MdxaiError, ValueError):
    """Thresholds cannot be read, contradict each other, or name an unknown principle."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """The limits of one principle's deviation.

    A deviation above `warn` makes a run suspect and one above `unstable`, the grave limit, makes it
    what `outcome` says, once it has lasted for `patience` fs. NaN counts as above every limit, and
    makes a run unstable even if `unstable` is infinite.

    Attributes:
        outcome: "unstable"; "broken" where the limit convicts the model rather than the run;
            "reacted" or "melted" for physics that may happen.
        shows: another principle, whose value a finding states too; none by default.

    Raises:
        ThresholdError: unless 0 ≤ warn ≤ unstable and patience ≥ 0, and for another outcome.
    """

    principle: str
    warn: float
    unstable: float
    patience: float
    advice: str
    outcome: str = "unstable"
    shows: str = ""

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ThresholdError(
                f"{self.principle}: outcome must be one of {', '.join(OUTCOMES)}, got "
                f"{self.outcome!r}"
            )
        numbers = (self.warn, self.unstable, self.patience)
        if any(math.isnan(n) or n < 0 for n in numbers) or self.warn > self.unstable:
            raise ThresholdError(
                f"{self.principle}: expected 0 ≤ warn ≤ unstable and patience ≥ 0, got warn "
                f"{self.warn:g}, unstable {self.unstable:g}, patience {self.patience:g}"
            )


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


class _Shipped(tuple[Threshold, ...]):
    """Thresholds that signatures and help show by their name."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "THRESHOLDS"


# docs/thresholds.md gives the reason for each number.
_of_runs, PROBE_THRESHOLDS = _shipped()
THRESHOLDS: tuple[Threshold, ...] = _Shipped(_of_runs)
# The first varies too much between sound models; the second is what `work` judges.
WITHOUT_LIMITS = {"species_ranking", "work_slope"}


def load_thresholds(path: str | os.PathLike[str]) -> tuple[Threshold, ...]:
    """Return the shipped thresholds of monitored and probed principles, with a file's changes.

    Args:
        path: TOML with one table per principle, such as `[bond]`, that sets any of `warn` and
            `unstable` (in the principle's unit; `inf` for never), `patience` (fs), `advice` and
            `outcome` ("unstable", "broken", "melted" or "reacted").

    Raises:
        ThresholdError: for a file that cannot be read, an unknown principle or entry, or limits
            that `Threshold` refuses.
    """
    changes = _read(Path(path))
    known = {t.principle: t for t in THRESHOLDS + PROBE_THRESHOLDS}
    unknown = sorted(changes.keys() - known.keys())
    if unknown:
        raise ThresholdError(
            f"{path} names unknown principles: {', '.join(unknown)}; known are "
            f"{', '.join(sorted(known))}"
        )
    return tuple(
        _changed(threshold, changes.get(name, {}), path) for name, threshold in known.items()
    )


def without_physics(thresholds: Sequence[Threshold]) -> tuple[Threshold, ...]:
    """Return thresholds by which a run that reacts or melts is unstable."""
    return tuple(
        replace(t, outcome="unstable") if Stability(t.outcome) in PHYSICS else t for t in thresholds
    )


def require_known(thresholds: Sequence[Threshold]) -> tuple[Threshold, ...]:
    """Return thresholds unchanged after checking them.

    Raises:
        ThresholdError: for anything but thresholds, an unknown principle, or two thresholds of one
            principle.
    """
    if isinstance(thresholds, str | os.PathLike) or not all(
        isinstance(threshold, Threshold) for threshold in thresholds
    ):
        raise ThresholdError(
            f"expected a sequence of Threshold, got {thresholds!r}; mdxai.load_thresholds reads a "
            "file"
        )
    known = {t.principle for t in THRESHOLDS + PROBE_THRESHOLDS} | WITHOUT_LIMITS
    names = [threshold.principle for threshold in thresholds]
    wrong = sorted({name for name in names if name not in known or names.count(name) > 1})
    if wrong:
        raise ThresholdError(
            f"expected one threshold per known principle, unknown or repeated: {', '.join(wrong)}; "
            f"known are {', '.join(sorted(known))}"
        )
    return tuple(thresholds)


def _changed(
    threshold: Threshold, entries: Mapping[str, Any], path: str | os.PathLike[str]
) -> Threshold:
    where = f"{path}, [{threshold.principle}]"
    if not isinstance(entries, dict) or not entries.keys() <= _KINDS.keys():
        raise ThresholdError(f"{where}: expected any of {', '.join(_KINDS)}, got {entries!r}")
    for key, value in entries.items():
        if isinstance(value, bool) or not isinstance(value, _KINDS[key]):
            raise ThresholdError(f"{where}: {key} must be a number or text, got {value!r}")
    try:
        return replace(threshold, **entries)
    except ThresholdError as error:
        raise ThresholdError(f"{path}: {error}") from error


_KINDS: dict[str, type | tuple[type, ...]] = {
    "warn": (int, float), "unstable": (int, float), "patience": (int, float), "advice": str,
    "outcome": str,
}  # fmt: skip
