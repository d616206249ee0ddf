"""Which temperatures a life test chooses, and that choosing does no harm to its intervals."""

from __future__ import annotations

import numpy as np
import pytest

from mdxai.forecast.allocation import TOO_FAST, Allocation, is_slow, ladder_of, usable
from mdxai.forecast.run_life_test import LOOKS
from mdxai.forecast.survival_model import ArrheniusExponential, Lifetime, Watched, totals

from .synthetic_lives import Law

ROUND, WARM_UP, SLOTS, HOTTEST = 0.25, 0.1, 16, 2500.0  # ps, ps, replicas at a time, K


class Renewals:
    """Replicas that obey a known law, each replaced when it breaks, as in a life test."""

    def __init__(self, law, rng):
        self.law, self.rng = law, rng
        self.ended = []  # temperature, age, whether it broke
        self.slots = [None] * SLOTS  # temperature, age, age at which it will break

    def fresh(self, temperature):
        return temperature, 0.0, self.rng.exponential(1 / self.law.hazard(temperature))

    def move(self, temperatures):
        for k, temperature in enumerate(temperatures):
            if self.slots[k] is None or self.slots[k][0] != temperature:
                self.ended += [] if self.slots[k] is None else [(*self.slots[k][:2], False)]
                self.slots[k] = self.fresh(temperature)
            left = ROUND
            while self.slots[k][1] + left >= self.slots[k][2]:
                _, age, death = self.slots[k]
                left -= death - age
                self.ended.append((temperature, death, True))
                self.slots[k] = self.fresh(temperature)
            self.slots[k] = (temperature, self.slots[k][1] + left, self.slots[k][2])

    def seen(self, less=0.0):
        lives = self.ended + [(t, age, False) for t, age, _ in self.slots if age]
        return totals([Lifetime(t, max(a - less, 0.0), b and a > less) for t, a, b in lives])


def adaptive(law, target, most, rng, narrow=None):
    """Return what an adaptive test of `most` ps sees, and its law.

    narrow: duration (ps) and width of the survival at which the test ends earlier.
    """
    allocation, test = Allocation(ladder_of(HOTTEST, target), SLOTS, WARM_UP), Renewals(law, rng)
    test.move(allocation.first())
    for k in range(1, round(most / ROUND / SLOTS)):
        if narrow and k in LOOKS and is_settled(test.seen(WARM_UP), target):
            hazard = ArrheniusExponential(usable(test.seen(WARM_UP), target)).hazard(target)
            if np.ptp(np.exp([-hazard.low * narrow[0], -hazard.high * narrow[0]])) <= narrow[1]:
                break
        test.move(allocation.following(test.seen(), [slot[0] for slot in test.slots]))
    seen = test.seen(WARM_UP)
    return seen, ArrheniusExponential(usable(seen, target))


def is_settled(seen, target):
    """Return whether the test may end, as `LifeTest.is_settled` says of its replicas."""
    law = usable(seen, target)
    colder = sum(w.onsets for w in law[1:])
    return sum(w.onsets for w in law) >= 10 and colder >= 3 and all(is_slow(w, target) for w in law)


def share_covered(law, target, most, n, narrow=None):
    rng = np.random.default_rng(2)
    found = [adaptive(law, target, most, rng, narrow)[1].hazard(target) for _ in range(n)]
    return np.mean([h.low <= law.hazard(target) <= h.high for h in found])


def test_an_adaptive_test_recovers_a_known_law():
    assert share_covered(Law(150.0, 0.62), 500.0, 40.0, 50) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("target", [300.0, 500.0])
@pytest.mark.parametrize(
    "law", [Law(150.0, 0.62), Law(30.0, 0.35), Law(300.0, 0.85), Law(1000.0, 1.1)], ids=str
)
def test_coverage_of_adaptive_tests(law, target):
    assert share_covered(law, target, 60.0, 100) >= 0.9  # 0.95 less two standard errors


@pytest.mark.slow
@pytest.mark.parametrize("width", [0.2, 0.5])
def test_coverage_of_tests_that_end_when_they_are_narrow(width):
    """Looking often, and stopping where the interval happens to be narrow, costs little."""
    assert share_covered(Law(150.0, 0.62), 700.0, 400.0, 60, (50.0, width)) >= 0.88


def test_choosing_narrows_the_interval_more_than_staying_hot():
    law, target = Law(150.0, 0.62), 500.0

    def width(law_found):
        hazard = law_found.hazard(target)
        return np.log(hazard.high / hazard.low)

    rng = np.random.default_rng(5)
    chosen = np.median([width(adaptive(law, target, 60.0, rng)[1]) for _ in range(8)])
    hot = []
    for _ in range(8):
        test, ladder = Renewals(law, rng), ladder_of(HOTTEST, target)
        for _ in range(15):
            test.move([ladder[2 + k % 2] for k in range(SLOTS)])
        hot.append(width(ArrheniusExponential(usable(test.seen(WARM_UP), target))))
    assert chosen < 0.75 * np.median(hot)


def test_the_ladder_goes_down_to_the_target_in_equal_ratios():
    ladder = ladder_of(2500.0, 300.0)
    assert (ladder[0], ladder[-1]) == (2500.0, 300.0)
    ratios = np.array(ladder[1:]) / ladder[:-1]
    assert np.allclose(ratios, ratios[0])
    assert 0.8 < ratios[0] < 0.9
    assert ladder_of(900.0, 1000.0) == (1000.0,)


def test_without_an_onset_the_next_replicas_are_as_hot_as_is_allowed():
    allocation = Allocation(ladder_of(2500.0, 300.0), 8, WARM_UP)
    following = allocation.following([Watched(1500.0, 9.0, 0)], [1500.0] * 8)
    assert following == [2500.0] * 8


def test_where_replicas_break_at_once_the_next_ones_are_colder():
    ladder = ladder_of(2500.0, 300.0)
    allocation = Allocation(ladder, 8, WARM_UP)
    first = allocation.first()
    assert set(first) == {ladder[1], ladder[3]}
    following = allocation.following([Watched(t, 0.1, 20) for t in set(first)], first)
    assert max(following) < min(first)


def test_slots_keep_their_temperature_where_they_can():
    law, target = Law(150.0, 0.62), 500.0
    allocation = Allocation(ladder_of(HOTTEST, target), 8, WARM_UP)
    seen = [Watched(t, 20.0, round(20 * law.hazard(t))) for t in allocation.ladder[2:6]]
    once = allocation.following(seen, [allocation.ladder[2]] * 8)
    again = allocation.following(seen, once)
    assert sum(a != b for a, b in zip(once, again, strict=True)) <= 2


def test_temperatures_where_replicas_break_at_once_are_left_out():
    fast, slow = Watched(2500.0, 2.0, round(8 * TOO_FAST)), Watched(1500.0, 9.0, 9)
    assert usable([fast, slow], 300.0) == [slow]
    assert usable([fast, Watched(900.0, 9.0, 0)], 300.0) == [fast, Watched(900.0, 9.0, 0)]
    assert usable([Watched(300.0, 1.0, 50)], 300.0) == [Watched(300.0, 1.0, 50)]
