"""A monitored run is the run without a monitor, with any calculator; what is recorded is ASE's."""

from __future__ import annotations

import os
import warnings
from threading import Thread

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import mdxai
from mdxai.engines import AseEngine
from mdxai.outside import restraints_of
from tests.hostile_calculators import Hostility, hostilities, system

N_STEPS = 9
MANY = int(os.environ.get("MDXAI_HOSTILE_EXAMPLES", "10000"))


class Watching(AseEngine):
    """Notes, beside each frame, the last evaluation and what restraints add."""

    def __init__(self, dynamics, log):
        super().__init__(dynamics)
        self.log, self.seen = log, []

    def frame(self):
        frame = super().frame()
        atoms = self._dynamics.atoms
        added, forces = 0.0, np.zeros((len(atoms), 3))
        for restraint in restraints_of(atoms):
            added += restraint.adjust_potential_energy(atoms)
            restraint.adjust_forces(atoms, forces)
        self.seen.append((frame, list(self.log), added, forces))
        return frame


def simulate(how: Hostility, *, monitored: bool):
    """Return final positions, momenta and number of evaluations, the error, and the frames."""
    log: list = []
    dynamics = system(how, log)
    atoms, engine = dynamics.atoms, Watching(dynamics, log)
    monitor = mdxai.Monitor(engine, attribute_every=0, on_unstable="ignore") if monitored else None
    if how.asks_energy:
        dynamics.attach(atoms.get_potential_energy, interval=how.asks_energy)
    if how.wraps == "before":
        dynamics.attach(atoms.wrap)
    if monitor is not None:
        dynamics.attach(monitor, interval=how.interval)
    if how.wraps == "after":
        dynamics.attach(atoms.wrap)
    error = None
    try:
        dynamics.run(N_STEPS)
    except Exception as raised:
        error = raised
    if monitor is not None:
        monitor.finish()
        assert str(monitor.verdict)
    return (atoms.positions, atoms.get_momenta(), len(log)), error, engine.seen


def in_thread(how, *, monitored):
    found = []
    thread = Thread(target=lambda: found.append(simulate(how, monitored=monitored)))
    thread.start()
    thread.join()
    return found[0]


def check(how: Hostility) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = in_thread if how.in_thread else simulate
        bare, expected, _ = run(how, monitored=False)
        watched, error, seen = run(how, monitored=True)
    if isinstance(error, mdxai.MdxaiError):
        assert how.unfit, f"refused without need: {error}"
        assert "in 'energy' of" in str(error) or "in 'forces' of" in str(error)
        return
    assert (type(error), str(error)) == (type(expected), str(expected))
    for mine, other in zip(watched, bare, strict=True):
        np.testing.assert_array_equal(mine, other)
    for frame, evaluated, added, forces in seen:
        assert_read_rightly(how, frame, evaluated, added, forces)


def assert_read_rightly(how, frame, evaluated, added, forces):
    """What a frame holds is that of an evaluation of these positions, or absent."""
    if how.restraint and (how.forces in ("tensor", "list") or how.energy.startswith("tensor")):
        return  # ASE's constraints change what it does not copy, the calculator's own results
    here = [entry[1:] for entry in evaluated if is_here(how, frame, entry[0])]
    tolerance = 1e-5 if "float32" in (how.energy, how.forces) else 1e-12
    close = {"rtol": tolerance, "atol": tolerance, "equal_nan": True}
    half = 0.5 if how.kind == "scaled getter" else 1.0
    if frame.has_energy:
        assert any(np.allclose(frame.energy, energy + added, **close) for energy, _ in here)
    if frame.has_forces:
        assert any(np.allclose(frame.forces, half * pulls + forces, **close) for _, pulls in here)


def is_here(how, frame, positions):
    """Whether positions are those of a frame, up to the cell."""
    off = frame.positions - positions
    if how.periodic:
        off -= 6.0 * np.round(off / 6.0)
    return np.abs(off).max() < 1e-7


common = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=60, derandomize=True, **common)
@given(hostilities())
def test_any_calculator_runs_as_without_a_monitor(how):
    check(how)


@pytest.mark.slow
@settings(max_examples=MANY, **common)
@given(hostilities())
def test_ten_thousand_calculators_run_as_without_a_monitor(how):
    check(how)
