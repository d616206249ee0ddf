"""Principles of decay on profiles that are known: fitted, obeyed, broken."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdxai.principles import (
    DecayExponent,
    DecayForm,
    DecayRise,
    DecayTail,
    StrengthProfile,
    fit_decay,
)

from .explained_frames import deviations, shaken

R = np.arange(1.625, 5.0, 0.25)


EVENLY = np.full(len(R), 50.0)


def test_a_power_law_is_recovered_with_its_interval():
    noise = np.exp(np.random.default_rng(0).normal(scale=0.05, size=len(R)))
    decay = fit_decay(R, 3.0 * R**-6 * noise, EVENLY, 5.0)
    assert decay.low < 6 < decay.high
    assert decay.high - decay.low < 1.0
    assert decay.prefers_exponential < 0


def test_an_exponential_is_told_from_a_power_law():
    assert fit_decay(R, np.exp(-R / 0.4), EVENLY, 5.0).prefers_exponential > 3


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.01, 10), min_size=5, max_size=5))
def test_rise_is_the_distance_to_the_best_falling_profile(values):
    """Brute force: the least squares of all ways to pool neighbours."""
    strengths, counts = np.array(values), np.array([1.0, 2, 1, 3, 1])
    best, fit = np.inf, strengths
    for cuts in itertools.product([False, True], repeat=4):
        groups = np.split(np.arange(5), np.flatnonzero(cuts) + 1)
        means = np.concatenate(
            [np.full(len(g), np.average(strengths[g], weights=counts[g])) for g in groups]
        )
        loss = (counts * (means - strengths) ** 2).sum()
        if (np.diff(means) <= 1e-12).all() and loss < best - 1e-12:
            best, fit = loss, means
    rise = (counts * np.abs(strengths - fit)).sum()
    rise /= (counts * np.maximum(strengths, 0.01)).sum()
    assert fit_decay(R[:5], strengths, counts, 5.0).rise == pytest.approx(rise, abs=1e-9)


def test_decay_principles_pass_a_falling_profile_and_catch_flat_or_rising_ones():
    def profile():
        return StrengthProfile(shaken(0), 5.0)

    def falling(i, j, r):
        return r**-6

    def flat(i, j, r):
        return 1.0

    def bumped(i, j, r):
        return r**-6 + (0.01 if r > 3.0 else 0.0)

    assert deviations(DecayRise(profile()), falling)[-1].value == pytest.approx(0.0, abs=0.02)
    assert deviations(DecayRise(profile()), bumped)[-1].value > 0.1
    assert deviations(DecayExponent(profile()), falling)[-1].value == 0
    assert deviations(DecayExponent(profile()), flat)[-1].value == pytest.approx(1.0)
    assert deviations(DecayForm(profile()), lambda i, j, r: np.exp(-3 * r))[-1].value > 1
    assert deviations(DecayForm(profile()), falling)[-1].value == 0
    long = deviations(DecayTail(StrengthProfile(shaken(0), 4.0)), flat)
    assert long[-1].value == pytest.approx(1.0)
    assert deviations(DecayTail(StrengthProfile(shaken(0), 4.0)), falling)[-1].value < 0.02


def test_pairs_that_carry_next_to_nothing_have_no_decay_to_speak_of():
    def profile():
        return StrengthProfile(shaken(0), 4.0)

    for scale, judged in ((1e-5, False), (4e-3, True), (1.0, True)):
        flat = deviations(DecayTail(profile()), lambda i, j, r, s=scale: s)
        assert bool(flat) == judged
        if judged:
            assert flat[-1].value == pytest.approx(min(1.0, scale / 0.01))
        rise = deviations(DecayRise(profile()), lambda i, j, r, s=scale: s * r**3 / 64)
        assert not judged or (rise[-1].value > 0.4) == (scale == 1.0)
