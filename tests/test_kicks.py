"""Kicks: momenta that something but the forces has changed."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.calculators.emt import EMT
from ase.md.verlet import VelocityVerlet

from mdxai import Monitor
from mdxai.frame import Frame
from mdxai.principles import PrincipleUnavailable
from mdxai.principles.motion.kicks import Kicks, MomentumKicks

from .conftest import copper, heated


def in_steps(timestep=2.0, every=None, change=None, n_steps=40, temperature=300):
    """Return frames of copper without a thermostat; `change(atoms)` every so many steps."""
    atoms = heated(copper(), temperature)
    atoms.calc = EMT()
    dynamics = VelocityVerlet(atoms, timestep * units.fs)
    frames = []
    if change is not None:
        dynamics.attach(lambda: dynamics.nsteps and change(atoms), interval=every)
    dynamics.attach(
        lambda: frames.append(
            Frame.from_atoms(atoms, step=dynamics.nsteps, time=timestep * dynamics.nsteps)
        )
    )
    dynamics.run(n_steps)
    return frames


def rescale(atoms, factor=0.9):
    atoms.set_momenta(factor * atoms.get_momenta())


def test_velocity_verlet_gives_no_kicks():
    frames = in_steps()
    kicks = Kicks(frames[0])
    assert max(kicks.of(frame)[0] for frame in frames[1:]) < 1e-6
    assert kicks.energy == 0
    assert not kicks.momentum.any()


def test_kicks_are_what_an_observer_gave():
    """Size, momentum and energy against the momenta before and after the observer."""
    given = []

    def push(atoms):
        before = atoms.get_momenta(), atoms.get_kinetic_energy()
        rescale(atoms, 0.8)
        given.append((atoms.get_momenta() - before[0], atoms.get_kinetic_energy() - before[1]))

    frames = in_steps(every=15, change=push)
    kicks = Kicks(frames[0])
    seen = {frame.step: kicks.of(frame) for frame in frames[1:]}
    assert [step for step, (size, _) in seen.items() if size > 0.01] == [15, 30]
    masses = frames[0].masses
    sizes = np.sqrt((given[0][0] ** 2).sum(axis=1) / masses / (units.kB * frames[15].temperature))
    assert seen[15] == (pytest.approx(sizes.max()), sizes.argmax())
    total = sum(momenta.sum(axis=0) for momenta, _ in given) * units.fs
    np.testing.assert_allclose(kicks.momentum, total, atol=1e-9)
    assert kicks.energy == pytest.approx(sum(energy for _, energy in given))


def test_angular_momentum_of_kicks_is_that_of_the_given_momenta():
    given = []

    def turn(atoms):
        before = atoms.get_angular_momentum()
        rescale(atoms, 1.1)
        given.append(atoms.get_angular_momentum() - before)

    frames = in_steps(every=20, change=turn)
    kicks = Kicks(frames[0])
    for frame in frames:
        kicks.of(frame)
    total = np.sum(given, axis=0) * units.fs
    np.testing.assert_allclose(kicks.angular_momentum, total, rtol=1e-9)


def test_unknown_across_gaps_and_for_other_dynamics():
    frames = in_steps()
    kicks = Kicks(frames[0])
    assert kicks.of(frames[1]) is not None
    assert kicks.of(frames[5]) is None
    assert kicks.of(frames[6]) is not None
    assert kicks.of(frames[7].without("forces")) is None
    rescaled = in_steps(every=1, change=rescale)  # no step shows what the dynamics do
    kicks = Kicks(rescaled[0])
    assert {kicks.of(frame) for frame in rescaled[1:]} == {None}
    with pytest.raises(PrincipleUnavailable, match="a thermostat changes momenta"):
        MomentumKicks(None)


def test_a_run_that_an_observer_rescales_is_suspect_and_says_so():
    atoms = heated(copper(), 600)
    atoms.calc = EMT()
    dynamics = VelocityVerlet(atoms, 2 * units.fs)
    dynamics.attach(lambda: rescale(atoms, np.sqrt(300 / atoms.get_temperature())), interval=10)
    with Monitor(dynamics, attribute_every=0, on_unstable="ignore") as monitor:
        dynamics.attach(monitor)
        dynamics.run(100)
    verdict = monitor.verdict
    assert verdict.stability == "suspect"
    assert {finding.principle for finding in verdict.findings} == {"momentum_kicks"}
    assert "observer" in str(verdict)
