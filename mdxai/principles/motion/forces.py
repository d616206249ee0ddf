"""Principles of forces: finite numbers, no spikes, nothing larger than in training."""

from __future__ import annotations

import math

import numpy as np

from mdxai.attribution import Attribution
from mdxai.frame import Frame
from mdxai.principles.frame_quantities import frame_quantities
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.principles.running_statistics import RunningMedian


class NonFinite:
    """Number of NaN or infinite values among time, energy, positions, velocities and forces.

    What a frame does not hold is absent rather than NaN, and does not count.
    """

    name = "non_finite"
    unit = "values"
    cost: Cost = "free"

    def __init__(self) -> None:
        self._sound = Deviation(self.name, self.unit, 0.0)

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        scalars = frame.time + (frame.energy if frame.has_energy else 0.0)
        # Sums are finite when all are, save for an overflow, which the count then settles.
        if math.isfinite(scalars) and frame_quantities(frame).finite:
            return self._sound
        vectors = {"velocities": frame.velocities, "forces": frame.forces}
        arrays = [frame.positions, *(v for name, v in vectors.items() if name not in frame.absent)]
        bad = sum(~np.isfinite(array).all(axis=1) for array in arrays)
        count = sum(int(np.count_nonzero(~np.isfinite(array))) for array in arrays)
        count += not np.isfinite(frame.time)
        count += frame.has_energy and not np.isfinite(frame.energy)
        return Deviation(self.name, self.unit, float(count), tuple(np.flatnonzero(bad).tolist()))


class ForceSpike:
    """How far the largest force exceeds what is usual in this run: F_max/median(F_max) − 1.

    F_max is the largest norm on any atom. The median follows the run slowly (by 1 % a frame), so
    heating by a thermostat is no spike. The first 100 frames only set the scale; constrained atoms
    count with the force that the potential exerts on them. The number is a ratio.
    """

    name = "force_spike"
    unit = "×"
    cost: Cost = "free"
    FLOOR = 0.1  # eV/Å: forces smaller than this are no spike, whatever was usual

    def __init__(self) -> None:
        self._usual = RunningMedian()

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        largest, atom = frame_quantities(frame).largest_force
        usual = self._usual.value if self._usual.ready else None
        self._usual.add(largest)
        if not math.isfinite(largest):
            return Deviation(self.name, self.unit, largest, (atom,))
        if usual is None:
            return None
        ratio = largest / max(usual, self.FLOOR)
        return Deviation(self.name, self.unit, max(ratio - 1.0, 0.0), (atom,))


class RepeatedForces:
    """Frames in a row whose forces and energy are those of the one before, to the last digit.

    Atoms that forces act on have moved by more than 1e-5 Å in between, so a calculator that looked
    at them would say something else, in a uniform field about the energy. This one answers with
    results of an earlier structure.
    """

    name = "repeated_forces"
    unit = "frames"
    cost: Cost = "free"
    STEP = 1e-5  # Å

    def __init__(self) -> None:
        self._last: Frame | None = None
        self._largest = 0.0
        self._row = 0

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        largest, before = frame_quantities(frame).largest_force[0], self._largest
        last, self._last, self._largest = self._last, frame, largest
        same = largest == before and last is not None and self._repeats(frame, last)
        self._row = self._row + 1 if same else 0
        return Deviation(self.name, self.unit, float(self._row))

    def _repeats(self, frame: Frame, last: Frame) -> bool:
        forces = frame.model_forces
        same_energy = frame.energy == last.energy or not (frame.has_energy and last.has_energy)
        if not (same_energy and np.array_equal(forces, last.model_forces)):
            return False
        moved = np.abs(frame.positions - last.positions).max(axis=1) > self.STEP
        return bool(moved[forces.any(axis=1)].any())


class ForceBeyondTraining:
    """How far the largest force exceeds the largest in the training data, as a share of that.

    max(0, F_max/F_train − 1). The network has never been asked for such forces; it extrapolates.

    Args:
        forces_max: largest norm of a force in the training data, eV/Å.

    Raises:
        PrincipleUnavailable: when the card does not state it.
    """

    name = "force_beyond_training"
    unit = "×"
    cost: Cost = "free"

    def __init__(self, forces_max: float | None) -> None:
        if forces_max is None or not (np.isfinite(forces_max) and forces_max > 0):
            raise PrincipleUnavailable(
                "the largest force of the training data is not known: neither the calculator nor "
                "reference data state it"
            )
        self._forces_max = forces_max

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        largest, atom = frame_quantities(frame).largest_force
        excess = largest / self._forces_max - 1.0
        return Deviation(self.name, self.unit, 0.0 if excess < 0 else excess, (atom,))  # NaN stays
