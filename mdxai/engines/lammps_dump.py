"""Text dumps of LAMMPS: what their columns say, and what they leave open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

from ase import Atoms
from ase.io import read

from mdxai.engines.file_images import (
    Image,
    element_of_mass,
    elements_by_type,
    frame_of_atoms,
    plain_element,
    set_isotopes,
)
from mdxai.engines.stated import Selection, TrajectoryError, Units
from mdxai.engines.text_frames import TextFrame, split_lammps_dump, text_frames

ASK_UNITS = (
    "a LAMMPS dump is in the units of its input script, which this file does not say; state them "
    "(units=, --units real, or metal, electron, si)"
)
ASK_IDS = (
    "its atoms have no id, so nothing says which is which from frame to frame; dump them with id, "
    "or, if their order never changes, state the elements of all atoms in order (elements=, "
    "--elements)"
)


def read_lammps_dump(path: Path, selection: Selection) -> Iterator[Image | None]:
    """Yield the images of a LAMMPS text dump, atoms sorted by id.

    Raises:
        DamagedTrajectory: where the file ends early.
        TrajectoryError: where it does not say its units, elements or order of atoms.
    """
    stated = selection.stated_units
    said = Units()
    for n, frame in enumerate(text_frames(path, split_lammps_dump)):
        heads = _heads(frame)
        if "UNITS" in heads:  # LAMMPS writes it once
            said = Units.parse(heads["UNITS"])
        units = stated.over(said)
        if units.positions is None:
            raise TrajectoryError(ASK_UNITS)
        _refuse_unstated(frame, units, selection)
        wanted = selection.wants(n)
        yield _image(frame, heads, units, selection) if wanted else None


def _refuse_unstated(frame: TextFrame, units: Units, selection: Selection) -> None:
    """Check that the units of all columns are stated where only some of them are."""
    head = next(line for line in frame.lines if line.startswith("ITEM: ATOMS")).split()
    for column, name in (("vx", "velocities"), ("fx", "forces")):
        if column in head and name not in selection.without and getattr(units, name) is None:
            raise TrajectoryError(
                f"the unit of its {name} is not stated; name a style (units=, --units real), state "
                f"theirs too, or ignore them (without=, --without {name})"
            )


def _heads(frame: TextFrame) -> dict[str, str]:
    """Return what stands behind the items of one line, such as TIMESTEP, TIME and UNITS."""
    pairs = zip(frame.lines, frame.lines[1:], strict=False)
    return {
        line[6:].strip(): after.strip()
        for line, after in pairs
        if line.strip() in ("ITEM: TIMESTEP", "ITEM: TIME", "ITEM: UNITS")
    }


def _image(frame: TextFrame, heads: dict[str, str], units: Units, selection: Selection) -> Image:
    start = next(n for n, line in enumerate(frame.lines) if line.startswith("ITEM: ATOMS"))
    columns = frame.lines[start].split()[2:]
    rows = [line.split() for line in frame.lines[start + 1 :]]
    if any(len(row) != len(columns) for row in rows):
        raise TrajectoryError(f"its atoms have other columns than {' '.join(columns)}")
    if "id" in columns:
        at = columns.index("id")
        rows.sort(key=lambda row: int(row[at]))
    elif len(selection.elements) != len(rows):
        raise TrajectoryError(ASK_IDS)
    elements = _elements(rows, columns, selection)
    atoms = _by_ase(frame.lines[:start], columns, rows, elements)
    velocities = atoms.get_velocities() if atoms.has("momenta") else None
    set_isotopes(atoms, elements)  # would change the velocities of the momenta
    made, notes = frame_of_atoms(atoms, selection, units, velocities)
    step = int(heads["TIMESTEP"]) if "TIMESTEP" in heads else None
    time = float(heads["TIME"]) * units.time if "TIME" in heads and units.time else None
    return Image(made, step, time, notes=notes)


def _elements(rows: list[list[str]], columns: list[str], selection: Selection) -> list[str]:
    """Return an element per atom: stated, or of a column of elements or masses."""
    if not selection.elements and "element" not in columns and "mass" in columns:
        at = columns.index("mass")
        by_mass = [element_of_mass(float(row[at])) for row in rows]
        return elements_by_type([name or "?" for name in by_mass], (), "this dump")
    name = next((n for n in ("element", "type") if n in columns), None)
    if selection.elements and "type" in columns:
        name = "type"
    labels = ["" if name is None else row[columns.index(name)] for row in rows]
    return elements_by_type(labels, selection.elements, "this dump")


def _by_ase(
    head: Sequence[str], columns: list[str], rows: list[list[str]], elements: list[str]
) -> Atoms:
    """Return the atoms as ASE reads them, numbers as the file has them."""
    kept = [n for n, name in enumerate(columns) if name not in ("element", "mass")]
    names = " ".join([*(columns[n] for n in kept), "element"])
    lines = [
        " ".join([*(row[n] for n in kept), plain_element(element)]) + "\n"
        for row, element in zip(rows, elements, strict=True)
    ]
    text = "".join([*head, f"ITEM: ATOMS {names}\n", *lines])
    atoms = read(StringIO(text), index=0, format="lammps-dump-text", units="ASE")
    if atoms.calc is not None:  # it makes up an energy of 0 where there are forces
        atoms.calc.results.pop("energy", None)
    return atoms
