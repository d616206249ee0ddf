"""Assertions for test suites say what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.verlet import VelocityVerlet
from schnetpack.md import MaxwellBoltzmannInit, Simulator, System
from schnetpack.md.integrators import VelocityVerlet as SpkVerlet
from schnetpack.md.simulation_hooks import LangevinThermostat

import mdxai
from mdxai.monitoring.monitor import Monitor
from mdxai.principles import Deviation
from mdxai.stability.thresholds import Threshold
from mdxai.stability.verdict import VerdictBuilder
from mdxai.testing import (
    FaultyCalculator,
    NanForces,
    Push,
    assert_stable,
    assert_transparent,
)
from tests.conftest import ethanol_dynamics, ethanol_with


def test_a_monitored_run_is_transparent():
    assert_transparent(lambda: ethanol_dynamics(temperature=300), 12)
    assert_transparent(lambda: ethanol_dynamics(FaultyCalculator(EMT(), NanForces(at=3)), 300), 6)


def replicas(seed):
    torch.manual_seed(seed)
    system = System()
    system.load_molecules([ethanol_with(None)], n_replicas=3)
    MaxwellBoltzmannInit(300.0).initialize_system(system)
    calculator = mdxai.ReplicaCalculator(mdxai.load_calculator("schnet-ethanol"))
    bath = LangevinThermostat(300.0, 100.0)
    return Simulator(system, SpkVerlet(0.5), calculator, simulator_hooks=[bath], progress=False)


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_monitored_replicas_are_transparent():
    assert_transparent(lambda: replicas(1), 12)
    seeds = iter((1, 2))
    with pytest.raises(AssertionError, match="velocities differ at step 0 of 4"):
        assert_transparent(lambda: replicas(next(seeds)), 4)


def test_an_extra_force_call_is_noticed(monkeypatch):
    """A monitor that has the calculator evaluate once more, with the same results."""
    made = []

    def make():
        made.append(ethanol_dynamics(EMT(), 300))
        return made[-1]

    def meddle(self):
        atoms = made[-1].atoms  # the second run is the monitored one
        atoms.calc.calculate(atoms)

    monkeypatch.setattr(Monitor, "__call__", meddle)
    with pytest.raises(AssertionError, match="there were 10 force calls in 4 steps, without 5"):
        assert_transparent(make, 4)


def test_a_run_that_starts_differently_each_time_is_not_transparent():
    seeds = iter((1, 2))
    with pytest.raises(AssertionError, match=r"velocities differ at step 0 of 3; .*rng="):
        assert_transparent(lambda: ethanol_dynamics(EMT(), 300, seed=next(seeds)), 3)

    lengths = iter((1, 2))

    def make():
        dynamics = ethanol_dynamics(EMT(), 300)
        halt_at = next(lengths)
        dynamics.attach(lambda: dynamics.nsteps == halt_at and setattr(dynamics, "max_steps", 0))
        return dynamics

    with pytest.raises(AssertionError, match="the monitored run took 2 steps, the other 1"):
        assert_transparent(make, 3)


def test_assert_stable_takes_monitors_runs_and_verdicts(tmp_path):
    dynamics = ethanol_dynamics(FaultyCalculator(EMT(), Push((0.005, 0.0, 0.0))), 300)
    with Monitor(dynamics, tmp_path / "run", on_unstable="ignore") as monitor:
        with pytest.raises(AssertionError, match="inconclusive over 0 fs"):
            assert_stable(monitor, warnings_allowed=True)
        dynamics.attach(monitor, interval=1)
        dynamics.run(2)
    for judged in (monitor, monitor.verdict, mdxai.open_run(tmp_path / "run")):
        with pytest.raises(AssertionError, match=r"suspect over 1 fs.*\n.*warn: net_force 0.005"):
            assert_stable(judged)
        assert_stable(judged, warnings_allowed=True)
    copper = bulk("Cu", cubic=True)
    copper.calc = EMT()
    dynamics = VelocityVerlet(copper, units.fs)
    with Monitor(dynamics) as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(2)
    assert_stable(monitor)


def test_assert_stable_takes_reactions_where_they_are_allowed():
    def judged(*outcomes):
        builder = VerdictBuilder([Threshold(o, 0, 0, 0, "advice", o) for o in outcomes])
        for time in (0.0, 1.0):
            builder.add(time, {o: Deviation(o, "1", time) for o in outcomes})
        return builder.verdict()

    assert_stable(judged("reacted", "melted"), reactions_allowed=True)
    with pytest.raises(AssertionError, match="melted: melted 1"):
        assert_stable(judged("melted"), warnings_allowed=True)
    for failure in ("broken", "unstable"):
        with pytest.raises(AssertionError, match=f"{failure} over 1 fs"):
            assert_stable(judged("reacted", failure), warnings_allowed=True, reactions_allowed=True)


def test_the_scripts_of_the_page_on_testing_run():
    page = Path(__file__).parents[1] / "docs" / "testing.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec("\n".join(blocks), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        test()


def test_assertions_refuse_what_makes_no_sense():
    with pytest.raises(TypeError, match="open_run opens a run directory"):
        assert_stable("runs/x")
    run = VelocityVerlet(bulk("Cu", cubic=True), 1.0)
    with pytest.raises(ValueError, match="at least one step"):
        assert_transparent(lambda: run, 0)
    with pytest.raises(ValueError, match="must make a new run"):
        assert_transparent(lambda: run, 5)
