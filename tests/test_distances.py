"""Contacts, distances beyond training, and the distribution of distances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mdxai.frame import Frame
from mdxai.principles import (
    ClosestContact,
    DistanceBeyondTraining,
    DistanceDrift,
    PrincipleUnavailable,
)
from mdxai.principles.motion.distances import distance_histogram

from .conftest import O2, OH, at, ethanol_with

RANGES = {"H-H": (1.4, 4.5), "C-H": (0.95, 3.5), "H-O": (0.9, 3.6), "C-C": (1.4, 1.7),
          "C-O": (1.3, 2.7)}  # fmt: skip


@pytest.fixture
def frame():
    return Frame.from_atoms(ethanol_with(None))


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


def test_closest_contact_compares_with_training(frame):
    principle = ClosestContact(RANGES, frame)
    assert principle.deviate(frame).value == 0
    positions = frame.positions.copy()
    positions[3] = positions[4] + (0, 0, 1.0)  # two hydrogens at 1.0 Å; 1.4 Å was the shortest
    deviation = principle.deviate(replace(frame, positions=positions))
    assert deviation.value == pytest.approx(0.4)
    assert deviation.atoms == (3, 4)


def test_distances_beyond_training_are_measured_per_element_pair(frame):
    pairs = frame.pairs(np.inf)
    ranges = dict.fromkeys(("C-C", "C-H", "C-O", "H-H"), (0.5, 4.5)) | {"H-O": (0.5, 4.0)}
    principle = DistanceBeyondTraining(ranges, frame)
    assert principle.deviate(frame).value == 0
    positions = frame.positions.copy()
    positions[OH] = positions[O2] + (0, 0, 4.7)
    found = principle.deviate(replace(frame, positions=positions))
    far = replace(frame, positions=positions).pairs(np.inf)
    limit = np.where((far.i == O2) | (far.j == O2), 4.0, 4.5)
    light = (far.j >= 3) | (far.i >= 3)
    excess = far.distances - np.where(light, limit, 4.5)
    assert found.value == pytest.approx(excess.max())
    assert pairs.distances.max() < 4.5
    with pytest.raises(PrincipleUnavailable, match="another molecule"):
        DistanceBeyondTraining({"C-C": (1.0, 1.2)}, frame)
    with pytest.raises(PrincipleUnavailable, match="one small molecule"):
        DistanceBeyondTraining(ranges, replace(frame, pbc=np.array([True] * 3)))
