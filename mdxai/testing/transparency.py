"""Whether a monitor leaves a simulation as it is, bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from ase.md.md import MolecularDynamics

from mdxai.engines import AseEngine
from mdxai.engines.schnetpack_engine import ReplicaReader
from mdxai.frame import Frame
from mdxai.monitoring.monitor import Monitor
from mdxai.monitoring.replicas import ReplicaMonitor


def assert_transparent(make_dynamics: Callable[[], Any], steps: int) -> None:
    """Pass only when a monitored trajectory has the same bits as one without a monitor.

    Compares positions, velocities, forces and energies of every step, of every replica where there
    are several, and the number of force calls.

    Args:
        make_dynamics: returns a fresh run each time, from the same start and the same seed: ASE's
            molecular dynamics, whose thermostat needs its own generator
            (`rng=np.random.default_rng(1)`), or a schnetpack.md.Simulator, for which torch is
            seeded (`torch.manual_seed(1)`) in make_dynamics.
        steps: MD steps.

    Raises:
        AssertionError: naming the first step and the quantity that differ.
        ValueError: for fewer than one step, or where make_dynamics returns the same run twice.
    """
    __tracebackhide__ = True
    if steps < 1:
        raise ValueError(f"expected at least one step to compare, got {steps}")
    (first, drawn), (second, drawn_again) = (
        (make_dynamics(), torch.get_rng_state()) for _ in range(2)
    )
    if first is second or _moved(first) is _moved(second):
        raise ValueError("make_dynamics must make a new run with new atoms each time it is called")
    torch.set_rng_state(drawn)  # schnetpack's thermostats continue from it
    plain, calls = _trace(first, steps)
    torch.set_rng_state(drawn_again)
    watched, calls_watched = _trace(second, steps, monitor=True)
    assert len(plain) == len(watched), (
        f"the monitored run took {len(watched) - 1} steps, the other {len(plain) - 1}"
    )
    for step, (bare, seen) in enumerate(zip(plain, watched, strict=True)):
        differing = [name for name, bits in bare.items() if bits != seen[name]]
        assert not differing, (
            f"with a monitor {', '.join(differing)} differ at step {step} of {steps}; if they "
            "differ between two runs without a monitor too, make_dynamics does not start the same "
            "run each time (ASE's thermostats draw from NumPy's global generator unless given rng=,"
            " schnetpack's from torch's)"
        )
    assert calls == calls_watched, (
        f"with a monitor there were {calls_watched} force calls in {steps} steps, without {calls}"
    )


Trace = list[dict[str, bytes]]


def _moved(dynamics: Any) -> Any:
    return dynamics.atoms if isinstance(dynamics, MolecularDynamics) else dynamics.system


def _trace(dynamics: Any, steps: int, *, monitor: bool = False) -> tuple[Trace, int]:
    """Return the bits of every step, and the number of force calls."""
    if isinstance(dynamics, MolecularDynamics):
        return _ase_trace(dynamics, steps, monitor)
    return _simulator_trace(dynamics, steps, monitor)


def _ase_trace(dynamics: MolecularDynamics, steps: int, monitor: bool) -> tuple[Trace, int]:
    engine, trace = AseEngine(dynamics), []
    if monitor:
        dynamics.attach(Monitor(dynamics, None, on_unstable="ignore"), interval=1)
    dynamics.attach(lambda: trace.append(_bits(engine.frame())), interval=1)
    with _force_calls(dynamics.atoms.calc) as calls:
        dynamics.run(steps)
    return trace, len(calls)


def _simulator_trace(simulator: Any, steps: int, monitor: bool) -> tuple[Trace, int]:
    """Note every step right after its forces, because a hook could change what others see."""
    trace: Trace = []
    reader = ReplicaReader(simulator)
    if monitor:
        simulator.simulator_hooks.append(ReplicaMonitor(None, on_unstable="ignore"))

    def note() -> None:
        each = [_bits(frame) for frame in reader.frames(len(trace))]
        trace.append({name: b"".join(bits[name] for bits in each) for name in each[0]})

    with _force_calls(simulator.calculator, note) as calls:
        simulator.simulate(steps)
    note()
    return trace, len(calls)


@contextmanager
def _force_calls(calculator: Any, after: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """Count the force calls of a calculator, and call `after` after each."""
    calls: list[int] = []
    calculate = calculator.calculate

    def counted(*arguments: Any, **named: Any) -> Any:
        result = calculate(*arguments, **named)
        calls.append(1)
        after()
        return result

    calculator.calculate = counted
    try:
        yield calls
    finally:
        calculator.calculate = calculate


def _bits(frame: Frame) -> dict[str, bytes]:
    arrays = {name: getattr(frame, name) for name in ("positions", "velocities", "forces")}
    return {name: array.tobytes() for name, array in arrays.items()} | {
        "energy": frame.energy.hex().encode()
    }
