"""Thresholds of early warnings and what happened to the reference runs behind them, as TOML."""

from __future__ import annotations

import hashlib
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import tomli_w

from mdxai.early_warning.profiles import ProfileSettings
from mdxai.errors import MdxaiError
from mdxai.statistics import StatisticsError, make_detector

SCHEMA = 1
SHIPPED = "shipped"
_SHIPPED_FILE = Path(__file__).with_name("calibration.toml")


class CalibrationError(MdxaiError, ValueError):
    """A calibration cannot be read, made, or used in the requested way."""


@dataclass(frozen=True, slots=True)
class History:
    """What happened to the reference runs in which an alarm was raised.

    Attributes:
        n_runs: runs in which it was raised.
        n_unstable: how many of these became unstable afterwards.
        lower_fs, median_fs, upper_fs: quartiles of the time from the alarm to the onset in the
            unstable ones; NaN if there are none.
    """

    n_runs: int
    n_unstable: int
    lower_fs: float = math.nan
    median_fs: float = math.nan
    upper_fs: float = math.nan

    def __str__(self) -> str:
        if not self.n_runs:
            return "it came in none of the reference runs"
        text = f"of {self.n_runs} reference runs in which this came {self.n_unstable} broke"
        if not self.n_unstable:
            return text
        return (
            f"{text}, half of these {self.lower_fs:.0f} to {self.upper_fs:.0f} fs later (median "
            f"{self.median_fs:.0f} fs)"
        )


@dataclass(frozen=True, slots=True)
class Level:
    """The threshold of a watch at one rate of false alarms (of all watches together)."""

    alarms_per_ns: float
    threshold: float
    history: History


@dataclass(frozen=True, slots=True)
class Watch:
    """One series watched by one detector.

    Attributes:
        series: a principle, "profile_rms", "profile_peak", or a plain predictor.
        detector: name, as for `statistics.make_detector`.
        every_fs: time between the values that the detector sees.
        parameters: of the detector.
        location, scale: usual level and spread; NaN if they are learnt from each run.
        levels: one threshold per rate.
    """

    series: str
    detector: str
    every_fs: float
    parameters: Mapping[str, Any] = field(default_factory=dict)
    location: float = math.nan
    scale: float = math.nan
    levels: tuple[Level, ...] = ()

    @property
    def level(self) -> Level:
        """The first level: the one of the lowest rate, or the one chosen by `Calibration.at`."""
        return self.levels[0]


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate of false alarms and what the reference runs say about it.

    Attributes:
        alarms_per_ns: the requested rate.
        n_alarms: alarms of all watches together in stable reference runs.
        watched_ns: total time watched in these runs, each up to its first alarm.
        upper_per_ns: 95 % upper bound of the rate, for a Poisson process.
    """

    alarms_per_ns: float
    n_alarms: int
    watched_ns: float
    upper_per_ns: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Which series are watched, how, and when each warns.

    Attributes:
        watches: what is watched.
        rates: the rates that have thresholds, ascending.
        baseline_fs: length of the beginning of a run from which level and spread are learnt.
        profile: how profiles are compared.
        made_from: a description of the reference runs.

    Raises:
        CalibrationError: when levels do not match the rates, or a number is out of range.
    """

    watches: tuple[Watch, ...]
    rates: tuple[Rate, ...]
    baseline_fs: float
    profile: ProfileSettings = field(default_factory=ProfileSettings)
    made_from: str = ""

    def __post_init__(self) -> None:
        rates = [rate.alarms_per_ns for rate in self.rates]
        if not (rates and rates == sorted(set(rates)) and rates[0] > 0 and self.baseline_fs > 0):
            raise CalibrationError(
                f"expected ascending rates > 0 and baseline_fs > 0, got {rates} and "
                f"{self.baseline_fs}"
            )
        for watch in self.watches:
            _require_sound(watch, rates)

    def at(self, alarms_per_ns: float) -> Calibration:
        """Return the calibration for its highest rate that does not exceed the requested one.

        Raises:
            CalibrationError: for a rate below all that the reference runs support.
        """
        below = [k for k, r in enumerate(self.rates) if r.alarms_per_ns <= alarms_per_ns]
        if not below:
            known = ", ".join(f"{rate.alarms_per_ns:g}" for rate in self.rates)
            raise CalibrationError(
                f"{alarms_per_ns:g} false alarms per ns is less than this calibration supports: "
                f"it has thresholds for {known}. A lower rate needs longer stable reference runs"
            )
        k = below[-1]
        watches = tuple(replace(watch, levels=(watch.levels[k],)) for watch in self.watches)
        return replace(self, watches=watches, rates=(self.rates[k],))

    def summary(self) -> dict[str, Any]:
        """Return what run.toml says about it."""
        return {
            "alarms_per_ns": self.rates[0].alarms_per_ns,
            "watched": [f"{watch.series}, {watch.detector}" for watch in self.watches],
            "made_from": self.made_from,
            "sha256": hashlib.sha256(self.text().encode()).hexdigest(),
        }

    def text(self) -> str:
        """Return its content as TOML."""
        content: dict[str, Any] = {
            "schema": SCHEMA, "baseline_fs": self.baseline_fs, "made_from": self.made_from,
            "profile": asdict(self.profile), "rate": [asdict(rate) for rate in self.rates],
            "watch": [],
        }  # fmt: skip
        for watch in self.watches:
            plain = asdict(watch)
            plain["parameters"] = dict(watch.parameters)
            plain["level"] = [_flat(level) for level in watch.levels]
            del plain["levels"]
            content["watch"].append(plain)
        return tomli_w.dumps(content)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as TOML.

        Raises:
            CalibrationError: when the file cannot be written.
        """
        try:
            Path(path).write_text(self.text(), encoding="utf-8")
        except OSError as error:
            raise CalibrationError(f"{path} cannot be written: {error}") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a calibration.

        Args:
            path: TOML file; "shipped" is the one that comes with mdxai, made from the runs of
                `runs/stability`.

        Raises:
            CalibrationError: when the file cannot be read or does not contain a calibration.
        """
        try:
            file = _SHIPPED_FILE if str(path) == SHIPPED else Path(path)
            content = tomllib.loads(file.read_text(encoding="utf-8"))
            if content.get("schema") != SCHEMA:
                raise CalibrationError(f"expected schema {SCHEMA}, got {content.get('schema')!r}")
            return cls(
                tuple(_watch(entry) for entry in content["watch"]),
                tuple(Rate(**entry) for entry in content["rate"]),
                float(content["baseline_fs"]),
                ProfileSettings(**content["profile"]),
                str(content["made_from"]),
            )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise CalibrationError(
                f"{path} is not a calibration of early warnings: {error}"
            ) from error


def _flat(level: Level) -> dict[str, Any]:
    plain = asdict(level)
    history: dict[str, Any] = plain.pop("history")
    return plain | history


def _watch(entry: Mapping[str, Any]) -> Watch:
    names = {f.name for f in fields(History)}
    levels = tuple(
        Level(
            float(e["alarms_per_ns"]), float(e["threshold"]),
            History(**{name: e[name] for name in names}),
        )
        for e in entry["level"]
    )  # fmt: skip
    rest = {key: value for key, value in entry.items() if key != "level"}
    return Watch(**rest, levels=levels)


def _require_sound(watch: Watch, rates: list[float]) -> None:
    where = f"{watch.series} under {watch.detector}"
    if [level.alarms_per_ns for level in watch.levels] != rates:
        raise CalibrationError(f"{where}: expected a level for each of the rates {rates}")
    if not (watch.every_fs > 0 and all(level.threshold > 0 for level in watch.levels)):
        raise CalibrationError(f"{where}: every_fs and thresholds must be > 0")
    try:
        make_detector(watch.detector, 1, watch.parameters)
    except StatisticsError as error:
        raise CalibrationError(f"{where}: {error}") from error


def load_calibration(
    given: Calibration | str | os.PathLike[str], alarms_per_ns: float | None = None
) -> Calibration:
    """Return a calibration, reading it from a file if necessary.

    Args:
        given: calibration, TOML file or "shipped".
        alarms_per_ns: rate of false alarms; by default the lowest in the calibration.

    Raises:
        CalibrationError: for a file that is not a calibration, or a rate that it does not support.
    """
    found = given if isinstance(given, Calibration) else Calibration.load(given)
    return found.at(found.rates[0].alarms_per_ns if alarms_per_ns is None else alarms_per_ns)
