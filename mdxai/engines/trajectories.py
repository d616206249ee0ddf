"""Frames of finished trajectories: files that ASE reads, and atoms in memory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.io import iread
from ase.io.formats import (
    UnknownFileTypeError,
    filetype,
    get_compression,
    ioformats,
    open_with_compression,
)
from ase.io.trajectory import Trajectory as AseTrajectory

from mdxai.engines.engine import EngineDescription
from mdxai.engines.file_images import Image, chosen_of_frame, frame_of_atoms
from mdxai.engines.lammps_dump import read_lammps_dump
from mdxai.engines.pdb_models import read_pdb
from mdxai.engines.plausibility import changed_places, doubts, of_slope
from mdxai.engines.schnetpack_trajectory import FORMAT, is_schnetpack, read_schnetpack
from mdxai.engines.stated import (
    OF_ASE,
    DamagedTrajectory,
    Selection,
    TrajectoryError,
    TrajectoryWarning,
)
from mdxai.engines.xyz_frames import instant_of_info, read_xyz
from mdxai.errors import one_line
from mdxai.frame import QUANTITIES, Frame

LONGEST_STEP = 2.0  # fs; no integrator of molecules with free hydrogen takes longer steps
PEEKED = 2000  # bytes that tell the format of a file
LOOKED_AT = 6  # frames that are read before the first is judged, to see whether units can be right


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Frames to read once, in order.

    source: what was opened. frames: an iterator. n_frames: how many, if known. counts_steps:
    whether a frame's step is the MD step rather than its number in the file. dynamics: what moved
    the atoms, if stated. notes: what was left aside or is hardly right; grows while reading.
    """

    source: str
    frames: Iterator[Frame]
    n_frames: int | None = None
    counts_steps: bool = False
    dynamics: EngineDescription | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Close the file that the frames come from, wherever reading has stopped."""
        if isinstance(self.frames, Generator):
            self.frames.close()


def read_ase(path: str | os.PathLike[str], selection: Selection) -> Trajectory:
    """Open a trajectory that ASE can read, or one of schnetpack's MD.

    Time and step are `info["time_fs"]` and `info["step"]` of its atoms (as `mdxai export` writes
    them), those that ASE's own MD writes into a .traj file, or those of the comment of an XYZ file
    whose program is known.

    Raises:
        TrajectoryError: when it cannot be read.
    """
    path = Path(path)
    kind = _kind(path, selection)
    made = _made_by_md(path) if kind == "traj" else {}
    every = int(made.get("interval", 1))
    spacing = every * float(made["timestep"]) / units.fs if "timestep" in made else None
    read = READERS.get(kind, _read_by_ase)
    chosen = replace(selection, format=kind)
    return trajectory_of(
        str(path), guarded(read(path, chosen), str(path), selection), selection,
        clock=Clock(selection, every if spacing is not None else 1, spacing),
        counts_steps=spacing is not None, dynamics=_dynamics(made),
        parameters={"format": kind, **{k: v for k, v in made.items() if k == "md-type"}},
    )  # fmt: skip


def trajectory_of(
    source: str,
    images: Iterator[tuple[int, Image]],
    selection: Selection,
    *,
    clock: Clock | None = None,
    trusted: bool = False,
    **more: Any,
) -> Trajectory:
    """Return images of a source as a trajectory whose frames were checked.

    Args:
        source: what they come from.
        images: with their number in the source.
        selection: what was asked for.
        clock: gives them their times.
        trusted: whether their units are beyond doubt.
        more: further attributes of the trajectory.
    """
    notes: list[str] = []
    parameters = {**more.pop("parameters", {}), **_stated(selection)}
    clock = clock or Clock(selection)
    frames = checked(clock.frames(images, notes), selection)
    if not trusted:
        frames = plausible(frames, selection, notes, source)
    return Trajectory(source, frames, parameters=parameters, notes=notes, **more)


def _stated(selection: Selection) -> dict[str, Any]:
    """Return what the user states, for the record."""
    said: dict[str, Any] = {}
    if selection.units is not None:
        said["units"] = selection.units
    if selection.elements:
        said["elements"] = ",".join(selection.elements)
    if selection.atoms is not None:
        said["atoms"] = selection.atoms
    return said


def _kind(path: Path, selection: Selection) -> str:
    """Return the format of a file: the stated one, else what ASE takes it for.

    Raises:
        TrajectoryError: for an unknown format or a file that cannot be opened.
    """
    if not path.exists():
        raise TrajectoryError(f"there is no file {path}")
    if selection.format is not None:
        if selection.format not in ioformats and selection.format != FORMAT:
            raise TrajectoryError(
                f"format {selection.format!r} is none of ASE's, nor {FORMAT}; formats of "
                "MDAnalysis need a topology (topology=, --topology)"
            )
        return selection.format
    try:
        if path.is_file() and is_schnetpack(path):
            return FORMAT
        head = _head(path)
        if "ITEM: TIMESTEP" in head:
            return "lammps-dump-text"
        if get_compression(str(path))[1] is not None and _looks_like_xyz(head):
            return "xyz"
        kind = filetype(str(path))
        if kind not in ioformats:  # ASE then returns only the extension
            if _looks_like_xyz(head):
                return "xyz"
            raise UnknownFileTypeError(f"{kind!r} is not one of its formats")
    except TrajectoryError:
        raise
    except Exception as error:  # those of gzip, zlib and lzma are of no common class
        raise TrajectoryError(
            f"ASE cannot read {path}: {one_line(error)}. State its format (format=, --format); "
            "formats without elements, such as XTC, TRR and DCD, need a topology (topology=, "
            "--topology)"
        ) from error
    return str(kind)


def _head(path: Path) -> str:
    if path.is_dir():
        return ""
    found = bytearray()
    with suppress(Exception), open_with_compression(str(path), "rb") as file:
        # Line by line: of a damaged file those before the damage tell what it is.
        while len(found) < PEEKED and (line := file.readline(PEEKED)):
            found += line
    return bytes(found).decode("utf-8", "replace")


def _looks_like_xyz(head: str) -> bool:
    lines = head.splitlines()
    if len(lines) < 3 or not lines[0].strip().isdigit():
        return False
    cells = lines[2].split()
    try:
        return len(cells) >= 4 and all(np.isfinite(float(cell)) for cell in cells[1:4])
    except ValueError:
        return False


Images = Iterator[Image | None]  # None stands for one that is not wanted


def guarded(images: Images, source: str, selection: Selection) -> Iterator[tuple[int, Image]]:
    """Yield the images with their numbers, without what a continued run wrote twice.

    The file is named in whatever is raised.

    Raises:
        DamagedTrajectory: where reading fails, with the number of images before.
        TrajectoryError: for what has to be stated.
    """
    number, last = 0, None
    try:
        for image in images:
            if image is not None and last is not None and is_shared(last, image):
                last = replace(image, notes=(SHARED,))
                continue
            if selection.stop is not None and number >= selection.stop:
                break
            if image is not None:
                said = () if last is None or SHARED not in last.notes else (SHARED,)
                yield number, replace(image, notes=(*said, *image.notes))
            number, last = number + 1, image
    except DamagedTrajectory as error:
        raise DamagedTrajectory(_damage(source, number, error)) from error
    except TrajectoryError as error:
        raise TrajectoryError(f"{source}, frame {number}: {error}") from error
    except Exception as error:  # readers of ASE raise errors of any type
        raise DamagedTrajectory(_damage(source, number, error)) from error
    finally:
        if isinstance(images, Generator):
            images.close()


SHARED = "a frame that repeats the one before it, where a run was continued, was left out"


def is_shared(last: Image, image: Image) -> bool:
    """Whether an image is the last one again, as where a run was continued into the same file.

    Atoms in motion are never twice at the same places with the same velocities.
    """
    before, now = last.frame, image.frame
    if not np.array_equal(before.positions, now.positions):
        return False
    if last.time is not None and image.time is not None:
        if image.time > last.time:
            return False
        if image.time == last.time and image.step == last.step:
            return True
    moving = now.has_velocities and bool(now.velocities.any())
    return moving and np.array_equal(before.velocities, now.velocities)


def _damage(source: str, number: int, error: Exception) -> str:
    return f"{source} cannot be read beyond its first {number} frames: {one_line(error)}"


def _read_by_ase(path: Path, selection: Selection) -> Images:
    """Yield the images of a format whose units ASE knows."""
    stated = selection.stated_units
    whole = slice(0, None)
    for n, atoms in enumerate(
        iread(str(path), index=whole, format=selection.format, do_not_split_by_at_sign=True)
    ):
        yield _image(atoms, selection, stated.time) if selection.wants(n) else None


def _image(atoms: Atoms, selection: Selection, time_unit: float | None) -> Image:
    frame, notes = frame_of_atoms(atoms, selection, selection.stated_units.over(OF_ASE))
    return Image(frame, *instant_of_info(atoms.info, time_unit), notes)


def _read_traj(path: Path, selection: Selection) -> Images:
    """Yield the images of a .traj file, one at a time, so that those before a damage are read."""
    last, number = b"", -1
    with AseTrajectory(str(path)) as file:
        for n in range(len(file)):
            # All times follow from the number of frames, so none may be counted twice.
            parts = [getattr(file.backend[n], name, None) for name in ("positions", "momenta")]
            here = b"".join(part.tobytes() for part in parts if part is not None)
            if here == last and parts[1] is not None and parts[1].any():
                continue
            last, number = here, number + 1
            wanted = selection.wants(number)
            yield _image(file[n], selection, selection.stated_units.time) if wanted else None


READERS: Mapping[str, Callable[[Path, Selection], Images]] = {
    "extxyz": read_xyz,
    "xyz": read_xyz,
    "lammps-dump-text": read_lammps_dump,
    "proteindatabank": read_pdb,
    FORMAT: read_schnetpack,
    "traj": _read_traj,
}


def _made_by_md(path: Path) -> dict[str, Any]:
    """Return what ASE's MD wrote into the header of a .traj file."""
    try:
        with AseTrajectory(str(path)) as file:
            noted = dict(file.description or {})
    except Exception as error:  # a damaged file can raise any error
        raise TrajectoryError(f"{path} is damaged: {one_line(error)}") from error
    return noted if noted.get("type") == "molecular-dynamics" else {}


def _dynamics(made: Mapping[str, Any]) -> EngineDescription | None:
    name = made.get("md-type")
    if name == "VelocityVerlet":
        return EngineDescription(conserves_energy=True)
    if name == "Langevin" and "temperature_K" in made:
        return EngineDescription(temperature=float(made["temperature_K"]), random_bath=True)
    return None


def from_atoms(images: Iterable[Atoms | Frame], selection: Selection) -> Trajectory:
    """Return frames or ASE atoms in memory as a trajectory.

    Frames are in our units by their type; whether the momenta of atoms are in ASE's is looked at.
    """
    source, queue = "frames in memory", iter(images)
    head = list(islice(queue, 1))
    numbered = _numbered(_in_memory(chain(head, queue), selection), selection)
    trusted = bool(head) and isinstance(head[0], Frame)
    return trajectory_of(source, numbered, selection, trusted=trusted)


def _numbered(images: Images, selection: Selection) -> Iterator[tuple[int, Image]]:
    for number, image in enumerate(images):
        if selection.stop is not None and number >= selection.stop:
            return
        if image is not None:
            yield number, image


def _in_memory(images: Iterable[Atoms | Frame], selection: Selection) -> Images:
    for number, image in enumerate(images):
        if not selection.wants(number):
            yield None
        elif isinstance(image, Frame):
            _refuse_contradiction(image)
            frame, notes = chosen_of_frame(image, selection)
            yield Image(frame, image.step, image.time, notes=notes)
        elif isinstance(image, Atoms):
            yield _image(image, selection, selection.stated_units.time)
        else:
            raise TrajectoryError(
                f"expected frames or ASE atoms, got {type(image).__name__} at index {number}"
            )


def _refuse_contradiction(frame: Frame) -> None:
    """Check that a frame made by hand holds nothing that it calls absent."""
    for name in sorted(frame.absent):
        if not np.isnan(getattr(frame, name)).all():
            raise TrajectoryError(
                f"the frame at {frame.time:g} fs says that its {name} are absent, yet holds some; "
                "give a frame energy and forces with frame.with_results(energy, forces)"
            )


@dataclass
class Clock:
    """Gives every image its step and time, and leaves out the frame that two runs share.

    A stated time between frames wins over the file. Steps that do not increase are no MD steps:
    then frames are counted.

    Args:
        selection: with the stated time between frames.
        every: steps between the frames of a file that states no steps.
        spacing: time between them, fs, where the file states that alone.
    """

    selection: Selection
    every: int = 1
    spacing: float | None = None

    def frames(self, images: Iterable[tuple[int, Image]], notes: list[str]) -> Iterator[Frame]:
        """Yield the images as frames; notes are added as they come.

        Raises:
            TrajectoryError: when neither the file nor the user gives the time.
        """
        last: Frame | None = None
        for number, image in images:
            for note in image.notes:
                announce(note, notes)
            time = self._time(number, image)
            step = number * self.every if image.step is None else image.step
            if last is not None and step <= last.step and time > last.time:
                step = last.step + 1
            last = replace(image.frame, step=step, time=time)
            yield last

    def _time(self, number: int, image: Image) -> float:
        if self.selection.timestep is not None:
            return number * self.selection.timestep
        if image.time is not None:
            return image.time
        if self.spacing is not None:
            return number * self.spacing
        raise TrajectoryError(
            "the trajectory does not say how far apart its frames are"
            + (f" ({image.unsettled})" if image.unsettled else "")
            + "; give the time between two frames in fs (timestep=, --timestep)"
        )


def announce(note: str, notes: list[str]) -> None:
    """Say a note once, and keep it for the record."""
    if note not in notes:
        notes.append(note)
        warnings.warn(note, TrajectoryWarning, stacklevel=2)


def held(frame: Frame) -> frozenset[str]:
    """Return which of velocities, forces and energy a frame has."""
    return frozenset(QUANTITIES) - frame.absent


def checked(frames: Iterable[Frame], selection: Selection) -> Iterator[Frame]:
    """Yield the frames of one system in order of time.

    Raises:
        TrajectoryError: for another number or order of atoms, a time that does not increase, and
            frames that lack what the first one has.
    """
    ignored = tuple(name for name in selection.without if name != "cell")
    first = last = None
    for found in frames:
        frame = found.without(*ignored)
        if "cell" in selection.without:
            frame = replace(frame, cell=np.zeros((3, 3)), pbc=np.zeros(3, dtype=bool))
        if first is None or last is None:
            first = frame
        else:
            _check_follows(first, last, frame)
        last = frame
        yield frame


def _check_follows(first: Frame, last: Frame, frame: Frame) -> None:
    if not np.array_equal(frame.numbers, first.numbers):
        raise TrajectoryError(f"the frame at {frame.time:g} fs has {_other_atoms(first, frame)}")
    if not (frame.time > last.time and frame.step > last.step):
        raise TrajectoryError(
            f"time does not increase: step {last.step} at {last.time:g} fs is followed by step "
            f"{frame.step} at {frame.time:g} fs; if a run was continued there or the file's times "
            "are wrong, give the time between frames (timestep=, --timestep)"
        )
    lacking = held(first) - held(frame)
    if lacking and np.isfinite(frame.positions).all():
        names = ", ".join(sorted(lacking))
        raise TrajectoryError(
            f"the frame at {frame.time:g} fs has no {names}, unlike the first one; select frames "
            "that have them (step=, --step), or ignore them in all frames (without=, --without)"
        )
    exchanged = changed_places(last, frame)
    if exchanged is not None:
        atom, other = exchanged
        raise TrajectoryError(
            f"at {frame.time:g} fs atom {atom} is where atom {other} was at {last.time:g} fs, "
            f"farther than they move in that time: atoms have changed places; {SORTED}"
        )


SORTED = "write them sorted (in LAMMPS: dump_modify sort id), for a replay follows each atom"


def _other_atoms(first: Frame, frame: Frame) -> str:
    """Return what has become of the atoms of the first frame, and what to do."""
    if np.array_equal(np.sort(frame.numbers), np.sort(first.numbers)):
        return f"the atoms of the first in another order; {SORTED}"
    counts = f"{frame.n_atoms}, first {first.n_atoms}"
    return f"other atoms than the first ({counts}); a replay follows one system"


def plausible(
    frames: Iterator[Frame], selection: Selection, notes: list[str], source: str
) -> Iterator[Frame]:
    """Yield frames; those of a file whose units cannot be right are refused before the first.

    A unit of lengths that the user states is believed; what contradicts itself never is.

    Raises:
        TrajectoryError: with the likely right statement.
    """
    first = next(gathered(frames, LOOKED_AT), None)
    if first is None:
        return
    believed = selection.stated_units.positions is not None
    for doubt in doubts(first.frames) if first.frames else []:
        if doubt.refuses and not (doubt.quantity == "positions" and believed):
            raise TrajectoryError(f"{source}: {doubt.message}")
        announce(f"{source}: {doubt.message}", notes)
    yield from first.frames
    if first.failed is not None:
        raise first.failed
    yield from _steadily(first.frames[-1:], frames, source)


def _steadily(last: list[Frame], frames: Iterator[Frame], source: str) -> Iterator[Frame]:
    """Yield frames as long as they move as fast as they say; where a file was continued with
    another time step they do not.

    Raises:
        TrajectoryError: before the first of a few frames that do not.
    """
    for some in gathered(frames, LOOKED_AT):
        doubt = of_slope([*last, *some.frames])
        if doubt is not None:
            at = (last or some.frames)[0].time
            raise TrajectoryError(f"{source}, from {at:g} fs on: {doubt.message}")
        yield from some.frames
        if some.failed is not None:
            raise some.failed
        last = some.frames[-1:]


@dataclass(frozen=True, slots=True)
class Some[T]:
    """Some frames (or numbered ones) that follow each other, and what ended them early."""

    frames: list[T]
    failed: TrajectoryError | None


def gathered[T](frames: Iterator[T], size: int) -> Iterator[Some[T]]:
    """Yield the frames of an iterator by `size`, up to its end or to the TrajectoryError that it
    raises.
    """
    while True:
        found: list[T] = []
        failed = None
        try:
            for frame in islice(frames, size):
                found.append(frame)  # noqa: PERF402 (those before an error are kept)
        except TrajectoryError as error:
            failed = error
        if not found and failed is None:
            return
        yield Some(found, failed)
        if failed is not None:
            return
