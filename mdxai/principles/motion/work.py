"""Principles of work: forces are the gradient of the energy, seen in every step of a run for free.

What the atoms do on their way shows whether energy and forces belong together, whatever moves them:
a thermostat changes velocities, and neither the energy at a position nor the force there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from mdxai.attribution import Attribution
from mdxai.frame import Floats, Frame
from mdxai.principles.motion.energy import StepDefect
from mdxai.principles.principle import Cost, Deviation
from mdxai.statistics import _kernels as kernels

MEMORY = 500  # steps after which an old one counts 1/e
FEWEST = 30  # steps before anything is said
EFFECTIVE = 10  # steps that must carry the sum of squares; fewer are a few outliers
CERTAINTY = 5.0  # standard errors that do not count
DISCRETISATION = 3.0  # estimated errors of the trapezoid rule that do not count
COARSEST = 0.1  # of the work, that error where the rule no longer says anything
DIGITS = 2.0  # smallest steps of the energy that the usual work of a step must exceed


class WorkFit(NamedTuple):
    """Change of the energy regressed on the work of the forces, over the last steps.

    slope: of ΔE = slope · W; 1 where forces are the gradient, 1/f where they are f times it.
    interval: what the slope may be off by, up or down, for want of data.
    scatter: what the line leaves unexplained, as a share of the work of a usual step.
    """

    slope: float
    interval: float
    scatter: float


@dataclass(slots=True)
class _Sums:
    """Sums over the last steps of products of work w, defect d = ΔE − w, and those one before."""

    n: float = 0.0
    ww: float = 0.0
    dw: float = 0.0
    dd: float = 0.0
    wwww: float = 0.0
    dwww: float = 0.0
    ddww: float = 0.0
    ww_before: float = 0.0
    dw_before: float = 0.0
    dd_before: float = 0.0
    turn: float = 0.0  # of squares of what two steps at once differ by from one after the other

    def add(self, step: tuple[float, float], before: tuple[float, float], turn: float) -> None:
        keep, (w, d), (v, c) = 1.0 - 1.0 / MEMORY, step, before
        ww = w * w
        self.n = keep * self.n + 1.0
        self.ww = keep * self.ww + ww
        self.dw = keep * self.dw + d * w
        self.dd = keep * self.dd + d * d
        self.wwww = keep * self.wwww + ww * ww
        self.dwww = keep * self.dwww + d * w * ww
        self.ddww = keep * self.ddww + d * d * ww
        self.ww_before = keep * self.ww_before + w * v
        self.dw_before = keep * self.dw_before + d * v + c * w
        self.dd_before = keep * self.dd_before + d * c
        self.turn = keep * self.turn + turn * turn


class WorkBalance:
    """Regression of the change of the energy on the work of the forces, ΔE = slope · W.

    W = −∫F·dx of each step by the trapezoid rule, −½(F_k + F_{k+1})·(x_{k+1} − x_k). The line goes
    through the origin: where nothing is done, nothing changes. Old steps fade over 500 steps.

    The interval is 5 standard errors, robust to unequal scatter (White, Econometrica 48, 817, 1980;
    a single jump of the energy, however large, lies within it), plus 3 times the error of the
    trapezoid rule. That error is known from the run itself: one step of double length differs from
    two single ones by six times the error of one (Richardson), so a timestep that is too long, or
    an explosion, is not taken for a fault of the forces.

    Scatter counts what lasts from one step to the next: with γ₀ and γ₁ the covariances of
    neighbouring residuals, √((γ₀ + 2γ₁)/3⟨W²⟩). Rounding of the energy drops out of γ₀ + 2γ₁, as
    what one step gains by it the next one loses.

    There is no fit before 30 steps, where few of them carry the sum, where the rule errs by more
    than a tenth of the work, nor where a usual step does less work than two of the smallest steps
    of the energy: a constant, or a rounded one.

    Args:
        defect: of single steps; shared.
    """

    def __init__(self, defect: StepDefect) -> None:
        self._defect = defect
        self._sums = _Sums()
        self._digit = math.inf  # smallest change of the energy so far but 0, eV
        self._before = (0.0, 0.0)  # work and defect of the last step
        self._path: tuple[Floats, Floats, Floats] | None = None  # displacement, forces around it
        self._last: Frame | None = None
        self._fit: WorkFit | None = None

    def of(self, frame: Frame) -> WorkFit | None:
        """Return the fit up to a frame; None where there is none."""
        if frame is not self._last:
            forces = None if self._last is None else self._last.model_forces
            self._last = frame
            self._fit = self._fitted() if self._add(frame, forces) else None
        return self._fit

    def _add(self, frame: Frame, last_forces: Floats | None) -> bool:
        """Add the step that led to a frame; return whether there was one."""
        defect, moved = self._defect.of(frame), self._defect.displacement
        if defect is None or moved is None or last_forces is None or not math.isfinite(defect):
            self._before, self._path = (0.0, 0.0), None
            return False
        work = self._defect.work
        change = abs(defect + work)
        if 0 < change < self._digit:
            self._digit = change
        turn = 0.0
        if self._path is not None:
            turn = kernels.turn_work(*self._path, moved, frame.model_forces)
        if math.isfinite(turn):
            self._sums.add((work, defect), self._before, turn)
        self._before, self._path = (work, defect), (moved, last_forces, frame.model_forces)
        return True

    def _fitted(self) -> WorkFit | None:
        s = self._sums
        if s.n < FEWEST or not s.ww * s.ww > EFFECTIVE * s.wwww:
            return None
        usual = s.ww / s.n
        if not usual > (DIGITS * self._digit) ** 2:
            return None
        rule = math.sqrt(s.turn / s.ww) / 6
        if not rule < COARSEST:
            return None
        rule *= DISCRETISATION
        off = s.dw / s.ww
        variance = (s.ddww - 2 * off * s.dwww + off * off * s.wwww) / (s.ww * s.ww)
        error = math.sqrt(max(variance, 0.0) * EFFECTIVE / (EFFECTIVE - 1))
        at_once = max(s.dd - off * s.dw, 0.0) / s.n
        in_turn = (s.dd_before - off * s.dw_before + off * off * s.ww_before) / s.n
        lasting = at_once + 2 * in_turn - 2 * CERTAINTY * at_once / math.sqrt(s.n)
        scatter = math.sqrt(max(lasting, 0.0) / (3 * usual))
        return WorkFit(1.0 + off, CERTAINTY * error + rule, max(scatter - rule, 0.0))


class Work:
    """By how much energy changes otherwise than the forces say: |slope − 1| beyond its interval.

    The slope of `WorkBalance`; `WorkSlope` records it. Forces in a wrong unit or of another model
    than the energy show within tens of steps, with and without a thermostat, while the run looks
    sound: such forces are those of another potential, which they conserve.

    Args:
        balance: shared.
    """

    name = "work"
    unit = "|slope − 1|"
    cost: Cost = "free"

    def __init__(self, balance: WorkBalance) -> None:
        self._balance = balance

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        fit = self._balance.of(frame)
        if fit is None:
            return None
        return Deviation(self.name, self.unit, max(abs(fit.slope - 1) - fit.interval, 0.0))


class WorkSlope:
    """The slope itself, 1 where obeyed: recorded beside `Work`, which is judged.

    Args:
        balance: shared.
    """

    name = "work_slope"
    unit = "eV/eV"
    cost: Cost = "free"

    def __init__(self, balance: WorkBalance) -> None:
        self._balance = balance

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        fit = self._balance.of(frame)
        return None if fit is None else Deviation(self.name, self.unit, fit.slope)


class WorkScatter:
    """Change of the energy that no factor on the forces explains, as a share of the usual work.

    Forces that are learned beside the energy rather than derived from it (direct forces) are the
    gradient of nothing: the energy then follows their work only roughly.

    Args:
        balance: shared.
    """

    name = "work_scatter"
    unit = "share"
    cost: Cost = "free"

    def __init__(self, balance: WorkBalance) -> None:
        self._balance = balance

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        fit = self._balance.of(frame)
        return None if fit is None else Deviation(self.name, self.unit, fit.scatter)
