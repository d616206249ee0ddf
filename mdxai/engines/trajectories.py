"""Frames of finished trajectories that ASE or MDAnalysis can read."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.io import iread
from ase.io.formats import UnknownFileTypeError, filetype, ioformats
from ase.io.trajectory import Trajectory as AseTrajectory

from mdxai.engines.engine import EngineDescription
from mdxai.errors import MdxaiError
from mdxai.frame import QUANTITIES, Frame

LONGEST_STEP = 2.0  # fs; no integrator of molecules with free hydrogen takes longer steps


class TrajectoryError(MdxaiError, ValueError):
    """A trajectory that cannot be read as requested."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which frames to read, and the time between them.

    start, stop, step: frame numbers in the file, as in a slice. timestep: time between frames of
    the file, fs, which overrides the file; None uses that of the file. without: quantities to
    ignore even if the file has them.

    Raises:
        TrajectoryError: for a negative start or stop, a step or timestep that is not > 0, or an
            unknown quantity.
    """

    start: int = 0
    stop: int | None = None
    step: int = 1
    timestep: float | None = None
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole = {"start": self.start, "stop": 0 if self.stop is None else self.stop}
        for name, value in whole.items():
            if value < 0:
                raise TrajectoryError(f"{name} must be 0 or positive, got {value}")
        if self.step < 1:
            raise TrajectoryError(f"step must be positive, got {self.step}")
        if self.timestep is not None and not (0 < self.timestep < np.inf):
            raise TrajectoryError(f"timestep must be positive, in fs, got {self.timestep}")
        if set(self.without) - set(QUANTITIES):
            raise TrajectoryError(
                f"without takes {', '.join(QUANTITIES)}, got {', '.join(self.without)}"
            )

    def instant(self, index: int, step: int | None, time: float | None) -> tuple[int, float]:
        """Return step and time (fs) of frame `index`, given those in the file (None if absent).

        Raises:
            TrajectoryError: when neither the file nor `timestep` gives the time.
        """
        if self.timestep is not None:
            time = index * self.timestep
        if time is None:
            raise TrajectoryError(
                "the trajectory does not say how far apart its frames are; give the time between "
                "two frames in fs (timestep=, --timestep)"
            )
        return (index if step is None else step), time


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Frames to read once, in order.

    source: what was opened. frames: an iterator. n_frames: how many, if known. counts_steps:
    whether a frame's step is the MD step rather than its number in the file. dynamics: what moved
    the atoms, if stated.
    """

    source: str
    frames: Iterator[Frame]
    n_frames: int | None = None
    counts_steps: bool = False
    dynamics: EngineDescription | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def close(self) -> None:
        """Close the file that the frames come from, wherever reading has stopped."""
        if isinstance(self.frames, Generator):
            self.frames.close()


def read_ase(path: str | os.PathLike[str], selection: Selection) -> Trajectory:
    """Open a trajectory that ASE can read.

    Time and step are `info["time_fs"]` and `info["step"]` of its atoms (as `mdxai export` writes
    them), or those that ASE's own MD writes into a .traj file.

    Raises:
        TrajectoryError: when ASE cannot read it.
    """
    path = Path(path)
    try:
        kind = filetype(str(path))
        if kind not in ioformats:  # ASE then returns only the extension
            raise UnknownFileTypeError(f"{kind!r} is not one of its formats")
    except FileNotFoundError as error:
        raise TrajectoryError(f"there is no file {path}") from error
    except (UnknownFileTypeError, OSError, ValueError) as error:
        raise TrajectoryError(
            f"ASE cannot read {path}: {error}. Formats without elements, such as XTC, TRR and DCD, "
            "need a topology (topology=, --topology)"
        ) from error
    made = _made_by_md(path) if kind == "traj" else {}
    every = int(made.get("interval", 1))
    spacing = every * float(made["timestep"]) / units.fs if "timestep" in made else None
    images = _images(path, selection)
    frames = (
        _frame(atoms, *selection.instant(index, *_stated(atoms, index, every, spacing)))
        for index, atoms in images
    )
    return Trajectory(
        str(path), checked(frames, selection), _length(path, kind, selection),
        counts_steps=spacing is not None, dynamics=_dynamics(made),
        parameters={"format": kind, **{k: v for k, v in made.items() if k == "md-type"}},
    )  # fmt: skip


def _stated(
    atoms: Atoms, index: int, every: int, spacing: float | None
) -> tuple[int | None, float | None]:
    step, time = atoms.info.get("step"), atoms.info.get("time_fs")
    if spacing is not None:
        step = index * every if step is None else step
        time = index * spacing if time is None else time
    return None if step is None else int(step), None if time is None else float(time)


def _images(path: Path, selection: Selection) -> Iterator[tuple[int, Atoms]]:
    index = selection.start
    wanted = slice(selection.start, selection.stop, selection.step)
    try:
        for atoms in iread(str(path), index=wanted, do_not_split_by_at_sign=True):
            yield index, atoms
            index += selection.step
    except Exception as error:  # ASE's readers raise errors of any type
        raise TrajectoryError(f"{path} cannot be read beyond frame {index}: {error}") from error


def _made_by_md(path: Path) -> dict[str, Any]:
    """Return what ASE's MD wrote into the header of a .traj file."""
    try:
        with AseTrajectory(str(path)) as file:
            noted = dict(file.description or {})
    except Exception as error:  # a damaged file can raise any error
        raise TrajectoryError(f"{path} is damaged: {error}") from error
    return noted if noted.get("type") == "molecular-dynamics" else {}


def _length(path: Path, kind: str, selection: Selection) -> int | None:
    if kind != "traj":
        return None
    with AseTrajectory(str(path)) as file:
        return len(range(len(file))[selection.start : selection.stop : selection.step])


def _dynamics(made: Mapping[str, Any]) -> EngineDescription | None:
    name = made.get("md-type")
    if name == "VelocityVerlet":
        return EngineDescription(conserves_energy=True)
    if name == "Langevin" and "temperature_K" in made:
        return EngineDescription(temperature=float(made["temperature_K"]), random_bath=True)
    return None


def from_atoms(images: Iterable[Atoms | Frame], selection: Selection) -> Trajectory:
    """Return frames or ASE atoms in memory as a trajectory."""

    def frames() -> Iterator[Frame]:
        for index, image in enumerate(images):
            if selection.stop is not None and index >= selection.stop:
                return
            if index < selection.start or (index - selection.start) % selection.step:
                continue
            if isinstance(image, Frame):
                _refuse_contradiction(image)
                step, time = selection.instant(index, image.step, image.time)
                yield replace(image, step=step, time=time)
            elif isinstance(image, Atoms):
                yield _frame(image, *selection.instant(index, *_stated(image, index, 1, None)))
            else:
                raise TrajectoryError(
                    f"expected frames or ASE atoms, got {type(image).__name__} at index {index}"
                )

    return Trajectory("frames in memory", checked(frames(), selection))


def _frame(atoms: Atoms, step: int, time: float) -> Frame:
    """Return an image of a file as a frame; atoms without momenta have unknown velocities."""
    frame = Frame.from_atoms(atoms, step=step, time=time)
    return frame if atoms.has("momenta") else frame.without("velocities")


def _refuse_contradiction(frame: Frame) -> None:
    """Check that a frame made by hand holds nothing that it calls absent."""
    for name in sorted(frame.absent):
        if not np.isnan(getattr(frame, name)).all():
            raise TrajectoryError(
                f"the frame at {frame.time:g} fs says that its {name} are absent, yet holds some; "
                "give a frame energy and forces with frame.with_results(energy, forces)"
            )


def held(frame: Frame) -> frozenset[str]:
    """Return which of velocities, forces and energy a frame has."""
    return frozenset(QUANTITIES) - frame.absent


def checked(frames: Iterable[Frame], selection: Selection) -> Iterator[Frame]:
    """Yield the frames of one system in order of time, without exact repetitions.

    Raises:
        TrajectoryError: for another number or order of atoms, a time or step that does not
            increase, and frames that lack what the first one has.
    """
    first = last = None
    for found in frames:
        frame = found.without(*selection.without)
        if first is None or last is None:
            first = last = frame
        elif _repeats(last, frame):
            continue
        else:
            _check_follows(first, last, frame)
            last = frame
        yield frame


def _repeats(last: Frame, frame: Frame) -> bool:
    same = frame.step == last.step and frame.time == last.time
    return same and frame.positions.tobytes() == last.positions.tobytes()


def _check_follows(first: Frame, last: Frame, frame: Frame) -> None:
    if not np.array_equal(frame.numbers, first.numbers):
        raise TrajectoryError(
            f"the frame at {frame.time:g} fs has other atoms than the first ({frame.n_atoms}, "
            f"first {first.n_atoms}); a replay follows one system"
        )
    if not (frame.time > last.time and frame.step > last.step):
        raise TrajectoryError(
            f"time does not increase: step {last.step} at {last.time:g} fs is followed by step "
            f"{frame.step} at {frame.time:g} fs; if the file's times are wrong, give the time "
            "between frames (timestep=, --timestep)"
        )
    lacking = held(first) - held(frame)
    if lacking and np.isfinite(frame.positions).all():
        names = ", ".join(sorted(lacking))
        raise TrajectoryError(
            f"the frame at {frame.time:g} fs has no {names}, unlike the first one; select frames "
            "that have them (step=, --step), or ignore them in all frames (without=, --without)"
        )
