"""schnetpack's MD of four replicas of ethanol, and what it did at each step."""

from __future__ import annotations

import torch
from schnetpack.md import MaxwellBoltzmannInit, Simulator, System
from schnetpack.md.integrators import VelocityVerlet
from schnetpack.md.simulation_hooks import LangevinThermostat, SimulationHook

import mdxai

from .conftest import ethanol_with

N_REPLICAS, BAD = 4, 2


class Tracer(SimulationHook):
    """Notes the state after every step."""

    def __init__(self):
        super().__init__()
        self.trace = []

    def on_step_finalize(self, simulator):
        system = simulator.system
        names = ("positions", "momenta", "forces", "energy")
        self.trace.append({n: getattr(system, n).clone() for n in names})


def simulation(network, *hooks, exploding=False, molecules=None, dtype=torch.float32, **how):
    """Return a simulator of a Langevin run, always from the same start and seed."""
    torch.manual_seed(7)
    system = System()
    molecules = molecules or [ethanol_with(None)]
    system.load_molecules(molecules, n_replicas=how.pop("n_replicas", N_REPLICAS))
    system.to(dtype)
    MaxwellBoltzmannInit(300.0).initialize_system(system)
    if exploding:
        system.momenta[BAD] *= 30.0
    return Simulator(
        system, VelocityVerlet(0.5), mdxai.ReplicaCalculator(network),
        simulator_hooks=[LangevinThermostat(300.0, 100.0), *hooks], progress=False, **how,
    )  # fmt: skip
