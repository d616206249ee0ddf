"""Monitored replicas: left alone, explained together, judged one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from schnetpack.md.integrators import RingPolymer
from schnetpack.md.simulation_hooks import LangevinThermostat

import mdxai
from mdxai.calculators import CalculatorError
from mdxai.engines.schnetpack_engine import ReplicaReader
from mdxai.monitoring.monitor import InstabilityWarning

from .replica_simulation import BAD, N_REPLICAS, Tracer, simulation

pytestmark = pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")


@pytest.fixture(scope="module")
def network():
    return mdxai.load_calculator("schnet-ethanol")


def test_nothing_changes_and_every_verdict_is_that_of_its_record(network, tmp_path):
    plain, watched = Tracer(), Tracer()
    bare = simulation(network, plain)
    bare.simulate(22)
    monitor = mdxai.ReplicaMonitor(tmp_path, attribute_every=5)
    simulator = simulation(network, watched, monitor)
    with monitor:
        simulator.simulate(12)
        simulator.simulate(10)
    # The second call evaluates the present instant once more; so does schnetpack without us.
    assert simulator.calculator.n_calls == bare.calculator.n_calls + 1
    for one, other in zip(plain.trace, watched.trace, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert list(monitor.verdicts) == [f"replica-0{k}" for k in range(N_REPLICAS)]
    for k, (name, verdict) in enumerate(monitor.verdicts.items()):
        run = mdxai.open_run(tmp_path / name)
        assert mdxai.judge(run) == verdict
        assert verdict.n_frames == 23
        assert monitor.monitors[k].cost.n_attributions == 5
        rows = run.frames_table(["step", "time_fs", "potential_energy_eV"]).to_pydict()
        assert rows["step"] == list(range(23))
        np.testing.assert_allclose(rows["time_fs"], 0.5 * np.arange(23))
        energies = [state["energy"][k, 0, 0].item() for state in watched.trace]
        np.testing.assert_allclose(
            rows["potential_energy_eV"][1:], np.array(energies) * units.kJ / units.mol, rtol=1e-12
        )


def test_batched_explanations_equal_single_ones(network, tmp_path):
    monitor = mdxai.ReplicaMonitor(tmp_path, attribute_every=2, on_unstable="ignore")
    simulator = simulation(network, monitor)
    with monitor:
        simulator.simulate(2)
    explain = mdxai.attributor(network)
    for k, frame in enumerate(ReplicaReader(simulator).frames(2)):
        single, batched = explain.attribute(frame), monitor.monitors[k].last_attribution
        np.testing.assert_array_equal(batched.pairs.i, single.pairs.i)
        np.testing.assert_allclose(batched.two_body, single.two_body, atol=2e-5)
        np.testing.assert_allclose(batched.by_body_order, single.by_body_order, atol=2e-4)
        recorded = mdxai.open_run(tmp_path / f"replica-0{k}").pairs_table().to_pydict()
        last = np.array(recorded["step"]) == 2
        np.testing.assert_allclose(
            np.array(recorded["two_body_eV"])[last], batched.two_body, rtol=1e-6
        )


@pytest.mark.filterwarnings("ignore:overflow|invalid value:RuntimeWarning")
def test_a_dropped_replica_is_held_and_the_others_do_not_notice(network, tmp_path):
    sound, broken = Tracer(), Tracer()
    simulation(network, sound).simulate(20)
    monitor = mdxai.ReplicaMonitor(tmp_path, attribute_every=5, on_unstable="drop")
    simulator = simulation(network, monitor, broken, exploding=True)
    with monitor, pytest.warns(InstabilityWarning, match="replica-02 dropped"):
        simulator.simulate(20)
    assert list(monitor.dropped) == [BAD]
    others = [k for k in range(N_REPLICAS) if k != BAD]
    for one, other in zip(sound.trace, broken.trace, strict=True):
        assert all(torch.equal(one[name][others], other[name][others]) for name in one)
    run = mdxai.open_run(tmp_path / "replica-02")
    assert mdxai.judge(run) == monitor.verdicts["replica-02"]
    assert run.verdict["stability"] == "unstable"
    assert run.verdict["interrupted_by"] == monitor.dropped[BAD]
    n_seen = len(run.frames_table(["step"]))
    assert 1 < n_seen < 21
    held = [state["positions"][BAD] for state in broken.trace[n_seen - 2 :]]
    assert all(torch.equal(held[0], later) for later in held)
    assert not broken.trace[-1]["momenta"][BAD].any()
    for k in others:
        assert monitor.verdicts[f"replica-0{k}"].n_frames == 21
        assert monitor.verdicts[f"replica-0{k}"].stability != "unstable"


@pytest.mark.filterwarnings("ignore:overflow|invalid value:RuntimeWarning")
def test_a_replica_that_starts_broken_is_dropped_and_the_others_go_on(network, tmp_path):
    clean = Tracer()
    simulation(network, clean).simulate(4)
    tracer, monitor = Tracer(), mdxai.ReplicaMonitor(tmp_path, on_unstable="drop")
    simulator = simulation(network, tracer, monitor)
    positions = simulator.system.positions
    positions[BAD, 3] = np.nan
    with monitor, pytest.warns(InstabilityWarning, match="replica-02"):
        simulator.simulate(4)
    assert list(monitor.dropped) == [BAD]
    others = [k for k in range(N_REPLICAS) if k != BAD]
    assert torch.equal(tracer.trace[-1]["positions"][others], clean.trace[-1]["positions"][others])
    assert mdxai.open_run(tmp_path / "replica-02").verdict["stability"] == "unstable"
    simulator = simulation(network)
    simulator.system.positions[BAD, 3] = simulator.system.positions[BAD, 4]
    with pytest.raises(CalculatorError, match=r"system 2 of 4: atoms 3 \(H\) and 4 \(H\)"):
        simulator.simulate(1)


def test_halt_ends_the_step_properly(network, tmp_path):
    monitor = mdxai.ReplicaMonitor(tmp_path, attribute_every=0, on_unstable="halt")
    tracer = Tracer()
    simulator = simulation(network, monitor, tracer, exploding=True)
    with pytest.raises(mdxai.UnstableReplica, match="replica-02"), monitor:
        simulator.simulate(200)
    steps = simulator.step
    assert 0 < steps < 200
    assert len(tracer.trace) == steps
    for k in range(N_REPLICAS):
        run = mdxai.open_run(tmp_path / f"replica-0{k}")
        assert len(run.frames_table(["step"])) == steps + 1
        assert "UnstableReplica" in run.verdict["interrupted_by"]
        assert "replica-02: " in run.verdict["halted_by"]
    again = mdxai.ReplicaMonitor(tmp_path, attribute_every=0, on_unstable="ignore")
    simulator = simulation(network, again, Tracer(), exploding=True)
    with again:
        assert again.resume(simulator)
        assert simulator.step == steps


def test_records_are_finished_without_a_with_block(network, tmp_path):
    monitor = mdxai.ReplicaMonitor(tmp_path, attribute_every=0)
    simulator = simulation(network, monitor, n_replicas=2)
    simulator.simulate(2)
    assert mdxai.open_run(tmp_path / "replica-01").verdict["n_frames"] == 3
    with pytest.raises(ValueError, match="finished"):
        simulator.simulate(1)
    with pytest.raises(mdxai.RecordError, match="already holds a run"):
        simulation(network, mdxai.ReplicaMonitor(tmp_path), n_replicas=2).simulate(1)


def test_another_calculator_is_followed_without_explanations(network):
    class Silent(mdxai.ReplicaCalculator):
        """Gives no energy, and is not known to mdxai."""

        def __init__(self, calculator):
            super().__init__(calculator)
            self.energy_key = None
            del self.ase_calculator

    monitor = mdxai.ReplicaMonitor()
    simulator = simulation(network, monitor)
    simulator.calculator = Silent(network)
    simulator.simulate(2)
    assert all("attribution" in v.unavailable for v in monitor.verdicts.values())
    assert np.isnan(ReplicaReader(simulator).frames(2)[0].energy)


def test_constant_energy_is_recognised(network):
    monitor = mdxai.ReplicaMonitor(attribute_every=0)
    simulator = simulation(network, monitor, n_replicas=2)
    simulator.simulator_hooks = torch.nn.ModuleList([monitor])
    with monitor:
        simulator.simulate(60)
    for verdict in monitor.verdicts.values():
        assert verdict.stability == "stable"
        assert not {"momentum", "energy"} & set(verdict.unavailable)


def test_bad_input_is_refused(network):
    with pytest.raises(ValueError, match="on_unstable"):
        mdxai.ReplicaMonitor(on_unstable="explode")
    with pytest.raises(ValueError, match="attribute_every"):
        mdxai.ReplicaMonitor(attribute_every=-1)
    with pytest.raises(CalculatorError, match="load_calculator"):
        mdxai.ReplicaCalculator("schnet-ethanol")
    simulator = simulation(network, mdxai.ReplicaMonitor())
    simulator.integrator = RingPolymer(0.5, N_REPLICAS, 300.0)
    with pytest.raises(ValueError, match="ring polymer"):
        simulator.simulate(1)
    simulator = simulation(network)
    last = LangevinThermostat(300.0, 100.0)
    simulator.simulator_hooks = torch.nn.ModuleList(
        [mdxai.ReplicaMonitor(on_unstable="drop"), last]
    )
    with pytest.raises(ValueError, match="after LangevinThermostat"):
        simulator.simulate(1)
    with pytest.raises(CalculatorError, match=r"system 1 of .* N"):
        simulation(network, molecules=[molecule("CH3OH"), molecule("NH3")]).simulate(1)
