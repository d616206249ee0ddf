"""Configurations that probes are made of."""

from __future__ import annotations

import numpy as np
import pytest

from mdxai.frame import Frame
from mdxai.principles.probes.configurations import closest_pairs, deepest_fall, noise

from .conftest import shaken


@pytest.fixture
def frame():
    return Frame.from_atoms(shaken())


def test_noise_is_that_of_the_energy():
    rng = np.random.default_rng(0)
    points = np.linspace(-1e-3, 1e-3, 400)
    smooth = np.sin(points)
    assert noise(smooth) < 1e-14
    assert noise(smooth + rng.normal(scale=1e-6, size=400)) == pytest.approx(1e-6, rel=0.2)
    assert noise(np.full(9, np.float32(4209.3), dtype=np.float64)) == np.spacing(np.float32(4209))


def test_closest_pairs_and_deepest_fall(frame):
    pairs = closest_pairs(frame)
    distances = np.linalg.norm(frame.positions[:, None] - frame.positions, axis=-1)
    hydrogens = np.flatnonzero(frame.numbers == 1)
    shortest = distances[np.ix_(hydrogens, hydrogens)] + 9 * np.eye(len(hydrogens))
    assert len(pairs) == 5  # C–C, C–H, C–O, H–H, H–O
    assert np.isclose(pairs.distances, shortest.min()).any()
    assert deepest_fall(np.array([0.0, 3, 1, 2, -1, 5])) == 4
    assert np.isnan(deepest_fall(np.array([0.0, np.nan, 1])))
