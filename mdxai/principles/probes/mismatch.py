"""Principles by which two evaluations must agree, and the mismatch of the two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mdxai.frame import Floats, Frame
from mdxai.principles.principle import Cost, Deviation
from mdxai.principles.probes.configurations import OncePerFrame


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Difference of two evaluations that should agree.

    energy: meV/atom. forces: (n_atoms,) eV/Å, norm of the difference on each atom.
    """

    energy: float
    forces: Floats

    def worse_of(self, other: Mismatch) -> Mismatch:
        """Return the larger energy and the larger forces; NaN counts as largest."""
        return Mismatch(
            float(np.maximum(self.energy, other.energy)), np.maximum(self.forces, other.forces)
        )


Comparison = Callable[[Frame], Mismatch]


class EnergyComparison:
    """|ΔE|/N, meV/atom, between two evaluations that should agree."""

    unit = "meV/atom"
    cost: Cost = "probe"

    def __init__(self, name: str, compare: Comparison) -> None:
        self.name, self._compare = name, compare

    def deviate(self, frame: Frame, attribution: object = None) -> Deviation:
        return Deviation(self.name, self.unit, self._compare(frame).energy)


class ForceComparison:
    """max |ΔF|, eV/Å, between two evaluations that should agree, and the atom with this maximum."""

    unit = "eV/Å"
    cost: Cost = "probe"

    def __init__(self, name: str, compare: Comparison) -> None:
        self.name, self._compare = f"{name}_forces", compare

    def deviate(self, frame: Frame, attribution: object = None) -> Deviation:
        forces = self._compare(frame).forces
        worst = int(np.argmax(forces))  # a NaN, if there is one
        atoms = () if forces[worst] == 0 else (worst,)
        return Deviation(self.name, self.unit, float(forces[worst]), atoms)


def energy_and_forces(name: str, compare: Comparison) -> tuple[EnergyComparison, ForceComparison]:
    """Return the principles of energy and of forces for one comparison."""
    once = OncePerFrame(compare)
    return EnergyComparison(name, once), ForceComparison(name, once)


def mismatch(
    n_atoms: int, energies: tuple[float, float], forces: tuple[Floats, Floats]
) -> Mismatch:
    """Compare energies (eV) and forces (n_atoms, 3) (eV/Å) of two evaluations."""
    lengths = np.linalg.norm(forces[0] - forces[1], axis=1)
    return Mismatch(1e3 * abs(energies[0] - energies[1]) / n_atoms, lengths)
