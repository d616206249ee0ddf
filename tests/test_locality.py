"""Locality and extensivity."""

from __future__ import annotations

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mdxai.calculators import twin_of
from mdxai.frame import Frame
from mdxai.principles import PrincipleUnavailable
from mdxai.principles.probes.locality import doubling, spectator
from mdxai.principles.probes.mismatch import energy_and_forces

from .conftest import shaken
from .pair_potential import Pairwise, limits, values


@pytest.fixture
def frame():
    return Frame.from_atoms(shaken())


def test_an_energy_that_counts_atoms_breaks_locality_and_extensivity(frame):
    def measured(fault):
        twin = twin_of(Pairwise(fault))
        principles = [*energy_and_forces("locality", spectator(twin, frame))]
        return values(
            [*principles, *energy_and_forces("extensivity", doubling(twin, frame))], frame
        )

    assert max(measured("").values()) < 1e-6
    broken = measured("mean")
    assert all(value > limits()[name].unstable for name, value in broken.items()), broken
    with pytest.raises(PrincipleUnavailable, match="periodic"):
        spectator(twin_of(EMT()), Frame.from_atoms(bulk("Cu")))
