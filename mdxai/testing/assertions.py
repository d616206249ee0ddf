"""Assertions for a user's own test suite."""

from __future__ import annotations

from collections.abc import Callable

from ase.md.md import MolecularDynamics

from mdxai.engines import AseEngine
from mdxai.frame import Frame
from mdxai.monitor import Monitor
from mdxai.record import Run
from mdxai.verdict import Stability, Verdict, judge


def assert_stable(judged: Monitor | Run | Verdict, *, warnings_allowed: bool = False) -> None:
    """Pass only when a run was stable.

    Args:
        judged: a monitor, a run that `mdxai.open_run` has opened, or a verdict.
        warnings_allowed: whether a suspect run passes too. An inconclusive one never does.

    Raises:
        AssertionError: otherwise, with the verdict in words.
        TypeError: for anything else, such as a path.
    """
    __tracebackhide__ = True
    if not isinstance(judged, Monitor | Run | Verdict):
        raise TypeError(
            f"expected a Monitor, an opened run or a Verdict, got {judged!r}; mdxai.open_run opens "
            "a run directory"
        )
    if isinstance(judged, Run):
        judged = judge(judged)
    verdict = judged.verdict if isinstance(judged, Monitor) else judged
    passing = {Stability.STABLE} | ({Stability.SUSPECT} if warnings_allowed else set())
    if verdict.stability not in passing:
        raise AssertionError(str(verdict))


def assert_transparent(make_dynamics: Callable[[], MolecularDynamics], steps: int) -> None:
    """Pass only when a monitored trajectory has the same bits as one without a monitor.

    Positions, velocities, forces and energies of every step are compared.

    Args:
        make_dynamics: returns a fresh run each time, from the same start and the same seed; a
            thermostat needs its own generator (`rng=np.random.default_rng(1)`).
        steps: MD steps.

    Raises:
        AssertionError: naming the first step and the quantity that differ.
        ValueError: for less than one step, or where make_dynamics returns the same run twice.
    """
    __tracebackhide__ = True
    if steps < 1:
        raise ValueError(f"expected at least one step to compare, got {steps}")
    first, second = make_dynamics(), make_dynamics()
    if first is second or first.atoms is second.atoms:
        raise ValueError("make_dynamics must make a new run with new atoms each time it is called")
    plain, watched = _trace(first, steps), _trace(second, steps, monitor=True)
    assert len(plain) == len(watched), (
        f"the monitored run took {len(watched) - 1} steps, the other {len(plain) - 1}"
    )
    for step, (bare, seen) in enumerate(zip(plain, watched, strict=True)):
        differing = [name for name, bits in bare.items() if bits != seen[name]]
        assert not differing, (
            f"with a monitor {', '.join(differing)} differ at step {step} of {steps}; if they "
            "differ between two runs without a monitor too, make_dynamics does not start the same "
            "run each time (ASE's thermostats draw from NumPy's global generator unless given rng=)"
        )


def _trace(
    dynamics: MolecularDynamics, steps: int, *, monitor: bool = False
) -> list[dict[str, bytes]]:
    engine, trace = AseEngine(dynamics), []

    def note() -> None:
        trace.append(_bits(engine.frame()))

    if monitor:
        dynamics.attach(Monitor(dynamics, None, on_unstable="ignore"), interval=1)
    dynamics.attach(note, interval=1)
    dynamics.run(steps)
    return trace


def _bits(frame: Frame) -> dict[str, bytes]:
    arrays = {name: getattr(frame, name) for name in ("positions", "velocities", "forces")}
    return {name: array.tobytes() for name, array in arrays.items()} | {
        "energy": frame.energy.hex().encode()
    }
