"""Frames as programs want them whose cells have a fixed orientation and repeat in all directions.

MDAnalysis and the formats it writes state a cell by lengths and angles: a lies along x, b in the
plane of x and y, and the cell is right-handed. Atoms of another cell must be turned with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.cell import Cell

from mdxai.frame import Bools, Floats, Frame

GAP = 20.0  # Å, at least, to the nearest image along a direction that does not repeat
ROUNDED_TO = 10.0  # Å, so that a box does not change with every step
UNTURNED = 1e-9  # deviation from no rotation that counts as none
AXES = "abc"


@dataclass(frozen=True, slots=True)
class StandardCell:
    """The cell of a frame, turned.

    Attributes:
        box: (3, 3) rows, Å, lower triangular with a positive diagonal. Along directions that do not
            repeat it is so wide that the nearest image of two atoms is the atoms themselves.
        cell: (3, 3) rows, Å: the frame's own cell in this orientation.
        pbc: (3,) along which rows the system repeats.
        rotation: (3, 3), proper: a vector v (3,) of the frame is v @ rotation here.
    """

    box: Floats
    cell: Floats
    pbc: Bools
    rotation: Floats

    def turned(self, vectors: Floats) -> Floats:
        """Return (n, 3) vectors of the frame in this orientation."""
        if np.abs(self.rotation - np.eye(3)).max() < UNTURNED:
            return vectors
        turned: Floats = vectors @ self.rotation
        return turned


def standard_cell(frame: Frame) -> StandardCell | None:
    """Return the turned cell of a frame; None where nothing repeats.

    A left-handed cell has the same lattice, lengths and angles as the one of the opposite vectors,
    which is right-handed: the atoms are turned with that one, and keep their handedness.
    """
    repeats = frame.pbc & (np.linalg.norm(frame.cell, axis=1) > 0)
    if not repeats.any() or not np.isfinite(frame.cell).all():
        return None
    own = np.where(repeats[:, None], frame.cell, 0.0)
    own[~repeats] = Cell(own).complete().array[~repeats]  # unit vectors, perpendicular
    cell = frame.cell
    if np.linalg.det(own) < 0:
        if repeats.all():
            own, cell = -own, -cell
        else:
            first = int(np.flatnonzero(~repeats)[0])
            own[first] *= -1
    if not np.linalg.det(own) > 0:
        return None
    for axis in np.flatnonzero(~repeats).tolist():
        own[axis] *= _width(frame, own[axis], axis)
    box, turn = Cell(own).standard_form()
    return StandardCell(box.array, cell @ turn.T, repeats, turn.T)


def _width(frame: Frame, direction: Floats, axis: int) -> float:
    """Return how wide a box must be for atoms never to be nearer to an image, Å."""
    along = frame.positions[np.isfinite(frame.positions).all(axis=1)] @ direction
    extent = float(np.ptp(along)) if len(along) else 0.0
    stated = abs(float(frame.cell[axis] @ direction))
    return max(stated, ROUNDED_TO * float(np.ceil((2 * extent + GAP) / ROUNDED_TO)))


def repeating_axes(pbc: Bools) -> str:
    """Return the cell vectors along which a system repeats, such as "a and b"."""
    return " and ".join(axis for axis, repeats in zip(AXES, pbc, strict=True) if repeats)


def on_partial_periodicity(pbc: Bools, target: str) -> str:
    """Return what becomes of a system that does not repeat in all directions, in a target."""
    return (
        f"repeats along {repeating_axes(pbc)} only, which {target} cannot express: the box is wide "
        "enough along other directions for no image to count"
    )
