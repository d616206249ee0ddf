"""The gap between bonds and other distances: the longest bond, and the closest atoms without one.

A mapping from an element pair ("C-H") to both is called `gaps` here. It needs no topology: in data
in which nothing reacts no distance lies between the two.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from mdxai.frame import Floats, Ints

# In units of the sum of covalent radii. Bonds end, and contacts begin, between these two: hot C–H
# bonds reach 1.3, and atoms with a common neighbour come as close as 1.4 (C–C in small rings).
WINDOW = 1.1, 1.75
N_BINS = 65
LAST_BOND = 25  # bins, up to 1.35: no bond is longer
NARROWEST = 0.15  # Å: data with a narrower gap hold bonds that break or form


class BondGaps:
    """Distances of many structures near where bonds end, per element pair."""

    def __init__(self) -> None:
        self._spans: dict[int, Floats] = {}  # (2, N_BINS + 2) shortest, longest of each bin, Å

    def add(self, numbers_i: Ints, numbers_j: Ints, distances: Floats) -> None:
        """Take in distances (n,), Å, between atoms of these atomic numbers (n,)."""
        low, high = np.minimum(numbers_i, numbers_j), np.maximum(numbers_i, numbers_j)
        keys = 1000 * low + high
        for key in np.unique(keys).tolist():
            here = distances[keys == key]
            width = (WINDOW[1] - WINDOW[0]) / N_BINS
            place = (here / _sum_of_radii(key) - WINDOW[0]) / width
            bins = np.clip(np.floor(place).astype(np.int64) + 1, 0, N_BINS + 1)
            span = self._spans.setdefault(
                key, np.stack([np.full(N_BINS + 2, np.inf), np.zeros(N_BINS + 2)])
            )
            np.minimum.at(span[0], bins, here)
            np.maximum.at(span[1], bins, here)

    @property
    def found(self) -> dict[str, tuple[float, float]]:
        """Longest bond (0 without bonds) and closest contact (infinite without any), Å, of the
        element pairs for which the data tell the two apart.
        """
        spans = {key: _gap(span) for key, span in self._spans.items()}
        return {
            "-".join(sorted((chemical_symbols[key // 1000], chemical_symbols[key % 1000]))): gap
            for key, gap in sorted(spans.items())
            if gap is not None
        }


def _sum_of_radii(key: int) -> float:
    return float(covalent_radii[key // 1000] + covalent_radii[key % 1000])


def _gap(span: Floats) -> tuple[float, float] | None:
    """Return the ends of the widest empty stretch that begins where bonds may end, None where that
    is too narrow.
    """
    filled = np.flatnonzero(span[1] > 0)
    ends = [(0.0, float(span[0, filled[0]]))] if filled[0] > LAST_BOND else []
    ends += [
        (float(span[1, a]), float(span[0, b]))
        for a, b in pairwise(filled.tolist())
        if a <= LAST_BOND and (b - a > 1 or a == 0 or b == N_BINS + 1)
    ]
    if filled[-1] <= LAST_BOND:
        ends.append((float(span[1, filled[-1]]), np.inf))
    widest = max(ends, key=lambda gap: gap[1] - gap[0], default=(0.0, 0.0))
    return widest if widest[1] - widest[0] >= NARROWEST else None
