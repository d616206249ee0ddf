"""Costs of explaining MACE over energy and forces of the same model: one thread, minimum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

import mdxai
from mdxai.testing.timing import shortest, stepper

from ..conftest import ethanol_with

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("mace", reason="the extra `mace` is not installed")

from ..mace_models import mace_calculator  # noqa: E402

# Small, and as large as published models of molecules.
SIZES = {
    "16 channels, L = 1": {"channels": 16, "L": 1, "max_ell": 2},
    "64 channels, L = 1": {"channels": 64, "L": 1, "max_ell": 3},
    "128 channels, L = 0": {"channels": 128, "L": 0, "max_ell": 3},
}


def water(shared_data) -> Atoms:
    """Return 64 molecules in a periodic box."""
    with np.load(shared_data / "water" / "water64_pbe0ts_dpmd.npz") as data:
        return Atoms(data["z"], data["R"][0], cell=data["cell"][0], pbc=True)


def ratios(atoms, size, methods, repeats, burst):
    """Return the time of energy and forces, s, and what each method takes over it."""
    calculator = mace_calculator(
        cutoff=5.0, radial=(64, 64, 64), dtype=torch.float32, **SIZES[size]
    )
    functions = [stepper(atoms, calculator)]
    for method in methods:
        explain = mdxai.attributor(calculator, method=method)
        functions.append(lambda explain=explain: explain.attribute(atoms))
    times = shortest(functions, repeats, burst)
    return times[0], [time / times[0] for time in times[1:]]


@pytest.mark.parametrize("size", SIZES)
def test_ethanol(size):
    forces, (flow, exact) = ratios(ethanol_with(None), size, ("flow", "walks"), 10, 5)
    print(f"\nMACE, {size}, ethanol: energy and forces {1e3 * forces:.1f} ms, flow {flow:.2f}, "
          f"exact two-body {exact:.2f}")  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_water(size, shared_data):
    forces, (flow,) = ratios(water(shared_data), size, ("flow",), 3, 2)
    print(f"\nMACE, {size}, 64 waters: energy and forces {1e3 * forces:.0f} ms, flow {flow:.2f}")
