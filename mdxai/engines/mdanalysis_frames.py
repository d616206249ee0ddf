"""Frames from MDAnalysis: files with a topology, universes, live streams (IMD)."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ase import units
from ase.data import atomic_masses, atomic_numbers

from mdxai.engines.trajectories import LONGEST_STEP, Selection, Trajectory, TrajectoryError, checked
from mdxai.frame import Floats, Frame, Ints

KJ_PER_MOL = units.kJ / units.mol  # eV
FS_PER_PS = 1000.0
STREAM = "imd://"
MASS_TOLERANCE = 0.1  # amu; hydrogen and deuterium differ by 1


def read_universe(source: str, topology: str | None, selection: Selection) -> Trajectory:
    """Open a trajectory that MDAnalysis can read, or a live stream "imd://host:port".

    Raises:
        TrajectoryError: when MDAnalysis cannot read it, or no topology gives the elements.
    """
    import MDAnalysis

    live = source.startswith(STREAM)
    if live and topology is None:
        raise TrajectoryError(
            f"{source} sends no elements; give a topology that MDAnalysis can read (--topology)"
        )
    if live:
        _need_imd()
    files = (source,) if topology is None else (topology, source)
    for name in files:
        if not name.startswith(STREAM) and not Path(name).exists():
            raise TrajectoryError(f"there is no file {name}")
    with _quiet(), _own_signals():
        try:
            universe = MDAnalysis.Universe(*files)
        except Exception as error:  # MDAnalysis' readers raise errors of any type
            words = " ".join(str(error).split())
            raise TrajectoryError(f"MDAnalysis cannot open {source}: {words}") from error
    return from_universe(universe, selection, source)


def _need_imd() -> None:
    try:
        import imdclient  # noqa: F401
    except ImportError as error:
        raise TrajectoryError("a live stream needs imdclient: pip install 'mdxai[imd]'") from error


def from_universe(universe: Any, selection: Selection, source: str = "") -> Trajectory:
    """Return the trajectory of an MDAnalysis universe.

    Times come from its reader. If the reader only assumes 1 ps between frames, the time counts as
    not stated.

    Raises:
        TrajectoryError: when the elements are not known.
    """
    reader = universe.trajectory
    live = not _seekable(reader)
    if live and selection.start:
        raise TrajectoryError(f"a live stream has no frame {selection.start} to start from")
    with _reading(reader):
        counts = "step" in reader.ts.data and (live or _counts_steps(reader, selection))
    frames = _frames(universe, FrameMaker(universe, counts_steps=counts), selection)
    n_frames = None
    if not live:
        n_frames = len(range(len(reader))[selection.start : selection.stop : selection.step])
    return Trajectory(
        source or str(reader.filename), checked(frames, selection), n_frames, counts_steps=counts,
        parameters={"format": str(reader.format), "live": live},
    )  # fmt: skip


def _counts_steps(reader: Any, selection: Selection) -> bool:
    """Return whether the steps in a file can be MD steps.

    Some writers give every frame step 0. Others count frames: then consecutive steps are further
    apart in time than MD steps ever are.
    """
    if len(reader) < 2 or str(reader.format) == "MDXAI":
        return True
    first, second = (int(reader[n].data.get("step", n)) for n in (0, 1))
    spacing = selection.timestep or FS_PER_PS * float(reader.dt)
    reader.rewind()
    return second - first > 1 or (second - first == 1 and spacing <= LONGEST_STEP)


@contextmanager
def _reading(reader: Any) -> Iterator[None]:
    """Raise TrajectoryError for whatever a reader raises on a damaged file."""
    try:
        yield
    except TrajectoryError:
        raise
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise TrajectoryError(f"{reader.filename} cannot be read further: {words}") from error


def _seekable(reader: Any) -> bool:
    from MDAnalysis.coordinates.base import StreamReaderBase

    return not isinstance(reader, StreamReaderBase)


def _frames(universe: Any, maker: FrameMaker, selection: Selection) -> Iterator[Frame]:
    reader = universe.trajectory
    wanted = slice(selection.start, selection.stop, selection.step)
    if not _seekable(reader):
        wanted = slice(None, None, selection.step if selection.step > 1 else None)
    try:
        with _reading(reader):
            for ts in reader[wanted]:
                if selection.stop is not None and ts.frame >= selection.stop:
                    break
                yield maker.frame(ts, selection)
    finally:
        if not _seekable(reader):
            reader.close()  # tells the engine that the client is gone


class FrameMaker:
    """Converts timesteps of MDAnalysis to frames in mdxai's units.

    Args:
        atoms: a universe or a group of its atoms.
        counts_steps: whether the steps in the file are MD steps.

    Raises:
        TrajectoryError: when the elements are not known.
    """

    def __init__(self, atoms: Any, *, counts_steps: bool = True) -> None:
        self._counts_steps = counts_steps
        group = getattr(atoms, "atoms", atoms)
        self._indices = group.indices
        self.numbers = elements_of(group)
        self.masses = _masses(group, self.numbers)
        reader = group.universe.trajectory
        known = {"time", "dt"} & set(reader.ts.data)
        self._knows_time = bool(known) or callable(getattr(reader, "_get_dt", None))
        self._energies = _ENERGIES.get(str(reader.format))

    def frame(self, ts: Any, selection: Selection | None = None) -> Frame:
        """Return a timestep as a frame; quantities that it lacks are marked as absent.

        Raises:
            TrajectoryError: when the time is not known.
        """
        step = ts.data.get("step") if self._counts_steps else None
        time = FS_PER_PS * float(ts.time) if self._knows_time else None
        selection = selection or Selection(timestep=None if self._knows_time else 1.0)
        step, time = selection.instant(ts.frame, None if step is None else int(step), time)
        periodic = ts.dimensions is not None and bool(np.all(ts.dimensions[:3] > 0))
        energy = self._energy(ts)
        absent = {name for name in ("velocities", "forces") if not getattr(ts, f"has_{name}")}
        if energy is None:
            absent.add("energy")
        return Frame(
            step=step,
            time=time,
            numbers=self.numbers.copy(),
            masses=self.masses.copy(),
            positions=ts.positions[self._indices].astype(np.float64),
            velocities=self._vectors(ts, "velocities") / FS_PER_PS,
            forces=self._vectors(ts, "forces") * KJ_PER_MOL,
            energy=np.nan if energy is None else energy,
            cell=_cell(ts) if periodic else np.zeros((3, 3)),
            pbc=np.array(ts.data.get("pbc", np.full(3, periodic))),  # of a run: its own
            absent=frozenset(absent),
        )

    def _vectors(self, ts: Any, name: str) -> Floats:
        if not getattr(ts, f"has_{name}"):
            return np.full((len(self._indices), 3), np.nan)
        vectors: Floats = getattr(ts, name)[self._indices].astype(np.float64)
        return vectors

    def _energy(self, ts: Any) -> float | None:
        name, unit = self._energies or ("", 1.0)
        found = ts.data.get(name)
        return None if found is None else float(found) * unit


# Readers that give the potential energy: its name, and its unit in eV.
_ENERGIES = {"IMD": ("potential_energy", KJ_PER_MOL), "MDXAI": ("potential_energy_eV", 1.0)}


def _cell(ts: Any) -> Floats:
    exact = ts.data.get("cell_ang")  # of a run: lengths and angles are rounded
    cell = ts.triclinic_dimensions if exact is None else exact
    return np.array(cell, dtype=np.float64)


def elements_of(group: Any) -> Ints:
    """Return atomic numbers from the elements of a topology or, if it has none, from its masses.

    Types and names are not used: "CA" is calcium in one force field and carbon in another. Masses
    may still be MDAnalysis' own guesses from them.

    Raises:
        TrajectoryError: when neither gives an element.
    """
    labels = [str(label).strip().capitalize() for label in getattr(group, "elements", ())]
    numbers = np.array([atomic_numbers.get(label, 0) for label in labels], dtype=np.int64)
    return numbers if len(numbers) and numbers.all() else _from_masses(group)


def _from_masses(group: Any) -> Ints:
    masses = np.asarray(getattr(group, "masses", np.zeros(len(group))), dtype=np.float64)
    off = np.abs(atomic_masses[None, 1:] - masses[:, None])
    if not (off.min(axis=1) <= MASS_TOLERANCE).all():
        worst = int(np.flatnonzero(~(off.min(axis=1) <= MASS_TOLERANCE))[0])
        raise TrajectoryError(
            f"the element of atom {worst} is not known; give a topology with elements, such as "
            "a PDB file, or set them: universe.add_TopologyAttr('elements', [...])"
        )
    nearest: Ints = (off.argmin(axis=1) + 1).astype(np.int64)
    return nearest


def _masses(group: Any, numbers: Ints) -> Floats:
    masses = np.asarray(getattr(group, "masses", np.zeros(len(group))), dtype=np.float64)
    standard: Floats = atomic_masses[numbers].astype(np.float64)
    return np.where(masses > 0, masses, standard)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence MDAnalysis' warnings about missing data that mdxai does not need."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"MDAnalysis\..*")
        yield


@contextmanager
def _own_signals() -> Iterator[None]:
    """Restore the signal handlers that the IMD client replaces."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
