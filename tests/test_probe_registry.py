"""All probes together: sound potentials pass, NaN never does."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones

from mdxai.calculators import twin_of
from mdxai.frame import Frame
from mdxai.principles.probes.gradient import Gradient
from mdxai.principles.probes.locality import doubling, spectator
from mdxai.principles.probes.mismatch import energy_and_forces
from mdxai.principles.probes.probe_registry import probe_principles
from mdxai.principles.probes.smoothness import CutoffJump, cutoff_scans
from mdxai.principles.probes.symmetry import invariances

from .conftest import shaken
from .pair_potential import Pairwise, limits, values


@pytest.fixture
def frame():
    return Frame.from_atoms(shaken())


@pytest.mark.parametrize("name", ["schnet-ethanol", "painn-ethanol"])
def test_sound_networks_pass_what_their_architecture_guarantees(frame, networks, name):
    twin = networks[name]
    scans = cutoff_scans(twin)
    principles = [Gradient(twin, n_atoms=4), *invariances(twin), CutoffJump("energy", scans),
            CutoffJump("forces", scans), *energy_and_forces("locality", spectator(twin, frame)),
            *energy_and_forces("extensivity", doubling(twin, frame))]  # fmt: skip
    found = values(principles, frame)
    assert all(value <= limits()[p].warn for p, value in found.items()), found


def test_every_probe_is_made_or_explained_and_lj_passes_them_all():
    frame = Frame.from_atoms(bulk("Ar", "fcc", 5.26, cubic=True))
    principles, unavailable = probe_principles(
        twin_of(LennardJones(epsilon=0.0104, sigma=3.4, rc=10)), frame
    )
    found = values(principles, frame)
    assert all(value <= limits()[p].warn for p, value in found.items()), found
    known = set(limits()) - {"weak_spots"} | {"reciprocity", "centrality"}  # of a check alone
    assert set(found) | set(unavailable) == known
    assert all(p.cost == "probe" for p in principles)


def test_nan_never_passes_a_probe(frame):
    class Broken(Pairwise):
        def broken(self, energy, forces, x):
            return np.nan, forces * np.nan

    principles, _ = probe_principles(twin_of(Broken()), frame)
    found = values(principles, frame)
    obeyed = [name for name, value in found.items() if value <= limits()[name].warn]
    assert obeyed == []


@pytest.mark.slow
def test_an_independent_method_passes(frame):
    tblite = pytest.importorskip("tblite.ase")
    twin = twin_of(lambda: tblite.TBLite(method="GFN2-xTB", verbosity=0))
    principles, _ = probe_principles(twin, frame)
    found = values(principles, frame)
    assert all(value <= limits()[p].warn for p, value in found.items()), found
