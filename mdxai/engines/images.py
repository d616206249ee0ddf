"""Ways of atoms through periodic cells, where something wraps the atoms into the cell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase.geometry import complete_cell

from mdxai.frame import Floats, Frame

FASTEST = 5.0  # times the speed of the fastest atom: no atom goes further between two frames
ROUNDING = 1e-6  # Å


class Unwrapping:
    """Puts atoms that jump by lattice vectors back in their way.

    A jump is what no motion explains: it is longer than the fastest atom goes, by far, and without
    a lattice vector it is not. Where frames are so far apart that an atom may cross the cell
    between two of them, nothing is changed.

    Args:
        images: (n_atoms, 3) cells that atoms have been moved by so far; None for none.
    """

    def __init__(self, images: Floats | None = None) -> None:
        self.images = images
        self._last: Frame | None = None
        self._cell = b""
        self._inverse = np.eye(3)
        self._half = 0.0  # of the smallest height of the cell, Å

    def of(self, frame: Frame) -> Frame:
        """Return a frame with continuous positions, given the frames before it."""
        if not frame.pbc.any():
            return frame
        if self.images is not None:
            frame = replace(frame, positions=frame.positions + self.images @ frame.cell)
        last, self._last = self._last, frame
        if last is None:
            return frame
        if frame.cell.tobytes() != self._cell:
            self._measure(frame)
        moved = frame.positions - last.positions
        if not np.abs(moved).max() < self._half:
            frame = self._last = self._put_back(frame, last, moved)
        return frame

    def _measure(self, frame: Frame) -> None:
        self._cell = frame.cell.tobytes()
        self._inverse = np.linalg.inv(complete_cell(frame.cell))
        heights = 1 / np.linalg.norm(self._inverse, axis=0)
        self._half = float(heights[frame.pbc].min()) / 2

    def _put_back(self, frame: Frame, last: Frame, moved: Floats) -> Frame:
        jumps = np.round(moved @ self._inverse) * frame.pbc
        way = np.linalg.norm(moved, axis=1)
        rest = np.linalg.norm(moved - jumps @ frame.cell, axis=1)
        speed = max(np.linalg.norm(f.velocities, axis=1).max() for f in (last, frame))
        longest = FASTEST * speed * abs(frame.time - last.time) + ROUNDING
        jumped = (way > longest) & (rest <= longest) & jumps.any(axis=1)
        if not jumped.any():
            return frame
        back = np.where(jumped[:, None], jumps, 0.0)
        self.images = -back if self.images is None else self.images - back
        return replace(frame, positions=frame.positions - back @ frame.cell)
