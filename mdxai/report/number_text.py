"""Numbers as the page writes them: rounded for reading, with a true minus sign."""

from __future__ import annotations

import math

TIME_UNITS = (("fs", 1.0, 1e4), ("ps", 1e3, 1e7), ("ns", 1e6, math.inf))  # name, fs, up to


def rounded(value: float, digits: int = 3) -> str:
    """Return a number to a few significant digits; integers below a million keep all of theirs."""
    if not math.isfinite(value):
        return "not finite" if math.isnan(value) else "∞" if value > 0 else "−∞"
    whole = value == int(value) and abs(value) < 1e6
    return (f"{int(value):,}" if whole else f"{value:.{digits}g}").replace("-", "−")


def exact(value: float) -> str:
    """Return a number with all its digits, for programs that parse the page."""
    return repr(float(value))


def signed(value: float) -> str:
    """Return a relevance (eV) with its sign, to 0.0001 eV."""
    return f"{value:+.4f}".replace("-", "−")


def time_text(fs: float) -> str:
    """Return a time in fs, ps or ns, whichever reads best, to six digits."""
    unit, size = next((unit, size) for unit, size, until in TIME_UNITS if not abs(fs) > until)
    return f"{fs / size:,.6g}\N{NO-BREAK SPACE}{unit}"


def count_text(n: int, one: str, many: str) -> str:
    """Return how many there are: "1 frame", "2,000 frames"."""
    return f"{n:,} {one if n == 1 else many}"
