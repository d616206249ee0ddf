"""Net force, net torque and momenta, each against a second derivation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mdxai.frame import AMU_ANG2_PER_FS2, BOLTZMANN
from mdxai.principles import (
    AngularMomentum,
    Momentum,
    NetForce,
    NetTorque,
    PrincipleUnavailable,
)
from mdxai.principles.motion.kicks import Kicks


@pytest.fixture
def frame(ethanol_frame):
    return ethanol_frame


def at(frame, k, timestep=1.0, **changes):
    return replace(frame, step=k, time=k * timestep, **changes)


def test_net_force(frame):
    force = frame.forces - frame.forces.mean(axis=0)
    assert NetForce().deviate(replace(frame, forces=force)).value == pytest.approx(0, abs=1e-12)
    pulled = force.copy()
    pulled[0] += (0.3, 0, 0.4)
    assert NetForce().deviate(replace(frame, forces=pulled)).value == pytest.approx(0.5)


def test_net_torque_against_the_sum_over_atoms(frame):
    principle = NetTorque(frame)
    centre = frame.positions.mean(axis=0)
    balanced = frame.forces - frame.forces.mean(axis=0)
    expected = sum(np.cross(x - centre, f) for x, f in zip(frame.positions, balanced, strict=True))
    assert principle.deviate(replace(frame, forces=balanced)).value == pytest.approx(
        np.linalg.norm(expected), abs=1e-9
    )
    twist = np.cross([0, 0, 0.1], frame.positions - centre)
    assert principle.deviate(at(frame, 10, forces=twist)).value > 0.1
    # Neither a pull on the whole nor its place matters.
    there = at(frame, 20, forces=twist + 3.0, positions=frame.positions + 50.0)
    here = at(frame, 30, forces=twist)
    assert principle.deviate(there).value == pytest.approx(principle.deviate(here).value)
    with pytest.raises(PrincipleUnavailable, match="periodic cell"):
        NetTorque(replace(frame, pbc=np.array([True, False, False])))


def test_momentum_and_angular_momentum_in_thermal_units(frame):
    """A push of the whole by one thermal speed is 1 σ; a turn likewise; positions do not matter."""
    still = replace(frame, velocities=np.random.default_rng(0).normal(size=(9, 3)) * 0.01)
    push = Momentum(still, Kicks(still))
    turn = AngularMomentum(still, Kicks(still))
    assert push.deviate(still).value == turn.deviate(still).value == 0
    moved = replace(still, time=10.0, velocities=still.velocities + np.array([0.001, 0, 0]))
    sigma = np.sqrt(BOLTZMANN * moved.temperature / still.masses.sum() / AMU_ANG2_PER_FS2)
    assert push.deviate(moved).value == pytest.approx(0.001 / sigma)
    assert turn.deviate(moved).value == pytest.approx(0, abs=1e-9)
    centre = still.masses @ still.positions / still.masses.sum()
    arms = still.positions - centre
    spun = replace(still, time=20.0, velocities=still.velocities + np.cross([0, 0, 1e-3], arms))
    moment = still.masses @ (arms**2)[:, :2].sum(axis=1) * 1e-3
    heavy = 2 * still.masses @ (arms**2).sum(axis=1) / 3
    across = [np.sum(still.masses * arms[:, 2] * arms[:, k]) * 1e-3 for k in (0, 1)]
    sigma = np.sqrt(BOLTZMANN * spun.temperature * heavy / AMU_ANG2_PER_FS2)
    assert turn.deviate(spun).value == pytest.approx(np.hypot(moment, np.hypot(*across)) / sigma)
    for principle in (Momentum, AngularMomentum):
        with pytest.raises(PrincipleUnavailable, match="a thermostat changes it"):
            principle(frame, None)
        with pytest.raises(PrincipleUnavailable, match="constraints"):
            principle(replace(frame, n_constrained=3), Kicks(frame))
