"""Entries of a data set, one after the other: usable structures, and why others are left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any, Self

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols, covalent_radii

from mdxai.calculators.reference_data import OVERLAPPING, ReferenceDataError, structures_of
from mdxai.engines import Selection
from mdxai.engines.trajectories import Trajectory, read_ase
from mdxai.errors import MdxaiError, one_line
from mdxai.frame import DENSE_LIMIT, QUANTITIES, Frame, find_pairs, upper_triangle
from mdxai.record.durable_files import hash_of
from mdxai.record.layout import HEADER
from mdxai.record.reader import read_run

LARGEST = 200  # atoms, up to which two-body relevance is exact and quick
_XYZ, _DATABASES = (".xyz", ".extxyz"), (".db", ".json", ".aselmdb")
DUMP = b"ITEM: TIMESTEP"  # a dump of LAMMPS begins with it
_RAGGED = ("n_atoms", "Z", "R")  # arrays of an npz with molecules of different sizes


Place = str | os.PathLike[str]


class AnalyseError(MdxaiError, ValueError):
    """Data or models that cannot be analysed, with what to change."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a data set. frame: None where it is left out, for the `reason`."""

    index: int
    frame: Frame | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DataSet:
    """Where entries come from.

    Attributes:
        path: a file, or a run directory of mdxai.
        topology: what MDAnalysis takes the elements from, for a trajectory without (DCD, XTC …).
        selection: what is stated about a trajectory: elements, which atoms, units; None for
            nothing.

    Raises:
        AnalyseError: for a file that is not there.
    """

    path: Path
    topology: Path | None = None
    selection: Selection | None = None

    @classmethod
    def of(
        cls, path: Place, topology: Place | None = None, selection: Selection | None = None
    ) -> Self:
        """Return the data set that paths name."""
        top = None if topology is None else Path(topology).expanduser()
        return cls(Path(path).expanduser(), top, selection)

    def __post_init__(self) -> None:
        if not (self.path.is_file() or _is_run(self.path)):
            raise AnalyseError(
                f"there is no data set {str(self.path)!r}; expected a file or a run directory"
            )
        if self.topology is not None and not self.topology.is_file():
            raise AnalyseError(f"there is no topology {str(self.topology)!r}; expected a file")
        if self.is_trajectory and (_is_run(self.path) or self.path.suffix == ".npz"):
            raise AnalyseError(
                f"{self.path} needs no topology and nothing stated about it: it holds elements and "
                "positions in Å"
            )

    @property
    def is_trajectory(self) -> bool:
        """Whether it is read as `mdxai replay` reads trajectories: what is stated is needed, or it
        is a dump of LAMMPS, whose types are no elements.
        """
        stated = self.topology is not None or self.selection is not None
        return stated or _is_dump(self.path)

    def trajectory(self) -> Trajectory:
        """Return the frames of a trajectory, whose times do not matter here.

        Raises:
            TrajectoryError: where it cannot be read, or lacks what must be stated.
        """
        stated = self.selection or Selection()
        without = tuple({*stated.without, *QUANTITIES})
        wanted = replace(stated, timestep=1.0, without=without)
        if self.topology is None:
            return read_ase(self.path, wanted)
        from mdxai.engines.mdanalysis_frames import read_universe

        return read_universe(str(self.path), str(self.topology), wanted)

    def count(self) -> int | None:
        """Return how many entries it has, where that is known without reading them all."""
        if self.is_trajectory:
            with closing(self.trajectory()) as trajectory:
                return trajectory.n_frames
        return _count_of(self.path)

    def identity(self) -> dict[str, Any]:
        """Return what tells it apart: its content by a hash, and how it is read."""
        reading: dict[str, Any] = {}
        if self.topology is not None:
            reading |= {"topology": str(self.topology), "sha256": hash_of(self.topology)}
        if self.selection is not None:
            plain = {k: list(v) if isinstance(v, tuple) else v
                     for k, v in asdict(self.selection).items()}  # fmt: skip
            reading |= {k: v for k, v in plain.items() if v not in (None, [])}
        content = hash_of(self.path / HEADER if _is_run(self.path) else self.path)
        if _is_run(self.path):
            content = f"{content}, {read_run(self.path).n_frames} frames"
        return {"data": str(self.path), "data_sha256": content, "reading": reading}


def entries_of(
    path: Place, topology: Place | None = None, selection: Selection | None = None
) -> Iterator[Entry]:
    """Yield the entries of a data set in its order; those that cannot be used with the reason.

    Takes what ASE reads (extxyz, traj, an ASE database …), an npz as those of MD17 (`z` and `R`
    (n_frames, n_atoms, 3)), and an npz of molecules of different sizes as of QM9 (`n_atoms`, and
    `Z` and `R` one molecule after the other), all in Å; a run directory of mdxai; or, with a
    topology, what MDAnalysis reads. `selection` states what a trajectory does not say.

    Raises:
        AnalyseError: for a file that is not there, or of which nothing can be read.
        RecordError: for a run that cannot be read.
    """
    return entries_in(DataSet.of(path, topology, selection))


def entries_in(data: DataSet) -> Iterator[Entry]:
    """Yield the entries of a data set; see `entries_of`."""
    found = _read(data)
    index = 0
    while True:
        try:
            given = next(found)
        except StopIteration:
            return
        except Exception as error:  # ASE's readers raise whatever their formats make them raise
            if index == 0:
                raise AnalyseError(_unreadable(data, error)) from error
            yield Entry(index, None, f"cannot be read, nor what follows: {_line(error)}")
            return
        yield given if isinstance(given, Entry) else checked(index, given)
        index += 1


def _unreadable(data: DataSet, error: Exception) -> str:
    said = one_line(error) if isinstance(error, MdxaiError) else _line(error)
    if str(data.path) in said:
        return said
    known = data.topology or data.path.suffix in (".npz", *_XYZ, *_DATABASES)
    hint = "" if known else (
        "; formats without elements, such as XTC, TRR and DCD, need a topology (topology=, "
        "--topology)"
    )  # fmt: skip
    return f"{data.path} cannot be read as a data set: {said}{hint}"


def _is_run(file: Path) -> bool:
    return (file / HEADER).is_file()


def _is_dump(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as content:
        return content.read(len(DUMP)) == DUMP


def checked(index: int, atoms: Atoms) -> Entry:
    """Return an entry for atoms, or why they cannot be analysed."""
    reason = why_not(atoms)
    return Entry(index, None, reason) if reason else Entry(index, Frame.from_atoms(atoms))


def why_not(atoms: Atoms) -> str:
    """Return why atoms cannot be analysed; "" if they can."""
    numbers = atoms.numbers
    tests = (
        (not len(numbers), "no atoms"),
        (len(numbers) == 1, "a single atom, which has no pairs"),
        (((numbers < 1) | (numbers >= len(covalent_radii))).any(), "an unknown element"),
        (not np.isfinite(atoms.positions).all(), "positions that are not finite"),
        (atoms.pbc.any(), "periodic, among molecules"),
        (len(numbers) > LARGEST, f"more than {LARGEST} atoms"),
    )
    return next((reason for applies, reason in tests if applies), "") or _overlap(atoms)


def _overlap(atoms: Atoms) -> str:
    radii = covalent_radii[atoms.numbers]
    if len(atoms) <= DENSE_LIMIT:
        i, j = upper_triangle(len(atoms))
        distances = np.linalg.norm(atoms.positions[j] - atoms.positions[i], axis=1)
    else:
        reach = 2 * OVERLAPPING * float(radii.max())
        pairs = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, reach)
        i, j, distances = pairs.i, pairs.j, pairs.distances
    share = distances / (radii[i] + radii[j])
    if not len(share) or share.min() >= OVERLAPPING:
        return ""
    return f"overlapping atoms (less than {OVERLAPPING:g} of the sum of their covalent radii)"


def _read(data: DataSet) -> Iterator[Any]:
    """Yield atoms, or entries that are left out."""
    file = data.path
    if data.is_trajectory:
        return _simulated(data)
    if _is_run(file):
        return _recorded(file)
    if file.suffix == ".npz":
        return _arrays(file)
    if file.suffix in _XYZ:
        return _xyz(file)
    return _database(file) if file.suffix in _DATABASES else _ase(file)


def _simulated(data: DataSet) -> Iterator[Atoms]:
    with closing(data.trajectory()) as trajectory:
        for frame in trajectory.frames:
            yield Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)


def _arrays(file: Path) -> Iterator[Atoms]:
    with np.load(file, allow_pickle=False) as held:
        ragged = all(name in held for name in _RAGGED)
    yield from _ragged(file) if ragged else _frames(file)


def _recorded(folder: Path) -> Iterator[Atoms]:
    for frame in read_run(folder).frames():
        yield frame.to_atoms(results=False)


def _ragged(file: Path) -> Iterator[Atoms]:
    with np.load(file, allow_pickle=False) as data:
        sizes, numbers, positions = (data[name] for name in _RAGGED)
    if sizes.sum() != len(numbers) or positions.shape != (len(numbers), 3):
        raise ReferenceDataError(
            f"n_atoms sums to {sizes.sum()}, but there are {len(numbers)} atoms with positions "
            f"{positions.shape}"
        )
    ends = np.cumsum(sizes)
    for start, end in zip(ends - sizes, ends, strict=True):
        yield Atoms(numbers[start:end].astype(int), positions[start:end].astype(np.float64))


def _frames(file: Path) -> Iterator[Atoms]:
    for numbers, positions, *_ in structures_of(file):
        yield Atoms(numbers, positions.astype(np.float64))


def _ase(file: Path) -> Iterator[Atoms]:
    import ase.io

    yield from ase.io.iread(file, index=":", do_not_split_by_at_sign=True)


def _database(file: Path) -> Iterator[Atoms | Entry]:
    import ase.db

    with closing(_Rows(ase.db.connect(file))) as rows:
        for index, row in enumerate(rows.all):
            try:
                yield row.toatoms()
            except Exception as error:  # of one row; the others may be sound
                yield Entry(index, None, f"cannot be read: {_line(error)}")


class _Rows:
    """Rows of an ASE database, in the order of their ids."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.all = database.select(sort="id")

    def close(self) -> None:
        if hasattr(self._database, "close"):
            self._database.close()


def _xyz(file: Path) -> Iterator[Atoms | Entry]:
    """Yield structures of an extended XYZ; one that ASE cannot read does not end the file."""
    import ase.io

    with file.open(encoding="utf-8") as lines:
        for index, block in enumerate(_blocks(lines)):
            unknown = _unknown_symbols(block)
            if len(block) == 2:
                yield Atoms()
            elif unknown:
                yield Entry(index, None, f"an unknown element ({', '.join(unknown)})")
            else:
                try:
                    yield ase.io.read(StringIO("".join(block)), format="extxyz")
                except Exception as error:  # of one block; the others may be sound
                    yield Entry(index, None, f"cannot be read: {_line(error)}")


def _blocks(lines: Iterator[str]) -> Iterator[list[str]]:
    for head in lines:
        if not head.strip():
            continue
        n_atoms = int(head)  # ValueError: no XYZ from here on
        block = [head, *(next(lines, "") for _ in range(n_atoms + 1))]
        if n_atoms and not block[-1].strip():
            raise ValueError(f"the file ends within a structure of {n_atoms} atoms")
        yield block


def _unknown_symbols(block: list[str]) -> list[str]:
    """Return symbols in the first column that are no elements; numbers are left to ASE."""
    if "Properties=" in block[1] and "Properties=species" not in block[1]:
        return []
    first = {line.split(maxsplit=1)[0] for line in block[2:] if line.strip()}
    return sorted(name for name in first if name.isalpha() and name not in atomic_numbers)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def formula(frame: Frame) -> str:
    """Return the Hill formula of a frame."""
    from ase.formula import Formula

    found: str = Formula.from_list([chemical_symbols[z] for z in frame.numbers]).format("hill")
    return found


def _count_of(file: Path) -> int | None:
    if _is_run(file):
        return read_run(file).n_frames
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as data:
            if all(name in data for name in _RAGGED):
                return len(data["n_atoms"])
            names = [name for name in ("R", "coords", "positions") if name in data]
            return len(data[names[0]]) if names else None
    if file.suffix in _XYZ:
        return _count_blocks(file)
    if file.suffix in _DATABASES:
        import ase.db

        return len(ase.db.connect(file))
    return None


def _count_blocks(file: Path) -> int | None:
    n = 0
    try:
        with file.open(encoding="utf-8") as lines:
            for head in lines:
                if head.strip():
                    for _ in range(int(head) + 1):
                        next(lines, "")
                    n += 1
    except ValueError:  # no XYZ from here on; the reader says so
        return None
    return n
