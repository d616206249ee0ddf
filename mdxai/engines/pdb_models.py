"""PDB files of several models."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import numpy as np
from ase.io import read

from mdxai.engines.file_images import (
    Image,
    element_of,
    frame_of_atoms,
    plain_element,
    set_isotopes,
)
from mdxai.engines.stated import ISOTOPES, Selection, TrajectoryError
from mdxai.engines.text_frames import TextFrame, split_pdb, text_frames

ATOMS = ("ATOM  ", "HETATM")
# Names of sites without mass in water models and force fields; a name tells nothing else.
SITES = {"MW", "MW1", "M", "EP", "EPW", "LP", "LP1", "LP2", "IW", "DUM", "X"}
NO_CELL = (
    "its CRYST1 record is {cell}, which stands for no cell, as in structures from NMR; it was left "
    "aside, and the atoms are not periodic"
)


def read_pdb(path: Path, selection: Selection) -> Iterator[Image | None]:
    """Yield the models of a PDB file; elements are those of columns 77 and 78.

    Raises:
        DamagedTrajectory: where the file ends early.
        TrajectoryError: where it does not say the element of an atom.
    """
    for n, frame in enumerate(text_frames(path, split_pdb)):
        yield _image(frame, selection) if selection.wants(n) else None


def _image(frame: TextFrame, selection: Selection) -> Image:
    lines = list(frame.lines)
    said: tuple[str, ...] = ()
    cell = next((line for line in lines if line.startswith("CRYST1")), None)
    if cell is not None and _stands_for_none(cell):
        lines.remove(cell)
        said = (NO_CELL.format(cell=" × ".join(cell[6:33].split())),)
    at = [n for n, line in enumerate(lines) if line.startswith(ATOMS)]
    elements = _elements([lines[n] for n in at], selection)
    for n, element in zip(at, elements, strict=True):
        line = lines[n].rstrip("\r\n").ljust(80)
        lines[n] = f"{line[:76]}{plain_element(element):>2s}{line[78:]}\n"
    atoms = read(StringIO("".join(lines)), index=0, format="proteindatabank")
    set_isotopes(atoms, elements)
    made, notes = frame_of_atoms(atoms, selection, selection.stated_units)
    return Image(made, notes=(*said, *notes))


def elements_of_pdb(path: Path) -> tuple[str, ...]:
    """Return the elements of a PDB file with deuterium or tritium, which MDAnalysis does not know.

    Empty for other files, and where an element is not given.
    """
    if path.suffix.lower() not in (".pdb", ".ent"):
        return ()
    first = next(text_frames(path, split_pdb), None)
    atoms = [line for line in first.lines if line.startswith(ATOMS)] if first else []
    found = tuple(element_of(line[76:78]) or "" for line in atoms)
    return found if "" not in found and set(found) & set(ISOTOPES) else ()


def _stands_for_none(line: str) -> bool:
    """Whether a cell is 1 × 1 × 1 or 0 × 0 × 0."""
    lengths = np.array([float(line[k : k + 9]) for k in (6, 15, 24)])
    return bool((lengths == 1.0).all() or (lengths == 0.0).all())


def _elements(lines: list[str], selection: Selection) -> list[str]:
    """Return an element per atom, "X" for sites without mass and for atoms that are not read."""
    if selection.elements:
        if len(selection.elements) != len(lines):
            raise TrajectoryError(
                f"{len(selection.elements)} elements are stated for its {len(lines)} atoms"
            )
        return list(selection.elements)
    found = [element_of(line[76:78]) for line in lines]
    names = [line[12:16].strip() for line in lines]
    read_at = set(range(len(lines))) if selection.atoms is None else _chosen(found, selection)
    for n, symbol in enumerate(found):
        if symbol is None and n in read_at and names[n].upper() not in SITES:
            raise TrajectoryError(
                f"it does not say the element of atom {n} ({names[n]}) in columns 77 and 78, and a "
                "name is none; state those of all atoms in order (elements=, --elements), or which "
                "atoms to read (atoms=, --select)"
            )
    return [symbol or "X" for symbol in found]


def _chosen(found: list[str | None], selection: Selection) -> set[int]:
    from ase.data import atomic_numbers

    numbers = [atomic_numbers.get(plain_element(symbol or "X"), 0) for symbol in found]
    return set(selection.pick(np.array(numbers)).tolist())
