"""Checking a trajectory that exists, or that another engine is making, as if it ran live."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np

from mdxai.attribution import Attribution, AttributionUnavailable, attributor
from mdxai.calculators import CalculatorError, load_calculator, twin_of
from mdxai.early_warning import Calibration
from mdxai.engines import Conditions, Selection, Trajectory, TrajectoryEngine
from mdxai.engines.trajectories import from_atoms, read_ase
from mdxai.engines.universe import STREAM, from_universe, read_universe
from mdxai.errors import MdxaiError
from mdxai.frame import Frame
from mdxai.monitoring.monitor import Monitor
from mdxai.record import open_run
from mdxai.stability.thresholds import THRESHOLDS, Threshold

ATOMS_PER_CHUNK = 256  # explained in one batch
ENSEMBLES = ("nve", "nvt", "langevin")
Explained = tuple[Frame, Attribution | None]


class ReplayError(MdxaiError, ValueError):
    """A replay that cannot be made as asked."""


def conditions(ensemble: str | None, temperature: float | None) -> Conditions | None:
    """Return under which conditions a trajectory was made, as a user states them.

    Args:
        ensemble: "nve", "nvt", or "langevin" for a thermostat that pushes each atom at random.
        temperature: of the thermostat, K.

    Raises:
        ReplayError: for an unknown ensemble, and one without its temperature or with a needless.
    """
    if ensemble is None and temperature is None:
        return None
    ensemble = ensemble or "nvt"
    if ensemble not in ENSEMBLES:
        raise ReplayError(f"ensemble must be one of {', '.join(ENSEMBLES)}, got {ensemble!r}")
    if (ensemble == "nve") is not (temperature is None):
        raise ReplayError(
            f"ensemble {ensemble!r} goes {'without' if temperature else 'with'} a temperature: "
            "it is that of the thermostat"
        )
    if temperature is not None and not (0 < temperature < np.inf):
        raise ReplayError(f"temperature must be positive, in K, got {temperature}")
    return Conditions(temperature, ensemble == "nve", ensemble == "langevin")


def open_trajectory(
    source: Any, topology: str | os.PathLike[str] | None = None, selection: Selection | None = None
) -> Trajectory:
    """Open what holds frames.

    Args:
        source: a file that ASE reads or, with a topology, MDAnalysis; "imd://host:port"; a run
            directory of mdxai; a run, an MDAnalysis universe, or frames or ASE atoms in sequence.
        topology: file that MDAnalysis reads, with elements or masses.
        selection: which frames.

    Raises:
        TrajectoryError, RecordError: when it cannot be read.
    """
    selection = selection or Selection()
    if not isinstance(source, str | os.PathLike):
        if hasattr(source, "trajectory"):
            return from_universe(source, selection)
        if hasattr(source, "frames") and hasattr(source, "header"):
            return _from_run(source, selection)
        return from_atoms(source, selection)
    name, top = os.fspath(source), None if topology is None else os.fspath(topology)
    if name.startswith(STREAM) or top is not None:
        return read_universe(name, top, selection)
    if Path(name).is_dir():
        return _from_run(open_run(name), selection)
    return read_ase(name, selection)


def _from_run(run: Any, selection: Selection) -> Trajectory:
    whole = replace(selection, start=0, stop=None, step=1)
    frames = from_atoms(run.frames(selection.start, selection.stop, selection.step), whole).frames
    engine = run.header["engine"]
    known = "ensemble" not in engine.get("missing", {})
    made = Conditions(
        engine.get("temperature"), engine["conserves_energy"], engine.get("random_bath", False)
    )
    n_frames = len(range(run.n_frames)[selection.start : selection.stop : selection.step])
    return Trajectory(
        str(run.path), frames, n_frames, counts_steps=selection.timestep is None,
        conditions=made if known else None, parameters={"format": "mdxai", "live": False},
    )  # fmt: skip


def replay(  # noqa: PLR0913 (every choice of a user's one line)
    calculator: Any,
    frames: Any,
    out: str | os.PathLike[str] | None = None,
    *,
    topology: str | os.PathLike[str] | None = None,
    selection: Selection | None = None,
    made: Conditions | None = None,
    recompute: bool = False,
    workers: int = 1,
    attribute_every: int = 10,
    gamma: float = 0.1,
    thresholds: Sequence[Threshold] = THRESHOLDS,
    expected: Sequence[str] = (),
    halt: bool = False,
    early_warning: Calibration | str | os.PathLike[str] | None = None,
    progress: Callable[[Monitor], None] | None = None,
    context: Mapping[str, Any] | None = None,
    report: bool = True,
) -> Monitor:
    """Check every frame of a trajectory, explain some, record and judge; as live, with a verdict.

    Energies and forces are those of the trajectory. Where it lacks either, both are computed with
    the calculator; the record says which.

    Args:
        calculator: any ASE calculator, or a name or path for `load_calculator`.
        frames: what `open_trajectory` opens.
        out: run directory, or None for no record.
        topology: see `open_trajectory`.
        selection: which frames, and how far apart.
        made: under which conditions, in place of what the trajectory says.
        recompute: compute energies and forces even where the trajectory holds them.
        workers: processes that compute and explain; each loads its own copy of the calculator. A
            script that asks for several needs `if __name__ == "__main__":`.
        attribute_every: explain one frame in so many of those selected; 0 none.
        gamma: γ of the rule.
        thresholds: what deviations count.
        expected: bonds that may break and form.
        halt: end the replay where the trajectory is unstable.
        early_warning: as for `Monitor`.
        progress: called with the monitor every 20 frames.
        context: further entries for run.toml.
        report: as for `Monitor`.

    Raises:
        TrajectoryError, CalculatorError, RecordError, ReplayError: when it cannot be done.
    """
    if workers < 1:
        raise ReplayError(f"workers must be positive, got {workers}")
    if isinstance(calculator, str | os.PathLike):
        calculator = load_calculator(calculator)
    trajectory = open_trajectory(frames, topology, selection)
    engine = TrajectoryEngine(trajectory, calculator, made, recompute=recompute)
    monitor = Monitor(
        engine, out, attribute_every=attribute_every, gamma=gamma, thresholds=thresholds,
        expected=expected, on_unstable="halt" if halt else "ignore", context=context,
        early_warning=early_warning, on_warning="ignore", report=report,
    )  # fmt: skip
    work = Work(calculator, engine.evaluates, gamma if attribute_every else None)
    size = 1 if trajectory.parameters.get("live") else _chunk_size(engine.first)
    with monitor, ExitStack() as stack:
        chunks = _chunks(engine.frames, size, attribute_every)
        for n, (frame, attribution) in enumerate(_done(work, chunks, workers, stack)):
            engine.show(frame)
            monitor.take(frame, attribution, explain=False)
            if progress is not None and n % 20 == 0:
                progress(monitor)
            if engine.stopped:
                break
        if progress is not None:
            progress(monitor)
    return monitor


def _chunk_size(first: Frame) -> int:
    return max(1, min(32, ATOMS_PER_CHUNK // first.n_atoms))


@dataclass(frozen=True, slots=True)
class Chunk:
    """Frames that are worked on together, and which of them are to be explained."""

    frames: tuple[Frame, ...]
    due: tuple[bool, ...]


def _chunks(frames: Iterable[Frame], size: int, every: int) -> Iterator[Chunk]:
    numbered = iter(enumerate(frames))
    while batch := tuple(islice(numbered, size)):
        due = tuple(every > 0 and n % every == 0 for n, _ in batch)
        yield Chunk(tuple(frame for _, frame in batch), due)


class Work:
    """Computes and explains frames with a copy of a calculator.

    Args:
        calculator: any ASE calculator; only a twin of it is evaluated.
        evaluates: whether to compute energies and forces.
        gamma: γ of explanations; None for none.
    """

    def __init__(self, calculator: Any, evaluates: bool, gamma: float | None) -> None:
        self._arguments = (calculator, evaluates, gamma)
        self._twin = twin_of(calculator) if evaluates else None
        self._explain: Any = None
        if gamma is not None:
            try:
                self._explain = attributor(calculator, gamma=gamma)
            except AttributionUnavailable:  # the monitor meets the same, and says so
                self._explain = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments

    def __call__(self, chunk: Chunk) -> list[Explained]:
        """Return the frames, computed where asked for, with explanations where due."""
        frames = [self._computed(frame) for frame in chunk.frames]
        explained: list[Attribution | None] = [None] * len(frames)
        wanted = [
            k for k, due in enumerate(chunk.due) if due and np.isfinite(frames[k].positions).all()
        ]
        if self._explain is not None and wanted:
            found = self._explained([frames[k] for k in wanted])
            for k, attribution in zip(wanted, found, strict=True):
                explained[k] = attribution
        return list(zip(frames, explained, strict=True))

    def _computed(self, frame: Frame) -> Frame:
        if self._twin is None or not np.isfinite(frame.positions).all():
            return frame
        energy, forces = self._twin.evaluate(frame)
        return replace(frame, energy=energy, forces=np.array(forces, dtype=np.float64))

    def _explained(self, frames: list[Frame]) -> list[Attribution | None]:
        try:
            return list(self._explain.attribute_many(frames))
        except CalculatorError:
            if len(frames) == 1:  # atoms on top of each other: other principles have found that
                return [None]
        return [found for frame in frames for found in self._explained([frame])]


def _done(
    work: Work, chunks: Iterator[Chunk], workers: int, stack: ExitStack
) -> Iterator[Explained]:
    """Yield the frames of all chunks in their order."""
    if workers == 1:
        for chunk in chunks:
            yield from work(chunk)
        return
    pool = stack.enter_context(_pool(work, workers))
    waiting: deque[Future[list[Explained]]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(_do, chunk))
            if len(waiting) >= 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool as error:
        raise ReplayError(
            'a worker process ended: out of memory, or a script without if __name__ == "__main__"'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _pool(work: Work, workers: int) -> ProcessPoolExecutor:
    try:
        ForkingPickler.dumps(work)  # as the pool will send it
    except Exception as error:  # whatever parts of a foreign calculator raise
        raise ReplayError(
            f"the calculator cannot be sent to other processes ({error}); use workers=1"
        ) from error
    # A forked process would share the threads' locks of torch, and could wait for ever.
    method = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, method, _begin, (work,))


_work: list[Work] = []  # of a worker process


def _begin(work: Work) -> None:
    import torch

    torch.set_num_threads(1)
    _work[:] = [work]


def _do(chunk: Chunk) -> list[Explained]:
    return _work[0](chunk)
