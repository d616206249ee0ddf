"""schnetpack's MD of many replicas, read as frames that ASE would give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule

import mdxai
from mdxai.calculators import NetworkCalculator
from mdxai.engines import Engine
from mdxai.engines.schnetpack_engine import ReplicaReader, SchNetPackEngine
from mdxai.frame import Frame

from .conftest import ethanol_with, random_potential
from .replica_simulation import simulation

pytestmark = pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")


@pytest.fixture(scope="module")
def network():
    return mdxai.load_calculator("schnet-ethanol")


def test_frames_are_what_ase_sees():
    potential = random_potential("PaiNN", seed=3)
    network = NetworkCalculator(potential)
    molecules = [ethanol_with(None), molecule("H2O")]
    simulator = simulation(network, molecules=molecules, n_replicas=2, dtype=torch.float64)
    simulator.simulate(3)
    system = simulator.system
    frames = ReplicaReader(simulator).frames(3)
    seen = system.get_ase_atoms()
    assert len(frames) == len(seen) == 4
    for k, (frame, atoms) in enumerate(zip(frames, seen, strict=True)):
        replica, mine = k // 2, np.flatnonzero(system.index_m.numpy() == k % 2)
        # schnetpack's own unit of velocity: nm/ps, as kJ/mol = Da·nm²/ps².
        velocities = system.velocities[replica, mine].numpy()
        atoms.set_velocities(velocities * units.nm / (1000.0 * units.fs))
        atoms.set_masses(system.masses[0, mine, 0].numpy())
        atoms.calc = network
        atoms.get_forces()
        expected = Frame.from_atoms(atoms)
        for name in ("numbers", "masses", "positions", "velocities", "forces", "cell", "pbc"):
            ours, theirs = getattr(frame, name), getattr(expected, name)
            np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-10)
        assert frame.energy == pytest.approx(expected.energy, rel=1e-10)
        assert frame.temperature == pytest.approx(expected.temperature, rel=1e-7)
        inner = system.temperature[replica, k % 2, 0].item()
        assert frame.temperature == pytest.approx(inner, rel=1e-5)  # two sets of constants
        assert frame.time == pytest.approx(1.5)


def test_engine_says_what_it_is(network):
    monitor = mdxai.ReplicaMonitor(attribute_every=0)
    simulator = simulation(network, monitor)
    engine = SchNetPackEngine(ReplicaReader(simulator, (mdxai.ReplicaMonitor,)), 1, network)
    assert isinstance(engine, Engine)
    stated = engine.describe()
    assert stated.timestep == pytest.approx(0.5)
    assert stated.temperature == pytest.approx(300.0)
    assert stated.random_bath
    assert not stated.conserves_energy
    assert stated.parameters["replica"] == 1
    assert stated.parameters["time_constant_fs"] == pytest.approx(100.0)
    thermostat = engine.frame().thermostat
    assert (thermostat.temperature, thermostat.energy) == (pytest.approx(300.0), None)
    simulator.simulator_hooks = torch.nn.ModuleList([monitor])
    assert engine.describe().conserves_energy
    assert engine.frame().thermostat is None
