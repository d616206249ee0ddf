"""What teaching a model has come to, round by round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdxai.forecast import Forecast, LifeTest
from mdxai.forecast.life_test_result import table_text
from mdxai.forecast.quantity_text import time_interval_text
from mdxai.forecast.survival_model import Interval, mean_time_of, rate_of
from mdxai.serialization import as_json

HEADINGS = (
    "round", "labels", "forces/meV Å⁻¹", "energy/meV", "weak spots", "lowest/eV",
    "foretold", "observed",
)  # fmt: skip


@dataclass(frozen=True)
class TeachingRound:
    """A model as it was given, or after one round of teaching.

    Attributes:
        number: 0 for the model as it was given.
        folder: of the calculator.
        labels: that it was taught with.
        errors: of its card: on the test split of its data, and on labels held out.
        forecast: of the run that was asked about.
        observed: replicas at that temperature; None where none were made.
    """

    number: int
    folder: Path
    labels: int
    errors: dict[str, Any]
    forecast: Forecast
    observed: LifeTest | None = None

    @property
    def force_error(self) -> float:
        """Mean absolute error of forces on the test split, meV/Å."""
        return float(self.errors["force_mae_mev_per_ang"])

    @property
    def barriers(self) -> tuple[float, ...]:
        """Of the weak spots, eV, the lowest first."""
        spots = self.forecast.weak_spots
        return () if spots is None else tuple(spot.barrier for spot in spots.spots)

    @property
    def seen(self) -> Interval | None:
        """Mean time to failure, ps, as replicas at the temperature showed it."""
        if self.observed is None:
            return None
        watched = self.observed.watched
        onsets, time = sum(w.onsets for w in watched), sum(w.time for w in watched)
        return mean_time_of(rate_of(onsets, time, self.forecast.confidence))

    @property
    def row(self) -> tuple[str, ...]:
        """Text under `HEADINGS`."""
        found, spots = self.forecast, self.forecast.weak_spots
        lowest = f"{self.barriers[0]:.2f}" if self.barriers else ""
        if spots is not None and not lowest:
            lowest = f"above {spots.ceiling:g}"
        energy = float(self.errors["energy_mae_mev"])
        return (
            str(self.number), str(self.labels), f"{self.force_error:.1f}",
            f"{energy:.1f}", "" if spots is None else str(len(spots)), lowest,
            time_interval_text(found.mean_time_to_failure),
            "" if self.seen is None else time_interval_text(self.seen),
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        plain: dict[str, Any] = as_json({
            "round": self.number, "folder": str(self.folder), "labels": self.labels,
            "errors": self.errors, "barriers_eV": list(self.barriers),
            "survival": self.forecast.survival.as_dict(),
            "mean_time_to_failure_ps": self.forecast.mean_time_to_failure.as_dict(),
            "observed_mean_time_to_failure_ps": None if self.seen is None
            else self.seen.as_dict(),
            "sentence": self.forecast.sentence,
        })  # fmt: skip
        return plain


@dataclass(frozen=True)
class Teaching:
    """What teaching a model has come to.

    Attributes:
        rounds: the model as it was given, then one after each round.
        tolerance: share by which the test error may grow.
        reference: source of the labels, in words. asked_for: number of frames that it was asked
            to label.
        minutes: that it took.
        stopped: why it ended.
        asked: file of frames that wait for labels; None where none do.
        folder: of the calculator that came of it; None while frames wait.
    """

    rounds: tuple[TeachingRound, ...]
    tolerance: float
    reference: str
    asked_for: int
    minutes: float
    stopped: str
    asked: Path | None = None
    folder: Path | None = None

    @property
    def best(self) -> TeachingRound:
        """The round whose model lasts longest, of those that kept their accuracy."""
        return best_of(self.rounds, self.tolerance)

    @property
    def gain(self) -> float:
        """How many times longer the best model is foretold to last than the one given."""
        return time_of(self.best) / time_of(self.rounds[0])

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        plain: dict[str, Any] = as_json({
            "reference": self.reference, "asked_for": self.asked_for, "minutes": self.minutes,
            "stopped": self.stopped, "tolerance": self.tolerance,
            "rounds": [one.as_dict() for one in self.rounds], "best": self.best.number,
            "gain": self.gain, "asked": None if self.asked is None else str(self.asked),
            "out": None if self.folder is None else str(self.folder),
        })  # fmt: skip
        return plain

    def __str__(self) -> str:
        table = table_text(HEADINGS, [one.row for one in self.rounds])
        return "\n".join([self.rounds[-1].forecast.sentence, "", table, "", self.stopped])


def best_of(rounds: Sequence[TeachingRound], tolerance: float) -> TeachingRound:
    """Return the round whose model is foretold to last longest, of those with a test error of at
    most 1 + `tolerance` times the first; of equal ones the last.
    """
    limit = (1 + tolerance) * rounds[0].force_error
    accurate = [one for one in rounds if one.force_error <= limit] or [rounds[0]]
    return max(reversed(accurate), key=time_of)


def time_of(one: TeachingRound) -> float:
    """Return the mean time to failure that is foretold, ps; where no estimate is, what is sure."""
    mean = one.forecast.mean_time_to_failure
    return mean.value if not math.isnan(mean.value) else mean.low
