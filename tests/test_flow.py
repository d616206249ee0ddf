"""Flow of relevance between pairs of atoms, against enumerated walks."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from mdxai.attribution import (
    FlowAttributor,
    Rule,
)

from .conftest import (
    KINDS,
    random_positions,
    random_potential,
)
from .walk_enumeration import schnetpack_inputs, walk_relevance


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks", [1, 3])
def test_flow_equals_enumeration(kind, blocks):
    potential = random_potential(kind, 3, n_interactions=blocks)
    atoms = Atoms("COH2", random_positions(4, 5))
    flow = FlowAttributor(potential, Rule(0.1)).attribute(atoms)
    inputs = schnetpack_inputs(atoms, potential.cutoff)
    truth = walk_relevance(potential.network, inputs, 0.1, range(4))
    for k, (i, j) in enumerate(zip(flow.pairs.i, flow.pairs.j, strict=True)):
        for step in range(blocks):
            passing = [v for w, v in truth.items() if {w[step], w[step + 1]} == {i, j}]
            assert flow.by_layer[step, k] == pytest.approx(sum(passing), abs=1e-12)
    np.testing.assert_allclose(flow.strengths, flow.by_layer.sum(0))
