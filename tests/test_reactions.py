"""What happens when a run becomes unstable: a warning, a halt, an error, a function."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.verlet import VelocityVerlet

import mdxai
from mdxai.monitoring.monitor import InstabilityWarning, Monitor, UnstableTrajectory
from mdxai.stability.outcomes import Stability

from .hot_ethanol import hot, watched


class Poisoned(EMT):
    """EMT whose forces turn to NaN at one evaluation."""

    def __init__(self, at):
        super().__init__()
        self.left = at

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.left -= 1
        if self.left < 0:
            self.results["forces"] = np.full_like(self.results["forces"], np.nan)


def poisoned(at):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=0)
    atoms.calc = Poisoned(at)
    return VelocityVerlet(atoms, 2 * units.fs)


def test_nan_is_found_warned_of_and_halts():
    for reaction in ("warn", "halt"):
        dynamics = poisoned(at=5)
        with Monitor(dynamics, None, on_unstable=reaction) as monitor:
            dynamics.attach(monitor, interval=1)
            if reaction == "warn":
                with pytest.warns(InstabilityWarning, match="unstable: non_finite 24 values"):
                    assert dynamics.run(20) is True
                assert monitor.verdict.n_frames == 21
            else:
                assert dynamics.run(20) is False
                assert monitor.verdict.n_frames == 6
        assert monitor.verdict.onset_fs == pytest.approx(10.0)


def test_a_function_is_called_once_with_the_verdict():
    dynamics = poisoned(at=3)
    calls = []
    monitor = Monitor(dynamics, None, on_unstable=calls.append)
    dynamics.attach(monitor, interval=1)
    dynamics.run(10)
    (verdict,) = calls
    assert verdict.stability is Stability.UNSTABLE


def test_reactions(tmp_path):
    with pytest.raises(UnstableTrajectory, match="unstable") as caught:
        watched(tmp_path / "raise", on_unstable="raise")
    assert caught.value.verdict.stability == "unstable"
    verdict = mdxai.open_run(tmp_path / "raise").verdict
    assert verdict["interrupted_by"].startswith("UnstableTrajectory: unstable")
    assert verdict["halted_by"]
    with pytest.warns(InstabilityWarning, match="unstable over"):
        dynamics, _ = watched(None, steps=60)
    assert dynamics.nsteps == 60
    told = []
    watched(None, steps=60, on_unstable=told.append)
    assert len(told) == 1


def test_a_halted_run_is_halted_again():
    dynamics, _ = watched(None, on_unstable="halt")
    halted = dynamics.nsteps
    dynamics = hot()
    with Monitor(dynamics, None, attribute_every=0, on_unstable="halt") as monitor:
        dynamics.attach(monitor)
        for _ in range(10):
            dynamics.run(20)
    assert monitor.halted_by
    assert dynamics.nsteps <= halted + 10
