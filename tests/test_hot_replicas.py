"""Hot replicas: the canonical ensemble, rates against transition-state theory, fates, restarts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mdxai.calculators import AseTwin
from mdxai.forecast.evaluations import evaluations
from mdxai.forecast.hot_replicas import HotReplicas, LifeTestError, Motion
from mdxai.forecast.onset_judge import OnsetJudge
from mdxai.forecast.survival_model import ArrheniusExponential, Lifetime, totals
from mdxai.frame import AMU_ANG2_PER_FS2, BOLTZMANN, Frame

from .holed_pair import STIFFNESS, HoledPair, barrier, energy_and_slope, evaluate, pair


def started():
    frame = Frame.from_atoms(pair())
    energies, forces = evaluate(frame.positions[None])
    return frame.with_results(float(energies[0]), forces[0])


class Lenient:
    """Judges nothing, and fast."""

    def look(self, frame):
        return None


def replicas(hole=None, motion=None, seed=3, *, together=True, lenient=False):
    start = started()
    keywords = {} if hole is None else {"hole": hole}

    def judge(first):
        if lenient:
            return Lenient()
        at_rest = replace(start, velocities=first.velocities, thermostat=first.thermostat)
        return OnsetJudge(at_rest, None, 0.5)

    return HotReplicas(
        start, lambda x: evaluate(x, **keywords), judge, motion or Motion(), seed, together=together
    )


def test_replicas_are_canonical_each_at_its_temperature():
    """⟨½k(r−b)²⟩ = ½k_BT and ⟨E_kin⟩ = 3k_BT of two atoms, up to the widening of r² dr."""
    sound = replicas(hole=0.0, motion=Motion(friction=0.05), lenient=True)
    sound.assign([300.0] * 60 + [1200.0] * 60)
    sound.run(300)
    kinetic, potential = np.zeros(120), np.zeros(120)
    for _ in range(30):
        sound.run(20)
        state = sound.state()
        masses = started().masses[:, None]
        kinetic += 0.5 * AMU_ANG2_PER_FS2 * (masses * state["velocities"] ** 2).sum((1, 2)) / 30
        potential += state["energies"] / 30
    for slots, temperature in ((slice(60), 300.0), (slice(60, None), 1200.0)):
        heat = BOLTZMANN * temperature
        assert kinetic[slots].mean() == pytest.approx(3 * heat, rel=0.06)
        wider = 1 + 3 * heat / STIFFNESS / 1.1**2  # to first order
        assert potential[slots].mean() == pytest.approx(0.5 * heat * wider, rel=0.2)
    assert sound.ended == []


def lifetimes(hot):
    seen = [*hot.ended, *hot.running()]
    return [Lifetime(r.temperature, max(r.time, 0) / 1e3, r.fate == "failed") for r in seen]


def test_a_replica_that_breaks_is_replaced_and_its_onset_is_dated():
    hot = replicas(seed=1)
    hot.assign([2500.0] * 40)
    hot.run(1200)
    broken = [r for r in hot.ended if r.fate == "failed"]
    assert broken
    assert {r.cause for r in broken} == {"contact"}
    assert {r.atoms for r in broken} == {(0, 1)}
    assert len(hot.running()) == 40
    generations = {r.slot: r.generation for r in hot.running()}
    assert all(generations[r.slot] > r.generation for r in broken)
    total = sum(r.time + 100.0 for r in hot.ended + hot.running())  # with the warm-up
    assert total == pytest.approx(40 * 600.0, abs=2.0 * len(broken))  # onset to the next look


def transition_state_theory(temperature):
    """Return the flux through the top of the barrier at equilibrium, per ps."""
    heat, mass = BOLTZMANN * temperature, 12.011 * 15.999 / 28.010
    r = np.linspace(0.5, 3.0, 40_000)
    energy = energy_and_slope(r)[0]
    top = int(np.argmax(np.where(r < 1.1, energy, -np.inf)))
    weight = r**2 * np.exp(-energy / heat)
    speed = np.sqrt(heat / (2 * np.pi * mass * AMU_ANG2_PER_FS2))  # Å/fs
    return 1e3 * speed * weight[top] / np.trapezoid(weight[top:], r[top:])


@pytest.mark.slow
def test_rates_are_those_of_transition_state_theory_less_recrossing():
    """The theory bounds rates from above; at moderate friction most crossings count."""
    hot = replicas(motion=Motion(friction=0.03))
    hot.assign([t for t in (2500.0, 2000.0, 1500.0) for _ in range(60)])
    hot.run(8000)
    seen = totals(lifetimes(hot))
    for w in seen:
        ratio = w.onsets / w.time / transition_state_theory(w.temperature)
        assert 0.4 < ratio < 1.25
    found = ArrheniusExponential(seen)
    assert found.estimate[1] == pytest.approx(barrier(), abs=0.2)


def test_slots_are_independent_of_each_other_and_of_the_batch():
    one, many = replicas(together=False), replicas()
    for hot in (one, many):
        hot.assign([2500.0, 900.0, 2500.0, 2000.0])
        hot.run(400)
        hot.assign([2500.0, 900.0, 1500.0, 2000.0])
        hot.run(100)
    assert sorted(one.ended, key=repr) == sorted(many.ended, key=repr)
    assert np.array_equal(one.state()["positions"], many.state()["positions"])
    assert next(r for r in many.ended if r.fate == "sound").temperature == 2500.0  # reassigned


def test_going_on_from_a_state_gives_the_same_bits():
    whole, part = replicas(), replicas()
    for hot in (whole, part):
        hot.assign([2500.0, 900.0, 2000.0])
        hot.run(300)
    onwards = replicas()
    onwards.restore(part.state())
    for hot in (whole, onwards):
        hot.run(300)
    for name, value in whole.state().items():
        assert np.array_equal(value, onwards.state()[name]), name


def test_another_seed_gives_other_replicas():
    ends = []
    for seed in (1, 1, 2):
        hot = replicas(seed=seed)
        hot.assign([900.0, 900.0])
        hot.run(20)
        ends.append(hot.state()["positions"])
    assert np.array_equal(ends[0], ends[1])
    assert not np.allclose(ends[0], ends[2])
    assert not np.allclose(ends[0][0], ends[0][1])


class Failing(HoledPair):
    def both(self, atoms):
        if atoms.get_distance(0, 1) < 0.9:
            raise RuntimeError("SCF not converged")
        return super().both(atoms)


def test_a_calculator_that_fails_in_a_replica_is_an_onset():
    start = started()
    hot = HotReplicas(
        start, evaluations(AseTwin(Failing(hole=0.0)), start), lambda first: OnsetJudge(
            replace(start, velocities=first.velocities, thermostat=first.thermostat), None, 0.5
        ), Motion(), 1, together=False,
    )  # fmt: skip
    hot.assign([3000.0, 3000.0])
    hot.run(400)
    assert {(r.fate, r.cause) for r in hot.ended} == {("failed", "non_finite")}


@pytest.mark.parametrize("wrong", [{"timestep": 0.0}, {"friction": -1.0}, {"warm_up": np.nan}])
def test_motion_that_cannot_be_is_refused(wrong):
    with pytest.raises(LifeTestError, match="must be positive and finite"):
        Motion(**wrong)
