"""Build schnetpack networks from a plain description."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from mdxai.calculators import schnetpack_parts as schnetpack
from mdxai.calculators.card import CalculatorError
from mdxai.calculators.radial import DECAY, MOST, InversePowers, PowerLawCutoff

ARCHITECTURES = {
    "SchNet": schnetpack.SchNet,
    "PaiNN": schnetpack.PaiNN,
    "SO3net": schnetpack.SO3net,
}

# Entries of a description that the representations take unchanged.
_OPTIONAL = ("n_filters", "shared_interactions", "shared_filters", "lmax")
_NEEDED = {"SO3net": ("lmax",)}

POOLINGS = ("sum", "mean", "dipole")
RADIAL = ("gaussian", "inverse-power")
REPULSIONS = ("none", "ZBL")


def build_network(
    description: Mapping[str, Any],
) -> schnetpack.NeuralNetworkPotential:
    """Return an untrained network: a representation with energy and forces, or another output.

    Args:
        description: `type` ("SchNet", "PaiNN" or "SO3net"), `n_atom_basis`, `n_interactions`,
            `n_rbf`, `cutoff` (in the network's length unit), for SO3net `lmax`, and where they
            apply `n_filters`, `shared_interactions`, `shared_filters`. `radial` is the radial
            basis: "gaussian", or "inverse-power" for filters that fall at least as r to the power
            −`decay` (default 3).
            With `repulsion` "ZBL" the repulsion of nuclei is added to the energy, its parameters
            trained from the universal ones, as schnetpack does; the network is then in eV and Å.
            For a property other than the energy also `output`: its name as `property`, and as
            `pooling` how the atoms' outputs combine: "sum" (extensive), "mean" (intensive) or
            "dipole" (magnitude of the dipole moment of latent charges).

    Raises:
        CalculatorError: for an unknown type, pooling, radial basis or repulsion, or a missing
            entry.
    """
    kind = description.get("type")
    if kind not in ARCHITECTURES:
        raise CalculatorError(
            f"network type {kind!r} is not known; expected one of {sorted(ARCHITECTURES)}"
        )
    required = ("n_atom_basis", "n_interactions", "n_rbf", "cutoff", *_NEEDED.get(kind, ()))
    missing = [key for key in required if key not in description]
    if missing:
        raise CalculatorError(f"the description of the network lacks {', '.join(missing)}")
    basis, envelope = _radial(description)
    representation = ARCHITECTURES[kind](
        n_atom_basis=int(description["n_atom_basis"]),
        n_interactions=int(description["n_interactions"]),
        radial_basis=basis,
        cutoff_fn=envelope,
        **{key: description[key] for key in _OPTIONAL if key in description},
    )
    return schnetpack.NeuralNetworkPotential(
        representation=representation,
        input_modules=[schnetpack.PairwiseDistances()],
        output_modules=_output_modules(description),
    )


def _radial(description: Mapping[str, Any]) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return radial basis and cutoff function."""
    n_rbf, cutoff = int(description["n_rbf"]), float(description["cutoff"])
    match description.get("radial", "gaussian"):
        case "gaussian":
            return schnetpack.GaussianRBF(n_rbf, cutoff), schnetpack.CosineCutoff(cutoff)
        case "inverse-power":
            decay = float(description.get("decay", DECAY))
            if not (2 <= n_rbf <= MOST and 0 <= decay < math.inf):
                raise CalculatorError(
                    f"inverse powers take n_rbf from 2 to {MOST} and a decay of 0 or more; got "
                    f"n_rbf = {n_rbf}, decay = {decay:g}"
                )
            return InversePowers(n_rbf), PowerLawCutoff(cutoff, decay)
        case other:
            raise CalculatorError(f"radial must be one of {RADIAL}, got {other!r}")


def _output_modules(description: Mapping[str, Any]) -> list[torch.nn.Module]:
    width, output = int(description["n_atom_basis"]), description.get("output")
    repulsion = description.get("repulsion", "none")
    if repulsion not in REPULSIONS:
        raise CalculatorError(f"repulsion must be one of {REPULSIONS}, got {repulsion!r}")
    if output is None:
        return _energy_modules(width, float(description["cutoff"]), repulsion == "ZBL")
    if repulsion == "ZBL":
        raise CalculatorError("repulsion is for energies, not for other properties; leave it out")
    name, pooling = str(output.get("property")), output.get("pooling")
    if pooling not in POOLINGS:
        raise CalculatorError(f"output.pooling must be one of {POOLINGS}, got {pooling!r}")
    if pooling == "dipole":
        return [schnetpack.DipoleMoment(n_in=width, predict_magnitude=True, dipole_key=name)]
    mode = {"sum": "sum", "mean": "avg"}[pooling]
    return [schnetpack.Atomwise(n_in=width, output_key=name, aggregation_mode=mode)]


def _energy_modules(width: int, cutoff: float, repels: bool) -> list[torch.nn.Module]:
    key = schnetpack.properties.energy
    if not repels:
        return [schnetpack.Atomwise(n_in=width, output_key=key), schnetpack.Forces()]
    parts = ["network", "repulsion"]
    return [
        schnetpack.Atomwise(n_in=width, output_key=parts[0]),
        schnetpack.ZBLRepulsionEnergy(
            "eV", "Ang", parts[1], cutoff_fn=schnetpack.CosineCutoff(cutoff)
        ),
        schnetpack.Aggregation(parts, key),
        schnetpack.Forces(),
    ]


def all_pairs(n_atoms: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return index tensors i, j, each (n_atoms·(n_atoms−1),), of all ordered pairs, sorted by i."""
    i, j = torch.meshgrid(torch.arange(n_atoms), torch.arange(n_atoms), indexing="ij")
    off_diagonal = i != j
    return i[off_diagonal], j[off_diagonal]
