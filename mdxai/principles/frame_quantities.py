"""Quantities of one frame that several principles need, each computed once."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mdxai.frame import (
    AMU_ANG2_PER_FS2,
    DENSE_LIMIT,
    Floats,
    Frame,
    Ints,
    temperature_of,
    upper_triangle,
)
from mdxai.statistics import _kernels as kernels

CONTACT_RANGE = 4.0  # Å; pairs farther apart are not contacts


@dataclass(frozen=True, slots=True)
class RigidMotion:
    """Motion of a system as a whole, about its centre of mass.

    angular_momentum: (3,) amu·Å²/fs. inertia: (3, 3) amu·Å². translation, rotation: kinetic
    energies, eV; rotation is meaningful for isolated systems only.
    """

    angular_momentum: Floats
    inertia: Floats
    translation: float
    rotation: float


class Contacts(NamedTuple):
    """Pairs of atoms i < j, each (n_pairs,), and their distances, (n_pairs,), Å."""

    i: Ints
    j: Ints
    distances: Floats


class FrameQuantities:
    """Quantities of one frame. Sums over atoms are computed at once, the others on request.

    Attributes:
        frame: the frame.
        periodic: whether the cell repeats along any direction.
        small: whether the system is isolated and small enough to compute all its pairs.
        placed: whether all positions are finite.
        finite: whether positions, velocities, forces and their sum are finite.
        net_force: Σ F of the calculator (3 numbers), eV/Å.
        momentum: 3 numbers, amu·Å/fs.
        kinetic: kinetic energy, eV.
        temperature: of all degrees of freedom, K; 0 where there are none.
        largest_force: largest norm of a force of the calculator, eV/Å, and its atom; NaN counts as
            the largest.
        hottest: atom with the most kinetic energy; NaN counts as the most.
    """

    def __init__(self, frame: Frame) -> None:
        n = len(frame.numbers)
        self.frame = frame
        self.periodic = any(frame.pbc.tolist())
        self.small = n <= DENSE_LIMIT and not self.periodic
        self._distances = np.empty(n * (n - 1) // 2 if self.small else 0)
        self._heats = np.empty(n)  # m v², amu·Å²/fs²
        (
            positions, velocities, *forces, x, y, z, self._mass, heat, square, pulled, self.hottest
        ) = kernels.summary(
            frame.positions, frame.velocities, frame.model_forces, frame.masses, self._heats,
            self._distances,
        )  # fmt: skip
        self.net_force = tuple(forces)
        self.momentum = (x, y, z)
        self.placed = math.isfinite(positions)
        self.finite = math.isfinite(positions + velocities + sum(forces))
        self.kinetic = 0.5 * AMU_ANG2_PER_FS2 * heat
        self.temperature = temperature_of(self.kinetic, frame.degrees_of_freedom)
        self.largest_force = (math.sqrt(square), pulled)

    @cached_property
    def contacts(self) -> Contacts:
        """All pairs of a small isolated system, in a fixed order; else the pairs within 4 Å."""
        if self.small:
            return Contacts(*upper_triangle(len(self._heats)), self._distances)
        pairs = self.frame.pairs(CONTACT_RANGE)
        return Contacts(pairs.i, pairs.j, pairs.distances)

    @cached_property
    def atom_kinetic(self) -> Floats:
        """(n_atoms,) kinetic energies, eV."""
        energies: Floats = (0.5 * AMU_ANG2_PER_FS2) * self._heats
        return energies

    @cached_property
    def translation(self) -> float:
        """Kinetic energy of the centre of mass, eV."""
        x, y, z = self.momentum
        square = x * x + y * y + z * z  # not x**2, which raises where it overflows
        energy: float = 0.5 * AMU_ANG2_PER_FS2 * square / self._mass
        return energy

    @cached_property
    def rigid(self) -> RigidMotion:
        """Motion of the system as a whole."""
        frame = self.frame
        xx, yy, zz, xy, xz, yz, *turning = kernels.about_centre(
            frame.positions, frame.velocities, frame.masses
        )
        inertia = np.array([[yy + zz, -xy, -xz], [-xy, xx + zz, -yz], [-xz, -yz, xx + yy]])
        spin = np.array(turning)
        rotation = 0.5 * AMU_ANG2_PER_FS2 * _twice_rotation(inertia, spin)
        return RigidMotion(spin, inertia, self.translation, rotation)


class _Last(threading.local):
    """The quantities of a thread's last frame, and of no other, to bound memory."""

    seen: FrameQuantities | None = None


_last = _Last()


def frame_quantities(frame: Frame) -> FrameQuantities:
    """Return the quantities of a frame; those of the last frame are cached."""
    seen = _last.seen
    if seen is None or seen.frame is not frame:
        seen = _last.seen = FrameQuantities(frame)
    return seen


def _twice_rotation(inertia: Floats, spin: Floats) -> float:
    """Return L·I⁻¹L, amu·Å²/fs²; a linear molecule does not rotate about its axis."""
    (a, d, e), (_, b, f), (_, _, c) = inertia.tolist()
    x, y, z = spin.tolist()
    aa, bb, cc = b * c - f * f, a * c - e * e, a * b - d * d  # adjugate
    dd, ee, ff = e * f - c * d, d * f - b * e, d * e - a * f
    determinant, size = a * aa + d * dd + e * ee, a + b + c
    if determinant > 1e-5 * size * size * size and math.isfinite(determinant):  # far from linear
        mixed = dd * x * y + ee * x * z + ff * y * z
        twice: float = (aa * x * x + bb * y * y + cc * z * z + 2 * mixed) / determinant
        return twice
    if not math.isfinite(inertia.sum()):
        return math.nan
    moments, axes = np.linalg.eigh(inertia)
    turning = moments > 1e-8 * moments[-1]
    along = axes.T @ spin
    return float(along @ np.divide(along, moments, out=np.zeros(3), where=turning))
