"""The Ziegler–Biersack–Littmark repulsion of nuclei that a network may have, pair by pair.

schnetpack's module adds up whole molecules; forces of replicas, energies of atoms and explanations
need its pairs. Tests compare the two.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mdxai.calculators.edges import Edges


def zbl_of(network: nn.Module) -> nn.Module | None:
    """Return the repulsion that is added to a network's energy, if any."""
    outputs: Any = network.output_modules
    return next((m for m in outputs if type(m).__name__ == "ZBLRepulsionEnergy"), None)


def zbl_energies(zbl: Any, numbers: Tensor, edges: Edges, vectors: Tensor) -> Tensor:
    """Return the energy of each half edge, (n_half,), in the network's unit.

    E = k Z_i Z_j / r · f(r) · Σ_c w_c exp(−e_c r (Z_iᵖ + Z_jᵖ) / a) with schnetpack's parameters.

    Args:
        zbl: schnetpack's ZBLRepulsionEnergy.
        numbers: (n_atoms,) atomic numbers.
        edges: whose half edges are meant.
        vectors: (n_half, 3) of them, in the network's unit of length.
    """
    softplus = nn.functional.softplus
    distances = (vectors * vectors).sum(1).sqrt()
    i, j = (torch.from_numpy(ends).to(numbers.device) for ends in (edges.first, edges.second))
    z = numbers.to(vectors.dtype)
    width = z ** softplus(zbl.a_pow)
    reach = (width[i] + width[j]) * softplus(zbl.a_div) * distances
    weights = nn.functional.normalize(softplus(zbl.coefficients), p=1.0, dim=0)
    screening = torch.exp(-reach[:, None] * softplus(zbl.exponents)) @ weights
    energies: Tensor = zbl.ke * z[i] * z[j] / distances * zbl.cutoff_fn(distances) * screening
    return energies
