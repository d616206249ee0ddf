"""Find calculators by name or path."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

from mdxai.calculators.card import CalculatorError

SEARCH_VARIABLE = "MDXAI_CALCULATORS"


def find_calculator(name: str | os.PathLike[str]) -> Path:
    """Return the folder or file that `load_calculator(name)` reads.

    Raises:
        CalculatorError: when there is none; the message lists the known names.
    """
    given = Path(name).expanduser()
    if given.is_file() or (given / "card.toml").is_file():
        return given
    for folder in _search_folders():
        if (folder / given / "card.toml").is_file():
            return folder / given
    if given.is_dir():
        raise CalculatorError(f"{given} is a folder without a card.toml, so it is not a calculator")
    known = sorted(list_calculators())
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise CalculatorError(
        f"there is no calculator {str(name)!r}, neither as a path nor by name; {hint}"
        f"known names: {', '.join(known) or 'none'}"
    )


def refuse_other_calculator(folder: Path) -> None:
    """Raise CalculatorError where a folder holds a calculator already, or is no folder."""
    if (folder / "card.toml").exists():
        raise CalculatorError(f"{folder} already holds a calculator; choose another folder")
    if folder.exists() and not folder.is_dir():
        raise CalculatorError(f"{folder} is a file; expected a folder for the calculator")


def list_calculators() -> dict[str, Path]:
    """Return every calculator that can be loaded by name, with its folder."""
    found: dict[str, Path] = {}
    for folder in _search_folders():
        for card in sorted(p for p in folder.glob("*/card.toml") if p.is_file()):
            found.setdefault(card.parent.name, card.parent)
    return found


def _search_folders() -> Iterator[Path]:
    for entry in os.environ.get(SEARCH_VARIABLE, "").split(os.pathsep):
        if entry:
            yield Path(entry).expanduser()
    package = Path(__file__).resolve().parents[1]
    yield package / "_calculators"  # in a wheel
    yield package.parent / "calculators"  # in a checkout
