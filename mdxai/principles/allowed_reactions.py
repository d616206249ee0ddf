"""Allowed reactions: bonds that may break and form without a finding."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols

from mdxai.errors import MdxaiError
from mdxai.frame import Bools, Frame, Ints

PATTERN = re.compile(r"([A-Z][a-z]?)(\d*)-([A-Z][a-z]?)(\d*)")


class AllowedReactionError(MdxaiError, ValueError):
    """A pattern that names no pair of atoms of the system."""


class AllowedBonds:
    """Pairs of atoms whose bonds may break and form.

    Args:
        patterns: "C1-O2" for two atoms, "O-H" for all of two elements, "C1-H" for one atom and an
            element. Atoms are numbered from 0, as in findings.
        first: a frame of the system.

    Raises:
        AllowedReactionError: for a pattern that cannot be read or names an atom that is not there.
    """

    def __init__(self, patterns: Sequence[str], first: Frame) -> None:
        if isinstance(patterns, str):
            raise AllowedReactionError(f"expected a list of patterns, got the text {patterns!r}")
        self._allowed = np.zeros((0, first.n_atoms, 2), dtype=bool)
        ends = [_ends(pattern, first) for pattern in patterns]
        if ends:
            self._allowed = np.stack([np.stack(pair, axis=1) for pair in ends])

    def __bool__(self) -> bool:
        return bool(len(self._allowed))

    def allow(self, i: Ints, j: Ints) -> Bools:
        """Return which pairs (n_pairs,) may bond and part."""
        first, second = self._allowed[:, :, 0], self._allowed[:, :, 1]
        both: Bools = (first[:, i] & second[:, j]) | (first[:, j] & second[:, i])
        return both.any(axis=0)


def _ends(pattern: str, frame: Frame) -> tuple[Bools, Bools]:
    match = PATTERN.fullmatch(pattern.replace("–", "-"))
    if match is None:
        raise AllowedReactionError(
            f"{pattern!r} is not a pair of atoms; expected two atoms such as 'C1-O2', or elements "
            "such as 'O-H'"
        )
    symbol, index, other, partner = match.groups()
    if index and index == partner:
        raise AllowedReactionError(f"{pattern!r} names one atom twice; a bond needs two")
    return _atoms(symbol, index, frame), _atoms(other, partner, frame)


def _atoms(symbol: str, index: str, frame: Frame) -> Bools:
    found: Bools = frame.numbers == (
        chemical_symbols.index(symbol) if symbol in chemical_symbols else -1
    )
    if index:
        found &= np.arange(frame.n_atoms) == int(index)
    if not found.any():
        raise AllowedReactionError(f"there is no atom {symbol}{index} in {_formula(frame)}")
    return found


def _formula(frame: Frame) -> str:
    return " ".join(f"{s}{k}" for k, s in enumerate(frame.symbols[:30])) + (
        " …" if frame.n_atoms > 30 else ""
    )
