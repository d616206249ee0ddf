"""The principle that the distribution of interatomic distances does not change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.geometry import complete_cell

from mdxai.attribution import Attribution
from mdxai.frame import DENSE_LIMIT, Floats, Frame
from mdxai.principles.frame_quantities import frame_quantities
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable

WIDTH = 0.05  # Å, of a bin, as in Fu et al.
REACH = 6.0  # Å, in cells and large systems


def distance_histogram(frame: Frame, reach: float) -> Floats:
    """Return the counts of pair distances in bins of 0.05 Å; the last bin holds all beyond `reach`.

    An isolated small molecule counts all pairs, other systems those within reach.
    """
    whole = not frame.pbc.any() and frame.n_atoms <= DENSE_LIMIT
    distances = frame.pairs(np.inf if whole else reach).distances
    n_bins = round(reach / WIDTH)
    bins = np.minimum(distances / WIDTH, n_bins).astype(np.int64)
    return np.bincount(bins, minlength=n_bins + 1).astype(np.float64)


class DistanceDrift:
    """Change of the distribution of interatomic distances, ∫|h(r) − h₀(r)| dr.

    h(r) is the density of pair distances, averaged over part of the run, with ∫h dr = 1 (Fu et al.,
    TMLR 2023, arXiv 2210.07237: "h(r) MAE"). The integral is 0 for equal distributions and 2 for
    disjoint ones. h₀ comes from a reference trajectory, or from 0.5 to 2.5 ps of the run itself; h
    from the last full 2 ps. One frame in 10 fs is used. In cells and beyond 64 atoms only pairs
    within 6 Å (and half the cell) count, so that h is a distribution of neighbours like g(r).

    Args:
        first: a frame of the system.
        reference: frames that define h₀.

    Raises:
        PrincipleUnavailable: for a single atom.
    """

    name = "distance_drift"
    unit = "∫|Δh|"
    cost: Cost = "free"
    EVERY = 10.0  # fs between frames that are used
    SETTLED = 500.0  # fs, after which the reference part of the run begins
    STRETCH = 2000.0  # fs, averaged over

    def __init__(self, first: Frame, reference: Sequence[Frame] = ()) -> None:
        if first.n_atoms < 2:
            raise PrincipleUnavailable("a single atom has no distances")
        self._reach = _reach(first)
        self._usual: Floats | None = None
        if reference:
            self._usual = _density(
                np.sum([distance_histogram(f, self._reach) for f in reference], axis=0)
            )
        self._begin = first.time + (0.0 if reference else self.SETTLED)
        self._next = self._begin
        self._counts = np.zeros(round(self._reach / WIDTH) + 1)
        self._value: float | None = None

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        if not frame_quantities(frame).placed:
            return Deviation(self.name, self.unit, np.nan)
        if frame.time >= self._next - 1e-6:
            if frame.time - self._begin >= self.STRETCH - 1e-6:
                self._close(frame.time)
            self._counts += distance_histogram(frame, self._reach)
            self._next = max(self._next + self.EVERY, frame.time)
        return None if self._value is None else Deviation(self.name, self.unit, self._value)

    def _close(self, time: float) -> None:
        density = _density(self._counts)
        if self._usual is None:
            self._usual = density
        else:
            self._value = float(np.abs(density - self._usual).sum() * WIDTH)
        self._counts[:] = 0
        self._begin = time


def _density(counts: Floats) -> Floats:
    density: Floats = counts / (max(counts.sum(), 1.0) * WIDTH)
    return density


def _reach(first: Frame) -> float:
    if not first.pbc.any():
        return REACH if first.n_atoms > DENSE_LIMIT else 2 * REACH
    heights = 1 / np.linalg.norm(np.linalg.inv(complete_cell(first.cell)), axis=0)[first.pbc]
    return float(WIDTH * np.floor(min(REACH, heights.min() / 2) / WIDTH))
