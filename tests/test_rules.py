"""The γ rule and its variant."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from mdxai.attribution import (
    Rule,
    WalkAttributor,
)
from mdxai.frame import Frame

from .conftest import (
    KINDS,
    random_positions,
    random_potential,
)


@pytest.mark.parametrize("kind", KINDS)
def test_max_bias_returns_the_share_of_the_biases(kind):
    """With `max_bias` only the last, linear layers absorb relevance."""
    potential = random_potential(kind, 5, n_interactions=1)
    atoms = Atoms("COH2", random_positions(4, 6))
    kept = WalkAttributor(potential, Rule(0.1)).attribute(atoms)
    returned = WalkAttributor(potential, Rule(0.1, max_bias=True)).attribute(atoms)
    last_bias = potential.network.output_modules[0].outnet[-1].bias.item() * len(atoms)
    assert returned.by_body_order.sum() == pytest.approx(returned.relevance_total)
    if kind == "SchNet":  # the only biases left are the linear layers', whose share is exact
        outward = potential.network.representation.interactions[0].f2out[1].bias
        explain = WalkAttributor(potential, Rule(0.1, max_bias=True))
        network, _ = explain.linearised(Frame.from_atoms(atoms))
        absorbed = last_bias + float((network.top @ outward).sum())
        assert returned.residual == pytest.approx(absorbed, abs=1e-9)
    assert not np.isclose(kept.residual, returned.residual)
