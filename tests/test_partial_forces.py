"""Partial forces of pair potentials and of networks."""

from __future__ import annotations

import numpy as np
import pytest
from ase.calculators.emt import EMT

from mdxai.calculators import twin_of
from mdxai.frame import Frame
from mdxai.principles import PrincipleUnavailable
from mdxai.principles.probes.partial_forces import PartialForces

from .conftest import shaken


@pytest.fixture
def frame():
    return Frame.from_atoms(shaken())


def test_partial_forces_of_a_pair_potential_and_of_a_network(frame, networks):
    class Pair:
        """F_ij of E_i = ½ Σ_j u(r_ij): central and reciprocal."""

        def partial_forces(self, frame, atom=None):
            v = frame.positions[None] - frame.positions[:, None]
            r = np.linalg.norm(v, axis=-1) + np.eye(frame.n_atoms)
            return v / r[..., None] ** 3

    for quantity in ("reciprocity", "centrality"):
        of_network = PartialForces(networks["painn-ethanol"], quantity, frame)
        assert 0.05 < of_network.deviate(frame).value < 1
        assert PartialForces(Pair(), quantity, frame).deviate(frame).value < 1e-12
    with pytest.raises(PrincipleUnavailable, match="no partial forces"):
        PartialForces(twin_of(EMT()), "centrality", frame)
