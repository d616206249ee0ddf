"""Small MACE models with random weights, as mace's own calculators."""

from __future__ import annotations

import copy
import warnings
from functools import cache

import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("mace.calculators", reason="the extra `mace` is not installed")
    from e3nn import o3
    from mace import data, modules
    from mace.calculators import MACECalculator
    from mace.tools import torch_geometric, torch_tools, utils

ATOM_ENERGIES = {1: -1.0, 6: -2.0, 8: -3.0}
SHIFT = 0.3  # of models with a scale

# Interactions from 1 to 3, degree up to 4, L up to 2, each kind of normaliser and skip, with ZBL
# and without, both classes of models.
VARIANTS = {
    "standard": {"L": 1, "correlation": 3},
    "high": {"L": 2, "correlation": 4},
    "invariant": {"L": 0, "correlation": 2, "zbl": True},
    "density": {"kind": "DensityResidual", "first": "Density", "L": 1, "zbl": True},
    "agnostic": {"first": "", "L": 1, "scaled": False, "correlation": (2, 3)},
    "deep": {"n_interactions": 3, "L": 1, "correlation": 2, "scaled": False},
    "single": {"n_interactions": 1, "L": 0, "correlation": 3, "cutoff": 5.0},
}


@cache  # setting one up takes seconds: copy what you change
def random_mace(
    seed=1,
    *,
    L=1,
    correlation=3,
    n_interactions=2,
    channels=4,
    kind="Residual",
    first=None,
    zbl=False,
    scaled=True,
    cutoff=4.0,
    max_ell=2,
    radial=(16, 16),
    dtype=torch.float64,
):
    """Return a model whose weights are larger than at the start of a training."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    torch.manual_seed(seed)
    classes = [
        modules.interaction_classes[f"RealAgnostic{name}InteractionBlock"]
        for name in (kind, kind if first is None else first)
    ]
    options = {
        "r_max": cutoff,
        "num_bessel": 6,
        "num_polynomial_cutoff": 5,
        "max_ell": max_ell,
        "interaction_cls": classes[0],
        "interaction_cls_first": classes[1],
        "num_interactions": n_interactions,
        "num_elements": 3,
        "hidden_irreps": o3.Irreps(
            "+".join(f"{channels}x{l}{'eo'[l % 2]}" for l in range(L + 1))  # noqa: E741
        ),
        "MLP_irreps": o3.Irreps("8x0e"),
        "atomic_energies": np.array(list(ATOM_ENERGIES.values())),
        "avg_num_neighbors": 3.0,
        "atomic_numbers": list(ATOM_ENERGIES),
        "correlation": correlation if isinstance(correlation, int) else list(correlation),
        "gate": torch.nn.functional.silu,
        "radial_MLP": list(radial),
        "pair_repulsion": zbl,
    }
    try:
        if scaled:
            model = modules.ScaleShiftMACE(
                atomic_inter_scale=1.7, atomic_inter_shift=SHIFT, **options
            )
        else:
            model = modules.MACE(**options)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.2)
    finally:
        torch.set_default_dtype(before)
    return model


def mace_calculator(seed=1, *, fresh=False, **options):
    """Return mace's calculator of a random model, of its own where it is to be `fresh`."""
    model = random_mace(seed, **options)
    model = copy.deepcopy(model) if fresh else model
    dtype = str(options.get("dtype", torch.float64)).removeprefix("torch.")
    return MACECalculator(models=model, device="cpu", default_dtype=dtype)


def constant_energy(atoms, calculator):
    """Return what an energy holds of single atoms and the shift, eV."""
    shift = SHIFT if hasattr(calculator.models[0], "scale_shift") else 0.0
    return sum(ATOM_ENERGIES[z] for z in atoms.numbers.tolist()) + shift * len(atoms)


def batch_of(calculator, atoms):
    """Return mace's own input for a structure, in float64."""
    table = utils.AtomicNumberTable(list(ATOM_ENERGIES))
    with torch_tools.default_dtype("float64"):
        config = data.config_from_atoms(atoms, key_specification=data.KeySpecification({}, {}))
        graph = data.AtomicData.from_config(config, z_table=table, cutoff=calculator.r_max)
    return torch_geometric.Batch.from_data_list([graph]).to_dict()
