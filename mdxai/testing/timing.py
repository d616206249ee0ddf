"""Times of functions that take turns, and the systems that they are taken of."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import molecule

from mdxai.attribution import attributor
from mdxai.calculators import NetworkCalculator
from mdxai.frame import Floats, Frame

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
MOLECULES = {"ethanol": molecule("CH3CH2OH"), "aspirin": ASPIRIN}

Work = Callable[[], Any]


def turns(functions: Sequence[Work], repeats: int = 40, burst: int = 10) -> Floats:
    """Return the times of functions, (n_functions, repeats, burst), s.

    Functions take turns so that noise hits all, in bursts so that each runs with warm caches, as it
    does in a simulation.
    """
    times = np.empty((len(functions), repeats, burst))
    for repeat in range(repeats):
        for k, function in enumerate(functions):
            for again in range(burst):
                begin = time.perf_counter()
                function()
                times[k, repeat, again] = time.perf_counter() - begin
    return times


def shortest(functions: Sequence[Work], repeats: int = 40, burst: int = 10) -> list[float]:
    """Return the shortest time of each function, s; they take turns as in `turns`."""
    return [float(t) for t in turns(functions, repeats, burst).min(axis=(1, 2))]


def untrained(
    kind: str, *, compile: bool = False, device: str = "cpu", width: int = 128
) -> NetworkCalculator:
    """Return an untrained network of 3 blocks and 5 Å: what it takes does not depend on weights.

    width: features; 128 are those of the published models.
    """
    import torch

    from mdxai.calculators.card import Card
    from mdxai.calculators.network import build_network
    from mdxai.calculators.potential import NetworkPotential

    description: dict[str, Any] = {
        "type": kind, "n_atom_basis": width, "n_interactions": 3, "n_rbf": 20, "cutoff": 5.0,
        **({"lmax": 2} if kind == "SO3net" else {}),
    }  # fmt: skip
    torch.manual_seed(0)
    card = Card(kind, description)
    network = build_network(description)
    return NetworkCalculator(NetworkPotential(network, card, compile=compile, device=device))


def stepper(atoms: Atoms, calculator: Any, warm: int = 1) -> Work:
    """Return a function that moves the atoms a little and asks for forces, as an MD step does.

    warm: steps that are taken before: 60, until the operations of a small molecule are recorded.
    """
    system = atoms.copy()
    system.calc = calculator
    rng = np.random.default_rng(0)

    def step() -> None:
        system.positions += rng.normal(scale=1e-4, size=system.positions.shape)
        system.get_forces()

    for _ in range(warm):
        step()
    return step


def after_forces(atoms: Atoms, calculator: NetworkCalculator, **how: Any) -> Work:
    """Return a function that explains a frame whose forces have just been asked for."""
    system = atoms.copy()
    system.calc = calculator
    explain = attributor(calculator, **how)
    system.get_forces()
    frame = Frame.from_atoms(system)
    return lambda: explain.attribute(frame)
