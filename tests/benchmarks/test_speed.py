"""Costs that `mdxai bench` leaves out, as ratios in one process on one thread, minimum of repeats.

python3 -m uv run pytest -m benchmark -n 0 -s tests/benchmarks
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from schnetpack.interfaces import SpkCalculator
from schnetpack.transform import ASENeighborList

from mdxai.attribution import WalkAttributor
from mdxai.frame import Frame
from mdxai.testing.timing import MOLECULES, after_forces, shortest, stepper, untrained

from ..conftest import KINDS, ethanol_with
from ..walk_enumeration import masked_output, schnetpack_inputs, with_rules

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("name", MOLECULES)
@pytest.mark.parametrize("kind", KINDS)
def test_calculator_against_schnetpack(name, kind):
    theirs = SpkCalculator(
        untrained(kind).model, ASENeighborList(5.0), energy_unit="eV", position_unit="Ang"
    )
    calculators = [theirs, *(untrained(kind, compile=compiled) for compiled in (False, True))]
    spk, eager, compiled = shortest([stepper(MOLECULES[name], c) for c in calculators])
    print(
        f"\n{kind} {name}: SpkCalculator {1e3 * spk:.2f} ms, ours {1e3 * eager:.2f} ms "
        f"({spk / eager:.2f}× faster), compiled {1e3 * compiled:.2f} ms ({spk / compiled:.2f}×)"
    )


def waters(n_side):
    """Return n_side³ water molecules at the density of the liquid, at random orientations."""
    rng = np.random.default_rng(0)
    box = Atoms(cell=[3.104 * n_side] * 3, pbc=True)
    for site in np.ndindex(n_side, n_side, n_side):
        water = molecule("H2O")
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.translate(3.104 * np.array(site) - water.positions[0])
        box += water
    return box


@pytest.mark.parametrize("n_side", [4, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_flow_in_water(kind, n_side):
    bare, own = untrained(kind), untrained(kind)
    box = waters(n_side)
    few = 10 if n_side == 4 else 3
    move, flow = stepper(box, bare), after_forces(box, own, method="flow")
    forces, cost = shortest([move, flow], repeats=few, burst=2)
    print(
        f"\n{kind}, {n_side**3} waters: energy + forces {1e3 * forces:.0f} ms, "
        f"flow over it {cost / forces:.2f}"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_two_body_against_size(kind):
    """Cost at fixed density in periodic boxes, from 27 to 343 atoms: slope in log–log."""
    sides = (3, 4, 5, 6, 7)
    sizes = [side**3 for side in sides]
    rng = np.random.default_rng(0)
    ways = []
    for side in sides:
        grid = np.indices((side,) * 3).reshape(3, -1).T
        points = 3.5 * grid + rng.normal(scale=0.2, size=grid.shape)
        system = Atoms(f"C{side**3}", points, cell=[3.5 * side] * 3, pbc=True)
        ways.append(after_forces(system, untrained(kind), method="walks"))
    costs = shortest(ways, repeats=6, burst=2)
    slope = np.polyfit(np.log(sizes), np.log(costs), 1)[0]
    steps = ", ".join(f"{n}: {1e3 * c:.1f} ms" for n, c in zip(sizes, costs, strict=True))
    print(f"\n{kind}: exact two-body by atoms: {steps}; slope {slope:.2f}")


def test_attribution_against_enumeration():
    """One backward pass per walk, timed on a sample of the 6,561 walks of ethanol."""
    calculator = untrained("SchNet")
    explain = WalkAttributor(calculator.potential)
    atoms = ethanol_with(None)
    frame = Frame.from_atoms(atoms)
    (ours,) = shortest([lambda: explain.attribute(frame)])
    inputs = {k: v.float() if v.is_floating_point() else v
              for k, v in schnetpack_inputs(atoms, 5.0).items()}  # fmt: skip
    rules = with_rules(calculator.model, 0.1)
    walks = np.random.default_rng(0).integers(0, 9, size=(100, 4))
    begin = time.perf_counter()
    for walk in walks:
        output, x0 = masked_output(rules, inputs, walk)
        torch.autograd.grad(output, x0)
    enumeration = (time.perf_counter() - begin) / len(walks) * 9**4
    print(f"\nexact two-body, against one backward pass per walk: {enumeration / ours:.0f}× faster")
