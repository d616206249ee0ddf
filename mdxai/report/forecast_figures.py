"""The figures of a forecast's page, each small enough for a phone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from mdxai.forecast import Forecast, WeakSpot, WeakSpots
from mdxai.forecast.quantity_text import UNITS, time_text
from mdxai.forecast.survival_model import rate_of
from mdxai.frame import Floats
from mdxai.report.figures import ALARM, INK, PHYSICAL, tidy
from mdxai.report.inline_svg import inline_svg
from mdxai.report.weak_spot_pictures import draw_explanation, draw_path, draw_top

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (4.5, 2.4)  # inches
DECADES = 3  # before and after the duration that was asked for
TEMPERATURES = 40
FASTEST, LONGEST = 1.0, 1e9  # ps, of durations that are drawn

HazardCurve = tuple[Floats, Floats, Floats, Floats]  # K; value, low and high end, per ps


def survival_plot(found: Forecast) -> Markup:
    """Return the probability of no onset against the time, with its interval."""
    label = f"survival against time at {found.temperature:g} K"
    return inline_svg(lambda ax: draw_survival(found, ax), SIZE, label)


def draw_survival(found: Forecast, ax: Axes) -> None:
    """Draw the probability of no onset against the time, with its interval."""
    times = found.duration * np.logspace(-DECADES, DECADES, 121)
    value, low, high = found.survival_after(times)
    ax.fill_between(times, low, high, color=PHYSICAL, alpha=0.18, lw=0)
    ax.plot(times, value, color=PHYSICAL, lw=1.6)
    ax.axvline(found.duration, color=ALARM, lw=0.9)
    ax.axhline(found.at_least, color=INK, lw=0.6, ls="--")
    _time_axis(ax, times)
    ax.set_ylim(-0.02, 1.02)
    ax.set_ylabel("survival", color=INK)
    tidy(ax)


def limit_plot(found: Forecast, curve: HazardCurve) -> Markup | None:
    """Return the highest temperature of runs that survive against their duration; None where it is
    not known.

    The edge of the band is where the survival's lower end, the line where its estimate, falls
    below what is good enough.
    """
    temperatures, value, low, high = curve
    allowed = -math.log(found.at_least)
    with np.errstate(divide="ignore", over="ignore"):
        longest, surest, latest = (allowed / h for h in (value, high, low))
    if not (surest > FASTEST).any():
        return None

    def draw(ax: Axes) -> None:
        end = np.clip(latest, None, 10 * LONGEST)
        ax.fill_betweenx(temperatures, surest, end, color=PHYSICAL, alpha=0.18, lw=0)
        ax.plot(longest, temperatures, color=PHYSICAL, lw=1.2, ls="--")
        ax.plot(surest, temperatures, color=PHYSICAL, lw=1.6)
        ax.plot(found.duration, found.temperature, "o", color=ALARM, ms=5)
        _time_axis(ax, np.array([min(FASTEST, found.duration), max(LONGEST, found.duration)]))
        drawn = temperatures[latest > FASTEST]
        ax.set_ylim(temperatures[0], 1.1 * max(float(drawn.max()), found.temperature))
        ax.set_ylabel("temperature / K", color=INK)
        ax.set_xlabel("duration of the run", color=INK, labelpad=1)
        tidy(ax)

    return inline_svg(draw, SIZE, "highest temperature of runs that survive, against duration")


def hazard_plot(found: Forecast, curve: HazardCurve) -> Markup | None:
    """Return the hazard against the temperature, with what was seen; None without a life test."""
    test = found.life_test
    temperatures, value, low, high = curve
    if test is None or not (value > 0).any():
        return None

    def draw(ax: Axes) -> None:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

        ax.fill_between(temperatures, low, high, color=PHYSICAL, alpha=0.18, lw=0)
        ax.plot(temperatures, value, color=PHYSICAL, lw=1.6)
        for w in test.watched:
            if w.time > 0:
                _point(ax, w.temperature, w.onsets, w.time)
        ax.axvline(found.temperature, color=ALARM, lw=0.9)
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(numticks=7))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}"))
        ax.yaxis.set_minor_locator(NullLocator())
        lowest = min(float(found.hazard.low or 1e-6), 1e-3)
        ax.set_ylim(max(lowest, 1e-15), 1e2)
        ax.set_xlim(min(250.0, found.temperature), temperatures[-1])
        ax.set_xlabel("temperature / K", color=INK, labelpad=1)
        ax.set_ylabel("hazard / ps⁻¹", color=INK)
        tidy(ax)

    return inline_svg(draw, SIZE, "hazard against temperature, foretold and seen")


def _point(ax: Axes, temperature: float, onsets: int, time: float) -> None:
    """Draw onsets per ps with the 95 % interval of a Poisson count; a triangle if none."""
    seen = rate_of(onsets, time, 0.95)
    if not onsets:
        ax.plot(temperature, seen.high, marker="v", color=INK, ms=4)
        return
    ax.plot([temperature] * 2, [seen.low, seen.high], color=INK, lw=0.9)
    ax.plot(temperature, seen.value, "o", color=INK, ms=3.5)


def hazard_curve(found: Forecast) -> HazardCurve:
    """Return temperatures (n,), K, and the hazard's value, low and high end there, per ps."""
    top = max(found.hottest, found.temperature)
    temperatures = np.linspace(100.0, top, TEMPERATURES)
    at = [found.hazard_at(float(t)) for t in temperatures]
    ends = ([h.value for h in at], [h.low for h in at], [h.high for h in at])
    value, low, high = (np.array(values, dtype=np.float64) for values in ends)
    return temperatures, value, low, high


def _time_axis(ax: Axes, times: Floats) -> None:
    """Draw a logarithmic axis of times, ps, named as people do."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    ax.set_xscale("log")
    ax.set_xlim(times[0], times[-1])
    units = [size for size in UNITS.values() if times[0] <= size <= times[-1]]
    tens = [size * ten for size in UNITS.values() for ten in (1, 10, 100)]
    shown = units if len(units) > 2 else [t for t in tens if times[0] <= t <= times[-1]]
    ax.xaxis.set_major_locator(FixedLocator(shown))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: time_text(value)))
    ax.set_xlabel("time", color=INK, labelpad=1)


def path_plot(spot: WeakSpot, reference: str) -> Markup:
    """Return the energy along the way into a weak spot."""
    return inline_svg(
        lambda ax: draw_path(ax, spot, reference), SIZE, f"energy along the way into {spot.label}"
    )


def explanation_plot(spot: WeakSpot) -> Markup | None:
    """Return what the energy is made of along the way into a weak spot; None if not explained."""
    explanation = spot.explanation
    if explanation is None:
        return None
    return inline_svg(
        lambda ax: draw_explanation(ax, spot, explanation), SIZE,
        f"relevances along the way into {spot.label}",
    )  # fmt: skip


def top_picture(found: WeakSpots, spot: WeakSpot) -> Markup:
    """Return the molecule at the top of the barrier, with rings around the atoms."""

    def draw(ax: Axes) -> None:
        draw_top(ax, found, spot)
        ax.margins(0.2)  # room for the rings
        ax.set_position((0.02, 0.02, 0.96, 0.96))

    return inline_svg(draw, SIZE, f"the molecule at the top of {spot.label}", white=True)
