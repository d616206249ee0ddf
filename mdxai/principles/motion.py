"""Laws of motion: finite numbers, energy, temperature, momentum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mdxai.attribution import Attribution
from mdxai.frame import Frame
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable


class NonFinite:
    """Number of NaN or infinite values among time, energy, positions, velocities and forces.

    Args:
        has_energy: whether the calculator provides energies; a missing one does not count.
    """

    name = "non_finite"
    unit = "values"
    cost: Cost = "free"

    def __init__(self, *, has_energy: bool = True) -> None:
        self._has_energy = has_energy

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        arrays = (frame.positions, frame.velocities, frame.forces)
        bad = sum(~np.isfinite(array).all(axis=1) for array in arrays)
        count = sum(int(np.count_nonzero(~np.isfinite(array))) for array in arrays)
        count += not np.isfinite(frame.time)
        count += self._has_energy and not np.isfinite(frame.energy)
        return Deviation(self.name, self.unit, float(count), tuple(np.flatnonzero(bad).tolist()))


class Temperature:
    """How many standard deviations the kinetic energy lies above that of the bath.

    In the canonical ensemble 2 E_kin/(k_B T₀) follows χ² with f degrees of freedom: mean f,
    variance 2f. The deviation is (T/T₀ − 1)/√(2/f), 0 when colder. A bath colder than 300 K counts
    as 300 K: there, what a strained start sets free exceeds the heat of the bath without any fault.
    The atom named is the one with the most kinetic energy.

    Args:
        bath: gives the thermostat's temperature T₀, K, at this moment; None without a thermostat.

    Raises:
        PrincipleUnavailable: without a thermostat, or when every atom is fixed.
    """

    name = "temperature"
    unit = "σ"
    cost: Cost = "free"
    COLDEST = 300.0  # K

    def __init__(self, bath: Callable[[], float | None], first: Frame) -> None:
        if bath() is None:
            raise PrincipleUnavailable(
                "no thermostat sets a temperature; without one the energy is checked instead"
            )
        if first.degrees_of_freedom <= 0:
            raise PrincipleUnavailable("no atom is free to move")
        self._bath = bath

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        target = max(self._bath() or 0.0, self.COLDEST)
        sigma = np.sqrt(2 / frame.degrees_of_freedom)
        excess = (frame.temperature / target - 1) / sigma
        kinetic = frame.masses * np.sum(frame.velocities**2, axis=1)
        hottest = int(np.argmax(kinetic))
        return Deviation(self.name, self.unit, float(np.maximum(excess, 0.0)), (hottest,))


class EnergyConservation:
    """Energy per atom that appears from nowhere, meV/atom, since the first frame.

    Without a thermostat: |E_tot − E_tot(0)|/N. With one, the heat it adds is unknown, but forces
    that are the gradient of the energy still do work equal to its change:
    |E_pot − E_pot(0) + Σ ½(F_k + F_{k+1})·(x_{k+1} − x_k)|/N, the trapezoid rule over each step,
    which a smooth potential obeys to O(Δx³). Needs every step and a fixed cell: once frames were
    further apart, or the cell has changed, it cannot tell any more.

    Args:
        first: frame that the energy is counted from.
        thermostatted: whether anything but the forces changes the velocities.
    """

    name = "energy"
    unit = "meV/atom"
    cost: Cost = "free"

    def __init__(self, first: Frame, *, thermostatted: bool) -> None:
        if not np.isfinite(first.energy):
            raise PrincipleUnavailable("the calculator gives MD no energy to count from")
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
        self._gap |= frame.step - last.step > 1 or not np.array_equal(frame.cell, last.cell)
        moved = frame.positions - last.positions
        if frame.pbc.any() and not self._gap:  # atoms may have been wrapped into the cell
            images = np.round(moved @ np.linalg.inv(frame.cell)) * frame.pbc
            moved = moved - images @ frame.cell
        self._work += float(np.sum((last.forces + frame.forces) / 2 * moved))
        return self._work


class NetForce:
    """|Σ F|, eV/Å: nothing pulls an isolated system, nor a periodic one, as a whole."""

    name = "net_force"
    unit = "eV/Å"
    cost: Cost = "free"

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        return Deviation(self.name, self.unit, float(np.linalg.norm(frame.forces.sum(axis=0))))
