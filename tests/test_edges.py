"""All pairs and neighbour lists."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch._inductor
from ase import Atoms

from mdxai.calculators.edges import AllPairs, VerletList
from mdxai.frame import Frame

from .conftest import (
    KINDS,
    random_positions,
    random_potential,
)


@pytest.mark.parametrize("kind", KINDS)
def test_all_pairs_and_neighbour_list_agree(kind):
    potential = random_potential(kind, 7)
    positions = random_positions(8, 4, spread=2.5)
    dense = potential.evaluate(Frame.from_atoms(Atoms("C8", positions)))
    boxed = Atoms("C8", positions, cell=100 * np.eye(3), pbc=True)
    sparse = potential.evaluate(Frame.from_atoms(boxed))
    assert dense[0] == pytest.approx(sparse[0], abs=1e-12)
    np.testing.assert_allclose(dense[1], sparse[1], atol=1e-12)


def test_verlet_list_is_exact_while_atoms_move():
    rng = np.random.default_rng(0)
    cell, pbc = 9.0 * np.eye(3), np.ones(3, dtype=bool)
    positions = rng.uniform(0, 9, size=(60, 3))
    moving = VerletList(4.0)
    for _ in range(30):
        positions += rng.normal(scale=0.05, size=positions.shape)
        _, vectors = moving.find(positions, cell, pbc, torch.device("cpu"))
        _, fresh = VerletList(4.0, skin=0.0).find(positions, cell, pbc, torch.device("cpu"))
        within = np.sort(np.linalg.norm(vectors, axis=1))
        expected = np.sort(np.linalg.norm(fresh, axis=1))
        np.testing.assert_allclose(within[within < 4.0], expected[expected < 4.0], atol=1e-9)


def test_all_pairs_spread_has_the_right_gradient():
    edges = AllPairs(5, torch.device("cpu"))
    half = torch.randn(10, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(edges.spread, half)
