"""Many replicas in one batch, monitored, against as many single runs; ratios, in one process.

python3 -m uv run pytest -m benchmark -n 0 -s tests/benchmarks/test_replica_speed.py
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from schnetpack.md import MaxwellBoltzmannInit, Simulator, System
from schnetpack.md.integrators import VelocityVerlet
from schnetpack.md.simulation_hooks import LangevinThermostat

import mdxai
from mdxai.testing.timing import shortest, untrained

from ..conftest import ethanol_with, heated, langevin

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]

N_REPLICAS, STEPS = 32, 10  # steps of one timing: as many as from one explanation to the next


def calculator(kind):
    return untrained(kind, width=64)


def single_run(kind, folder, *, monitored):
    rng = np.random.default_rng(0)
    atoms = heated(ethanol_with(calculator(kind)), 300, rng)
    dynamics = langevin(atoms, 300, rng=rng)
    if monitored:
        monitor = mdxai.Monitor(dynamics, folder, attribute_every=10, on_unstable="ignore")
        dynamics.attach(monitor, interval=1)
    return lambda: dynamics.run(STEPS)


def batched_run(kind, folder, *, monitored):
    system = System()
    system.load_molecules([ethanol_with(None)], n_replicas=N_REPLICAS)
    MaxwellBoltzmannInit(300.0).initialize_system(system)
    hooks = [LangevinThermostat(300.0, 100.0)]
    if monitored:
        hooks.append(mdxai.ReplicaMonitor(folder, attribute_every=10, on_unstable="ignore"))
        hooks[-1].__enter__()
    md_calculator = mdxai.ReplicaCalculator(calculator(kind))
    simulator = Simulator(system, VelocityVerlet(0.5), md_calculator, hooks, progress=False)
    return lambda: simulator.simulate(STEPS)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("kind", ["SchNet", "PaiNN"])
def test_replicas_against_single_runs(kind, n_threads, tmp_path):
    torch.set_num_threads(n_threads)
    try:
        ways = [
            make(kind, tmp_path / f"{make.__name__}-{monitored}", monitored=monitored)
            for make in (single_run, batched_run)
            for monitored in (False, True)
        ]
        for way in ways:
            for _ in range(6):  # until the operations are recorded
                way()
        one, one_watched, many, many_watched = shortest(ways, repeats=4, burst=2)
    finally:
        torch.set_num_threads(1)
    print(
        f"\n{kind}, {n_threads} threads, per step: single {1e3 * one / STEPS:.2f} ms, monitored "
        f"{1e3 * one_watched / STEPS:.2f}; {N_REPLICAS} in a batch {1e3 * many / STEPS:.1f} ms, "
        f"monitored {1e3 * many_watched / STEPS:.1f}; {N_REPLICAS} single runs over the batch: "
        f"bare {N_REPLICAS * one / many:.2f}, monitored "
        f"{N_REPLICAS * one_watched / many_watched:.2f}"
    )
