"""A pair potential with faults on request, and what tests of probes share."""

from __future__ import annotations

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from mdxai.stability.thresholds import PROBE_THRESHOLDS


class Pairwise(Calculator):
    """Repulsive exponentials between all pairs, smooth everywhere, with a fault on request.

    Faults: "double" forces, "curl" (a force without energy), "field" (energy depends on absolute
    orientation), "hole" between close H, "jump" of the energy at 5 Å, "mean" (an energy that
    depends on how many atoms there are), "order" of the atoms, "single" (energies in float32).
    """

    implemented_properties = ("energy", "forces")

    def __init__(self, fault="", **kwargs):
        super().__init__(**kwargs)
        self.fault = fault

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x, z = self.atoms.positions, self.atoms.numbers
        i, j = np.triu_indices(len(x), k=1)
        v = x[j] - x[i]
        r = np.linalg.norm(v, axis=1)
        wall = np.exp(-4 * (r - 1.2))
        energies, slopes = 2 * wall, -8 * wall
        if self.fault == "hole":
            near = (z[i] == 1) & (z[j] == 1)
            dip = near * np.exp(-(((r - 1.2) / 0.15) ** 2))
            energies, slopes = energies - 6 * dip, slopes + 12 * (r - 1.2) / 0.15**2 * dip
        if self.fault == "jump":
            energies = energies + 0.01 * (r < 5.0)
        energy, forces = energies.sum(), np.zeros_like(x)
        pull = slopes[:, None] * v / r[:, None]
        np.add.at(forces, i, pull)
        np.add.at(forces, j, -pull)
        energy, forces = self.broken(energy, forces, x)
        self.results = {"energy": energy, "forces": forces}

    def broken(self, energy, forces, x):
        if self.fault == "double":
            forces = 2 * forces
        elif self.fault == "curl":
            forces[2] += np.cross([0, 0, 0.2], x[2] - x.mean(axis=0))
        elif self.fault == "field":
            energy += 0.1 * x[0, 0]
            forces[0, 0] -= 0.1
        elif self.fault == "mean":
            energy += 0.1 * np.sqrt(len(x))
            forces = forces * len(x) / 9
        elif self.fault == "order":
            energy += 0.05 * (x[0] - x[1]) @ (x[0] - x[1])
            forces[0] -= 0.1 * (x[0] - x[1])
            forces[1] += 0.1 * (x[0] - x[1])
        elif self.fault == "single":
            energy = float(np.float32(energy + 4000))
        return energy, forces


def values(principles, frame):
    """Return each principle's deviation of a frame, by name."""
    return {p.name: p.deviate(frame).value for p in principles}


def limits():
    """Return the thresholds of all probes, by name."""
    return {t.principle: t for t in PROBE_THRESHOLDS}
