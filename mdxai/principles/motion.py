"""Laws of motion: finite numbers, energy, temperature, momentum."""

from __future__ import annotations

import numpy as np

from mdxai.attribution import Attribution
from mdxai.frame import Frame
from mdxai.principles.principle import Deviation, PrincipleUnavailable


class NonFinite:
    """Number of NaN or infinite values among energy, positions, velocities and forces."""

    name = "non_finite"
    unit = "values"

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        arrays = (frame.positions, frame.velocities, frame.forces)
        bad = sum(~np.isfinite(array).all(axis=1) for array in arrays)
        count = sum(int(np.count_nonzero(~np.isfinite(array))) for array in arrays)
        count += not np.isfinite(frame.energy)
        return Deviation(self.name, self.unit, float(count), tuple(np.flatnonzero(bad).tolist()))


class Temperature:
    """How many standard deviations the kinetic energy lies above that of the bath.

    In the canonical ensemble 2 E_kin/(k_B T₀) follows χ² with 3N degrees of freedom: mean 3N,
    variance 6N. The deviation is (T/T₀ − 1)/√(2/3N), 0 when colder. The atom named is the one with
    the most kinetic energy.

    Args:
        target: T₀, K: the thermostat's, or in NVE that of the first frame.

    Raises:
        PrincipleUnavailable: when the target is 0, as for a start at rest without a thermostat.
    """

    name = "temperature"
    unit = "σ"

    def __init__(self, target: float) -> None:
        if not target > 0:
            raise PrincipleUnavailable(
                "there is no reference temperature: no thermostat, and a start at rest"
            )
        self.target = target

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        sigma = np.sqrt(2 / (3 * frame.n_atoms))
        excess = (frame.temperature / self.target - 1) / sigma
        kinetic = frame.masses * np.sum(frame.velocities**2, axis=1)
        hottest = int(np.argmax(kinetic))
        return Deviation(self.name, self.unit, float(np.maximum(excess, 0.0)), (hottest,))


class EnergyConservation:
    """Energy per atom that appears from nowhere, meV/atom, since the first frame.

    Without a thermostat: |E_tot − E_tot(0)|/N. With one, the heat it adds is unknown, but forces
    that are the gradient of the energy still do work equal to its change:
    |E_pot − E_pot(0) + Σ ½(F_k + F_{k+1})·(x_{k+1} − x_k)|/N, the trapezoid rule over each step,
    which a smooth potential obeys to O(Δx³). Needs every step: frames further apart tell nothing.

    Args:
        first: frame that the energy is counted from.
        thermostatted: whether anything but the forces changes the velocities.
    """

    name = "energy"
    unit = "meV/atom"

    def __init__(self, first: Frame, *, thermostatted: bool) -> None:
        if not np.isfinite(first.energy):
            raise PrincipleUnavailable("the first frame has no finite energy to count from")
        self._start = first.energy + (0.0 if thermostatted else first.kinetic_energy)
        self._thermostatted = thermostatted
        self._last = first
        self._work = 0.0
        self._gap = False

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        energy = frame.energy + (self._done_work(frame) if self._thermostatted
                                 else frame.kinetic_energy)  # fmt: skip
        if self._gap:
            return None
        value = 1e3 * abs(energy - self._start) / frame.n_atoms
        return Deviation(self.name, self.unit, float(value))

    def _done_work(self, frame: Frame) -> float:
        last, self._last = self._last, frame
        self._gap |= frame.step - last.step > 1
        force = (last.forces + frame.forces) / 2
        self._work += float(np.sum(force * (frame.positions - last.positions)))
        return self._work


class NetForce:
    """|Σ F|, eV/Å: nothing pulls an isolated system, nor a periodic one, as a whole."""

    name = "net_force"
    unit = "eV/Å"

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        return Deviation(self.name, self.unit, float(np.linalg.norm(frame.forces.sum(axis=0))))
