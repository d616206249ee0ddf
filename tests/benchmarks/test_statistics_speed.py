"""Statistics against other libraries: ratios in one process, minimum of interleaved repeats.

python3 -m uv run pytest -m benchmark -n 0 -s tests/benchmarks/test_statistics_speed.py
"""

from __future__ import annotations

import time

import boost_histogram
import numpy as np
import pytest
from scipy.stats import binned_statistic

from mdxai.frame import Frame
from mdxai.statistics import (
    BinnedMoments,
    ElementPairChannels,
    RelevanceProfile,
    profile_moments,
)
from tests.conftest import ethanol_with

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]

N, CHANNELS, BINS, R_MAX = 10_000_000, 10, 240, 6.0


def shortest(*functions, repeats=5, clock=time.perf_counter):
    """Return the shortest time of each function, s; functions take turns."""
    best = [np.inf] * len(functions)
    for _ in range(repeats):
        for k, function in enumerate(functions):
            begin = clock()
            function()
            best[k] = min(best[k], clock() - begin)
    return best


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    return rng.integers(0, CHANNELS, N), rng.uniform(0, R_MAX, N), rng.normal(size=N)


def names():
    return [str(k) for k in range(CHANNELS)]


@pytest.mark.parametrize("clock", [time.perf_counter, time.thread_time], ids=["wall", "cpu"])
def test_moments_against_boost_histogram(samples, clock):
    """boost gives count, mean and variance; ours minimum, maximum and a NaN check as well."""
    moments = BinnedMoments(names(), R_MAX, BINS)
    axes = (
        boost_histogram.axis.Integer(0, CHANNELS, underflow=False, overflow=False),
        boost_histogram.axis.Regular(BINS, 0, R_MAX),
    )
    theirs = boost_histogram.Histogram(*axes, storage=boost_histogram.storage.Mean())
    c, d, v = samples
    moments.update(c[:9], d[:9], v[:9])
    ours, boost = shortest(
        lambda: moments.update(c, d, v),
        lambda: theirs.fill(c, d, sample=v),
        clock=clock,
    )
    print(
        f"\n{N:.0e} samples: moments {1e9 * ours / N:.1f} ns each, boost-histogram Mean "
        f"{1e9 * boost / N:.1f} ns ({boost / ours:.2f}× faster)"
    )


def test_moments_against_scipy(samples):
    """count, mean, std, min and max of one channel in scipy, times the number of channels."""
    moments = BinnedMoments(names(), R_MAX, BINS)
    c, d, v = samples
    moments.update(c[:9], d[:9], v[:9])
    mine = c == 0
    own_d, own_v = d[mine], v[mine]

    def statistic(kind):
        return lambda: binned_statistic(own_d, own_v, kind, bins=BINS, range=(0, R_MAX))

    kinds = ("count", "mean", "std", "min", "max")
    ours, *theirs = shortest(lambda: moments.update(c, d, v), *map(statistic, kinds), repeats=2)
    three = sum(theirs[:3])
    print(
        f"\nscipy.stats.binned_statistic over ours: count + mean + std "
        f"{CHANNELS * three / ours:.0f}×, with min and max {CHANNELS * sum(theirs) / ours:.0f}×"
    )


def test_one_frame_of_ethanol():
    frame = Frame.from_atoms(ethanol_with(None))
    pairs = frame.pairs(np.inf)
    channels = ElementPairChannels(frame.numbers)
    moments = BinnedMoments(channels.names, R_MAX)
    values = np.random.default_rng(0).normal(size=len(pairs))
    fixed = channels.of(pairs.i, pairs.j)

    def update():
        for _ in range(100):
            moments.update(fixed, pairs.distances, values)

    def look_up_and_update():
        for _ in range(100):
            moments.update(channels.of(pairs.i, pairs.j), pairs.distances, values)

    update()
    bare, whole = shortest(update, look_up_and_update, repeats=300)
    print(f"\n36 pairs: update {1e4 * bare:.1f} µs, with the look-up of channels {1e4 * whole:.1f}")


def test_profile_of_a_frame_of_ethanol():
    """A profile, and what the moments of a run and early warnings take from it."""
    frame = Frame.from_atoms(ethanol_with(None))
    pairs = frame.pairs(np.inf)
    values = np.random.default_rng(0).normal(size=len(pairs))
    moments = profile_moments(frame.numbers, R_MAX)

    def make():
        return RelevanceProfile(frame.numbers, pairs.i, pairs.j, pairs.distances, values)

    def update():
        for _ in range(100):
            moments.update(*make().samples)

    def bin_too():
        for _ in range(100):
            profile = make()
            moments.update(*profile.samples)
            profile.bins(0.25).occupied()

    bin_too()
    bare, binned = shortest(update, bin_too, repeats=300)
    print(f"\n36 pairs: profile and moments {1e4 * bare:.1f} µs, binned too {1e4 * binned:.1f} µs")
