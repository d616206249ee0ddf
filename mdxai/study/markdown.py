"""Numbers and tables as the pages write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd


def digits(value: float) -> str:
    """Return a number with three significant digits; from 1000 on as a whole number."""
    return f"{value:.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:.3g}"


def span(value: float, low: float, high: float) -> str:
    """Return a value with its interval, "1.8 (1.1 to 3)"; says so where there is no interval."""
    if np.isnan(low) or np.isnan(high):
        return f"{digits(value)} (no interval)"
    return f"{digits(value)} ({digits(low)} to {digits(high)})"


def markdown(table: pd.DataFrame) -> list[str]:
    """Return the lines of a table in Markdown; numbers with three digits, a dash for nothing."""
    cells = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    heads = [str(c).replace("_", " ") for c in table.columns]
    return [_row(heads), _row(["---"] * len(heads)), *map(_row, cells)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if pd.isna(value) else digits(value)
    return "–" if value is None else str(value).partition(". Please see")[0]
