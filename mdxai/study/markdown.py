"""A table in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from mdxai.study.survival.survival_page import digits


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
