"""Check a finished trajectory, or a stream from another engine, as if it ran live."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields, replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np

from mdxai.attribution import Attribution, AttributionUnavailable, attributor
from mdxai.calculators import CalculatorError, load_calculator, twin_of
from mdxai.engines import (
    EngineDescription,
    Selection,
    Trajectory,
    TrajectoryEngine,
    TrajectoryError,
)
from mdxai.engines.mdanalysis_frames import STREAM, from_universe, read_universe
from mdxai.engines.trajectories import from_atoms, gathered, read_ase
from mdxai.errors import MdxaiError
from mdxai.frame import Frame
from mdxai.monitoring.monitor import Monitor
from mdxai.monitoring.options import MonitorOptions
from mdxai.record import Run, open_run

ATOMS_PER_CHUNK = 256  # explained in one batch
ENSEMBLES = ("nve", "nvt", "langevin")
Explained = tuple[Frame, Attribution | None]


class ReplayError(MdxaiError, ValueError):
    """A replay that cannot be done as requested."""


class IncompleteReplay(ReplayError, TrajectoryError):
    """A trajectory that could not be read to its end; what was read is judged and recorded.

    Attributes:
        monitor: of the frames that were read.
    """

    def __init__(self, message: str, monitor: Monitor) -> None:
        super().__init__(message)
        self.monitor = monitor


def stated_dynamics(ensemble: str | None, temperature: float | None) -> EngineDescription | None:
    """Return what moved the atoms of a trajectory, from an ensemble and a temperature.

    Args:
        ensemble: "nve", "nvt", or "langevin" for a thermostat that kicks each atom at random.
        temperature: of the thermostat, K.

    Raises:
        ReplayError: for an unknown ensemble, a missing temperature, or one given for "nve".
    """
    if ensemble is None and temperature is None:
        return None
    ensemble = ensemble or "nvt"
    if ensemble not in ENSEMBLES:
        raise ReplayError(f"ensemble must be one of {', '.join(ENSEMBLES)}, got {ensemble!r}")
    if (ensemble == "nve") is not (temperature is None):
        raise ReplayError(
            f"ensemble {ensemble!r} is given {'without' if temperature else 'with'} a temperature, "
            "which is that of the thermostat"
        )
    if temperature is not None and not (0 < temperature < np.inf):
        raise ReplayError(f"temperature must be positive, in K, got {temperature}")
    return EngineDescription(
        temperature=temperature,
        conserves_energy=ensemble == "nve",
        random_bath=ensemble == "langevin",
    )


def open_trajectory(
    source: Any, topology: str | os.PathLike[str] | None = None, selection: Selection | None = None
) -> Trajectory:
    """Open a source of frames.

    Args:
        source: a file that ASE or, with a topology, MDAnalysis can read; "imd://host:port"; a run
            directory of mdxai; a run, an MDAnalysis universe, a sequence of frames or ASE atoms; or
            a Trajectory, which is returned unchanged.
        topology: file with elements or masses that MDAnalysis can read.
        selection: which frames to read.

    Raises:
        TrajectoryError, RecordError: when it cannot be read.
    """
    selection = selection or Selection()
    if not isinstance(source, str | os.PathLike):
        return _from_memory(source, selection)
    name, top = os.fspath(source), None if topology is None else os.fspath(topology)
    if name.startswith(STREAM) or top is not None:
        return read_universe(name, top, selection)
    if Path(name).is_dir() and selection.format is None:  # bundles of ASE are folders too
        return _from_run(open_run(name), selection)
    return read_ase(name, selection)


def _from_memory(source: Any, selection: Selection) -> Trajectory:
    if isinstance(source, Trajectory):
        return source
    if isinstance(source, Run):
        return _from_run(source, selection)
    if hasattr(source, "trajectory"):  # a universe; an isinstance check would import MDAnalysis
        return from_universe(source, selection)
    return from_atoms(source, selection)


def _from_run(run: Any, selection: Selection) -> Trajectory:
    whole = replace(selection, start=0, stop=None, step=1)
    frames = from_atoms(run.frames(selection.start, selection.stop, selection.step), whole).frames
    engine = run.header["engine"]
    known = "ensemble" not in engine.get("missing", {})
    made = EngineDescription(
        temperature=engine.get("temperature"),
        conserves_energy=engine["conserves_energy"],
        random_bath=engine.get("random_bath", False),
        holds_centre=engine.get("holds_centre", False),
    )
    n_frames = len(range(run.n_frames)[selection.start : selection.stop : selection.step])
    return Trajectory(
        str(run.path), frames, n_frames, counts_steps=selection.timestep is None,
        dynamics=made if known else None, parameters={"format": "mdxai", "live": False},
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings:
    """How a trajectory is read and processed.

    Attributes:
        topology: file with elements or masses that MDAnalysis can read; see `open_trajectory`.
        selection: which frames to read, and the time between them.
        dynamics: what moved the atoms; overrides what the trajectory says itself.
        recompute: compute energies and forces even if the trajectory has them.
        workers: processes that compute and explain; each loads its own copy of the calculator. A
            script that uses several needs `if __name__ == "__main__":`.

    Raises:
        ReplayError: for fewer than one worker.
    """

    topology: str | os.PathLike[str] | None = None
    selection: Selection | None = None
    dynamics: EngineDescription | None = None
    recompute: bool = False
    workers: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ReplayError(f"workers must be positive, got {self.workers}")


QUIET = MonitorOptions(on_unstable="ignore", on_warning="ignore")  # the verdict tells the user


def replay(
    calculator: Any,
    frames: Any,
    out: str | os.PathLike[str] | None = None,
    options: MonitorOptions = QUIET,
    settings: ReplaySettings | None = None,
    *,
    progress: Callable[[Monitor], None] | None = None,
    **changes: Any,
) -> Monitor:
    """Check every frame of a trajectory, explain some, record and judge, as if it ran live.

    Energies and forces are those of the trajectory. If it lacks either, both are computed with the
    calculator; the record says which was done.

    Args:
        calculator: any ASE calculator, or a name or path for `load_calculator`.
        frames: what `open_trajectory` opens.
        out: run directory, or None for no record.
        options: of the monitor; `attribute_every` counts selected frames.
        settings: how the trajectory is read and processed.
        progress: called with the monitor every 20 frames.
        **changes: single options or settings by name, such as `attribute_every=2` or `workers=4`.

    Raises:
        TrajectoryError, CalculatorError, RecordError, ReplayError, OptionError: for a trajectory,
            calculator, run directory, setting or option that cannot be used.
        IncompleteReplay: for a trajectory that cannot be read to its end, once the frames before
            are judged and recorded; such a run is never stable.
    """
    own = {f.name for f in fields(ReplaySettings)}
    settings = replace(
        settings or ReplaySettings(), **{k: v for k, v in changes.items() if k in own}
    )
    options = options.with_changes({k: v for k, v in changes.items() if k not in own})
    if isinstance(calculator, str | os.PathLike):
        calculator = load_calculator(calculator)
    with closing(open_trajectory(frames, settings.topology, settings.selection)) as trajectory:
        engine = TrajectoryEngine(
            trajectory, calculator, settings.dynamics, recompute=settings.recompute
        )
        live = bool(trajectory.parameters.get("live"))
        monitor = Monitor(engine, out, options)
        work = Work(
            calculator, engine.evaluates, options.gamma if options.attribute_every else None
        )
        size = 1 if live else _chunk_size(engine.first)
        with monitor, ExitStack() as stack:
            chunks = Chunks(engine.frames, size, options.attribute_every)
            for n, (frame, attribution) in enumerate(_done(work, chunks, settings.workers, stack)):
                engine.show(frame)
                monitor.take(frame, attribution, explain=False)
                if progress is not None and n % 20 == 0:
                    progress(monitor)
                if engine.stopped:
                    break
            if chunks.failed is not None:
                raise _incomplete(chunks.failed, monitor, out) from chunks.failed
            if progress is not None:
                progress(monitor)
    return monitor


def _incomplete(
    error: TrajectoryError, monitor: Monitor, out: str | os.PathLike[str] | None
) -> IncompleteReplay:
    monitor.lose_end(str(error))
    verdict = monitor.verdict
    where = "" if out is None else f" and recorded in {os.fspath(out)}"
    why = f" ({verdict.reason})" if verdict.reason else ""
    judged = f"{verdict.n_frames} frames before are judged{where}: {verdict.stability}{why}"
    return IncompleteReplay(f"{str(error).rstrip('.')}; {judged}", monitor)


def _chunk_size(first: Frame) -> int:
    return max(1, min(32, ATOMS_PER_CHUNK // first.n_atoms))


@dataclass(frozen=True, slots=True)
class Chunk:
    """Frames that are processed together, and which of them are to be explained."""

    frames: tuple[Frame, ...]
    due: tuple[bool, ...]


class Chunks:
    """Chunks of a trajectory's frames, up to where reading it fails.

    Args:
        frames: of the trajectory.
        size: of a chunk.
        every: explain every N-th frame.

    Attributes:
        failed: what ended the frames early; the last chunk holds those before it.
    """

    def __init__(self, frames: Iterable[Frame], size: int, every: int) -> None:
        self._numbered, self._size, self._every = iter(enumerate(frames)), size, every
        self.failed: TrajectoryError | None = None

    def __iter__(self) -> Iterator[Chunk]:
        for some in gathered(self._numbered, self._size):
            self.failed = some.failed
            if some.frames:
                due = tuple(self._every > 0 and n % self._every == 0 for n, _ in some.frames)
                yield Chunk(tuple(frame for _, frame in some.frames), due)


class Work:
    """Computes and explains frames with a copy of a calculator.

    Args:
        calculator: any ASE calculator; only a twin of it is evaluated.
        evaluates: whether to compute energies and forces.
        gamma: γ of the rule; None for no explanations.
    """

    def __init__(self, calculator: Any, evaluates: bool, gamma: float | None) -> None:
        self._arguments = (calculator, evaluates, gamma)
        self._twin = twin_of(calculator) if evaluates else None
        self._explain: Any = None
        if gamma is not None:
            try:
                self._explain = attributor(calculator, gamma=gamma)
            except AttributionUnavailable:  # the monitor fails in the same way and reports it
                self._explain = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments

    def __call__(self, chunk: Chunk) -> list[Explained]:
        """Return the frames, with computed results if asked for and explanations where due."""
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
        return frame.with_results(energy, np.array(forces, dtype=np.float64))

    def _explained(self, frames: list[Frame]) -> list[Attribution | None]:
        try:
            return list(self._explain.attribute_many(frames))
        except CalculatorError:
            if len(frames) == 1:  # atoms on top of each other, which other principles report
                return [None]
        return [found for frame in frames for found in self._explained([frame])]


def _done(
    work: Work, chunks: Iterable[Chunk], workers: int, stack: ExitStack
) -> Iterator[Explained]:
    """Yield the processed frames of all chunks in order."""
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
            "a worker process ended: it ran out of memory, or the script lacks if __name__ == "
            '"__main__"'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _pool(work: Work, workers: int) -> ProcessPoolExecutor:
    try:
        ForkingPickler.dumps(work)  # as the pool will send it
    except Exception as error:  # parts of other calculators raise errors of any type
        raise ReplayError(
            f"the calculator cannot be sent to other processes ({error}); use workers=1"
        ) from error
    # A forked process would inherit locks of torch's threads and could wait for them forever.
    method = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, method, _begin, (work,))


_work: list[Work] = []  # of a worker process


def _begin(work: Work) -> None:
    import torch

    torch.set_num_threads(1)
    _work[:] = [work]


def _do(chunk: Chunk) -> list[Explained]:
    return _work[0](chunk)
