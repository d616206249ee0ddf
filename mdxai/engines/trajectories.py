"""Finished trajectories as frames, from whatever ASE or MDAnalysis reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.io import iread
from ase.io.formats import UnknownFileTypeError, filetype, ioformats
from ase.io.trajectory import Trajectory as AseTrajectory

from mdxai.errors import MdxaiError
from mdxai.frame import QUANTITIES, Frame

LONGEST_STEP = 2.0  # fs; no integrator of molecules with free hydrogen takes longer steps


class TrajectoryError(MdxaiError, ValueError):
    """A trajectory that cannot be read as asked."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which a trajectory was made.

    temperature: of the thermostat, K. conserves_energy: whether nothing but the forces changed the
    velocities. random_bath: whether a thermostat pushed each atom at random.
    """

    temperature: float | None = None
    conserves_energy: bool = False
    random_bath: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """Which frames to take, and how far apart they are.

    start, stop, step: numbers of frames in the file, as in a slice. timestep: time between frames
    of the file, fs, in place of what the file says; None leaves it to the file. without: quantities
    to leave out though the file has them.

    Raises:
        TrajectoryError: for numbers that make no sense.
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
        """Return step and time (fs) of frame `index`, from what the file says of both.

        Raises:
            TrajectoryError: when nothing tells the time.
        """
        if self.timestep is not None:
            time = index * self.timestep
        if time is None:
            raise TrajectoryError(
                "the trajectory does not say how far apart its frames are; state the time between "
                "two of them in fs (timestep=, --timestep)"
            )
        return (index if step is None else step), time


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Frames to follow, once through.

    source: what was opened. frames: an iterator. n_frames: how many, where that is known.
    counts_steps: whether a frame's step is that of the MD rather than its number in the file.
    conditions: under which it was made, where that is stated.
    """

    source: str
    frames: Iterator[Frame]
    n_frames: int | None = None
    counts_steps: bool = False
    conditions: Conditions | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


def read_ase(path: str | os.PathLike[str], selection: Selection) -> Trajectory:
    """Open a trajectory that ASE reads.

    Time and step are those that `info` of its atoms states as "time_fs" and "step" (as `mdxai
    export` writes them), or those that ASE's own MD notes in a .traj file.

    Raises:
        TrajectoryError: when ASE cannot read it.
    """
    path = Path(path)
    try:
        kind = filetype(str(path))
        if kind not in ioformats:  # it then only names the extension
            raise UnknownFileTypeError(f"{kind!r} is none of its formats")
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
        counts_steps=spacing is not None, conditions=_conditions(made),
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
    except Exception as error:  # ASE's readers raise whatever their formats make them raise
        raise TrajectoryError(f"{path} cannot be read beyond frame {index}: {error}") from error


def _made_by_md(path: Path) -> dict[str, Any]:
    """Return what ASE's MD noted in the header of a .traj file."""
    try:
        with AseTrajectory(str(path)) as file:
            noted = dict(file.description or {})
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise TrajectoryError(f"{path} is damaged: {error}") from error
    return noted if noted.get("type") == "molecular-dynamics" else {}


def _length(path: Path, kind: str, selection: Selection) -> int | None:
    if kind != "traj":
        return None
    with AseTrajectory(str(path)) as file:
        return len(range(len(file))[selection.start : selection.stop : selection.step])


def _conditions(made: Mapping[str, Any]) -> Conditions | None:
    name = made.get("md-type")
    if name == "VelocityVerlet":
        return Conditions(conserves_energy=True)
    if name == "Langevin" and "temperature_K" in made:
        return Conditions(temperature=float(made["temperature_K"]), random_bath=True)
    return None


def from_atoms(images: Iterable[Atoms | Frame], selection: Selection) -> Trajectory:
    """Follow ASE atoms or frames one by one."""

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
                    f"expected frames or ASE atoms, got {type(image).__name__} as number {index}"
                )

    return Trajectory("frames in memory", checked(frames(), selection))


def _frame(atoms: Atoms, step: int, time: float) -> Frame:
    """Return an image of a file, whose atoms without momenta are not at rest but unknown."""
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
    """Return which of velocities, forces and energy a frame holds."""
    return frozenset(QUANTITIES) - frame.absent


def checked(frames: Iterable[Frame], selection: Selection) -> Iterator[Frame]:
    """Yield the frames of one system in the order of time; an exact repetition is left out.

    Raises:
        TrajectoryError: for another number or order of atoms, time that does not go on, and frames
            that lack what the first one has.
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
            f"the frame at {frame.time:g} fs holds other atoms than the first ({frame.n_atoms}, "
            f"first {first.n_atoms}); a replay follows one system"
        )
    if not (frame.time > last.time and frame.step > last.step):
        raise TrajectoryError(
            f"time does not go on: after step {last.step} at {last.time:g} fs comes step "
            f"{frame.step} at {frame.time:g} fs; state the time between frames (timestep=, "
            "--timestep) where the file's own is wrong"
        )
    lacking = held(first) - held(frame)
    if lacking and np.isfinite(frame.positions).all():
        names = ", ".join(sorted(lacking))
        raise TrajectoryError(
            f"the frame at {frame.time:g} fs has no {names}, which the first one has; take every "
            "n-th frame that has them (step=, --step), or none (without=, --without)"
        )
