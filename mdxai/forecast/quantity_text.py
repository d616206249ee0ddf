"""Times and intervals in words, and times from words."""

from __future__ import annotations

import math
import re

from mdxai.errors import MdxaiError
from mdxai.forecast.survival_model import Interval

UNITS = {"fs": 1e-3, "ps": 1.0, "ns": 1e3, "µs": 1e6, "ms": 1e9, "s": 1e12}  # ps


class TimeError(MdxaiError, ValueError):
    """Text that is not a time."""


def time_of(text: str) -> float:
    """Return a time, ps, from text such as "1ns" or "500 ps".

    Raises:
        TimeError: for anything but a positive number and a unit.
    """
    found = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-zµμ]+)\s*", text, re.IGNORECASE)
    unit = found[2].replace("μ", "µ").replace("us", "µs") if found else ""
    try:
        time = float(found[1]) * UNITS[unit] if found else math.nan
    except (ValueError, KeyError):
        time = math.nan
    if not 0 < time < math.inf:
        raise TimeError(f"expected a time with its unit, such as 500ps, 1ns or 2us, got {text!r}")
    return time


def time_text(time: float) -> str:
    """Return a time, ps, in the unit that suits it: "16 ns"."""
    if not math.isfinite(time):
        return "unknown" if math.isnan(time) else "for ever"
    unit = _unit_of(time)
    return f"{_digits(time / UNITS[unit])} {unit}"


def _unit_of(time: float) -> str:
    return next((unit for unit, size in reversed(UNITS.items()) if time >= size), "fs")


def _digits(number: float) -> str:
    """Return two significant digits, but all of those before the point up to a thousand."""
    return f"{number:.0f}" if 10 <= number < 1e4 else f"{number:.2g}"


def time_interval_text(times: Interval) -> str:
    """Return a time, ps, with its interval: "16 ns (6–45)"."""
    unit = _unit_of(times.value)
    size = UNITS[unit]
    if math.isfinite(times.value) and times.low >= 0.01 * size and times.high < 1e4 * size:
        return (
            f"{time_text(times.value)} ({_digits(times.low / size)}–{_digits(times.high / size)})"
        )
    return f"{time_text(times.value)} ({time_text(times.low)} to {time_text(times.high)})"


def share_interval_text(shares: Interval) -> str:
    """Return a probability with its interval: "0.94 (0.85–0.98)"."""
    value = "unknown" if math.isnan(shares.value) else _share(shares.value)
    return f"{value} ({_share(shares.low)}–{_share(shares.high)})"


def run_text(temperature: float, duration: float, survival: Interval, mean: Interval) -> str:
    """Return what is foretold of a run: its temperature, K, duration and mean time, ps."""
    return (
        f"a run of {time_text(duration)} at {temperature:g} K survives with probability "
        f"{share_interval_text(survival)}; mean time to failure {time_interval_text(mean)}"
    )


def _share(share: float) -> str:
    """Return two decimals, or as many as tell a probability from 0 or 1, up to five."""
    places = next((n for n in (2, 3, 4, 5) if 0 < float(f"{share:.{n}f}") < 1), 2)
    return f"{share:.{places}f}"
