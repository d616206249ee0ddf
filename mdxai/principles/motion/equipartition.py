"""Principles of equipartition: the kinetic energy is that of the thermostat, and evenly spread.

An average deviates by its distance from the expected value less five standard errors. So few or
correlated samples raise no alarm, and in a long run a small bias (of the timestep, say) stays a
small number. What passes is no deviation: where the two halves of a run differ, the later one
counts, and nothing is said while an average still approaches what is expected.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from scipy import special

from mdxai.attribution import Attribution
from mdxai.frame import BOLTZMANN, Floats, Frame, temperature_of
from mdxai.principles.frame_quantities import frame_quantities
from mdxai.principles.motion.bond_changes import BondChanges
from mdxai.principles.motion.momentum import refuse_pushes, rotations_of
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.principles.running_statistics import BlockMeans, Every

STRETCH = 200.0  # fs; the shortest of 64 stretches that averages are made of
LOOK = 5.0  # fs between frames that all but the temperature are taken from
ERRORS = 5.0  # standard errors that an average may be off
FROZEN = 1e-8  # of the kinetic energy: motion that a thermostat keeps out altogether
EVEN = 0.3, 8  # of the atoms, and atoms at least, that share the heat of a strained start
CLOSED = 0.4  # of the canonical variance: what a system fluctuates without a bath, at the least
NO_THERMOSTAT = "no thermostat sets a temperature; without one the energy is checked instead"


class Temperature:
    """How many standard deviations the kinetic energy lies above that of the thermostat.

    In the canonical ensemble at T₀, 2 E_kin/(k_B T₀) follows χ² with f degrees of freedom: mean f,
    variance 2f. The deviation is (T/T₀ − 1)/σ, 0 when colder. σ is √(2/27), that of nine atoms: a
    larger system fluctuates less, but follows its bath as slowly, and thermostats ring. With fewer
    degrees of freedom χ² has a longer tail, and σ is such that 8 σ are as rare as with 27.

    Heat that the start brought is no fault. T₀ is at least 300 K: there, a strained start releases
    more heat than it holds. A start that is hotter than the thermostat, or becomes so as the
    thermostat is set lower, counts at its own temperature until it has cooled, up to five times
    T₀. Potential energy that was released since the start is left out where the heat is spread over
    many atoms, or where bonds were exchanged, which heats those that react; a molecule that falls
    into a hole of the energy heats a few, too. The atom named is the one with the most kinetic
    energy.

    Args:
        first: a frame of the run.
        changes: what has become of the bonds, followed by others; by default not known.

    Raises:
        PrincipleUnavailable: without a thermostat, or when every atom is fixed.
    """

    name = "temperature"
    unit = "σ"
    cost: Cost = "free"
    COLDEST = 300.0  # K
    FEW, FAR = 27, 8.0  # degrees of freedom; σ
    HOT = 5.0  # of T₀: a start that is hotter still is reported
    MEMORY = 500.0  # fs, longer than kinetic energy oscillates into potential energy and back

    def __init__(self, first: Frame, changes: BondChanges | None = None) -> None:
        _require_thermostat(first)
        self._changes = changes
        self._cooled = 0.0, math.nan  # K, what the start has cooled to; at this time, fs
        self._energy = first.energy if first.has_energy else math.nan
        self._sigma = 0, math.nan

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        seen = frame_quantities(frame)
        target = max(_target(frame), self.COLDEST)
        target = max(target, min(self._start_now(frame), self.HOT * target))
        sigma = self._width(frame.degrees_of_freedom)
        excess = (seen.temperature / target - 1) / sigma
        if excess > 1:
            excess -= self._released(frame) / target / sigma
        return Deviation(self.name, self.unit, 0.0 if excess < 0 else excess, (seen.hottest,))

    def _start_now(self, frame: Frame) -> float:
        """Return the temperature that the start has cooled to by now, K."""
        now = frame_quantities(frame).temperature
        before, time = self._cooled
        if math.isnan(time):  # the first frame
            before = now
        elif now < before:
            before += (now - before) * min(abs(frame.time - time) / self.MEMORY, 1.0)
        self._cooled = before, frame.time
        return before

    def _width(self, freedom: int) -> float:
        """Return σ for f degrees of freedom."""
        if freedom != self._sigma[0]:
            sigma = math.sqrt(2 / self.FEW)
            if freedom < self.FEW:
                rare = special.chdtrc(self.FEW, self.FEW * (1 + self.FAR * sigma))
                sigma = (special.chdtri(freedom, rare) / freedom - 1) / self.FAR
            self._sigma = freedom, float(sigma)
        return self._sigma[1]

    def _released(self, frame: Frame) -> float:
        """Return by how much potential energy turned into even heat can raise T, K."""
        heat = frame_quantities(frame).atom_kinetic
        share, least = EVEN
        shared_by = heat.sum() ** 2 / (heat @ heat)  # atoms, if they held the same
        reacts = self._changes is not None and self._changes.react(frame)
        if not (reacts or shared_by >= max(least, share * frame.n_atoms)):
            return 0.0
        released = self._energy - frame.energy
        return temperature_of(released, frame.degrees_of_freedom) if released > 0 else 0.0


class KineticSpread:
    """Whether the kinetic energy fluctuates as in the canonical ensemble.

    u = 2 E_kin/(f k_B T₀) has mean 1 and variance 2/f there. The deviation is the largest of three
    relative errors, each less five standard errors estimated from batch means (Flegal, Haran and
    Jones 2008, Stat. Sci. 23, 250): that of the mean, that of a variance within stretches of time
    that is too large, and that of a variance over the run below the 0.4 · 2/f that a system keeps
    without any bath (½ · 2/f in a harmonic crystal, a little less in a simple liquid: Lebowitz,
    Percus and Verlet 1967, Phys. Rev. 153, 250). Motion of the centre of mass that the thermostat
    leaves alone does not count. The averages start again when T₀ changes.

    Args:
        first: a frame of the run.
        holds_centre: whether the thermostat is known to leave the centre of mass alone; one at
            exact rest is recognised without.

    Raises:
        PrincipleUnavailable: without a thermostat, or when every atom is fixed.
    """

    name = "kinetic_spread"
    unit = "relative"
    cost: Cost = "free"

    def __init__(self, first: Frame, *, holds_centre: bool = False) -> None:
        _require_thermostat(first)
        self._inside = holds_centre and not first.n_constrained and first.n_atoms > 1
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
        if self._inside:
            kinetic -= frame_quantities(frame).translation
        freedom = self._freedom(frame, kinetic)
        u = 2 * kinetic / (freedom * BOLTZMANN * target)
        if self._history.add(frame.time, (u, (u - 1) ** 2)):
            self._found = self._compare(2 / freedom) or self._found
        return self._found

    def _compare(self, variance: float) -> Deviation | None:
        batches = self._history.batches()
        if batches is not None:
            batches = _settled(batches, batches[:, :1], np.ones(1))
        if batches is None:
            return None
        return Deviation(self.name, self.unit, _spread_error(batches, variance))

    def _freedom(self, frame: Frame, kinetic: float) -> int:
        free = frame.degrees_of_freedom
        if self._inside:
            return free - 3
        still = frame_quantities(frame).translation <= FROZEN * kinetic and not frame.n_constrained
        return free - 3 if still and free > 3 else free


def _spread_error(batches: Floats, variance: float) -> float:
    """Return the error of mean or variance beyond chance; batches: (n, 2) of u and (u − 1)²."""
    u, square = batches.T
    inside = square - (u - 1) ** 2
    mean, mean_error = _mean_and_error(u)
    within, within_error = _mean_and_error(inside)
    total, total_error = _mean_and_error(square)
    total -= (mean - 1) ** 2
    return float(
        max(
            abs(mean - 1) - ERRORS * mean_error,
            (within - variance - ERRORS * within_error) / variance,
            1 - (total + ERRORS * total_error) / (CLOSED * variance),
            0.0,
        )
    )


def _mean_and_error(values: Floats) -> tuple[Any, Any]:
    """Return mean and standard error over batches, which are the first axis."""
    return values.mean(axis=0), values.std(axis=0, ddof=1) / math.sqrt(len(values))


def _settled(batches: Floats, means: Floats, expected: Floats) -> Floats | None:
    """Return the batches that are judged: all, or the later half where the earlier one differs.

    None while the mean that is furthest off still comes closer, by more than twice the noise.

    Args:
        batches: (n, ...) batches.
        means: (n, n_values) of them, the values that tell.
        expected: (n_values,) what they should be.
    """
    half = len(batches) // 2
    (before, error), (now, noise) = map(_mean_and_error, (means[:half], means[half:]))
    k = int(np.argmax(np.abs(now - expected) / expected))
    moved = (before[k] - now[k]) * np.sign(now[k] - expected[k])  # towards what is expected
    if moved > 2 * math.hypot(error[k], noise[k]):
        return None
    return batches if abs(moved) <= 2 * math.hypot(error[k], noise[k]) else batches[half:]


def _share_error(batches: Floats, expected: Floats) -> Floats:
    """Return (n,) relative errors of mean shares beyond chance."""
    mean, error = _mean_and_error(batches)
    off: Floats = np.maximum(np.abs(mean - expected) - ERRORS * error, 0.0) / expected
    return off


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
    the averages over the run, less five standard errors. Motion of the centre of mass does not
    count, nor its energy, where the thermostat leaves it alone (`holds_centre`) or keeps it at
    exactly zero.

    Args:
        first: a frame of the system.
        random_bath: whether the thermostat pushes each atom at random.
        holds_centre: whether it does so without pushing the centre of mass.

    Raises:
        PrincipleUnavailable: if the thermostat is not random, with constraints, without internal
            motion, or where the only motion of the whole is one that the thermostat leaves alone.
    """

    name = "mode_temperature"
    unit = "relative"
    cost: Cost = "free"

    def __init__(self, first: Frame, *, random_bath: bool, holds_centre: bool = False) -> None:
        rigid, internal = _rigid_freedom(first)
        if not random_bath:
            raise PrincipleUnavailable(
                "without random kicks from a thermostat the overall motion keeps its initial energy"
            )
        if holds_centre and rigid == 3:
            raise PrincipleUnavailable("the thermostat leaves the motion of the whole alone")
        self._freedom = np.array([0.0 if holds_centre else 3.0, rigid - 3, internal])
        self._history = BlockMeans(3, STRETCH)
        self._look = Every(LOOK)
        self._found: Deviation | None = None

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        if not self._look.due(frame.time):
            return self._found
        seen = frame_quantities(frame)
        kinetic, moving = seen.kinetic, seen.translation
        if not kinetic > 0:
            return None if kinetic == 0 else Deviation(self.name, self.unit, kinetic)
        turning = seen.rigid.rotation if self._freedom[1] else 0.0
        parts = np.array([moving, turning, kinetic - moving - turning])
        parts *= self._freedom > 0
        if self._history.add(frame.time, (parts / parts.sum()).tolist()):
            self._found = self._compare() or self._found
        return self._found

    def _compare(self) -> Deviation | None:
        batches = self._history.batches()
        if batches is None:
            return None
        moves = (self._freedom > 0) & (batches.mean(axis=0) > FROZEN)
        batches, expected = batches[:, moves], self._freedom[moves] / self._freedom[moves].sum()
        settled = _settled(batches, batches, expected)
        if settled is None:
            return None
        return Deviation(self.name, self.unit, float(_share_error(settled, expected).max()))


class ElementTemperature:
    """Whether all elements are equally hot on average.

    An element with n of N atoms and the mass M_el of M should hold the share
    (n − M_el/M)/(N − 1) of the kinetic energy about the centre of mass. The deviation is the
    largest relative one among the averages over the run, less five standard errors. The atoms named
    are those of the element.

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
        self._mass_share = np.bincount(self._kind, first.masses) / first.masses.sum()
        self._share = (counts - self._mass_share) / (first.n_atoms - 1)
        self._history = BlockMeans(len(kinds), STRETCH)
        self._look = Every(LOOK)
        self._found: Deviation | None = None

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation | None:
        if not self._look.due(frame.time):
            return self._found
        seen = frame_quantities(frame)
        inner = seen.kinetic - seen.translation
        if not inner > 0:
            return None if seen.kinetic == 0 else Deviation(self.name, self.unit, inner)
        held = np.bincount(self._kind, seen.atom_kinetic)
        shares = (held - self._mass_share * seen.translation) / inner
        if self._history.add(frame.time, shares.tolist()):
            self._found = self._compare() or self._found
        return self._found

    def _compare(self) -> Deviation | None:
        batches = self._history.batches()
        settled = None if batches is None else _settled(batches, batches, self._share)
        if settled is None:
            return None
        off = _share_error(settled, self._share)
        worst = int(np.argmax(off))
        atoms = tuple(np.flatnonzero(self._kind == worst).tolist())
        return Deviation(self.name, self.unit, float(off[worst]), atoms)
