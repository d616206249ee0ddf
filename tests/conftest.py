"""Fixtures: real models from the repository, real data where it lies beside it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule

import mdxai
from mdxai.calculators.card import Card
from mdxai.calculators.network import build_network
from mdxai.calculators.potential import NetworkPotential

SOUND = ("schnet-ethanol", "painn-ethanol")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_pages(request, monkeypatch):
    """Hundreds of monitors finish in these tests: a page is made only where one asks for it."""
    if request.node.get_closest_marker("pages") is None:
        monkeypatch.setattr("mdxai.report.attempt_report", lambda folder: None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of public data sets: $MDXAI_DATA, or `shared/data` beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MDXAI_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}; set MDXAI_DATA to run this test")
    return folder


@pytest.fixture
def ethanol():
    """Ethanol with one sound model, slightly shaken off its symmetric minimum."""
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    atoms.calc = mdxai.load_calculator("schnet-ethanol")
    return atoms


def random_network(kind: str, seed: int, **changes):
    """Return an untrained double-precision potential with biases that matter."""
    description = {"type": kind, "n_atom_basis": 12, "n_interactions": 3, "n_rbf": 8, "cutoff": 4.0}
    description |= changes
    torch.manual_seed(seed)
    network = build_network(description).double()
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return network, description


def random_potential(kind: str, seed: int, dtype=torch.float64, **changes) -> NetworkPotential:
    network, description = random_network(kind, seed, **changes)
    return NetworkPotential(network, Card("random", description), dtype=dtype)


def random_positions(n_atoms: int, seed: int, spread: float = 1.5) -> np.ndarray:
    """Return positions with no two atoms closer than 0.7 Å."""
    rng = np.random.default_rng(seed)
    while True:
        positions = rng.normal(scale=spread, size=(n_atoms, 3))
        distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
        if (distances + 10 * np.eye(n_atoms)).min() > 0.7:
            return positions
