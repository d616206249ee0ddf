"""A hot copper crystal, and the kinds of dynamics that it is run with."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from ase.md.bussi import Bussi
from ase.md.nose_hoover_chain import NoseHooverChainNVT
from ase.md.velocitydistribution import Stationary
from ase.md.verlet import VelocityVerlet

from mdxai.engines import AseEngine

from .conftest import copper, heated, langevin


def hot_crystal(temperature: float = 600.0) -> Atoms:
    """Return copper with EMT on its lattice, with velocities of a temperature, K, at rest."""
    atoms = heated(copper(), temperature)
    Stationary(atoms)
    return atoms


def in_bath(atoms, temperature):
    return langevin(atoms, temperature, timestep=2.0, friction=0.02 / units.fs)


BATHS = {
    "nve": lambda atoms: VelocityVerlet(atoms, 2 * units.fs),
    "langevin": lambda atoms: in_bath(atoms, 300),
    "chain": lambda atoms: NoseHooverChainNVT(atoms, 2 * units.fs, 300, 100 * units.fs),
    "bussi": lambda atoms: Bussi(
        atoms, 2 * units.fs, 300, 100 * units.fs, rng=np.random.RandomState(0)
    ),
}


def watch(dynamics, steps, see):
    """Run and call see with the frame of each step, the first one included."""
    engine = AseEngine(dynamics)
    dynamics.attach(lambda: see(engine.frame()))
    dynamics.run(steps)
