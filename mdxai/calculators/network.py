"""Build schnetpack networks from a plain description, and read descriptions back from networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import schnetpack
import torch
from schnetpack import properties

from mdxai.calculators.card import CalculatorError

ARCHITECTURES = {
    "SchNet": schnetpack.representation.SchNet,
    "PaiNN": schnetpack.representation.PaiNN,
}

# Keywords of a description that the representations take as they are.
_OPTIONAL = ("n_filters", "shared_interactions", "shared_filters")


def build_network(
    description: Mapping[str, Any],
) -> schnetpack.model.NeuralNetworkPotential:
    """Return an untrained potential: representation + Atomwise energy + Forces.

    Args:
        description: `type` ("SchNet" or "PaiNN"), `n_atom_basis`, `n_interactions`, `n_rbf`,
            `cutoff` (in the network's length unit), and where they apply `n_filters`,
            `shared_interactions`, `shared_filters`.

    Raises:
        CalculatorError: for an unknown type or a missing entry.
    """
    kind = description.get("type")
    if kind not in ARCHITECTURES:
        raise CalculatorError(
            f"network type {kind!r} is not known; expected one of {sorted(ARCHITECTURES)}"
        )
    required = ("n_atom_basis", "n_interactions", "n_rbf", "cutoff")
    missing = [key for key in required if key not in description]
    if missing:
        raise CalculatorError(f"the description of the network lacks {', '.join(missing)}")
    cutoff = float(description["cutoff"])
    representation = ARCHITECTURES[kind](
        n_atom_basis=int(description["n_atom_basis"]),
        n_interactions=int(description["n_interactions"]),
        radial_basis=schnetpack.nn.GaussianRBF(n_rbf=int(description["n_rbf"]), cutoff=cutoff),
        cutoff_fn=schnetpack.nn.CosineCutoff(cutoff),
        **{key: description[key] for key in _OPTIONAL if key in description},
    )
    return schnetpack.model.NeuralNetworkPotential(
        representation=representation,
        input_modules=[schnetpack.atomistic.PairwiseDistances()],
        output_modules=[
            schnetpack.atomistic.Atomwise(
                n_in=int(description["n_atom_basis"]), output_key=properties.energy
            ),
            schnetpack.atomistic.Forces(),
        ],
    )


def all_pairs(n_atoms: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return index tensors i, j, each (n_atoms·(n_atoms−1),), of all ordered pairs, sorted by i."""
    i, j = torch.meshgrid(torch.arange(n_atoms), torch.arange(n_atoms), indexing="ij")
    off_diagonal = i != j
    return i[off_diagonal], j[off_diagonal]
