"""Principles of equipartition: the kinetic energy is that of the thermostat, and evenly spread.

An average deviates by its distance from the expected value less five standard errors. So few or
correlated samples raise no alarm, and in a long run a small bias (of the timestep, say) stays a
small number.
"""

from __future__ import annotations

import math

import numpy as np
from ase.data import chemical_symbols
from scipy import special

from mdxai.attribution import Attribution
from mdxai.frame import BOLTZMANN, Frame
from mdxai.principles.frame_quantities import frame_quantities
from mdxai.principles.motion.momentum import refuse_pushes, rotations_of
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.principles.running_statistics import BlockMeans, Every

STRETCH = 200.0  # fs; the shortest of 64 stretches that averages are made of
LOOK = 5.0  # fs between frames that all but the temperature are taken from
ERRORS = 5.0  # standard errors that an average may be off
FROZEN = 1e-8  # of the kinetic energy: motion that a thermostat keeps out altogether
NO_THERMOSTAT = "no thermostat sets a temperature; without one the energy is checked instead"


class Temperature:
    """How many standard deviations the kinetic energy lies above that of the thermostat.

    In the canonical ensemble at T₀, 2 E_kin/(k_B T₀) follows χ² with f degrees of freedom: mean f,
    variance 2f. The deviation is (T/T₀ − 1)/√(2/f), 0 when colder. A thermostat below 300 K counts
    as one of 300 K: there, a strained start releases more heat than it holds without any fault.
    The atom named is the one with the most kinetic energy.

    Args:
        first: a frame of the run.

    Raises:
        PrincipleUnavailable: without a thermostat, or when every atom is fixed.
    """

    name = "temperature"
    unit = "σ"
    cost: Cost = "free"
    COLDEST = 300.0  # K

    def __init__(self, first: Frame) -> None:
        _require_thermostat(first)

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        target = max(_target(frame), self.COLDEST)
        seen = frame_quantities(frame)
        sigma = math.sqrt(2 / frame.degrees_of_freedom)
        excess = (seen.temperature / target - 1) / sigma
        return Deviation(self.name, self.unit, 0.0 if excess < 0 else excess, (seen.hottest,))


class KineticSpread:
    """Whether the kinetic energy fluctuates as in the canonical ensemble.

    u = 2 E_kin/(f k_B T₀) has mean 1 and variance 2/f there. The deviation is the larger of the two
    relative errors over the run, less five standard errors estimated from batch means (Flegal,
    Haran and Jones 2008, Stat. Sci. 23, 250). Motion of the centre of mass that the thermostat
    never excites does not count as a degree of freedom. The averages start again when T₀ changes.

    Args:
        first: a frame of the run.

    Raises:
        PrincipleUnavailable: without a thermostat, or when every atom is fixed.
    """

    name = "kinetic_spread"
    unit = "relative"
    cost: Cost = "free"

    def __init__(self, first: Frame) -> None:
        _require_thermostat(first)
        self._target: float | None = None
        self._look = Every(LOOK)
        self._found: Deviation | None = None

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        if not self._look.due(frame.time):
            return self._found
        target = _target(frame)
        if not target > 0:
            return None
        kinetic = frame_quantities(frame).kinetic
        if not math.isfinite(kinetic):
            return Deviation(self.name, self.unit, kinetic)
        if target != self._target:
            self._target, self._found = target, None
            self._history = BlockMeans(2, STRETCH)
        freedom = self._freedom(frame, kinetic)
        u = 2 * kinetic / (freedom * BOLTZMANN * target)
        if self._history.add(frame.time, (u, (u - 1) ** 2)):
            self._found = self._compare(2 / freedom)
        return self._found

    def _compare(self, variance: float) -> Deviation | None:
        measured = self._history.mean_and_error()
        if measured is None:
            return None
        (mean, square), error = measured
        spread = square - (mean - 1) ** 2
        off = np.abs([mean - 1, spread - variance]) - ERRORS * error
        return Deviation(self.name, self.unit, float(max(off[0], off[1] / variance, 0.0)))

    @staticmethod
    def _freedom(frame: Frame, kinetic: float) -> int:
        free = frame.degrees_of_freedom
        still = frame_quantities(frame).translation <= FROZEN * kinetic and not frame.n_constrained
        return free - 3 if still and free > 3 else free


def _target(frame: Frame) -> float:
    """Return the temperature of the thermostat at this instant, K; 0 without one."""
    return 0.0 if frame.thermostat is None else frame.thermostat.temperature


def _require_thermostat(first: Frame) -> None:
    if first.thermostat is None:
        raise PrincipleUnavailable(NO_THERMOSTAT)
    if first.degrees_of_freedom <= 0:
        raise PrincipleUnavailable("no atom is free to move")


class FlyingIceCube:
    """Whether a system flies and spins as a whole instead of vibrating.

    Thermostats that rescale velocities, and forces that do not add up to zero, may pump kinetic
    energy into the motion of the whole (Harvey, Tan and Cheatham 1998, J. Comput. Chem. 19, 726).
    In equilibrium the share of n such degrees of freedom among f is distributed as
    Beta(n/2, (f − n)/2), n = 3 + 3 (isolated; 5 when linear) or 3 (periodic). The deviation, in σ,
    is the normal quantile with the same probability of being exceeded; 0 below the median.

    Args:
        first: a frame of the run.

    Raises:
        PrincipleUnavailable: without a thermostat, with constraints, without internal motion.
    """

    name = "flying_ice_cube"
    unit = "σ"
    cost: Cost = "free"
    MOST = 30.0  # σ, of a system that does not vibrate at all

    def __init__(self, first: Frame) -> None:
        if first.thermostat is None:
            raise PrincipleUnavailable(
                "without a thermostat momentum is conserved, and that is checked instead"
            )
        refuse_pushes(first)
        self._rigid, self._internal = _rigid_freedom(first)
        self._look = Every(LOOK)

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        if self._look.due(frame.time):
            self._found = self._rarity(frame)
        return self._found

    def _rarity(self, frame: Frame) -> Deviation:
        seen = frame_quantities(frame)
        rigid = seen.translation + (seen.rigid.rotation if self._rigid > 3 else 0.0)
        kinetic = seen.kinetic
        share = min(rigid / kinetic, 1.0) if kinetic > 0 else 0.0 * kinetic
        rarity = special.betaincc(self._rigid / 2, self._internal / 2, share)
        value = -float(special.ndtri(rarity))
        value = 0.0 if value < 0 else self.MOST if value > self.MOST else value  # NaN stays
        return Deviation(self.name, self.unit, value)


def _rigid_freedom(first: Frame) -> tuple[int, int]:
    """Return the degrees of freedom of the motion as a whole and of the internal motion."""
    if first.n_constrained:
        raise PrincipleUnavailable("constraints tie the motion of the whole to that of its parts")
    rigid = 3 + rotations_of(first)
    if 3 * first.n_atoms <= rigid:
        raise PrincipleUnavailable("a single atom has no internal motion to compare with")
    return rigid, 3 * first.n_atoms - rigid


class ModeTemperature:
    """Whether translation, rotation and internal motion are equally hot on average.

    Each should hold n_c/f of the kinetic energy. The deviation is the largest relative one among
    the averages over the run, less five standard errors. A kind of motion that the
    thermostat keeps at exactly zero (a fixed centre of mass) does not count.

    Args:
        first: a frame of the system.
        random_bath: whether the thermostat pushes each atom at random.

    Raises:
        PrincipleUnavailable: if the thermostat is not random, with constraints, or without internal
            motion.
    """

    name = "mode_temperature"
    unit = "relative"
    cost: Cost = "free"

    def __init__(self, first: Frame, *, random_bath: bool) -> None:
        rigid, internal = _rigid_freedom(first)
        if not random_bath:
            raise PrincipleUnavailable(
                "without random kicks from a thermostat the overall motion keeps its initial energy"
            )
        self._freedom = np.array([3.0, rigid - 3, internal])
        self._history = BlockMeans(3, STRETCH)
        self._look = Every(LOOK)
        self._found: Deviation | None = None

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        if not self._look.due(frame.time):
            return self._found
        seen = frame_quantities(frame)
        kinetic = seen.kinetic
        if not kinetic > 0:
            return None if kinetic == 0 else Deviation(self.name, self.unit, kinetic)
        turning = seen.rigid.rotation if self._freedom[1] else 0.0
        rest = kinetic - seen.translation - turning
        parts = (seen.translation / kinetic, turning / kinetic, rest / kinetic)
        if self._history.add(frame.time, parts):
            self._found = self._compare()
        return self._found

    def _compare(self) -> Deviation | None:
        measured = self._history.mean_and_error()
        if measured is None:
            return None
        mean, error = measured
        moves = (self._freedom > 0) & (mean > FROZEN)
        expected = self._freedom[moves] / self._freedom[moves].sum()
        off = np.maximum(np.abs(mean[moves] - expected) - ERRORS * error[moves], 0.0)
        return Deviation(self.name, self.unit, float(np.max(off / expected)))


class ElementTemperature:
    """Whether all elements are equally hot on average.

    An element with n of N atoms should hold the share n/N of the kinetic energy, or
    (n − M_el/M)/(N − 1) where the centre of mass is at rest. The deviation is the largest relative
    one among the averages over the run, less five standard errors. The atoms named are those of
    the element.

    Args:
        first: a frame of the system.
        random_bath: whether a thermostat pushes each atom at random.

    Raises:
        PrincipleUnavailable: for one element, with constraints, and for an isolated molecule that
            no random forces push: its vibrations may keep their energy for longer than a run.
    """

    name = "element_temperature"
    unit = "relative"
    cost: Cost = "free"

    def __init__(self, first: Frame, *, random_bath: bool) -> None:
        kinds, self._kind = np.unique(first.numbers, return_inverse=True)
        if len(kinds) < 2:
            raise PrincipleUnavailable(f"all atoms are {chemical_symbols[kinds[0]]}")
        if first.n_constrained:
            raise PrincipleUnavailable("constraints cool atoms, and it is not known which")
        if not random_bath and not first.pbc.any():
            raise PrincipleUnavailable(
                "the vibrations of a molecule may keep their energy without random kicks from a "
                "thermostat"
            )
        counts = np.bincount(self._kind)
        self._share = counts / first.n_atoms
        lost = np.bincount(self._kind, first.masses) / first.masses.sum()
        self._share_at_rest = (counts - lost) / max(first.n_atoms - 1, 1)
        self._history = BlockMeans(len(kinds) + 1, STRETCH)
        self._look = Every(LOOK)
        self._found: Deviation | None = None

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        if not self._look.due(frame.time):
            return self._found
        seen = frame_quantities(frame)
        if not seen.kinetic > 0:
            return None if seen.kinetic == 0 else Deviation(self.name, self.unit, seen.kinetic)
        held = np.bincount(self._kind, seen.atom_kinetic).tolist()
        shares = [part / seen.kinetic for part in (*held, seen.translation)]
        if self._history.add(frame.time, shares):
            self._found = self._compare()
        return self._found

    def _compare(self) -> Deviation | None:
        measured = self._history.mean_and_error()
        if measured is None:
            return None
        at_rest = measured[0][-1] <= FROZEN
        expected = self._share_at_rest if at_rest else self._share
        mean, error = measured[0][:-1], measured[1][:-1]
        off = np.maximum(np.abs(mean - expected) - ERRORS * error, 0.0) / expected
        worst = int(np.argmax(off))
        atoms = tuple(np.flatnonzero(self._kind == worst).tolist())
        return Deviation(self.name, self.unit, float(off[worst]), atoms)
