"""The hazard of a run from its highest points: against brute force in a pair with a hole."""

from __future__ import annotations

import numpy as np
import pytest

from mdxai.forecast.run_hazard import run_hazard, tail_draws
from mdxai.frame import BOLTZMANN
from mdxai.principles.motion.followed_paths import N_BINS, FollowedPath, PathTrace
from mdxai.statistics import _kernels as kernels

from .holed_pair import LENGTH, PLACE, energy_and_slope

MASS = 12.011 * 15.999 / (12.011 + 15.999)  # amu, of C and O
ACCELERATION = 9.6485332e-3  # eV/(Å amu) in Å/fs²
STEP = 0.5  # fs
R = np.linspace(PLACE, LENGTH + 0.3, 20_001)
ENERGY = energy_and_slope(R)[0]
TOP = int(np.argmax(np.where(R < LENGTH, ENERGY, -9)))
LOW = TOP + int(np.argmin(ENERGY[TOP:]))
BEYOND = R[TOP] - 0.06  # Å, from where nothing comes back


def holed_path(temperature):
    lengths = np.array([*np.linspace(R[LOW], R[TOP], 15), PLACE])
    energies = energy_and_slope(lengths)[0] - ENERGY[LOW]
    barrier = ENERGY[TOP] - ENERGY[LOW]
    return FollowedPath(
        "compression", "C0–O1", ((0, 1),), lengths, energies, 14, barrier, 1.0, temperature, ""
    )


class Pairs:
    """Langevin dynamics (BAOAB) of n distances; one that has fallen begins anew in its well."""

    def __init__(self, n, temperature, friction, seed=1):
        self.rng, self.kt = np.random.default_rng(seed), BOLTZMANN * temperature
        self.spread = np.sqrt(self.kt * ACCELERATION / MASS)
        self.keep = np.exp(-friction * STEP)
        self.r, self.v = np.full(n, R[LOW]), self.rng.normal(scale=self.spread, size=n)
        self.push = self.pushed()
        self.n_falls = 0

    def pushed(self):
        return -energy_and_slope(self.r)[1] * ACCELERATION / MASS

    def step(self):
        self.v += 0.5 * STEP * self.push
        self.r += 0.5 * STEP * self.v
        noise = self.rng.normal(scale=self.spread, size=len(self.r))
        self.v = self.keep * self.v + np.sqrt(1 - self.keep**2) * noise
        self.r += 0.5 * STEP * self.v
        fallen = self.r < BEYOND
        if fallen.any():
            self.n_falls += int(fallen.sum())
            self.r[fallen] = R[LOW]
        self.push = self.pushed()
        self.v += 0.5 * STEP * self.push


def intervals(temperature, friction, n, duration):
    """Return the 95 % intervals (n, 3) of the hazards of n runs (fs), per ps."""
    pairs, path = Pairs(n, temperature, friction, seed=7), holed_path(temperature)
    ends = np.arange(2 * n).reshape(n, 2)
    marks = np.tile([R[LOW], 1 / (R[TOP] - R[LOW])], (n, 1))
    levels = np.tile(path.levels(), (n, 1))
    state, counts = np.full((n, 4), -np.inf), np.zeros((n, N_BINS + 1), dtype=np.int64)
    state[:, [1, 3]] = 0.0
    positions, no_cell, own = np.zeros((2 * n, 3)), np.empty((0, 3, 3)), np.arange(n)
    for k in range(round(duration / STEP)):
        pairs.step()
        positions[1::2, 0] = pairs.r
        kernels.follow_paths(
            positions, ends, own, marks, no_cell, levels, state, counts, (k + 1) * STEP, 200.0
        )
    found = []
    for row in counts:
        trace = PathTrace(path, 0.9, 0.0, (0, 1), row, int(row[-1]))
        draws = tail_draws(trace, duration, temperature, np.random.default_rng(0))
        if draws is not None:
            found.append(np.quantile(draws, (0.025, 0.5, 0.975)))
    assert len(found) > 0.9 * n
    return np.array(found)


def brute_force(temperature, friction, n, duration):
    """Return falls per ps of n pairs watched for a time, fs, after 0.5 ps."""
    pairs = Pairs(n, temperature, friction)
    for _ in range(1000):
        pairs.step()
    pairs.n_falls = 0
    for _ in range(round(duration / STEP)):
        pairs.step()
    return pairs.n_falls / (n * duration / 1000), pairs.n_falls


def check(temperature, friction, n, duration, *, watched, least):
    hazard, n_falls = brute_force(temperature, friction, 1000, watched)
    found = intervals(temperature, friction, n, duration)
    low, middle, high = found.T
    inside = np.mean((low <= hazard) & (hazard <= high))
    factor = np.median(middle) / hazard
    print(f"\n{temperature} K, {friction}/fs, {duration / 1000} ps: {hazard:.3g} per ps ({n_falls} "
          f"falls), inside {inside:.2f}, factor {factor:.2f}, "
          f"width {np.median(high / low):.0f}")  # fmt: skip
    assert n_falls > 100
    assert inside >= least
    assert 0.5 < factor < 2


def test_intervals_hold_the_hazard_seen_by_brute_force():
    check(1200.0, 0.01, 60, 20_000.0, watched=5_000.0, least=0.85)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("temperature", "friction", "duration", "watched", "least"),
    [
        (1500.0, 0.01, 20_000.0, 5_000.0, 0.85),
        (1000.0, 0.01, 2_500.0, 20_000.0, 0.85),
        (1000.0, 0.01, 10_000.0, 20_000.0, 0.9),
        (1000.0, 0.01, 100_000.0, 20_000.0, 0.85),
        (1000.0, 0.002, 50_000.0, 40_000.0, 0.85),
        (800.0, 0.01, 50_000.0, 60_000.0, 0.9),
    ],
)
def test_intervals_at_other_temperatures_and_frictions(
    temperature, friction, duration, watched, least
):
    check(temperature, friction, 100, duration, watched=watched, least=least)


def exponential_counts(n, kt, barrier, rng):
    """Return counts of n highest points whose energies are exponential."""
    bins = np.minimum(rng.exponential(kt, n) / barrier * N_BINS, N_BINS).astype(int)
    return np.bincount(bins, minlength=N_BINS + 1)


def test_an_exponential_tail_is_found_again():
    """λ exp(−E/θ) is known: clusters of 0.25 ps whose heights are exponential with 1.15 k_B T."""
    temperature, path = 500.0, holed_path(500.0)
    theta = 1.15 * BOLTZMANN * temperature
    exact, inside = 4.0 * np.exp(-path.barrier / theta), 0
    rng = np.random.default_rng(3)
    for _ in range(100):
        counts = exponential_counts(400, theta, path.barrier, rng)
        trace = PathTrace(path, 0.9, 0.0, (0, 1), counts, int(counts[-1]))
        draws = tail_draws(trace, 100_000.0, temperature, np.random.default_rng(0))
        low, high = np.quantile(draws, (0.025, 0.975))
        inside += low <= exact <= high
    assert inside >= 88


def test_passages_without_a_fall_lower_the_hazard():
    path, temperature = holed_path(1000.0), 1000.0
    counts = exponential_counts(1000, 2.5 * BOLTZMANN * temperature, path.barrier,
                                np.random.default_rng(1))  # fmt: skip
    assert counts[-1] > 20
    falling, passing = (
        tail_draws(PathTrace(path, 1.2, 0.0, (0, 1), counts, falls), 1e5, temperature,
                   np.random.default_rng(0))
        for falls in (int(counts[-1]), 0)
    )  # fmt: skip
    assert np.median(passing) < 0.05 * np.median(falling)
    assert np.median(falling) == pytest.approx(counts[-1] / 100, rel=0.3)


class Followed:
    """What `run_hazard` reads of the principle."""

    def __init__(self, trace, *, watched=100_000.0, temperature=1000.0, widest=0.5, fallen=False):
        self.trace, self.watched, self.temperature = trace, watched, temperature
        self.widest, self.has_fallen = widest, fallen

    def traces(self):
        return (self.trace,)


def traced(n=400):
    path = holed_path(1000.0)
    counts = exponential_counts(n, BOLTZMANN * 1000.0, path.barrier, np.random.default_rng(2))
    return PathTrace(path, 0.8, 7200.0, (0, 1), counts, int(counts[-1]))


def test_the_sentence_and_the_survival_of_what_is_left():
    found = run_hazard(Followed(traced()), ("C", "O"), left=13_000.0)
    assert str(found).startswith(
        "closest to a weak spot: C0–O1, 0.80 of the path to its top at 7.2 ps; hazard of this run "
    )
    assert "the 13 ps left survive with probability" in str(found)
    assert found.survival.value == pytest.approx(np.exp(-13 * found.per_ps.value))
    assert found.survival.low == pytest.approx(np.exp(-13 * found.per_ps.high))
    plain = found.as_dict()
    assert plain["hazard_per_ps"] == found.per_ps.as_dict()
    assert plain["paths"][0]["highest"] == 0.8


def test_nothing_is_left_after_a_fall():
    found = run_hazard(Followed(traced(), fallen=True), ("C", "O"), left=1000.0)
    assert found.per_ps.value > 0
    assert found.survival is None


@pytest.mark.parametrize(
    ("followed", "why"),
    [
        (Followed(traced(), widest=5.0), "up to 5 fs apart"),
        (Followed(traced(), temperature=np.nan), "no temperature"),
        (Followed(traced(3)), "100 ps after the first 0.5 ps are too little"),
    ],
)
def test_an_unknown_hazard_says_why(followed, why):
    found = run_hazard(followed, ("C", "O"), left=1000.0)
    assert found.per_ps is None
    assert found.survival is None
    assert why in str(found)
