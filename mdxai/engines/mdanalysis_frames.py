"""Frames from MDAnalysis: files with a topology, universes, live streams (IMD)."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_masses, atomic_numbers

from mdxai.engines.binary_ends import what_is_left
from mdxai.engines.file_images import (
    Image,
    element_of,
    element_of_mass,
    in_our_units,
    plain_element,
    sites_note,
)
from mdxai.engines.pdb_models import SITES, elements_of_pdb
from mdxai.engines.stated import (
    FS_PER_PS,
    ISOTOPES,
    KJ_PER_MOL,
    OF_MDANALYSIS,
    OURS,
    DamagedTrajectory,
    Selection,
    TrajectoryError,
)
from mdxai.engines.trajectories import LONGEST_STEP, Trajectory, guarded, read_ase, trajectory_of
from mdxai.errors import one_line
from mdxai.frame import Floats, Frame, Ints

STREAM = "imd://"
UNITLESS = ("GSD",)  # formats in units of the simulation's own


def read_universe(source: str, topology: str | None, selection: Selection) -> Trajectory:
    """Open a trajectory that MDAnalysis can read, or a live stream "imd://host:port".

    Raises:
        TrajectoryError: when MDAnalysis cannot read it, or no topology gives the elements.
    """
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
    if topology is not None and not selection.elements:
        selection = replace(selection, elements=elements_of_pdb(Path(topology)))
    if topology is not None and not live and is_text(Path(source), selection):
        elements = selection.elements or _symbols_of(_universe((topology,), None).atoms)
        return read_ase(source, replace(selection, elements=elements))
    return from_universe(_universe(files, selection.format), selection, source)


def _universe(files: tuple[str, ...], format: str | None) -> Any:
    import MDAnalysis

    with _quiet(), _own_signals():
        try:
            return MDAnalysis.Universe(*files, **({} if format is None else {"format": format}))
        except Exception as error:  # MDAnalysis' readers raise errors of any type
            raise TrajectoryError(
                f"MDAnalysis cannot open {files[-1]}: {one_line(error)}"
            ) from error


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
    if str(reader.format) in UNITLESS and selection.stated_units.positions is None:
        raise TrajectoryError(
            f"{reader.filename} is in units of its own; state them (units=, --units positions=nm)"
        )
    with _reading(reader):
        counts = "step" in reader.ts.data and (live or _counts_steps(reader, selection))
    group, notes = _chosen(universe, selection)
    source = source or str(reader.filename)
    images = _images(group, FrameMaker(group, counts_steps=counts), selection, notes)
    n_frames = None
    if not live:
        n_frames = len(range(len(reader))[selection.start : selection.stop : selection.step])
    return trajectory_of(
        source, guarded(images, source, selection), selection,
        trusted=live or str(reader.format) == "MDXAI", n_frames=n_frames, counts_steps=counts,
        parameters={"format": str(reader.format), "live": live},
    )  # fmt: skip


def _chosen(universe: Any, selection: Selection) -> tuple[Any, tuple[str, ...]]:
    """Return the stated atoms without sites that have no mass, and a note on these.

    Raises:
        TrajectoryError: for a selection that MDAnalysis does not understand, or of no atoms.
    """
    group = universe.atoms
    if selection.elements:
        if len(selection.elements) != len(group):
            raise TrajectoryError(
                f"{len(selection.elements)} elements are stated for its {len(group)} atoms"
            )
        universe.add_TopologyAttr("elements", list(selection.elements))
    if selection.atoms is not None and not selection.is_plain:
        try:
            group = universe.select_atoms(selection.atoms)
        except Exception as error:  # of its parser
            raise TrajectoryError(
                f"MDAnalysis cannot select {selection.atoms!r}: {one_line(error)}"
            ) from error
    elif selection.atoms is not None:
        group = group[selection.pick(_numbers_or_0(group))]
    site = np.array([_is_site(atom) for atom in group], dtype=bool)
    if not len(group) or site.all():
        raise TrajectoryError(f"no atom is selected by {selection.atoms!r}")
    return group[~site], sites_note(int(site.sum()), len(universe.atoms))


def _is_site(atom: Any) -> bool:
    """Whether an atom is a site without mass, by its name too, as it has no element."""
    label = str(getattr(atom, "element", "")).strip()
    mass = float(getattr(atom, "mass", 0.0))
    if label and label.upper() not in SITES:
        return False
    return mass == 0.0 and str(getattr(atom, "name", "")).strip().upper() in SITES


def is_text(path: Path, selection: Selection) -> bool:
    """Whether a file is one of text that is read here, and not by MDAnalysis: XYZ or a LAMMPS dump.

    MDAnalysis takes their numbers for Å and ps, whatever they say.
    """
    if selection.format is not None:
        return selection.format in ("xyz", "extxyz", "lammps-dump-text")
    names = path.name.lower().removesuffix(".gz").removesuffix(".bz2")
    return names.endswith((".xyz", ".extxyz", ".lammpsdump", ".lammpstrj", ".dump"))


def _symbols_of(group: Any) -> tuple[str, ...]:
    """Return an element per atom of a topology, "X" for sites without mass."""
    labels = _labels_of(group)
    sites = [label is None and _is_site(atom) for label, atom in zip(labels, group, strict=True)]
    unknown = [n for n, label in enumerate(labels) if label is None and not sites[n]]
    if unknown:
        raise _unknown(unknown[0])
    return tuple(label or "X" for label in labels)


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
    """Raise DamagedTrajectory for whatever a reader raises on a damaged file."""
    try:
        yield
    except TrajectoryError:
        raise
    except Exception as error:
        raise DamagedTrajectory(
            f"{reader.filename} cannot be read further: {one_line(error)}"
        ) from error


def _seekable(reader: Any) -> bool:
    from MDAnalysis.coordinates.base import StreamReaderBase

    return not isinstance(reader, StreamReaderBase)


def _images(
    group: Any, maker: FrameMaker, selection: Selection, notes: tuple[str, ...]
) -> Iterator[Image | None]:
    reader = group.universe.trajectory
    live = not _seekable(reader)
    kept_all = set(np.flatnonzero(~np.array([_is_site(a) for a in group.universe.atoms])))
    whole = kept_all <= set(group.indices)  # else forces are not those of these atoms alone
    try:
        with _reading(reader):
            yield from [None] * selection.start
            for ts in reader if live else reader[selection.start : selection.stop]:
                if live and selection.stop is not None and ts.frame >= selection.stop:
                    break
                if selection.wants(ts.frame):
                    image = maker.image(ts, selection)
                    frame = image.frame if whole else image.frame.without("energy", "forces")
                    yield replace(image, frame=frame, notes=notes)
                else:
                    yield None
            if not live and selection.stop is None and (left := what_is_left(reader)):
                raise DamagedTrajectory(left)
    finally:
        if live:
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
        self._knows_time, self._unsettled = _knows_time(reader)
        self._energies = _ENERGIES.get(str(reader.format))

    def frame(self, ts: Any) -> Frame:
        """Return a timestep as a frame; quantities that it lacks are marked as absent.

        Where the time is not known, frames are 1 fs apart.
        """
        image = self.image(ts, Selection())
        step = ts.frame if image.step is None else image.step
        time = float(ts.frame) if image.time is None else image.time
        return replace(image.frame, step=step, time=time)

    def image(self, ts: Any, selection: Selection) -> Image:
        """Return a timestep as an image, in the stated units or in those of MDAnalysis."""
        step = ts.data.get("step") if self._counts_steps else None
        units = selection.stated_units.over(OF_MDANALYSIS)
        time = float(ts.time) * (units.time or FS_PER_PS) if self._knows_time else None
        periodic = ts.dimensions is not None and bool(np.all(ts.dimensions[:3] > 0))
        energy = self._energy(ts)
        absent = {name for name in ("velocities", "forces") if not getattr(ts, f"has_{name}")}
        if energy is None:
            absent.add("energy")
        frame = Frame(
            step=0,
            time=0.0,
            numbers=self.numbers.copy(),
            masses=self.masses.copy(),
            positions=ts.positions[self._indices].astype(np.float64),
            velocities=self._vectors(ts, "velocities"),
            forces=self._vectors(ts, "forces"),
            energy=np.nan if energy is None else energy,
            cell=_cell(ts) if periodic else np.zeros((3, 3)),
            pbc=np.array(ts.data.get("pbc", np.full(3, periodic))),  # of a run: its own
            absent=frozenset(absent),
        )
        frame = in_our_units(frame, replace(units, energy=OURS.energy))
        return Image(frame, None if step is None else int(step), time, self._unsettled)

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


# Programs whose DCD files hold their time step in AKMA units, as the format has it.
_KEEPS_AKMA = ("OPENMM", "CHARMM", "NAMD", "MDANALYSIS")


def _knows_time(reader: Any) -> tuple[bool, str]:
    """Return whether the times of a reader are those of the file, and why not."""
    known = {"time", "dt"} & set(reader.ts.data) or callable(getattr(reader, "_get_dt", None))
    if str(reader.format) != "DCD":
        return bool(known), ""
    header = reader._file.header
    remarks = " ".join(str(header["remarks"]).split())
    if not header["delta"] > 0:
        return False, "its header has a time step of 0"
    if remarks and not any(name in remarks.upper() for name in _KEEPS_AKMA):
        return False, (
            f"its header has a time step of {header['delta']:g} × {header['nsavc']}, in AKMA units "
            f"by the format, but was written otherwise by some programs; it says {remarks[:60]!r}"
        )
    return True, ""


def elements_of(group: Any) -> Ints:
    """Return atomic numbers from the elements of a topology or, if it has none, from its masses.

    Types and names are not used: "CA" is calcium in one force field and carbon in another. Masses
    may still be MDAnalysis' own guesses from them.

    Raises:
        TrajectoryError: when neither gives an element.
    """
    numbers = _numbers_or_0(group)
    if not numbers.all():
        raise _unknown(int(np.flatnonzero(numbers == 0)[0]))
    return numbers


def _unknown(atom: int) -> TrajectoryError:
    return TrajectoryError(
        f"the element of atom {atom} is not known; give a topology with elements, such as a PDB "
        "file, state them (elements=, --elements), or which atoms to read (atoms=, --select)"
    )


def _labels_of(group: Any) -> list[str | None]:
    """Return a symbol per atom, from elements or else from masses; None where neither gives one."""
    labels = [element_of(str(label)) for label in getattr(group, "elements", ())]
    if labels and None not in labels:
        return labels
    masses = np.asarray(getattr(group, "masses", np.zeros(len(group))), dtype=np.float64)
    by_mass = [element_of_mass(mass) for mass in masses]
    return [
        label or other for label, other in zip(labels or [None] * len(group), by_mass, strict=True)
    ]


def _numbers_or_0(group: Any) -> Ints:
    symbols = [plain_element(label or "X") for label in _labels_of(group)]
    return np.array([atomic_numbers[symbol] for symbol in symbols], dtype=np.int64)


def _masses(group: Any, numbers: Ints) -> Floats:
    masses = np.array(getattr(group, "masses", np.zeros(len(group))), dtype=np.float64)
    for n, label in enumerate(_labels_of(group)):
        if label in ISOTOPES:
            masses[n] = ISOTOPES[str(label)]
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
