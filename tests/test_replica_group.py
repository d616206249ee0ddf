"""Replicas that were interrupted go on as if they had not been, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from schnetpack.md import MaxwellBoltzmannInit, Simulator, System
from schnetpack.md.integrators import VelocityVerlet
from schnetpack.md.simulation_hooks import LangevinThermostat, NHCThermostat, SimulationHook

import mdxai
from mdxai.engines.schnetpack_engine import ReplicaReader
from mdxai.monitoring.monitor import InstabilityWarning
from mdxai.record import RecordError, RecordSettings, RecordWarning, list_checkpoints
from mdxai.record.checkpoint import read_checkpoint
from mdxai.serialization import StateError

from .conftest import ethanol_with

pytestmark = pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")

N_REPLICAS, BAD, STEPS = 3, 1, 40
THERMOSTATS = {
    "langevin": lambda: LangevinThermostat(300.0, 100.0),
    "chain": lambda: NHCThermostat(300.0, 100.0),
}
RECORD = RecordSettings(checkpoint_steps=10, rows_per_part=17, seconds_per_part=1e6)


@pytest.fixture(scope="module")
def network():
    return mdxai.load_calculator("schnet-ethanol")


class Killer(SimulationHook):
    """Ends the simulation by an error after, or in the middle of, a step."""

    def __init__(self):
        super().__init__()
        self.after = self.within = None

    def on_step_middle(self, simulator):
        if simulator.step == self.within:
            raise Killed

    def on_step_finalize(self, simulator):
        if simulator.step + 1 == self.after:
            raise Killed


class Killed(BaseException):
    pass


def watched(network, path, thermostat="langevin", *, exploding=False, n=N_REPLICAS, **options):
    """Return a simulator with its monitor and killer, always from the same start and seed."""
    torch.manual_seed(5)
    system = System()
    system.load_molecules([ethanol_with(None)], n_replicas=n)
    system.to(torch.float32)
    MaxwellBoltzmannInit(300.0).initialize_system(system)
    if exploding:
        system.momenta[BAD] *= 12.0
    options = {"attribute_every": 5, "record": RECORD, "on_unstable": "ignore"} | options
    monitor, killer = mdxai.ReplicaMonitor(path, **options), Killer()
    hooks = [] if thermostat is None else [THERMOSTATS[thermostat]()]
    simulator = Simulator(
        system, VelocityVerlet(0.5), mdxai.ReplicaCalculator(network),
        simulator_hooks=[*hooks, killer, monitor], progress=False,
    )  # fmt: skip
    return simulator, monitor, killer


def content(path):
    """Return all that the records hold which must not depend on interruptions."""
    found = []
    for folder in sorted(path.glob("replica-*")):
        run = mdxai.open_run(folder)
        tables = [run.frames_table(), run.trajectory_table(), run.pairs_table(), run.events_table()]
        verdict = {k: v for k, v in run.verdict.items() if k != "cost"}
        found.append([*(repr(table.to_pydict()) for table in tables), verdict])
    return found


def simulate(simulator, monitor, *, resume=False, steps=STEPS):
    with monitor, warnings.catch_warnings():
        warnings.simplefilter("ignore", InstabilityWarning)
        if resume:
            assert monitor.resume(simulator)
        simulator.simulate(steps - simulator.step)
    return simulator.system


@pytest.fixture(scope="module")
def uninterrupted(network, tmp_path_factory):
    """Return a function that runs a simulation to its end, once: its system and its records."""

    @cache
    def run(thermostat="langevin"):
        path = tmp_path_factory.mktemp("whole")
        simulator, monitor, _ = watched(network, path, thermostat)
        return simulate(simulator, monitor), content(path)

    return run


# Between steps and within one, each under another thermostat; the other combinations are slow.
ENDS = [
    pytest.param(thermostat, when, marks=() if often else pytest.mark.slow)
    for thermostat, when, often in (
        ("langevin", {"after": 27}, True),
        ("langevin", {"within": 33}, False),
        ("langevin", {"after": 40}, False),
        ("chain", {"within": 33}, False),
        ("chain", {"after": 27}, False),
        ("chain", {"after": 40}, False),
        (None, {"after": 27}, False),
        (None, {"within": 33}, False),
        (None, {"after": 40}, False),
    )
]


@pytest.mark.parametrize(("thermostat", "when"), ENDS)
def test_resumed_replicas_are_the_uninterrupted_ones(
    network, uninterrupted, tmp_path, thermostat, when
):
    expected, recorded = uninterrupted(thermostat)
    path = tmp_path / "broken"
    simulator, monitor, killer = watched(network, path, thermostat)
    vars(killer).update(when)
    with pytest.raises(Killed):
        simulate(simulator, monitor)
    last = read_checkpoint(list_checkpoints(path)[-1]).step
    assert 10 <= last < 40
    simulator, monitor, _ = watched(network, path, thermostat)
    system = simulate(simulator, monitor, resume=True)
    assert all(m.cost.resumed_at == [last] for m in monitor.monitors)
    for name in ("positions", "momenta", "forces", "energy"):
        assert torch.equal(getattr(system, name), getattr(expected, name)), name
    assert content(path) == recorded


def test_a_refused_resume_says_why_and_nothing_else(network, tmp_path):
    simulator, monitor, _ = watched(network, tmp_path)
    simulate(simulator, monitor)
    simulator, monitor, _ = watched(network, tmp_path, "chain")
    with pytest.raises(StateError, match="simulator_hooks") as refusal, monitor:
        monitor.resume(simulator)
    assert refusal.value.__context__ is None


@pytest.mark.parametrize("after", [pytest.param(13, marks=pytest.mark.slow), 38])
def test_a_dropped_replica_stays_dropped(network, tmp_path, after):
    drop = {"exploding": True, "on_unstable": "drop"}
    simulator, monitor, _ = watched(network, tmp_path / "whole", **drop)
    expected = simulate(simulator, monitor)
    assert list(monitor.dropped) == [BAD]
    path = tmp_path / "broken"
    simulator, killed, killer = watched(network, path, **drop)
    killer.after = after
    with pytest.raises(Killed):
        simulate(simulator, killed)
    simulator, resumed, _ = watched(network, path, **drop)
    system = simulate(simulator, resumed, resume=True)
    assert resumed.dropped == monitor.dropped
    assert {n: str(v) for n, v in resumed.verdicts.items()} == {
        n: str(v) for n, v in monitor.verdicts.items()
    }
    assert torch.equal(system.positions, expected.positions)
    assert content(path) == content(tmp_path / "whole")


@pytest.mark.slow
def test_a_finished_simulation_can_be_made_longer(network, uninterrupted, tmp_path):
    expected, recorded = uninterrupted()
    for steps in (25, STEPS):
        simulator, monitor, _ = watched(network, tmp_path / "parts")
        system = simulate(simulator, monitor, resume=steps == STEPS, steps=steps)
    assert monitor.monitors[0].cost.resumed_at == [25]
    assert torch.equal(system.positions, expected.positions)
    assert content(tmp_path / "parts") == recorded


def test_replicas_that_ended_before_a_common_checkpoint_are_kept_apart(network, tmp_path):
    path = tmp_path / "run"
    simulator, monitor, killer = watched(network, path)
    killer.after = 4

    def run():
        with monitor:
            assert not monitor.resume(simulator)  # nothing there: the same script serves both
            simulator.simulate(STEPS)

    with pytest.raises(Killed):
        run()
    there = sorted(p.name for p in path.iterdir())
    assert there == ["replica-00", "replica-01", "replica-02"]
    simulator, monitor, _ = watched(network, path)
    with monitor:
        with pytest.warns(RecordWarning, match="start anew; their records so far are kept"):
            assert not monitor.resume(simulator)
        simulator.simulate(2)
    kept = path / "abandoned-1"
    assert sorted(p.name for p in kept.iterdir()) == there
    assert mdxai.open_run(kept / "replica-00").frames_table()["step"].to_pylist() == [*range(4)]
    assert mdxai.open_run(path / "replica-00").frames_table().num_rows == 3


def test_a_damaged_checkpoint_is_passed_over(network, tmp_path):
    simulator, monitor, killer = watched(network, tmp_path)
    killer.after = 27
    with pytest.raises(Killed):
        simulate(simulator, monitor)
    older, newest = list_checkpoints(tmp_path)[-2:]
    newest.write_bytes(newest.read_bytes()[:-9])
    simulator, monitor, _ = watched(network, tmp_path)
    with pytest.warns(RecordWarning, match="damaged.*an older checkpoint is used"), monitor:
        monitor.resume(simulator)
    assert simulator.step == read_checkpoint(older).step


def test_other_simulations_are_refused(network, tmp_path):
    simulator, monitor, _ = watched(network, tmp_path)
    simulate(simulator, monitor, steps=12)

    def resumed(match, error, changed):
        simulator, monitor, _ = changed
        before = simulator.system.positions.clone()
        with pytest.raises(error, match=match):
            monitor.resume(simulator)
        assert torch.equal(simulator.system.positions, before)

    resumed("3 replicas, now there are 2", RecordError, watched(network, tmp_path, n=2))
    resumed(
        r"simulator_hooks: recorded LangevinThermostat, .*, now NHCThermostat", StateError,
        watched(network, tmp_path, "chain"),
    )  # fmt: skip
    hotter = watched(network, tmp_path)
    hotter[0].simulator_hooks[0].temperature_bath.fill_(400.0)
    resumed(r"LangevinThermostat.temperature_bath: recorded 300.0, now 400.0", StateError, hotter)
    double = watched(network, tmp_path)
    double[0].system.to(torch.float64)
    resumed("system.masses: recorded float32 .* now float64", StateError, double)
    other = watched(mdxai.load_calculator("painn-ethanol"), tmp_path)
    with pytest.raises(RecordError, match="cannot be continued like this"):
        other[1].resume(other[0])
    with pytest.raises(ValueError, match="needs a path"):
        mdxai.ReplicaMonitor().resume(simulator)


def test_the_record_says_how_exact_a_resumed_run_is(network, tmp_path):
    simulator, monitor, _ = watched(network, tmp_path / "a")
    simulate(simulator, monitor, steps=1)
    said = mdxai.open_run(tmp_path / "a" / "replica-00").header["restart"]
    assert said == "what Killer keeps outside its buffers is not saved"
    torch.manual_seed(0)
    for atoms, words in ((ethanol_with(None), "exact"), (bulk("C", cubic=True), "neighbour")):
        system = System()
        system.load_molecules([atoms], n_replicas=2)
        monitor = mdxai.ReplicaMonitor(tmp_path / words, on_unstable="ignore")
        simulator = Simulator(
            system, VelocityVerlet(0.5), mdxai.ReplicaCalculator(network),
            simulator_hooks=[monitor], progress=False,
        )  # fmt: skip
        simulate(simulator, monitor, steps=1)
        said = mdxai.open_run(tmp_path / words / "replica-00").header["restart"]
        assert words in said


def test_a_signal_ends_the_simulation_with_a_checkpoint(
    network, uninterrupted, tmp_path, monkeypatch
):
    came = []
    before = signal.signal(signal.SIGTERM, lambda *args: came.append(args[0]))
    try:
        simulator, monitor, _ = watched(network, tmp_path / "run")
        read = ReplicaReader.frames

        def frames(reader, step):
            if step == 23:
                os.kill(os.getpid(), signal.SIGTERM)
            return read(reader, step)

        with monkeypatch.context() as patched:
            patched.setattr(ReplicaReader, "frames", frames)
            with pytest.raises(mdxai.SimulationInterrupted, match="after step 23: SIGTERM"):
                simulate(simulator, monitor)
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    simulator, monitor, _ = watched(network, tmp_path / "run")
    simulate(simulator, monitor, resume=True)
    assert monitor.monitors[0].cost.resumed_at == [23]
    assert content(tmp_path / "run") == uninterrupted()[1]


SCRIPT = """
import sys, torch, mdxai
sys.path.insert(0, {root!r})
from tests.test_replica_group import watched
torch.set_num_threads(1)
network = mdxai.load_calculator("schnet-ethanol")
simulator, monitor, _ = watched(network, sys.argv[1])
with monitor:
    monitor.resume(simulator)
    print("going", flush=True)
    simulator.simulate(400 - simulator.step)
"""


@pytest.mark.slow
def test_killed_replicas_go_on(network, tmp_path):
    """SIGKILL at random instants, again and again; the record is that of the whole run."""
    simulator, monitor, _ = watched(network, tmp_path / "whole")
    simulate(simulator, monitor, steps=400)
    script = SCRIPT.format(root=str(Path(__file__).parents[1]))
    rng, kills, code = np.random.default_rng(1), 0, None
    command = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "run")]
    while code is None:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "going\n"
            try:
                code = process.wait(timeout=rng.uniform(1.0, 4.0))  # the first steps take a second
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
    assert code == 0
    assert kills >= 5
    assert content(tmp_path / "run") == content(tmp_path / "whole")
