"""Faults of the motion: thermostats that treat one kind of motion unlike the others.

Energy and forces stay sound; only the distribution of heat is wrong.
"""

from __future__ import annotations

import math

import numpy as np
from ase import Atoms, units
from ase.data import atomic_numbers
from ase.md.md import MolecularDynamics

from mdxai.frame import Floats
from mdxai.testing.faults import FaultError

MOTIONS = ("translation", "rotation")


class SeparateBath:
    """A second thermostat that keeps one kind of motion at its own temperature.

        dynamics.attach(SeparateBath(dynamics, "O", 1200.0), interval=1)

    Attach it before the monitor, so that the monitor sees its effect. After each step it rescales
    the velocities of that part as Berendsen et al. (J. Chem. Phys. 81, 3684, 1984) do, v ← λv with
    λ² = 1 + (Δt/τ)(T₀/T − 1) and λ² from 0.5 to 2. Breaks: in equilibrium all motion is equally hot
    (equipartition), as after a mistake in the counting of a group's degrees of freedom.

    Args:
        dynamics: ASE's, of which the atoms are heated or cooled.
        part: symbol of an element, "translation" (of the centre of mass) or "rotation" (of a
            molecule about it).
        temperature: T₀, K, of 3 degrees of freedom per atom, or 3 of the motion as a whole.
        relaxation: τ, fs, not below the timestep.

    Raises:
        FaultError: for a part that the system does not have, or numbers out of range.
    """

    def __init__(
        self, dynamics: MolecularDynamics, part: str, temperature: float, relaxation: float = 10.0
    ) -> None:
        self._atoms: Atoms = dynamics.atoms
        timestep = dynamics.dt / units.fs
        known = [*MOTIONS[: 1 if self._atoms.pbc.any() else 2], *sorted(set(self._atoms.symbols))]
        if part not in known:
            raise FaultError(f"part must be one of {', '.join(known)}, got {part!r}")
        if not temperature > 0 or not relaxation >= timestep:
            raise FaultError(
                f"expected a temperature above 0 K and a relaxation of at least the timestep, "
                f"{timestep:g} fs; got {temperature} K and {relaxation} fs"
            )
        self._part, self._target = part, temperature
        self._coupling = timestep / relaxation

    def __call__(self) -> None:
        """Rescale the velocities of the part; ASE calls this."""
        atoms = self._atoms
        velocities = atoms.get_velocities()
        motion, freedom = self._motion(velocities)
        kinetic = 0.5 * float(atoms.get_masses() @ (motion * motion).sum(axis=1))
        if not kinetic > 0:
            return  # nothing to scale
        ratio = 0.5 * freedom * units.kB * self._target / kinetic
        scale = math.sqrt(min(max(1 + self._coupling * (ratio - 1), 0.5), 2.0))
        atoms.set_velocities(velocities + (scale - 1) * motion)

    def _motion(self, velocities: Floats) -> tuple[Floats, int]:
        """Return the part's share of the velocities, (n_atoms, 3), and its degrees of freedom."""
        atoms = self._atoms
        if self._part == "translation":
            masses = atoms.get_masses()
            drift = masses @ velocities / masses.sum()
            return np.broadcast_to(drift, velocities.shape), 3
        if self._part == "rotation":
            moments, axes = atoms.get_moments_of_inertia(vectors=True)
            turning = moments > 1e-8 * moments[-1]  # a linear molecule does not turn about its axis
            along = axes @ atoms.get_angular_momentum()
            spin = axes.T @ np.divide(along, moments, out=np.zeros(3), where=turning)
            arms = atoms.positions - atoms.get_center_of_mass()
            return np.cross(spin, arms), int(np.count_nonzero(turning))
        members = atoms.numbers == atomic_numbers[self._part]
        return np.where(members[:, None], velocities, 0.0), 3 * int(np.count_nonzero(members))
