"""XYZ files by many programs: what their comment and columns mean, where they say so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase import units as ase_units
from ase.geometry import cellpar_to_cell
from ase.io import read

from mdxai.engines.file_images import (
    Image,
    elements_by_type,
    frame_of_atoms,
    plain_element,
    set_isotopes,
)
from mdxai.engines.stated import (
    ATOMIC,
    FS_PER_PS,
    OF_ASE,
    Selection,
    TrajectoryError,
    Units,
    as_number,
)
from mdxai.engines.text_frames import TextFrame, split_xyz, text_frames
from mdxai.frame import Floats

ANGSTROM = Units(positions=1.0)


@dataclass(frozen=True, slots=True)
class Convention:
    """How a program writes plain XYZ.

    comment: what its comment looks like; groups `step`, `time`, `cell`, `what` and
    `unit` hold what they say. units: of its numbers; time where the comment gives it. velocities:
    their first column, from 0.
    """

    program: str
    comment: re.Pattern[str]
    units: Units
    velocities: int | None = None


_NUMBER = r"[-+.\dEe]+"
CONVENTIONS = (
    Convention(
        "CP2K",
        re.compile(rf"i\s*=\s*(?P<step>\d+),\s*time\s*=\s*(?P<time>{_NUMBER})"),
        Units(positions=1.0, time=1.0),
    ),
    Convention(
        "i-PI",
        re.compile(
            rf"#\s*CELL\(abcABC\):(?P<cell>(\s+{_NUMBER}){{6}}).*?Step:\s*(?P<step>\d+)"
            r"(.*?\s(?P<what>\w+)\{(?P<unit>\w+)\})?"
        ),
        Units(),
    ),
    Convention(
        "DFTB+",
        re.compile(r"MD iter:\s*(?P<step>\d+)"),
        Units(positions=1.0, velocities=1 / FS_PER_PS),
        velocities=5,
    ),
    Convention("LAMMPS", re.compile(r"Atoms\. Timestep:\s*(?P<step>\d+)"), Units()),
)
ANY = Convention("", re.compile(""), ANGSTROM)
IPI_UNITS = {"atomic_unit": ase_units.Bohr, "angstrom": 1.0, "nanometer": 10.0}
_BOHR = re.compile(r"(?<![/\w])(bohrs?|atomic_units?)(?![\w^])", re.IGNORECASE)
_TIME = re.compile(rf"\b(?:time|t)\s*[=:]\s*(?P<time>{_NUMBER})\s*(?P<unit>fs|ps)\b", re.IGNORECASE)
GPUMD = re.compile(r'Time=\S+ pbc="')  # of its dump_exyz; times in fs

# Columns of velocities in extended XYZ and their unit, Å/fs; None where writers differ.
VELOCITIES = {"vel": 1.0, "velo": None, "velocities": None, "velocity": None}


def read_xyz(path: Path, selection: Selection) -> Iterator[Image | None]:
    """Yield the images of an XYZ file, extended or plain; ASE reads the columns.

    Raises:
        DamagedTrajectory: where the file ends early.
        TrajectoryError: where it does not say what is needed, with the option that does.
    """
    for n, frame in enumerate(text_frames(path, split_xyz)):
        comment = frame.lines[1].strip()
        if not selection.wants(n):
            yield None
        elif "Properties=" in comment or "Lattice=" in comment:
            yield _extended(frame, comment, selection)
        else:
            yield _plain(frame, comment, selection)


def _extended(frame: TextFrame, comment: str, selection: Selection) -> Image:
    atoms = _by_ase(frame, comment, _species_column(comment), selection)
    units = selection.stated_units.over(OF_ASE)
    raw, unit = _velocities(atoms, selection)
    units = Units(units.positions, unit, units.forces, units.energy, units.time)
    made, notes = frame_of_atoms(atoms, selection, units, raw)
    gpumd = GPUMD.match(comment) is not None
    return Image(made, *instant_of_info(atoms.info, units.time, gpumd=gpumd), notes)


def _velocities(atoms: Atoms, selection: Selection) -> tuple[Floats | None, float | None]:
    """Return velocities in a column of their own, and the unit of velocities, Å/fs."""
    stated = selection.stated_units.velocities
    raw = None
    for name, unit in VELOCITIES.items():
        if atoms.has("momenta") or name not in atoms.arrays or "velocities" in selection.without:
            continue
        if stated is None and unit is None:
            raise TrajectoryError(
                f"it does not say the unit of its column {name}; state it (units=, --units "
                "velocities=Å/fs, or Å/ps, Å/ase_time), or ignore them (without=, --without "
                "velocities)"
            )
        raw, stated = np.asarray(atoms.arrays[name], dtype=np.float64), stated or unit
        break
    return raw, stated or OF_ASE.velocities


def instant_of_info(
    info: dict[str, Any], time_unit: float | None, *, gpumd: bool = False
) -> tuple[int | None, float | None, str]:
    """Return step, time (fs) and what cannot be used, from the entries of a comment or of ASE.

    Args:
        info: of ASE atoms.
        time_unit: stated for entries that do not state theirs, fs.
        gpumd: whether `Time` is GPUMD's.
    """
    step, time, unsettled = as_number(info.get("step")), None, ""
    known = {"time_fs": 1.0, "time_ps": FS_PER_PS, "Time": 1.0 if gpumd else time_unit}
    for name, unit in (known | {"time": time_unit}).items():
        if name not in info or time is not None:
            continue
        time = as_number(info[name])
        if time is None:
            unsettled = f"its {name} is {info[name]!r}, which is no single number"
        elif unit is None:
            unsettled = f"it says {name}={time:g} without a unit (units=, --units time=ps)"
            time = None
        else:
            time *= unit
    whole = step is not None and step == round(step)
    return int(step) if whole and step is not None else None, time, unsettled


def _plain(frame: TextFrame, comment: str, selection: Selection) -> Image:
    found = next(((c, m) for c in CONVENTIONS if (m := c.comment.search(comment))), (ANY, None))
    convention, match = found
    said = {} if match is None else match.groupdict()
    units = selection.stated_units.over(_units_said(convention, said, comment))
    if units.positions is None:
        raise TrajectoryError(
            f"{convention.program} does not say in this file in which unit its positions are; "
            "state it (units=, --units positions=Å, or bohr)"
        )
    atoms = _by_ase(frame, "", 0, selection)
    if said.get("cell"):
        atoms.set_cell(cellpar_to_cell([float(x) for x in said["cell"].split()]))
        atoms.pbc = True
    made, notes = frame_of_atoms(atoms, selection, units, _columns(frame, convention, atoms))
    return Image(made, *_instant(said, comment, units), notes)


def _columns(frame: TextFrame, convention: Convention, atoms: Atoms) -> Floats | None:
    """Return the velocities of a file whose program writes them in columns without a name."""
    first = convention.velocities
    rows = [line.split() for line in frame.lines[2 : 2 + len(atoms)]]
    if first is None or any(len(row) < first + 3 for row in rows):
        return None
    return np.array([row[first : first + 3] for row in rows], dtype=np.float64)


def _units_said(convention: Convention, said: dict[str, Any], comment: str) -> Units:
    """Return the units that a comment states, or that its program always uses."""
    if said.get("what") not in (None, "positions"):
        raise TrajectoryError(f"it holds {said['what']} of i-PI, not positions")
    unit = said.get("unit")
    if unit is not None:
        if unit not in IPI_UNITS:
            raise TrajectoryError(f"its positions are in {unit!r} of i-PI, which is not known")
        return Units(positions=IPI_UNITS[unit])
    if convention is ANY and _BOHR.search(comment):
        return Units(positions=ATOMIC.positions)
    return convention.units


def _instant(
    said: dict[str, Any], comment: str, units: Units
) -> tuple[int | None, float | None, str]:
    step, time = as_number(_float(said.get("step"))), _float(said.get("time"))
    if time is not None:
        return None if step is None else int(step), time * (units.time or 1.0), ""
    match = _TIME.search(comment)
    if match is not None and (value := _float(match["time"])) is not None:
        time = value * (1.0 if match["unit"].lower() == "fs" else FS_PER_PS)
    return None if step is None else int(step), time, ""


def _float(text: str | None) -> float | None:
    try:
        return None if text is None else as_number(float(text))
    except ValueError:
        return None


def _species_column(comment: str) -> int | None:
    """Return where an extended XYZ file has its symbols; None where it has atomic numbers."""
    match = re.search(r'Properties="?([^\s"]+)', comment)
    if match is None:
        return 0
    parts = match[1].split(":")
    column = 0
    for name, width in zip(parts[::3], parts[2::3], strict=False):
        if name in ("species", "symbols"):
            return column
        column += int(width) if width.isdigit() else 1
    return None


def _by_ase(frame: TextFrame, comment: str, column: int | None, selection: Selection) -> Atoms:
    """Return the atoms of a frame as ASE reads them, with the elements that the user states."""
    n_atoms = int(frame.lines[0])
    rows = list(frame.lines[2 : 2 + n_atoms])
    elements: list[str] = []
    if column is not None:
        cells = [row.split() for row in rows]
        labels = [cell[column] if len(cell) > column else "" for cell in cells]
        elements = elements_by_type(labels, selection.elements, "this file")
        if any(plain_element(e) != label for e, label in zip(elements, labels, strict=True)):
            for cell, symbol in zip(cells, elements, strict=True):
                cell[column] = plain_element(symbol)
            rows = [" ".join(cell) + "\n" for cell in cells]
    text = "".join([frame.lines[0], comment + "\n", *rows, *frame.lines[2 + n_atoms :]])
    atoms = read(StringIO(text), index=0, format="extxyz")
    set_isotopes(atoms, elements)
    return atoms
