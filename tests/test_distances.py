"""The distribution of distances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mdxai.frame import Frame
from mdxai.principles import DistanceDrift
from mdxai.principles.motion.distances import distance_histogram


def at(frame, time, positions):
    return replace(frame, time=float(time), step=int(time), positions=positions)


def test_distance_drift_between_two_known_distributions():
    """A diatomic at 1.0 Å, then at 2.0 Å for a quarter of the time: ∫|Δh| dr = 2/4."""
    two = Frame.from_atoms(Atoms("N2", [[0, 0, 0], [1.02, 0, 0]]))
    principle = DistanceDrift(two)
    wide = np.array([[0, 0, 0], [2.02, 0, 0]])
    found = []
    for step in range(1300):
        time = step * 5.0
        late = time >= 2500 and (step // 2) % 4 == 0
        found.append(principle.deviate(at(two, time, wide if late else two.positions)))
    assert all(d is None for d in found[:899])
    assert found[-1].value == pytest.approx(0.5, abs=0.01)
    given = DistanceDrift(two, [two])
    values = [given.deviate(at(two, 5.0 * k, wide)) for k in range(500)]
    assert values[-1].value == pytest.approx(2.0)


def test_the_histogram_in_a_cell_counts_every_nearest_image():
    """In a cell: every pair within reach once, at its shortest image, by brute force."""
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.rattle(0.1, seed=0)
    frame = Frame.from_atoms(atoms)
    reach = 3.6
    i, j = np.triu_indices(len(atoms), k=1)
    distances = atoms.get_all_distances(mic=True)[i, j]
    expected = np.histogram(distances[distances < reach], bins=72, range=(0, reach))[0]
    np.testing.assert_array_equal(distance_histogram(frame, reach)[:72], expected)
