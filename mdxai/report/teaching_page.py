"""Teaching as one HTML file: what each round changed, and what the model came to."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from mdxai.forecast.quantity_text import UNITS, share_interval_text, time_interval_text, time_text
from mdxai.forecast.survival_model import Interval
from mdxai.mending import Teaching, TeachingRound
from mdxai.mending.teaching_result import HEADINGS
from mdxai.report.figures import ALARM, INK, PHYSICAL, tidy
from mdxai.report.inline_svg import inline_svg
from mdxai.report.page import formula_pieces, now_text, write_view

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (4.5, 2.4)  # inches
LONG = 1e18  # ps, beyond which times are drawn as endless


@dataclass(frozen=True, slots=True)
class TeachingView:
    """All that the page says; fields as in `ForecastView`."""

    model: str
    formula: tuple[str, ...]
    path: str
    mark: str
    word: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    errors: Markup
    barriers: Markup
    times: Markup
    tolerance: int
    written: str


def write_teaching_page(found: Teaching, folder: str | os.PathLike[str]) -> Path:
    """Write the page of teaching into its folder, `report.html`, and return its path.

    Raises:
        RecordError: where it cannot be written.
    """
    return write_view("teaching.html", teaching_view(found, Path(folder)), folder)


def teaching_view(found: Teaching, folder: Path) -> TeachingView:
    """Return what the page says; `folder` is where it lies."""
    first, best = found.rounds[0], found.best
    forecast = best.forecast
    survival = share_interval_text(forecast.survival)
    return TeachingView(
        first.forecast.model or "unnamed calculator", formula_pieces(forecast.formula),
        str(folder), _mark(found), survival.partition(" ")[0],
        f"probability that a run of {time_text(forecast.duration)} at "
        f"{forecast.temperature:g} K survives, of the model of round {best.number} "
        f"({survival.partition('(')[2]}",
        tuple(_facts(found)), HEADINGS, tuple(one.row for one in found.rounds),
        _error_plot(found), _barrier_plot(found.rounds), _time_plot(found.rounds),
        round(100 * found.tolerance), f"Taught by mdxai {version('mdxai')}, written {now_text()}.",
    )  # fmt: skip


def _mark(found: Teaching) -> str:
    forecast = found.best.forecast
    good = forecast.is_good_enough
    if good is None:
        return "inconclusive"
    if forecast.survival.low >= forecast.at_least:
        return "stable"
    return "suspect" if good else "unstable"


def _facts(found: Teaching) -> list[tuple[str, str]]:
    first, best = found.rounds[0], found.best
    before, after = (one.forecast.mean_time_to_failure for one in (first, best))
    error = f"{first.force_error:.1f} → {best.force_error:.1f} meV/Å"
    facts = [
        ("Mean time to failure", f"{time_interval_text(before)} → {time_interval_text(after)}"),
        ("Test error of forces", f"{error} ({best.force_error / first.force_error - 1:+.0%})"),
        ("Labels", f"{best.labels} by {found.reference}"),
        ("Weakest spot", best.forecast.weakest_text.removeprefix("weakest: ")),
        ("It took", f"{found.minutes:.0f} minutes; {found.stopped}"),
    ]
    if first.seen is not None and best.seen is not None:
        seen = " → ".join(map(time_interval_text, (first.seen, best.seen)))
        facts.insert(1, ("Observed", seen))
    return facts


def _error_plot(found: Teaching) -> Markup:
    rounds = found.rounds

    def draw(ax: Axes) -> None:
        errors = [one.force_error for one in rounds]
        ax.plot(range(len(rounds)), errors, "o-", color=PHYSICAL, lw=1.4, ms=4)
        ax.axhline((1 + found.tolerance) * errors[0], color=ALARM, lw=0.9)
        ax.set_ylim(0, 1.15 * max([*errors, (1 + found.tolerance) * errors[0]]))
        ax.set_ylabel("force error / meV Å⁻¹", color=INK)
        _rounds_axis(ax, rounds)

    return inline_svg(draw, SIZE, "test error of forces, round by round")


def _barrier_plot(rounds: Sequence[TeachingRound]) -> Markup:
    spots = rounds[0].forecast.weak_spots
    ceiling = math.nan if spots is None else spots.ceiling

    def draw(ax: Axes) -> None:
        for k, one in enumerate(rounds):
            ax.plot([k] * len(one.barriers), one.barriers, "_", color=PHYSICAL, ms=14, mew=1.4)
            if not one.barriers:
                ax.plot(k, ceiling, "^", color=INK, ms=4)
        ax.set_ylim(0, 1.1 * ceiling)
        ax.set_ylabel("barriers / eV", color=INK)
        _rounds_axis(ax, rounds)

    return inline_svg(draw, SIZE, "barriers of weak spots, round by round")


def _time_plot(rounds: Sequence[TeachingRound]) -> Markup:
    shown = [
        (k + shift, time, colour)
        for k, one in enumerate(rounds)
        for shift, time, colour in (
            (-0.06, one.forecast.mean_time_to_failure, PHYSICAL), (0.06, one.seen, INK),
        )
        if time is not None and not math.isnan(time.value)
    ]  # fmt: skip
    duration = rounds[0].forecast.duration
    finite = [t for _, time, _ in shown for t in (time.low, time.value, time.high) if 0 < t < LONG]
    low, high = 0.5 * min([duration, *finite]), 100 * max([duration, *finite])

    def draw(ax: Axes) -> None:
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

        for x, time, colour in shown:
            _span(ax, x, time, colour, 0.3 * high)
        ax.axhline(duration, color=ALARM, lw=0.9)
        ax.set_yscale("log")
        ax.set_ylim(low, high)
        tens = 1 if high / low < 1e5 else 1000
        ticks = [size * ten for size in UNITS.values() for ten in (1, 10, 100) if ten * tens < 1e5]
        ax.yaxis.set_major_locator(FixedLocator([t for t in ticks if low <= t <= high]))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: time_text(value)))
        ax.set_ylabel("mean time to failure", color=INK)
        _rounds_axis(ax, rounds)

    return inline_svg(draw, SIZE, "mean time to failure, foretold and observed, round by round")


def _span(ax: Axes, x: float, time: Interval, colour: str, top: float) -> None:
    """Draw a time, ps, with its interval; for an endless one a triangle at the top."""
    if not time.value < LONG:
        ax.plot(x, top, "^", color=colour, ms=5)
        return
    ax.plot([x, x], [max(time.low, 1e-6), min(time.high, top)], color=colour, lw=1.0)
    ax.plot(x, time.value, "o", color=colour, ms=4)


def _rounds_axis(ax: Axes, rounds: Sequence[TeachingRound]) -> None:
    ax.set_xticks(range(len(rounds)), [f"{one.number}\n{one.labels} labels" for one in rounds])
    ax.set_xlim(-0.5, len(rounds) - 0.5)
    tidy(ax)
