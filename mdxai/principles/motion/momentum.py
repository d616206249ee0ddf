"""Principles of momentum: nothing pulls or turns a system as a whole."""

from __future__ import annotations

import math

import numpy as np

from mdxai.attribution import Attribution
from mdxai.frame import AMU_ANG2_PER_FS2, BOLTZMANN, Frame
from mdxai.principles.frame_quantities import frame_quantities
from mdxai.principles.motion.kicks import COLDEST, Kicks
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.principles.running_statistics import Every
from mdxai.statistics import _kernels as kernels

LOOK = 5.0  # fs between frames that are looked at, for all but the net force


def rotations_of(frame: Frame) -> int:
    """Return how many ways a system can turn: 0 (periodic or one atom), 2 (linear) or 3."""
    if frame.pbc.any() or frame.n_atoms < 2:
        return 0
    inertia = frame_quantities(frame).rigid.inertia
    if not np.isfinite(inertia).all():  # a run that starts broken, which other principles report
        return 3
    moments = np.linalg.eigvalsh(inertia)
    return 3 if moments[0] > 1e-4 * moments[-1] else 2


class NetForce:
    """|Σ F|, eV/Å: nothing pulls an isolated system, nor a periodic one, as a whole.

    F are the calculator's forces, without those of restraints.
    """

    name = "net_force"
    unit = "eV/Å"
    cost: Cost = "free"

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        return Deviation(self.name, self.unit, math.hypot(*frame_quantities(frame).net_force))


class NetTorque:
    """|Σ (x − x_cm) × F|, eV: nothing turns an isolated system as a whole.

    An energy that does not change when the system is turned gives no torque. A periodic cell may
    turn its content, so the principle does not hold there. One frame in 5 fs is enough: it is a
    property of the model, not of a moment.

    Raises:
        PrincipleUnavailable: for periodic systems and single atoms.
    """

    name = "net_torque"
    unit = "eV"
    cost: Cost = "free"

    def __init__(self, first: Frame) -> None:
        if first.pbc.any():
            raise PrincipleUnavailable("a periodic cell may turn what is in it")
        if first.n_atoms < 2:
            raise PrincipleUnavailable("a single atom cannot be turned")
        self._equal = np.ones(first.n_atoms)
        self._look = Every(LOOK)

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        if self._look.due(frame.time):
            # About the mean position, so that a net force does not matter.
            *_, x, y, z = kernels.about_centre(frame.positions, frame.model_forces, self._equal)
            self._found = Deviation(self.name, self.unit, math.hypot(x, y, z))
        return self._found


def _need_closed_system(first: Frame, kicks: Kicks | None) -> Kicks:
    if kicks is None:
        raise PrincipleUnavailable(
            "a thermostat changes it; what it does to the motion as a whole is checked instead"
        )
    if first.n_constrained:
        raise PrincipleUnavailable("constraints take up momentum")
    refuse_pushes(first)
    return kicks


def refuse_pushes(first: Frame) -> None:
    """Raise PrincipleUnavailable where something may push or turn the system from outside."""
    if first.outside is not None and first.outside.pushes:
        names = " and ".join(dict.fromkeys(first.outside.pushes))
        raise PrincipleUnavailable(f"{names} may push and turn the system as a whole")


def _heat(frame: Frame) -> float:
    """Return k_B T of a frame, eV, at least that of 10 K; NaN stays."""
    return BOLTZMANN * float(np.maximum(frame_quantities(frame).temperature, COLDEST))


class Momentum:
    """Change of the total momentum without a thermostat, in units of its thermal scale.

    |P − P(0)|/√(M k_B T): 1 is as fast as the whole would move in thermal equilibrium at the
    frame's temperature (at least 10 K). One frame in 5 fs is looked at. What kicks changed does not
    count.

    Args:
        first: frame that it is counted from.
        kicks: shared; None where more than the forces changes the velocities.

    Raises:
        PrincipleUnavailable: with a thermostat, constraints, or restraints that push the whole.
    """

    name = "momentum"
    unit = "σ"
    cost: Cost = "free"

    def __init__(self, first: Frame, kicks: Kicks | None) -> None:
        self._kicks = _need_closed_system(first, kicks)
        self._start = np.array(frame_quantities(first).momentum)
        self._mass = float(first.masses.sum())
        self._look = Every(LOOK)

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        self._kicks.of(frame)
        if self._look.due(frame.time):
            change = math.dist(frame_quantities(frame).momentum, self._start + self._kicks.momentum)
            sigma = np.sqrt(self._mass * _heat(frame) / AMU_ANG2_PER_FS2)
            self._found = Deviation(self.name, self.unit, float(change / sigma))
        return self._found


class AngularMomentum:
    """Change of an isolated system's angular momentum without a thermostat, in thermal units.

    |L − L(0)|/√(k_B T tr I/3) about the centre of mass, I the tensor of inertia of the frame.
    One frame in 5 fs is looked at. What kicks changed does not count.

    Args:
        first: frame that it is counted from.
        kicks: shared; None where more than the forces changes the velocities.

    Raises:
        PrincipleUnavailable: with a thermostat, constraints, or restraints that turn the whole, in
            a periodic cell, for one atom.
    """

    name = "angular_momentum"
    unit = "σ"
    cost: Cost = "free"

    def __init__(self, first: Frame, kicks: Kicks | None) -> None:
        if first.pbc.any():
            raise PrincipleUnavailable("a periodic cell does not conserve it")
        if first.n_atoms < 2:
            raise PrincipleUnavailable("a single atom has none about its own centre")
        self._kicks = _need_closed_system(first, kicks)
        self._start = frame_quantities(first).rigid.angular_momentum
        self._look = Every(LOOK)

    def deviate(self, frame: Frame, attribution: Attribution | None = None) -> Deviation:
        self._kicks.of(frame)
        if self._look.due(frame.time):
            rigid = frame_quantities(frame).rigid
            start = self._start + self._kicks.angular_momentum
            change = np.linalg.norm(rigid.angular_momentum - start)
            sigma = np.sqrt(_heat(frame) * rigid.inertia.trace() / 3 / AMU_ANG2_PER_FS2)
            self._found = Deviation(self.name, self.unit, float(change / sigma))
        return self._found
