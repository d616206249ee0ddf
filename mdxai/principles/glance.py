"""What several principles want to know about one frame, each computed once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mdxai.frame import AMU_ANG2_PER_FS2, BOLTZMANN, DENSE_LIMIT, Floats, Frame, Pairs

CONTACT_RANGE = 4.0  # Å; contacts this far apart are no contacts


@dataclass(frozen=True, slots=True)
class RigidMotion:
    """Motion of a system as a whole, about its centre of mass.

    angular_momentum: (3,) amu·Å²/fs. inertia: (3, 3) amu·Å². translation, rotation: kinetic
    energies, eV; rotation has a meaning for isolated systems only.
    """

    angular_momentum: Floats
    inertia: Floats
    translation: float
    rotation: float


class Glance:
    """Lazy quantities of one frame."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame

    @cached_property
    def placed(self) -> bool:
        """Whether all positions are finite."""
        return math.isfinite(self.frame.positions.sum())

    @cached_property
    def small(self) -> bool:
        """Whether the system is so small and isolated that all its pairs are formed."""
        return self.frame.n_atoms <= DENSE_LIMIT and not self.frame.pbc.any()

    @cached_property
    def contacts(self) -> Pairs:
        """All pairs of a small isolated system, always in the same order; else those within 4 Å."""
        return self.frame.pairs(np.inf if self.small else CONTACT_RANGE)

    @cached_property
    def atom_kinetic(self) -> Floats:
        """(n_atoms,) kinetic energies, eV."""
        v = self.frame.velocities
        energies: Floats = (
            (0.5 * AMU_ANG2_PER_FS2) * self.frame.masses * np.einsum("ij,ij->i", v, v)
        )
        return energies

    @cached_property
    def kinetic(self) -> float:
        """Kinetic energy, eV."""
        return float(self.atom_kinetic.sum())

    @cached_property
    def temperature(self) -> float:
        """Of all degrees of freedom, K; 0 where there are none."""
        freedom = self.frame.degrees_of_freedom
        return 2.0 * self.kinetic / (freedom * BOLTZMANN) if freedom > 0 else 0.0

    @cached_property
    def momentum(self) -> Floats:
        """(3,) amu·Å/fs."""
        total: Floats = self.frame.masses @ self.frame.velocities
        return total

    @cached_property
    def translation(self) -> float:
        """Kinetic energy of the centre of mass, eV."""
        square = float(self.momentum @ self.momentum)
        return 0.5 * AMU_ANG2_PER_FS2 * square / float(self.frame.masses.sum())

    @cached_property
    def largest_force(self) -> tuple[float, int]:
        """Largest norm of a force, eV/Å, and its atom; NaN counts as the largest."""
        forces = self.frame.forces
        squares = np.einsum("ij,ij->i", forces, forces)
        atom = int(squares.argmax())
        return math.sqrt(squares[atom]), atom

    @cached_property
    def rigid(self) -> RigidMotion:
        """Motion as a whole."""
        frame = self.frame
        arms = frame.positions - frame.masses @ frame.positions / frame.masses.sum()
        weighted = frame.masses[:, None] * arms
        moments = weighted.T @ arms
        inertia = moments.trace() * np.eye(3) - moments
        spin = axial(weighted.T @ frame.velocities)
        rotation = 0.5 * AMU_ANG2_PER_FS2 * float(spin @ _angular_velocity(inertia, spin))
        return RigidMotion(spin, inertia, self.translation, rotation)


_kept: list[Glance] = []  # at most one: memory stays bounded


def glance(frame: Frame) -> Glance:
    """Return the quantities of a frame; those of the last frame asked for are kept."""
    seen = _kept[0] if _kept else None
    if seen is None or seen.frame is not frame:
        seen = Glance(frame)
        _kept[:] = [seen]
    return seen


def axial(product: Floats) -> Floats:
    """Return Σ a × b from Σ a ⊗ b, (3, 3)."""
    (_, xy, xz), (yx, _, yz), (zx, zy, _) = product.tolist()
    return np.array([yz - zy, zx - xz, xy - yx])


def _angular_velocity(inertia: Floats, spin: Floats) -> Floats:
    """Return the angular velocity, rad/fs; a linear molecule does not turn about its axis."""
    if not math.isfinite(inertia.sum()):
        return np.full(3, np.nan)
    moments, axes = np.linalg.eigh(inertia)
    turning = moments > 1e-8 * moments[-1]
    along = axes.T @ spin
    velocity: Floats = axes @ np.divide(along, moments, out=np.zeros(3), where=turning)
    return velocity
