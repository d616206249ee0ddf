"""A diatomic whose bond leads into a hole at short distance, for ASE and in batches."""

from __future__ import annotations

import numpy as np
from ase import Atoms

STIFFNESS, LENGTH = 16.0, 1.1  # eV/Å², Å of the harmonic bond
HOLE, PLACE, WIDTH = -8.0, 0.5, 0.15  # eV, Å, Å of the Gaussian added to it


def energy_and_slope(r, hole=HOLE):
    """Return the energy (eV) at distances r (Å), and its derivative."""
    dip = hole * np.exp(-(((r - PLACE) / WIDTH) ** 2))
    energy = 0.5 * STIFFNESS * (r - LENGTH) ** 2 + dip
    return energy, STIFFNESS * (r - LENGTH) - 2 * (r - PLACE) / WIDTH**2 * dip


def evaluate(positions, hole=HOLE):
    """Return energies (n,) and forces (n, 2, 3) of n pairs."""
    vectors = positions[:, 1] - positions[:, 0]
    r = np.linalg.norm(vectors, axis=1)
    energy, slope = energy_and_slope(r, hole)
    pull = (slope / r)[:, None] * vectors
    return energy, np.stack([pull, -pull], axis=1)


def barrier(hole=HOLE):
    """Return the height of the barrier in front of the hole, eV."""
    r = np.linspace(PLACE, LENGTH, 20_000)
    return energy_and_slope(r, hole)[0].max()


def pair():
    return Atoms("CO", [[0, 0, 0], [0, 0, LENGTH]])


class HoledPair:
    """The pair as ASE sees it; without ASE's comparison of atoms, which takes most of the time."""

    def __init__(self, hole=HOLE):
        self.hole = hole

    def get_potential_energy(self, atoms, force_consistent=False):
        return float(self.both(atoms)[0][0])

    def get_forces(self, atoms):
        return self.both(atoms)[1][0]

    def both(self, atoms):
        return evaluate(atoms.positions[None], self.hole)
