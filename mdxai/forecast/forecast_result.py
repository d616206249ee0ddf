"""A forecast: what weak spots and a life test say together."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mdxai.errors import MdxaiError
from mdxai.forecast.combined_law import CombinedLaw, foretold_hazard, law_of_all
from mdxai.forecast.find_weak_spots import GUESSED_PREFACTOR
from mdxai.forecast.group_names import in_its_group
from mdxai.forecast.life_test_result import SEEN, LifeTest, rows_of, table_text
from mdxai.forecast.quantity_text import run_text, time_text
from mdxai.forecast.saddle import rate
from mdxai.forecast.survival_model import Interval, Watched, mean_time_of, survival_of
from mdxai.forecast.weak_spot import WeakSpot, WeakSpots
from mdxai.frame import Floats, Frame
from mdxai.record.durable_files import write_file
from mdxai.serialization import StateError, as_json, as_plain, from_plain
from mdxai.showing import ShowsItself

SCHEMA = 1
COLDEST, HOTTEST, STEPS = 100.0, 2500.0, 30  # K, of temperatures that are called trustworthy
LONG = 1e6  # ps, a microsecond
PROVEN = 0.01  # survival below which nothing is proven
ENOUGH = 0.95  # survival that is good enough
LIFE_HEADINGS = (*SEEN, "foretold")


class ForecastError(MdxaiError, ValueError):
    """A forecast that cannot be made, read or continued as asked."""


@dataclass(frozen=True)
class Forecast(ShowsItself):
    """How long a run will last, and where it will break.

    Attributes:
        temperature: of the run, K. duration: of the run, ps.
        weak_spots: what was found; None where they were not looked for, or could not be.
        life_test: what was seen of hot replicas; None where none was made.
        structure: that the run starts from.
        model: name of the calculator.
        at_least: survival that is good enough.
        confidence: of intervals.
        without: why there are no weak spots; "" where there are.
    """

    temperature: float
    duration: float
    weak_spots: WeakSpots | None
    life_test: LifeTest | None
    structure: Frame
    model: str = ""
    at_least: float = ENOUGH
    confidence: float = 0.95
    without: str = ""

    def __post_init__(self) -> None:
        if self.weak_spots is None and self.life_test is None:
            raise ForecastError("a forecast needs weak spots, a life test, or both")

    @cached_property
    def law(self) -> CombinedLaw | None:
        """The hazard at any temperature, from both; None where weak spots were looked for in vain
        and no replica was watched.
        """
        watched = () if self.life_test is None else tuple(self.life_test.law.watched)
        return law_of_all(watched, self._spots, self.confidence)

    @property
    def _spots(self) -> tuple[WeakSpot, ...]:
        return () if self.weak_spots is None else self.weak_spots.spots

    @cached_property
    def hazard(self) -> Interval:
        """Onsets per ps of a run that is still sound.

        The estimate is 0 where weak spots were looked for in vain and no replica broke. It is NaN
        where no replica broke and weak spots are not known, or were looked for up to a ceiling so
        low that one just above it would break the run.
        """
        found = self.hazard_at(self.temperature)
        return replace(found, value=math.nan) if self._looked_too_low else found

    @property
    def _looked_too_low(self) -> bool:
        """Whether nothing was found because of the ceiling, as far as one can know."""
        spots = self.weak_spots
        if spots is None or not self.found_nothing:
            return False
        above = rate(GUESSED_PREFACTOR, spots.ceiling, self.temperature)
        return math.exp(-above * self.duration) < self.at_least

    def hazard_at(self, temperature: float) -> Interval:
        """Return the same at another temperature, K, but that no ceiling is too low for it.

        Raises:
            LifeDataError: for a temperature that is not positive and finite.
        """
        return foretold_hazard(self.law, temperature, searched=self.weak_spots is not None)

    @property
    def found_nothing(self) -> bool:
        """Whether weak spots were looked for in vain, and no replica broke."""
        spots, test = self.weak_spots, self.life_test
        return spots is not None and not len(spots) and (test is None or not test.law.n_onsets)

    @property
    def survival(self) -> Interval:
        """Probability that the run has no onset."""
        return survival_of(self.hazard, self.duration)

    def survival_after(self, times: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the probability (n,) of no onset within times (n,), ps, and its interval's ends.

        Returned are value, low and high.
        """
        hazard = self.hazard
        value, low, high = (np.exp(-h * times) for h in (hazard.value, hazard.high, hazard.low))
        return value, low, high

    @property
    def mean_time_to_failure(self) -> Interval:
        """The inverse of the hazard, ps."""
        return mean_time_of(self.hazard)

    @property
    def weakest(self) -> WeakSpot | None:
        """The weak spot with the highest rate, equal ones together; None without any."""
        return None if self.weak_spots is None else self.weak_spots.worst

    @property
    def is_known(self) -> bool:
        """Whether there is an estimate at all."""
        return math.isfinite(self.hazard.value)

    @property
    def is_good_enough(self) -> bool | None:
        """Whether the estimate of the survival reaches `at_least`; None where there is none.

        Without an estimate the lower end of the interval may still be high enough.
        """
        survival = self.survival
        if self.is_known:
            return survival.value >= self.at_least
        return True if survival.low >= self.at_least else None

    @property
    def hottest(self) -> float:
        """Temperature, K, beyond which nothing is foretold."""
        return HOTTEST if self.life_test is None else self.life_test.ceiling.temperature

    def trustworthy_up_to(self, duration: float, at_least: float | None = None) -> float:
        """Return the highest temperature, K, of runs that the forecast vouches for.

        The lower end of the survival's interval is above `at_least` there and at all lower
        temperatures, down to 100 K. NaN where there is none.

        Args:
            duration: of the runs, ps.
            at_least: survival that is good enough; by default that of the forecast.

        Raises:
            ForecastError: for a duration that is not positive and finite.
        """
        if not 0 < duration < math.inf:
            raise ForecastError(f"the duration must be positive and finite, got {duration!r} ps")
        allowed = -math.log(self.at_least if at_least is None else at_least) / duration

        def holds(temperature: float) -> bool:
            return self.hazard_at(temperature).high < allowed

        ladder = np.geomspace(COLDEST, max(self.hottest, self.temperature), STEPS).tolist()
        failing = next((k for k, temperature in enumerate(ladder) if not holds(temperature)), None)
        if not failing:
            return math.nan if failing == 0 else ladder[-1]
        low, high = ladder[failing - 1 : failing + 1]
        while high - low > 0.5:  # K
            middle = 0.5 * (low + high)
            low, high = (middle, high) if holds(middle) else (low, middle)
        return float(low)

    @cached_property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """Durations, ps, and up to which temperature, K, runs of these are trustworthy."""
        durations = sorted({self.duration, max(self.duration, LONG)})
        return tuple((one, self.trustworthy_up_to(one)) for one in durations)

    @property
    def sentence(self) -> str:
        """The forecast in one sentence."""
        mean = self.mean_time_to_failure
        if self.is_known and not self.found_nothing:
            says = run_text(self.temperature, self.duration, self.survival, mean)
            return "; ".join([says, self.weakest_text, self.limits_text])
        run = f"a run of {time_text(self.duration)} at {self.temperature:g} K"
        if self.survival.low < PROVEN:
            return f"{self._seen}, which does not prove that {run} survives; {self.weakest_text}"
        says = (
            f"{self._seen}: {run} survives with a probability of at least {self.survival.low:.2g}; "
            f"mean time to failure at least {time_text(mean.low)}"
        )
        return "; ".join([says, self.weakest_text, self.limits_text])

    @property
    def _seen(self) -> str:
        test = self.life_test
        if test is None:
            return "no replica was watched"
        seen = time_text(sum(w.time for w in test.watched))
        return f"no replica broke in {seen} at up to {test.watched[0].temperature:.0f} K"

    @property
    def weakest_text(self) -> str:
        """The weakest spot in words."""
        found, spot = self.weak_spots, self.weakest
        if found is None:
            return "weak spots not known"
        if spot is None:
            return f"no weak spot below {found.ceiling:g} eV"
        named = in_its_group(spot.label, found.minimum, spot.atoms)
        return f"weakest: {named}, barrier {spot.barrier:.2f} eV"

    @property
    def limits_text(self) -> str:
        """The temperatures up to which runs are trustworthy, in words."""
        parts = [
            f"{_kelvin(temperature, self.hottest)} for {time_text(duration)}"
            for duration, temperature in self.limits
            if not math.isnan(temperature)
        ]
        if not parts:
            return f"trustworthy at no temperature for {time_text(self.duration)}"
        return f"trustworthy up to {', '.join(parts)}"

    def notes(self) -> list[str]:
        """Return what the numbers rest on, and what to know about them."""
        return [*self._notes_of_weak_spots(), *self._notes_of_life_test()]

    def _notes_of_weak_spots(self) -> list[str]:
        found = self.weak_spots
        if found is None:
            return [self.without] if self.without else []
        notes = [
            f"weak spots: {len(found)} below {found.ceiling:g} eV among {found.n_scanned} "
            f"coordinates of all conformers; by themselves they foretell "
            f"{found.hazard_at(self.temperature):.2g} per ps at {self.temperature:g} K"
        ]
        if self._looked_too_low:
            notes.append(
                f"{found.ceiling:g} eV is too low a ceiling for this run, which a weak spot just "
                "above would break: search higher (--ceiling)"
            )
        guessed = sum(bool(spot.note) for spot in found.spots)
        if guessed:
            notes.append(
                f"{guessed} of the weak spots have no saddle: barriers of a scan, which may be too "
                "high, and a guessed prefactor"
            )
        if found.reference:
            real = ", ".join(spot.label for spot in found.real) or "none"
            notes.append(f"paths compared with {found.reference}; reactions that it allows: {real}")
        return notes

    def _notes_of_life_test(self) -> list[str]:
        test = self.life_test
        if test is None:
            return ["no life test: what is foretold is of the weak spots alone"]
        used, n = test.law.watched, test.law.n_onsets
        notes = [
            f"life test: {n} onset{'' if n == 1 else 's'} in {sum(w.time for w in used):.3g} ps of "
            f"replicas at {_range(used)}"
        ]
        if test.stopped == "time is up":
            notes[-1] += "; its time was up"
        agreement = None if self.law is None else self.law.agreement
        if agreement is not None and math.isfinite(agreement.value):
            notes.append(
                f"replicas broke {agreement.value:.2g} times as often as the weak spots foretell "
                f"({agreement.low:.2g}–{agreement.high:.2g})"
            )
        return notes + test.notes_on_data()

    @property
    def life_rows(self) -> list[tuple[str, ...]]:
        """Rows of text under `LIFE_HEADINGS`, one for each temperature of the life test."""
        watched = () if self.life_test is None else self.life_test.watched
        return rows_of(watched, self.hazard_at)

    def table(self) -> str:
        """Return what was found as text: weak spots, then the life test."""
        parts = []
        if self.weak_spots is not None:
            parts.append(self.weak_spots.table())
        if self.life_test is not None:
            parts.append(table_text(LIFE_HEADINGS, self.life_rows))
        return "\n\n".join(parts)

    def __str__(self) -> str:
        return "\n".join([self.sentence, "", self.table(), "", *self.notes()])

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON for programs; what is not finite becomes None."""
        test = self.life_test
        plain: dict[str, Any] = as_json({
            "temperature_K": self.temperature, "duration_ps": self.duration,
            "survival": self.survival.as_dict(), "hazard_per_ps": self.hazard.as_dict(),
            "mean_time_to_failure_ps": self.mean_time_to_failure.as_dict(),
            "weak_spots": [spot.as_dict(self.temperature) for spot in self._spots],
            "weakest": None if self.weakest is None else self.weakest.label,
            "trustworthy_up_to": [
                {"duration_ps": duration, "temperature_K": temperature, "at_least": self.at_least}
                for duration, temperature in self.limits
            ],
            "model": self.model, "formula": self.formula, "confidence": self.confidence,
            "weak_spots_hazard_per_ps": None if self.weak_spots is None
            else self.weak_spots.hazard_at(self.temperature),
            "life_test": None if test is None
            else test.as_dict()["life_test"] | {"hazard_per_ps": test.hazard.as_dict()},
            "sentence": self.sentence, "notes": self.notes(),
        })  # fmt: skip
        return plain

    @property
    def formula(self) -> str:
        """Of the structure, in Hill's order."""
        return str(self.structure.to_atoms(results=False).get_chemical_formula("hill"))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the forecast as JSON: what `as_dict` says, and all that `read` needs.

        Raises:
            RecordError: where the file cannot be written.
        """
        content = {"schema": SCHEMA, **self.as_dict(), "stored": as_plain(self)}
        write_file(Path(path), json.dumps(content, allow_nan=False).encode())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Forecast:
        """Read a forecast that was written.

        Raises:
            ForecastError: for a file that holds none.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["schema"] != SCHEMA:
                raise ValueError(f"schema {content['schema']!r}, expected {SCHEMA}")
            return from_plain(cls, content["stored"])
        except (OSError, ValueError, KeyError, TypeError, StateError) as error:
            raise ForecastError(f"{path} holds no forecast: {error}") from error

    def at(self, temperature: float) -> Forecast:
        """Return what the same findings say about another temperature, K.

        Raises:
            ForecastError: for a temperature that is not positive and finite.
        """
        if not 0 < temperature < math.inf:
            raise ForecastError(f"the temperature must be positive and finite, got {temperature!r}")
        spots = self.weak_spots
        return replace(
            self, temperature=temperature,
            weak_spots=None if spots is None else replace(spots, temperature=temperature),
        )  # fmt: skip


def _kelvin(temperature: float, hottest: float) -> str:
    if temperature >= hottest:
        return f"{hottest:.0f} K or more"
    step = 10 if temperature >= 100 else 1
    return f"{math.floor(temperature / step) * step} K"


def _range(watched: Sequence[Watched]) -> str:
    temperatures = [w.temperature for w in watched]
    coldest, hottest = min(temperatures), max(temperatures)
    return f"{hottest:.0f} K" if coldest == hottest else f"{coldest:.0f} to {hottest:.0f} K"
