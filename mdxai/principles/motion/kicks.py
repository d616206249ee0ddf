"""Kicks: changes of momenta that the forces did not make, where nothing but them should."""

from __future__ import annotations

import math

import numpy as np

from mdxai.attribution import Attribution
from mdxai.frame import AMU_ANG2_PER_FS2, BOLTZMANN, Floats, Frame
from mdxai.principles.frame_quantities import frame_quantities
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.statistics import _kernels as kernels

COLDEST = 10.0  # K; at rest there is no thermal motion to compare with
ROUNDING = 1e-3  # σ: of float32 velocities
NEEDED = ("velocities", "forces")
LEAST = 1e-2  # σ: a smaller change is no kick


class Kicks:
    """Momenta that something but the forces has changed, such as an observer that rescales them.

    Velocity Verlet makes Δv = ½(F_k + F_{k+1})Δt/m in each step, exactly. What is left is a kick,
    once a step has shown that the dynamics do so. Its size is the largest √(m|Δv|²/k_B T) of an
    atom. Principles of conservation count from after a kick on.

    Args:
        first: frame to start from.

    Attributes:
        momentum: (3,) of all kicks so far, amu·Å/fs.
        angular_momentum: (3,) of all kicks so far, each about the centre of mass, amu·Å²/fs.
        energy: kinetic energy that all kicks gave, eV.
    """

    def __init__(self, first: Frame) -> None:
        self._last = first
        self._found: tuple[float, int] | None = None
        self._obeyed = False
        self.momentum = np.zeros(3)
        self.angular_momentum = np.zeros(3)
        self.energy = 0.0

    def of(self, frame: Frame) -> tuple[float, int] | None:
        """Return the size (σ) of the kick in the step to a frame and its atom; None if unknown."""
        last = self._last
        if frame is last:
            return self._found
        self._last, self._found = frame, None
        if frame.step - last.step != 1 or not (last.has(*NEEDED) and frame.has(*NEEDED)):
            return None
        half = 0.5 * (frame.time - last.time) / AMU_ANG2_PER_FS2
        heat, atom = kernels.largest_kick(
            frame.velocities, last.velocities, frame.forces, last.forces, frame.masses, half
        )
        temperature = max(frame_quantities(frame).temperature, COLDEST)
        size = math.sqrt(heat * AMU_ANG2_PER_FS2 / (BOLTZMANN * temperature))
        if size <= ROUNDING:
            self._obeyed = True
        if self._obeyed:
            self._found = size, atom
            if size > LEAST:  # false for NaN
                self._count(frame, last, half)
        return self._found

    def _count(self, frame: Frame, last: Frame, half: float) -> None:
        masses = frame.masses[:, None]
        expected = last.velocities + half * (frame.forces + last.forces) / masses
        given = masses * (frame.velocities - expected)
        about: Floats = frame.positions - (masses * frame.positions).sum(0) / masses.sum()
        self.momentum = self.momentum + given.sum(0)
        self.angular_momentum = self.angular_momentum + np.cross(about, given).sum(0)
        gained = masses * (frame.velocities**2 - expected**2)
        self.energy += 0.5 * AMU_ANG2_PER_FS2 * float(gained.sum())


class MomentumKicks:
    """Largest change of an atom's momentum in one step that no force made, in thermal units.

    The size of `Kicks`. It is no fault of the potential: an observer, or a thermostat that mdxai
    does not know, changes momenta in a run that is otherwise without a thermostat.

    Args:
        kicks: shared; None with a thermostat.

    Raises:
        PrincipleUnavailable: with a thermostat.
    """

    name = "momentum_kicks"
    unit = "σ"
    cost: Cost = "free"

    def __init__(self, kicks: Kicks | None) -> None:
        if kicks is None:
            raise PrincipleUnavailable("a thermostat changes momenta")
        self._kicks = kicks

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        found = self._kicks.of(frame)
        return None if found is None else Deviation(self.name, self.unit, found[0], (found[1],))
