"""Energies and forces of many replicas at once are those of each one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import molecule
from schnetpack.md.calculators import SchNetPackCalculator
from schnetpack.md.neighborlist_md import NeighborListMD
from schnetpack.transform import ASENeighborList

import mdxai
from mdxai.calculators import NetworkCalculator
from mdxai.engines.schnetpack_engine import ReplicaReader
from mdxai.monitoring.monitor import InstabilityWarning

from .conftest import random_positions, random_potential
from .replica_simulation import BAD, N_REPLICAS, Tracer, simulation

pytestmark = pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")


@pytest.fixture(scope="module")
def network():
    return mdxai.load_calculator("schnet-ethanol")


@pytest.mark.parametrize("kind", ["SchNet", "PaiNN"])
def test_batched_evaluation_equals_single_ones(kind):
    """Molecules of one size, of several sizes, stretched beyond the cutoff, and periodic."""
    network = NetworkCalculator(random_potential(kind, seed=5))
    methanol, water = molecule("CH3OH"), molecule("H2O")
    wide = molecule("CH3OH")
    wide.positions = random_positions(6, seed=2, spread=3.0)
    box = molecule("H2O")
    box.set_cell([3.1, 3.3, 3.0])
    box.pbc = True
    for molecules in ([methanol, wide], [methanol, water], [water, box]):
        simulator = simulation(network, molecules=molecules, n_replicas=3, dtype=torch.float64)
        simulator.simulate(1)
        for frame in ReplicaReader(simulator).frames(1):
            energy, forces = network.potential.evaluate(frame)
            assert frame.energy == pytest.approx(energy, abs=1e-9)
            np.testing.assert_allclose(frame.forces, forces, atol=1e-9)


@pytest.mark.filterwarnings("ignore:overflow|invalid value:RuntimeWarning")
def test_nan_in_one_replica_stays_there(network):
    """Even before anything is dropped: the batch is evaluated molecule by molecule."""
    clean, spoiled = Tracer(), Tracer()
    simulation(network, clean).simulate(4)
    simulator = simulation(network, spoiled)
    simulator.simulate(1)
    simulator.system.positions[BAD, 3] = np.nan
    simulator.simulate(3)
    others = [k for k in range(N_REPLICAS) if k != BAD]
    last, expected = spoiled.trace[-1], clean.trace[-1]
    assert torch.equal(last["positions"][others], expected["positions"][others])
    assert last["forces"][BAD].isnan().all()
    monitor = mdxai.ReplicaMonitor(on_unstable="drop")
    simulator = simulation(network, monitor)
    with monitor:
        simulator.simulate(1)
        simulator.system.positions[BAD, 3] = np.nan
        with pytest.warns(InstabilityWarning, match="non_finite"):
            simulator.simulate(2)
    assert simulator.system.positions.isfinite().all()  # the last finite ones


def test_schnetpack_gives_the_same_forces(tmp_path):
    """schnetpack's own MD calculator, with its own units and neighbour lists, in the same state."""
    potential = random_potential("SchNet", seed=4)
    torch.save(potential.network, tmp_path / "model")
    theirs = SchNetPackCalculator(
        str(tmp_path / "model"), "forces", "eV", "Angstrom",
        NeighborListMD(potential.cutoff, 0.5, ASENeighborList), energy_key="energy",
    )  # fmt: skip
    network = NetworkCalculator(potential)
    monitor = mdxai.ReplicaMonitor(calculator=network, attribute_every=1, on_unstable="ignore")
    simulator = simulation(network, monitor, dtype=torch.float64)
    simulator.calculator, ours = theirs, simulator.calculator
    simulator.simulate(2)
    assert all("attribution" not in v.unavailable for v in monitor.verdicts.values())
    assert all(m.cost.n_attributions == 3 for m in monitor.monitors)
    seen = ReplicaReader(simulator).frames(2)
    ours.calculate(simulator.system)
    for one, other in zip(seen, ReplicaReader(simulator).frames(2), strict=True):
        np.testing.assert_allclose(one.forces, other.forces, atol=1e-9)
        assert one.energy == pytest.approx(other.energy, abs=1e-9)
