"""Costs as ratios, in one process on one thread, minimum of repeats.

python3 -m uv run pytest -m benchmark -n 0 -s tests/benchmarks
"""

from __future__ import annotations

import copy
import time

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from schnetpack.interfaces import SpkCalculator
from schnetpack.transform import ASENeighborList

import mdxai
from mdxai.attribution import WalkAttributor
from mdxai.calculators import NetworkCalculator
from mdxai.calculators.card import Card
from mdxai.calculators.network import build_network
from mdxai.calculators.potential import NetworkPotential
from mdxai.frame import Frame

from ..conftest import KINDS, SOUND, ethanol_with, heated, langevin
from ..walk_enumeration import masked_output, schnetpack_inputs, with_rules

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]

# The atoms of aspirin in roughly its shape: which is enough for timing.
ASPIRIN = Atoms(
    "O4C9H8",
    [[1.23, 0.56, 0.79], [-0.69, -2.71, -0.75], [0.80, -3.77, 0.49], [1.77, 0.89, -1.37],
     [-0.09, 0.61, 0.44], [-0.86, -0.55, 0.40], [-0.62, 1.84, 0.07], [-2.19, -0.46, -0.01],
     [-1.92, 1.92, -0.34], [-2.72, 0.77, -0.38], [-0.14, -2.44, 0.12], [2.09, 0.63, -0.26],
     [3.53, 0.60, 0.16], [0.02, 2.73, 0.10], [-2.82, -1.35, -0.04], [-2.33, 2.88, -0.63],
     [-3.76, 0.84, -0.70], [-1.18, -3.66, -1.03], [3.60, 0.77, 1.24], [3.97, -0.36, -0.07],
     [4.10, 1.38, -0.34]],
)  # fmt: skip
MOLECULES = {"ethanol": ethanol_with(None), "aspirin": ASPIRIN}


def wide_model(kind):
    """128 features, 3 blocks, 5 Å: the size that is published for these molecules."""
    description = {
        "type": kind,
        "n_atom_basis": 128,
        "n_interactions": 3,
        "n_rbf": 20,
        "cutoff": 5.0,
        **({"lmax": 2} if kind == "SO3net" else {}),
    }
    torch.manual_seed(0)
    return build_network(description), Card(kind, description)


def interleaved(functions, repeats=40, burst=10):
    """Return the shortest time of each function, s.

    Functions take turns so that noise hits all, in bursts so that each runs with warm caches, as it
    does in a simulation.
    """
    best = [np.inf] * len(functions)
    for _ in range(repeats):
        for k, function in enumerate(functions):
            for _ in range(burst):
                begin = time.perf_counter()
                function()
                best[k] = min(best[k], time.perf_counter() - begin)
    return best


def stepper(atoms, calculator):
    """Return a function that moves the atoms a little and asks for forces, as an MD step does."""
    system = atoms.copy()
    system.calc = calculator
    rng = np.random.default_rng(0)

    def step():
        system.positions += rng.normal(scale=1e-4, size=system.positions.shape)
        system.get_forces()

    step()
    return step


@pytest.mark.parametrize("name", MOLECULES)
@pytest.mark.parametrize("kind", KINDS)
def test_calculator_against_schnetpack(name, kind):
    network, card = wide_model(kind)
    theirs = SpkCalculator(
        copy.deepcopy(network), ASENeighborList(5.0), energy_unit="eV", position_unit="Ang"
    )
    calculators = [theirs]
    for compiled in (False, True):
        engine = NetworkPotential(copy.deepcopy(network), card, compile=compiled)
        calculators.append(NetworkCalculator(engine))
    spk, eager, compiled = interleaved([stepper(MOLECULES[name], c) for c in calculators])
    print(
        f"\n{kind} {name}: SpkCalculator {1e3 * spk:.2f} ms, ours {1e3 * eager:.2f} ms "
        f"({spk / eager:.2f}× faster), compiled {1e3 * compiled:.2f} ms ({spk / compiled:.2f}×)"
    )


def after_forces(atoms, calculator, **how):
    """Return a function that explains a frame whose forces have just been asked for."""
    system = atoms.copy()
    system.calc = calculator
    explain = mdxai.attributor(calculator, **how)
    system.get_forces()
    frame = Frame.from_atoms(system)
    return lambda: explain.attribute(frame)


def calculators_of(kind, number):
    """Return independent, uncompiled calculators of one network."""
    network, card = wide_model(kind)
    return [
        NetworkCalculator(NetworkPotential(copy.deepcopy(network), card)) for _ in range(number)
    ]


@pytest.mark.parametrize("name", MOLECULES)
@pytest.mark.parametrize("kind", KINDS)
def test_attribution_against_forces(name, kind):
    bare, *own = calculators_of(kind, 4)
    atoms = MOLECULES[name]
    move = stepper(atoms, bare)
    for _ in range(60):  # until the operations of a small molecule are recorded
        move()
    ways = [
        after_forces(atoms, calculator, **how)
        for calculator, how in zip(
            own, ({"method": "walks"}, {"body_order": 3}, {"method": "flow"}), strict=True
        )
    ]
    forces, *costs = interleaved([move, *ways], repeats=30)
    two, three, flow = (cost / forces for cost in costs)
    print(
        f"\n{kind} {name}: energy + forces {1e3 * forces:.2f} ms; ratios to it: exact two-body "
        f"{two:.2f}, two- and three-body {three:.2f}, flow {flow:.2f}"
    )


@pytest.mark.parametrize("name", MOLECULES)
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_attribution(name, kind):
    network, card = wide_model(kind)
    calculators = [
        NetworkCalculator(NetworkPotential(copy.deepcopy(network), card, compile=compiled))
        for compiled in (False, True)
    ]
    eager, fast = (after_forces(MOLECULES[name], c, method="walks") for c in calculators)
    move = stepper(MOLECULES[name], calculators_of(kind, 1)[0])
    for _ in range(60):
        move()
    forces, slow, quick = interleaved([move, eager, fast], repeats=20)
    print(
        f"\n{kind} {name}: exact two-body over uncompiled energy + forces: "
        f"{slow / forces:.2f}, compiled {quick / forces:.2f}"
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
    bare, own = calculators_of(kind, 2)
    box = waters(n_side)
    few = 10 if n_side == 4 else 3
    move, flow = stepper(box, bare), after_forces(box, own, method="flow")
    forces, cost = interleaved([move, flow], repeats=few, burst=2)
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
        ways.append(after_forces(system, calculators_of(kind, 1)[0], method="walks"))
    costs = interleaved(ways, repeats=6, burst=2)
    slope = np.polyfit(np.log(sizes), np.log(costs), 1)[0]
    steps = ", ".join(f"{n}: {1e3 * c:.1f} ms" for n, c in zip(sizes, costs, strict=True))
    print(f"\n{kind}: exact two-body by atoms: {steps}; slope {slope:.2f}")


def test_attribution_against_enumeration():
    """One backward pass per walk, timed on a sample of the 6,561 walks of ethanol."""
    network, card = wide_model("SchNet")
    explain = WalkAttributor(NetworkPotential(network, card))
    atoms = ethanol_with(None)
    frame = Frame.from_atoms(atoms)
    (ours,) = interleaved([lambda: explain.attribute(frame)])
    inputs = {k: v.float() if v.is_floating_point() else v
              for k, v in schnetpack_inputs(atoms, 5.0).items()}  # fmt: skip
    rules = with_rules(network, 0.1)
    walks = np.random.default_rng(0).integers(0, 9, size=(100, 4))
    begin = time.perf_counter()
    for walk in walks:
        output, x0 = masked_output(rules, inputs, walk)
        torch.autograd.grad(output, x0)
    enumeration = (time.perf_counter() - begin) / len(walks) * 9**4
    print(f"\nexact two-body, against one backward pass per walk: {enumeration / ours:.0f}× faster")


def ethanol_dynamics(calculator):
    rng = np.random.default_rng(0)
    return langevin(heated(ethanol_with(calculator), 300, rng), 300, rng=rng)


def turns(steps, repeats=60, burst=3):
    """Return times (n_functions, repeats), s, of functions that take turns in bursts: the last of
    each burst counts, when caches are warm.
    """
    times = np.empty((len(steps), repeats))
    for repeat in range(repeats):
        for k, step in enumerate(steps):
            for _ in range(burst):
                begin = time.perf_counter()
                step()
                times[k, repeat] = time.perf_counter() - begin
    return times


@pytest.mark.parametrize("name", SOUND)
def test_monitored_md_against_bare(name, tmp_path):
    """A monitored Langevin step, everything recorded, against the bare one and schnetpack's."""
    ours = mdxai.load_calculator(name)
    theirs = SpkCalculator(
        copy.deepcopy(ours.model),
        ASENeighborList(ours.card.cutoff),
        energy_unit="eV",
        position_unit="Ang",
    )
    every_step = (0, 10, 1)
    bare, spk = ethanol_dynamics(ours), ethanol_dynamics(theirs)
    runs = [ethanol_dynamics(mdxai.load_calculator(name)) for _ in every_step]
    for every, run in zip(every_step, runs, strict=True):
        run.attach(mdxai.Monitor(run, tmp_path / str(every), attribute_every=every), interval=1)
    steps = [lambda run=run: run.run(10) for run in (bare, spk, *runs)]
    for step in steps:
        for _ in range(8):  # until the operations are recorded
            step()
    times = turns(steps)
    for word, over in (("minimum", times.min(axis=1)), ("median", np.median(times, axis=1))):
        own, foreign, *monitored = over
        ratios = ", ".join(
            f"attribution {'never' if every == 0 else f'every {every}'} {t / own:.2f}"
            for every, t in zip(every_step, monitored, strict=True)
        )
        print(
            f"\n{name}, {word}: bare step {1e2 * own:.2f} ms; monitored over bare: {ratios}; "
            f"all of it over bare MD with SpkCalculator {monitored[-1] / foreign:.2f}"
        )
