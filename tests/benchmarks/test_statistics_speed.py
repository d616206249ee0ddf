"""Statistics against other libraries: ratios in one process, minimum of interleaved repeats.

python3 -m uv run pytest -m benchmark -n 0 -s tests/benchmarks/test_statistics_speed.py
"""

from __future__ import annotations

import time

import boost_histogram
import MDAnalysis
import numpy as np
import pytest
from ase.build import molecule
from MDAnalysis.analysis.rdf import InterRDF
from scipy.stats import binned_statistic

from mdxai.frame import Frame
from mdxai.statistics import (
    BinnedMoments,
    BinnedQuantiles,
    ElementPairChannels,
    half_pairs,
    update_in_threads,
)

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
    moments, sketch = BinnedMoments(names(), R_MAX, BINS), BinnedQuantiles(names(), R_MAX, BINS)
    axes = (
        boost_histogram.axis.Integer(0, CHANNELS, underflow=False, overflow=False),
        boost_histogram.axis.Regular(BINS, 0, R_MAX),
    )
    theirs = boost_histogram.Histogram(*axes, storage=boost_histogram.storage.Mean())
    c, d, v = samples
    moments.update(c[:9], d[:9], v[:9])
    sketch.update(c[:9], d[:9], v[:9])
    ours, boost, buckets = shortest(
        lambda: moments.update(c, d, v),
        lambda: theirs.fill(c, d, sample=v),
        lambda: sketch.update(c, d, v),
        clock=clock,
    )
    print(
        f"\n{N:.0e} samples: moments {1e9 * ours / N:.1f} ns each, boost-histogram Mean "
        f"{1e9 * boost / N:.1f} ns ({boost / ours:.2f}× faster); sketch {1e9 * buckets / N:.1f} ns"
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


def test_two_threads(samples):
    moments = BinnedMoments(names(), R_MAX, BINS)
    update_in_threads(moments, *(a[:9] for a in samples))
    one, two = shortest(
        lambda: update_in_threads(moments, *samples, n_threads=1),
        lambda: update_in_threads(moments, *samples, n_threads=2),
        repeats=10,
    )
    print(f"\ntwo threads against one: {one / two:.2f}× faster")


def test_one_frame_of_ethanol():
    frame = Frame.from_atoms(molecule("CH3CH2OH"))
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


def test_a_thousand_waters(shared_data):
    """Pair search to 5 Å and update of moments against a frame of InterRDF over all atoms."""
    data = np.load(shared_data / "water" / "water64_pbe0ts_dpmd.npz")
    side = float(data["cell"][0, 0, 0])
    shifts = side * np.array(list(np.ndindex(3, 3, 2)))[:16]
    positions = np.concatenate([data["R"][0] + s for s in shifts])[:3000]
    numbers = np.tile(data["z"], 16)[:3000].astype(np.int64)
    cell = side * np.diag([3.0, 3.0, 2.0])
    zeros = np.zeros((3000, 3))
    frame = Frame(0, 0.0, numbers, np.ones(3000), positions.astype(float), zeros, zeros, 0.0, cell,
                  np.ones(3, bool))  # fmt: skip
    channels = ElementPairChannels(numbers)
    moments = BinnedMoments(channels.names, 5.0)
    universe = MDAnalysis.Universe.empty(3000, trajectory=True)
    universe.load_new(positions[None].astype(np.float32),
                      dimensions=np.array([*np.diag(cell), 90, 90, 90], np.float32))  # fmt: skip
    rdf = InterRDF(universe.atoms, universe.atoms, nbins=240, range=(0, 5.0))
    rdf.run()

    def ours():
        i, j, distances = half_pairs(frame, 5.0)
        moments.update(channels.of(i, j), distances, distances)

    ours()
    mine, search, theirs = shortest(
        ours, lambda: half_pairs(frame, 5.0), rdf._single_frame, repeats=15
    )
    print(
        f"\n3,000 atoms: search and update {1e3 * mine:.1f} ms (search alone {1e3 * search:.1f}), "
        f"InterRDF's frame {1e3 * theirs:.1f} ms ({theirs / mine:.1f}× faster)"
    )
