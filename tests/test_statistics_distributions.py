"""Quantile sketches and histograms against raw samples, brute force and MDAnalysis."""

from __future__ import annotations

import pickle

import MDAnalysis
import numpy as np
import pytest
from ase.build import molecule
from ase.geometry import get_distances
from hypothesis import given, settings
from hypothesis import strategies as st
from MDAnalysis.analysis.rdf import InterRDF

from mdxai.frame import Frame
from mdxai.statistics import (
    BinnedCounts,
    BinnedQuantiles,
    ElementPairChannels,
    RadialDistribution,
    StatisticsError,
    angles_of_bonds,
    bond_angles,
    bond_lengths,
    half_pairs,
)

magnitudes = st.floats(1e-5, 99.0) | st.just(0.0) | st.just(1e-5)
rows = st.lists(
    st.tuples(
        st.integers(-1, 1),
        st.floats(-0.5, 2.5) | st.just(np.nan),
        st.tuples(magnitudes, st.sampled_from([-1.0, 1.0])).map(np.prod) | st.just(np.nan),
    ),
    min_size=1,
    max_size=80,
)


def columns(samples):
    c, d, v = (np.array(x) for x in zip(*samples, strict=True))
    return c.astype(np.int64), d.astype(float), v.astype(float)


@settings(max_examples=60, deadline=None)
@given(rows, st.floats(0, 1))
def test_quantiles_lie_within_the_stated_error(samples, q):
    """The twin of the kernel keeps every sample."""
    c, d, v = columns(samples)
    sketch = BinnedQuantiles("ab", 2.0, 2)
    sketch.update(c, d, v)
    for channel in range(2):
        for b in range(2):
            kept = v[(c == channel) & (d >= b) & (d < b + 1) & np.isfinite(v)]
            found = sketch.quantile(q)[channel, b]
            assert sketch.count[channel, b] == len(kept)
            if not len(kept):
                assert np.isnan(found)
                continue
            # The rank is formed as the sketch forms it: numpy's rounds to a neighbour at ties.
            exact = np.sort(kept)[int(np.floor(q * (len(kept) - 1)))]
            assert abs(found - exact) <= 0.02 * abs(exact) * (1 + 1e-9)
    assert sketch.not_finite == np.sum((c >= -1) & ~(np.isfinite(v) & np.isfinite(d)))


def test_quantiles_of_many_samples_merge_exactly():
    rng = np.random.default_rng(0)
    v = rng.lognormal(sigma=2, size=30_000)
    c, d = np.zeros(len(v), dtype=np.int64), rng.uniform(0, 1, len(v))
    whole, *parts = (BinnedQuantiles("a", 1.0, 1, relative_error=0.005, span=(1e-6, 1e6))
                     for _ in range(4))  # fmt: skip
    whole.update(c, d, v)
    for part, cut in zip(parts, np.array_split(np.arange(len(v)), 3), strict=True):
        part.update(c[cut], d[cut], v[cut])
    joint = pickle.loads(pickle.dumps(BinnedQuantiles.from_state(parts[0].state())))
    joint.merge(parts[1])
    joint.merge(parts[2])
    np.testing.assert_array_equal(joint.bucket_counts, whole.bucket_counts)
    q = [0, 0.01, 0.25, 0.5, 0.9, 0.999, 1]
    np.testing.assert_allclose(
        whole.quantile(q)[:, 0, 0], np.quantile(v, q, method="lower"), rtol=0.005
    )
    with pytest.raises(StatisticsError, match="same relative error"):
        joint.merge(BinnedQuantiles("a", 1.0, 1))
    with pytest.raises(StatisticsError, match="between 0 and 1"):
        joint.quantile(1.5)


def test_values_beyond_the_span_are_said_to_be():
    sketch = BinnedQuantiles("a", 1.0, 1, span=(1e-3, 10.0))
    v = np.array([-1e5, 1e-7, 1e5])
    sketch.update(np.zeros(3, dtype=np.int64), np.full(3, 0.5), v)
    assert sketch.quantile([0, 0.5, 1]).ravel().tolist() == [-np.inf, 0.0, np.inf]


@settings(max_examples=60, deadline=None)
@given(rows)
def test_counts_equal_numpy(samples):
    c, d, _ = columns(samples)
    counts = BinnedCounts("ab", 2.0, 5)
    counts.update(c, d)
    for channel in range(2):
        mine = d[(c == channel) & np.isfinite(d)]
        position = np.floor(mine * 2.5)
        expected = [np.sum(position == b) for b in range(5)]
        np.testing.assert_array_equal(counts.count[channel], expected)


def periodic(positions, cell, numbers):
    n = len(positions)
    return Frame(0, 0.0, numbers, np.ones(n), np.asarray(positions, float), np.zeros((n, 3)),
                 np.zeros((n, 3)), 0.0, np.asarray(cell, float), np.ones(3, bool))  # fmt: skip


def test_half_pairs_equal_brute_force_in_a_skewed_cell():
    rng = np.random.default_rng(0)
    cell = np.array([[9.0, 0, 0], [2.0, 8.0, 0], [-1.0, 1.5, 10.0]])
    frame = periodic(rng.uniform(-5, 15, (40, 3)), cell, np.full(40, 18))
    cutoff = 3.5
    _, matrix = get_distances(frame.positions, cell=cell, pbc=True)
    i, j, d = half_pairs(frame, cutoff)
    found = np.zeros((40, 40))
    found[np.minimum(i, j), np.maximum(i, j)] = d
    np.testing.assert_allclose(found, np.triu(np.where(matrix < cutoff, matrix, 0), 1), atol=1e-10)
    with pytest.raises(StatisticsError, match="choose at most"):
        half_pairs(frame, 4.5)


def test_rdf_of_an_ideal_gas_is_one():
    """Each bin within five standard errors of a Poisson count."""
    rng = np.random.default_rng(1)
    numbers = np.repeat([8, 1], 60)
    rdf, other = (RadialDistribution(ElementPairChannels(numbers), 120, 5.0, 10) for _ in range(2))
    for k in range(60):
        frame = periodic(rng.uniform(0, 10, (120, 3)), 10 * np.eye(3), numbers)
        (rdf if k % 2 else other).update(frame)
    rdf.merge(other)
    assert rdf.n_pairs.sum() == 120 * 119 // 2
    assert np.all(np.abs(rdf.g - 1) < 5 / np.sqrt(np.maximum(rdf.counts.count, 1)))


def test_rdf_of_water_equals_mdanalysis(shared_data):
    data = np.load(shared_data / "water" / "water64_pbe0ts_dpmd.npz")
    numbers = data["z"].astype(np.int64)
    sides = np.array([np.diag(c) for c in data["cell"][:20]], dtype=float)
    universe = MDAnalysis.Universe.empty(len(numbers), trajectory=True)
    universe.add_TopologyAttr("type", [{8: "O", 1: "H"}[z] for z in numbers])
    boxes = np.concatenate([sides, np.full((20, 3), 90.0)], axis=1).astype(np.float32)
    universe.load_new(data["R"][:20], dimensions=boxes)
    rdf = RadialDistribution(ElementPairChannels(numbers), len(numbers), 6.0, 60)
    for positions, side in zip(data["R"][:20], sides, strict=True):
        rdf.update(periodic(positions, np.diag(side), numbers))
    groups = {z: universe.select_atoms(f"type {z}") for z in "OH"}
    for channel, name in enumerate(rdf.counts.bins.channels):
        a, b = name.split("-")
        block = (1, 1) if a == b else None
        theirs = InterRDF(groups[a], groups[b], nbins=60, range=(0, 6.0), exclusion_block=block)
        theirs.run()
        twice = 2 if a == b else 1
        # Single precision moves a few pairs across an edge.
        difference = np.abs(theirs.results.count - twice * rdf.counts.count[channel])
        assert difference.sum() <= 1e-3 * theirs.results.count.sum()
        tolerance = 0.02 * theirs.results.rdf + 0.02 * theirs.results.rdf.max()
        assert np.all(np.abs(theirs.results.rdf - rdf.g[channel]) <= tolerance)
        assert theirs.results.rdf.mean() == pytest.approx(rdf.g[channel].mean(), rel=2e-3)


def test_distances_of_a_molecule_are_a_density():
    frame = Frame.from_atoms(molecule("CH3CH2OH"))
    rdf = RadialDistribution(ElementPairChannels(frame.numbers), 9, 10.0, 100)
    rdf.update(frame)
    np.testing.assert_allclose(rdf.h.sum(axis=1) * 0.1, 1.0)
    assert np.isnan(rdf.g).all()
    with pytest.raises(StatisticsError, match="expected 9 atoms"):
        rdf.update(Frame.from_atoms(molecule("H2O")))


def test_bond_lengths_and_angles_equal_ase():
    atoms = molecule("CH3CH2OH")
    atoms.set_cell([5.0, 5.0, 5.0])
    atoms.pbc = True
    atoms.wrap()
    frame = Frame.from_atoms(atoms)
    i, j = np.array([0, 0, 1, 1]), np.array([1, 2, 4, 5])
    first, middle, last = angles_of_bonds(i, j)
    assert len(first) == 1 + 3  # at atoms 0 and 1, with 2 and 3 bonds
    lengths = [atoms.get_distance(a, b, mic=True) for a, b in zip(i, j, strict=True)]
    angles = [atoms.get_angle(*abc, mic=True) for abc in zip(first, middle, last, strict=True)]
    np.testing.assert_allclose(bond_lengths(frame, i, j), lengths)
    np.testing.assert_allclose(bond_angles(frame, first, middle, last), angles)
    histogram = BinnedCounts(["all"], 180.0, 90)
    histogram.update(np.zeros(4, dtype=np.int64), bond_angles(frame, first, middle, last))
    assert histogram.density.sum() * 2.0 == pytest.approx(1.0)
