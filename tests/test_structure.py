"""Bond lengths and distances, each against a second derivation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mdxai.frame import Frame
from mdxai.principles import (
    BondIntegrity,
    DistanceBeyondTraining,
    PrincipleUnavailable,
)

from .conftest import ethanol_with

O2, OH = 2, 3  # ethanol of the G2 set: its oxygen and the hydrogen there


@pytest.fixture
def frame():
    return Frame.from_atoms(ethanol_with(None))


def at(frame, time, positions):
    return replace(frame, time=float(time), step=int(time), positions=positions)


def stretched(frame, length):
    """Return positions with the O–H bond at this length, Å."""
    positions = frame.positions.copy()
    bond = positions[OH] - positions[O2]
    positions[OH] = positions[O2] + length * bond / np.linalg.norm(bond)
    return positions


def test_a_reference_trajectory_gives_the_bond_lengths(frame):
    frames = [at(frame, 0, stretched(frame, r)) for r in (1.0, 1.2)]
    principle = BondIntegrity(frame, frames)
    found = principle.deviate(at(frame, 1, stretched(frame, 1.5)))
    assert (found.value, found.atoms) == (pytest.approx(0.4), (O2, OH))


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
