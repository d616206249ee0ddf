"""Text trajectories cut into frames, so that each is read alone and a half written one is seen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from typing import IO, BinaryIO, cast

from ase.io.formats import open_with_compression

from mdxai.engines.stated import DamagedTrajectory, TrajectoryError
from mdxai.errors import one_line

CHUNK_TOO_LARGE = 100_000_000  # atoms; a "number of atoms" beyond is none


@dataclass(frozen=True, slots=True)
class TextFrame:
    """The lines of one frame, each with its end of line."""

    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """All lines."""
        return "".join(self.lines)


class Lines:
    """The lines of a file, numbered; a damaged one and what follows it cannot be read."""

    def __init__(self, file: IO[str]) -> None:
        self._file, self.number = file, 0

    def next(self) -> str:
        """Return the next line; empty at the end of the file."""
        try:
            line = self._file.readline()
        except Exception as error:  # those of gzip, zlib and lzma are of no common class
            raise DamagedTrajectory(f"line {self.number + 1}: {one_line(error)}") from error
        self.number += bool(line)
        return line


Splitter = Callable[[Lines], Iterator[TextFrame]]


def text_frames(path: str | os.PathLike[str], split: Splitter) -> Iterator[TextFrame]:
    """Yield the frames of a text file, which may be compressed (.gz, .bz2, .xz).

    Raises:
        DamagedTrajectory: at a frame that is not written to its end.
        TrajectoryError: for a file that cannot be opened.
    """
    try:
        file = open_with_compression(os.fspath(path), "rb")
    except OSError as error:
        raise TrajectoryError(f"{path} cannot be opened: {error.strerror or error}") from error
    # A comment in another encoding is no damage.
    with file, TextIOWrapper(cast(BinaryIO, file), encoding="utf-8", errors="replace") as text:
        yield from split(Lines(text))


def split_xyz(lines: Lines) -> Iterator[TextFrame]:
    """Yield frames of a number of atoms, a comment, and a line per atom (and VEC1 to VEC3).

    Raises:
        DamagedTrajectory: where a frame ends early or a number of atoms is none.
    """
    ahead = lines.next()
    while ahead:
        if not ahead.strip():
            ahead = lines.next()
            continue
        n_atoms = _count(ahead, lines)
        taken = [ahead]
        for _ in range(n_atoms + 1):
            taken.append(lines.next())
            if not taken[-1]:
                raise DamagedTrajectory(f"it ends after {len(taken) - 1} of {n_atoms + 2} lines")
        ahead = lines.next()
        while ahead.lstrip().startswith("VEC"):
            taken.append(ahead)
            ahead = lines.next()
        _refuse_cut(taken[2:])
        yield TextFrame(tuple(taken))


def _count(line: str, lines: Lines) -> int:
    try:
        n_atoms = int(line)
    except ValueError:
        n_atoms = -1
    if not 0 < n_atoms < CHUNK_TOO_LARGE or not line.endswith("\n"):
        raise DamagedTrajectory(
            f"line {lines.number}: expected a number of atoms, got {line.strip()[:40]!r}"
        )
    return n_atoms


def _refuse_cut(atoms: list[str]) -> None:
    """Check that the last line of a file is whole, from the lines of the atoms of its last frame.

    A number cut in two is still a number, and a wrong one. A line without its end counts as whole
    only where all lines have as many columns and decimals.
    """
    last = atoms[-1]
    if last.endswith("\n"):
        return
    shapes = {(len(cells), len(cells[-1].partition(".")[2])) for line in atoms
              if (cells := line.split())}  # fmt: skip
    if len(atoms) < 3 or len(shapes) > 1 or "." not in last.split()[-1]:
        raise DamagedTrajectory(f"its last line has no end: {last.strip()[:60]!r}")


def split_lammps_dump(lines: Lines) -> Iterator[TextFrame]:
    """Yield frames of a LAMMPS dump; what stands before a TIMESTEP (units, time) is the frame's.

    Raises:
        DamagedTrajectory: where a frame has fewer lines than it says, or other ones.
    """
    ahead = lines.next()
    while ahead:
        taken: list[str] = []
        n_atoms = -1
        while not ahead.startswith("ITEM: ATOMS"):
            if not ahead:
                if "".join(taken).strip():
                    raise DamagedTrajectory("it ends in the head of a frame")
                return
            taken.append(ahead)
            if ahead.startswith("ITEM: NUMBER OF ATOMS"):
                taken.append(lines.next())
                n_atoms = _count(taken[-1], lines)
            ahead = lines.next()
        taken.append(ahead)
        if n_atoms < 0 or not ahead.endswith("\n"):
            raise DamagedTrajectory(f"line {lines.number}: atoms without their number")
        for n in range(n_atoms):
            taken.append(lines.next())
            if not taken[-1] or taken[-1].startswith("ITEM:"):
                raise DamagedTrajectory(f"it ends after {n} of {n_atoms} atoms")
        _refuse_cut(taken[-n_atoms:])
        yield TextFrame(tuple(taken))
        ahead = lines.next()


AFTER_MODELS = ("", "TER", "CONECT", "MASTER", "REMARK")  # records that begin no model


def split_pdb(lines: Lines) -> Iterator[TextFrame]:
    """Yield the models of a PDB file, each with the cell and origin that hold for it.

    A cell before the first model holds for all.

    Raises:
        DamagedTrajectory: where an atom's line, or the last model, ends early.
    """
    head: dict[str, str] = {}
    atoms: list[str] = []
    models = begun = False  # several of them; a part of one
    while line := lines.next():
        kind = line[:6].strip()
        models |= kind == "MODEL"
        begun |= models and kind not in AFTER_MODELS and not kind.startswith("END")
        if kind == "CRYST1" or kind.startswith("ORIGX"):
            head[kind] = line
        elif kind in ("ATOM", "HETATM"):
            if len(line.rstrip("\r\n")) < 54:
                raise DamagedTrajectory(f"line {lines.number} ends early: {line.strip()[:60]!r}")
            atoms.append(line)
        elif kind.startswith("END") and atoms:
            yield TextFrame((*head.values(), *atoms, "ENDMDL\n"))
            atoms, models, begun = [], True, False
    if begun:
        raise DamagedTrajectory(f"its last model has no end (ENDMDL) after {len(atoms)} atoms")
    if atoms:
        if not atoms[-1].endswith("\n") and len(atoms[-1]) < 78:
            raise DamagedTrajectory(f"its last line has no end: {atoms[-1].strip()[:60]!r}")
        yield TextFrame((*head.values(), *atoms, "ENDMDL\n"))
