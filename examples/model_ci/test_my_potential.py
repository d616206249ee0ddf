"""The tests of a model developer: does the potential hold, and is it no worse than the last one?

pytest --mdxai-update writes baselines/my-potential.toml, to be committed. From then on: pytest
"""

from math import inf

import pytest
from ase.build import molecule

import mdxai
from mdxai.testing import assert_stable


@pytest.fixture
def potential():
    return mdxai.load_calculator("schnet-ethanol")  # your model here: any ASE calculator


def test_it_runs_as_well_as_before(potential, monitored_md, assert_not_worse):
    runs = monitored_md(potential, "CH3CH2OH", temperature=500, steps=1000)
    for run in runs:
        assert_stable(run, warnings_allowed=True)
    assert_not_worse(runs, "baselines/my-potential.toml")


def test_no_way_into_a_hole_is_short(potential):
    found = mdxai.weak_spots(potential, molecule("CH3CH2OH"), temperature=500)
    assert min((spot.barrier for spot in found.spots), default=inf) > 0.5, str(found)  # eV
