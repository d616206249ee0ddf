"""Principles of energy: it is conserved, over the run and in every single step."""

from __future__ import annotations

import math

import numpy as np
from ase.geometry import complete_cell

from mdxai.attribution import Attribution
from mdxai.frame import Floats, Frame
from mdxai.principles.frame_quantities import frame_quantities
from mdxai.principles.motion.kicks import Kicks
from mdxai.principles.principle import Cost, Deviation
from mdxai.principles.running_statistics import BlockMeans, RunningMedian
from mdxai.statistics import _kernels as kernels

OF_A_STEP = ("energy", "forces")  # what the work of a step is computed from


class StepDefect:
    """Energy that one step creates: ΔE_pot + ½(F_k + F_{k+1})·(x_{k+1} − x_k), eV.

    Forces that are the gradient of the energy do work equal to its change; the trapezoid rule errs
    by O(Δx³). Both are the calculator's alone, without restraints. Atoms may be wrapped into the
    cell between frames.

    Args:
        first: frame to start from; the first with an energy, where it has none.

    Attributes:
        work: −½(F_k + F_{k+1})·(x_{k+1} − x_k), done against the forces in that step, eV.
        displacement: (n_atoms, 3) x_{k+1} − x_k of the last step with a defect, Å; None before.
    """

    def __init__(self, first: Frame) -> None:
        self._last = first
        self._defect: float | None = 0.0
        self._inverse = np.linalg.inv(complete_cell(first.cell))
        self.work = 0.0
        self.displacement: Floats | None = None

    def of(self, frame: Frame) -> float | None:
        """Return the defect of the step that led to `frame`; None across a gap or a new cell."""
        last = self._last
        if frame is last:
            return self._defect
        self._last = frame
        same_cell = frame.cell.tobytes() == last.cell.tobytes()
        if not same_cell:
            self._inverse = np.linalg.inv(complete_cell(frame.cell))
        one_step = same_cell and 0 <= frame.step - last.step <= 1
        if not one_step or not (last.has(*OF_A_STEP) and frame.has(*OF_A_STEP)):
            self._defect = None
            return None
        moved = frame.positions - last.positions
        if frame_quantities(frame).periodic:
            moved -= (np.round(moved @ self._inverse) * frame.pbc) @ frame.cell
        self.displacement = moved
        self.work = -0.5 * kernels.step_work(moved, frame.model_forces, last.model_forces)
        self._defect = float(frame.model_energy - last.model_energy - self.work)
        return self._defect


def heat_of(frame: Frame) -> float | None:
    """Return the energy that the thermostat holds, eV; None where it does not count it."""
    return None if frame.thermostat is None else frame.thermostat.energy


def counts_all(first: Frame, *, thermostatted: bool) -> bool:
    """Return whether what is conserved can be counted at one instant, without the steps before."""
    if first.outside is not None and first.outside.foreign:
        return False
    return not thermostatted or heat_of(first) is not None


class ConservedEnergy:
    """What should stay constant, eV, less its value at the start.

    Without a thermostat E_pot + E_kin, less what kicks gave. With one that counts the heat it gave
    (Nosé–Hoover chains, Bussi) E_pot + E_kin + E_bath. With any other, and with restraints that may
    change with time, the sum of the defects of all steps: that needs every step and a fixed cell,
    and is None for good after a gap.

    Args:
        defect: of single steps; shared.
        thermostatted: whether anything but the forces changes the velocities.
        first: frame to start from; the first with what is needed, where it lacks that.
        kicks: shared; None where they are not known.
    """

    def __init__(
        self,
        defect: StepDefect,
        first: Frame,
        *,
        thermostatted: bool,
        kicks: Kicks | None = None,
    ) -> None:
        self._defect, self._kicks = defect, kicks
        self._counts_heat = counts_all(first, thermostatted=thermostatted)
        self._thermostatted = thermostatted
        self._last: Frame | None = None
        self._value: float | None = None
        self._start: float | None = None
        self._begun = False
        if first.has(*OF_A_STEP) or (self._counts_heat and first.has_energy):
            self.of(first)

    def _total(self, frame: Frame) -> float | None:
        heat = heat_of(frame) if self._thermostatted else 0.0
        if heat is None:
            return None
        total: float = frame.energy + frame_quantities(frame).kinetic + heat
        if self._kicks is None:
            return total
        self._kicks.of(frame)
        return float(total - self._kicks.energy)

    def of(self, frame: Frame) -> float | None:
        """Return its change since the start; None where it is not known."""
        if frame is self._last:
            return self._value
        self._last = frame
        if self._counts_heat:
            total = self._total(frame)
            self._start = total if self._start is None else self._start
            self._value = None if total is None else total - (self._start or 0.0)
        else:
            self._value = self._summed(self._defect.of(frame), frame)
        return self._value

    def _summed(self, defect: float | None, frame: Frame) -> float | None:
        if not self._begun:
            self._begun = frame.has(*OF_A_STEP)
            return 0.0 if self._begun else None
        return None if defect is None or self._value is None else self._value + defect


class EnergyConservation:
    """Energy per atom that appeared from nowhere since the first frame, meV/atom.

    |E − E(0)|/N of `ConservedEnergy`. It sees wrong forces, no wrong energy surface: a molecule
    that falls into a hole conserves energy perfectly.
    """

    name = "energy"
    unit = "meV/atom"
    cost: Cost = "free"

    def __init__(self, conserved: ConservedEnergy) -> None:
        self._conserved = conserved

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        energy = self._conserved.of(frame)
        if energy is None:
            return None
        return Deviation(self.name, self.unit, float(1e3 * abs(energy) / frame.n_atoms))


class EnergyDrift:
    """Steady gain or loss of the conserved energy, meV/atom/ps.

    |Theil–Sen slope| over the whole run, from at most 64 means over equal stretches of time, and
    only once these span `SHORTEST`. A jump moves it little, and so does the oscillation of the
    Verlet energy: those are for `EnergyJump` and `EnergyConservation`.
    """

    name = "energy_drift"
    unit = "meV/atom/ps"
    cost: Cost = "free"
    SHORTEST = 1000.0  # fs
    STRETCH = 20.0  # fs: about two periods of an O–H bond

    def __init__(self, conserved: ConservedEnergy) -> None:
        self._conserved = conserved
        self._history = BlockMeans(1, self.STRETCH)
        self._slope: float | None = None

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        energy = self._conserved.of(frame)
        if energy is None:
            return None
        if not math.isfinite(energy):
            return Deviation(self.name, self.unit, np.nan)
        if self._history.add(frame.time, (energy,)) and self._history.span >= self.SHORTEST:
            self._slope = self._history.slope()
        if self._slope is None:
            return None
        return Deviation(self.name, self.unit, float(1e6 * abs(self._slope) / frame.n_atoms))


class EnergyJump:
    """Energy that a single step creates, in units of what steps of this run usually create.

    |defect|/σ of `StepDefect`, with σ = 1.4826 times its running median (the robust standard
    deviation), at least 0.02 meV. In σ rather than meV/atom: a jump happens at one place, so per
    atom it would vanish in a large system, and the discretisation error that it has to stand out
    from depends on timestep, temperature and size. The first 100 steps only set the scale.
    """

    name = "energy_jump"
    unit = "σ"
    cost: Cost = "free"
    FLOOR = 2e-5  # eV: rounding of float32 energies, a thousandth of k_B T at 230 K

    def __init__(self, defect: StepDefect) -> None:
        self._defect = defect
        self._usual = RunningMedian()

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        defect = self._defect.of(frame)
        if defect is None:
            return None
        sigma = max(1.4826 * self._usual.value, self.FLOOR) if self._usual.ready else None
        self._usual.add(abs(defect))
        if sigma is None and math.isfinite(defect):
            return None
        return Deviation(self.name, self.unit, abs(defect) / (sigma or self.FLOOR))
