"""Forces: numbers that are none, spikes, and forces beyond those of training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mdxai.principles import (
    ForceBeyondTraining,
    ForceSpike,
    NonFinite,
    PrincipleUnavailable,
    principles_for,
)
from mdxai.principles.motion.forces import RepeatedForces


@pytest.fixture
def frame(ethanol_frame):
    return ethanol_frame


def at(frame, k, timestep=1.0, **changes):
    return replace(frame, step=k, time=k * timestep, **changes)


def test_non_finite_counts_and_names_atoms(frame):
    assert NonFinite().deviate(frame).value == 0
    forces = frame.forces.copy()
    forces[4, 1], forces[7] = np.inf, np.nan
    deviation = NonFinite().deviate(replace(frame, forces=forces))
    assert (deviation.value, deviation.atoms) == (4, (4, 7))
    assert NonFinite().deviate(replace(frame, energy=np.nan)).value == 1


def test_a_calculator_without_energies_is_not_taken_for_nan(frame):
    silent = frame.without("energy")
    principles, _ = principles_for(silent)
    assert principles[0].deviate(silent).value == 0


def test_repeated_forces_are_counted_while_atoms_move(frame):
    """Frozen results of moving atoms, not those of atoms at rest, without forces or in a field."""

    def counts(frames):
        principle = RepeatedForces()
        return [principle.deviate(each).value for each in frames]

    moving = [at(frame, k, positions=frame.positions + 0.01 * k) for k in range(4)]
    assert counts(moving) == [0, 1, 2, 3]
    assert counts([each.without("energy") for each in moving]) == [0, 1, 2, 3]
    assert counts(at(frame, k) for k in range(4)) == [0, 0, 0, 0]
    free = np.zeros((9, 3))
    assert counts(replace(each, forces=free) for each in moving) == [0, 0, 0, 0]
    falling = [replace(each, energy=each.energy - 0.1 * each.step) for each in moving]
    assert counts(falling) == [0, 0, 0, 0]
    answered = [replace(each, forces=each.forces + 1e-9 * each.step) for each in moving]
    assert counts(answered) == [0, 0, 0, 0]


def test_force_spike_against_the_median(frame):
    principle = ForceSpike()
    rng = np.random.default_rng(5)
    seen = []
    for k in range(400):
        forces = rng.normal(size=(9, 3))
        seen.append(np.linalg.norm(forces, axis=1).max())
        found = principle.deviate(at(frame, k, forces=forces))
        assert (found is None) == (k < 100)
    spike = forces.copy()
    spike[4] = (30, 0, 0)
    found = principle.deviate(at(frame, 400, forces=spike))
    assert found.value == pytest.approx(30 / np.median(seen) - 1, rel=0.1)
    assert found.atoms == (4,)
    lost = spike.copy()
    lost[7] = np.nan
    assert np.isnan(principle.deviate(at(frame, 401, forces=lost)).value)


def test_force_beyond_training(frame):
    principle = ForceBeyondTraining(8.0)
    forces = np.zeros((9, 3))
    forces[2] = (0, 6, 8)
    found = principle.deviate(replace(frame, forces=forces))
    assert (found.value, found.atoms) == (pytest.approx(0.25), (2,))
    assert principle.deviate(replace(frame, forces=0.5 * forces)).value == 0
    assert np.isnan(principle.deviate(replace(frame, forces=np.nan * forces)).value)
    for missing in (None, np.nan, 0.0):
        with pytest.raises(PrincipleUnavailable, match="largest force"):
            ForceBeyondTraining(missing)
