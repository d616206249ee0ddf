"""SchNets without training whose relevance is known: filters are r⁻ⁿ, everything else is 1.

With A the matrix of r_ij⁻ⁿ, the atoms' outputs are (I + A)ᴸ·1 for L interaction blocks.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mdxai.calculators.card import Card
from mdxai.calculators.network import build_network
from mdxai.calculators.network_calculator import NetworkCalculator
from mdxai.calculators.network_property import NetworkProperty, Offsets
from mdxai.calculators.pooling import MEAN
from mdxai.calculators.potential import NetworkPotential


class InversePower(nn.Module):
    def __init__(self, n: float) -> None:
        super().__init__()
        self.n = n
        self.n_rbf = 2

    def forward(self, r):
        return torch.stack([r**-self.n, torch.zeros_like(r)], dim=-1)


class NoCutoff(nn.Module):
    def forward(self, r):
        return torch.ones_like(r)


def hand_made(n: float, n_interactions: int = 1, cutoff: float = 12.0, *, mean: bool = False):
    """Return a calculator, or with `mean` a property that is the mean over atoms."""
    description = {
        "type": "SchNet", "n_atom_basis": 1, "n_interactions": n_interactions, "n_rbf": 2,
        "cutoff": cutoff,
    }  # fmt: skip
    network = build_network(description)
    representation = network.representation
    representation.radial_basis, representation.cutoff_fn = InversePower(n), NoCutoff()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    for module in network.modules():
        if hasattr(module, "activation"):
            module.activation = nn.Identity()
    potential = NetworkPotential(network, Card("hand-made", description), dtype=torch.float64)
    if mean:
        return NetworkProperty(potential, "gap", "eV", MEAN, Offsets({}))
    return NetworkCalculator(potential)


def filters(positions: np.ndarray, n: float) -> np.ndarray:
    """Return A, (n_atoms, n_atoms)."""
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    np.fill_diagonal(distances, np.inf)
    return distances**-n
