"""How often and how strongly a guard acts."""

from __future__ import annotations

from typing import ClassVar

from mdxai.attribution import Attribution
from mdxai.calculators import Guard
from mdxai.calculators.guard_term import GuardTerm
from mdxai.frame import Frame
from mdxai.principles.principle import Cost, Deviation


class GuardWork:
    """Energy that the guard of the calculator holds, averaged over the last ps, eV.

    The mean counts how often the guard acts as well as how strongly. It is an exponential one, and
    that of all frames in the first ps. Its atoms are those of the pair that the guard acts on most.
    A model that leans on its guard all the time is used outside of what it was trained on.

    Args:
        guard: of the calculator.
        first: first frame of the run.
    """

    name = "guard_work"
    unit = "eV"
    cost: Cost = "free"
    MEMORY = 1000.0  # fs
    _not_state: ClassVar = ("_term",)

    def __init__(self, guard: Guard, first: Frame) -> None:
        self._term = GuardTerm(guard, first.numbers)
        self._mean, self._start, self._last = 0.0, first.time, first.time

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        action = self._term.act(frame.positions, frame.cell, frame.pbc)
        energy, atoms = 0.0, tuple[int, ...]()
        if action is not None:
            energy, most = action.energy, int(action.energies.argmax())
            atoms = (int(action.i[most]), int(action.j[most]))
        step = max(frame.time - self._last, 0.0)
        window = min(max(frame.time - self._start, step), self.MEMORY)
        share = step / window if window > 0 else 1.0
        self._mean += share * (energy - self._mean)
        self._last = frame.time
        return Deviation(self.name, self.unit, self._mean, atoms)
