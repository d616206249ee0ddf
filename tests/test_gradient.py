"""Forces against the gradient of the energy, and the noise of energies."""

from __future__ import annotations

import numpy as np
import pytest

from mdxai.calculators import twin_of
from mdxai.frame import Frame
from mdxai.principles import PrincipleUnavailable
from mdxai.principles.probes.gradient import Gradient, precision_of
from mdxai.principles.probes.mismatch import energy_and_forces

from .conftest import shaken
from .pair_potential import Pairwise, limits, values


@pytest.fixture
def frame():
    return Frame.from_atoms(shaken())


@pytest.mark.parametrize(("fault", "found"), [("", False), ("single", False), ("double", True)])
def test_forces_are_the_gradient(frame, fault, found):
    value = Gradient(twin_of(Pairwise(fault))).deviate(frame).value
    assert (value > limits()["gradient"].unstable) == found
    assert found or value <= limits()["gradient"].warn


def test_a_force_without_energy_names_its_atom(frame):
    deviation = Gradient(twin_of(Pairwise("curl"))).deviate(frame)
    force = 0.2 * np.linalg.norm((frame.positions[2] - frame.positions.mean(axis=0))[:2])
    assert deviation.atoms == (2,)
    assert 0.02 < deviation.value <= force + 1e-6


def test_precision_is_measured_for_float32_and_not_for_float64(frame, networks):
    found = values(energy_and_forces("precision", precision_of(networks["schnet-ethanol"])), frame)
    assert 0 < found["precision"] < 1e-2
    assert 0 < found["precision_forces"] < 1e-3
    with pytest.raises(PrincipleUnavailable, match="float64"):
        precision_of(networks["painn-ethanol"])
