"""The HDF5 files of schnetpack's own MD."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mdxai.engines.file_images import Image, frame_of_atoms
from mdxai.engines.stated import (
    FS_PER_PS,
    GROMACS,
    Selection,
    TrajectoryError,
)
from mdxai.errors import one_line
from mdxai.frame import Floats

FORMAT = "schnetpack-md"
SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_schnetpack(path: Path) -> bool:
    """Return whether a file is one of schnetpack's FileLogger."""
    with path.open("rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            return False
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return "molecules" in file and "time_step" in file["molecules"].attrs
    except OSError as error:
        raise TrajectoryError(f"{path} is damaged: {one_line(error)}") from error


def read_schnetpack(path: Path, selection: Selection) -> Iterator[Image | None]:
    """Yield the frames of schnetpack's FileLogger; its units are nm, ps, kJ/mol and amu.

    Each row of "molecules" holds energies, positions and, where they were stored, velocities,
    cells and stresses, one after the other; "properties" holds what the model gave.

    Raises:
        TrajectoryError: for several replicas, and for several molecules of which none is selected.
    """
    import h5py

    with h5py.File(path, "r") as file:
        rows, said = file["molecules"], dict(file["molecules"].attrs)
        if int(said["n_replicas"]) != 1:
            raise TrajectoryError(
                f"it holds {said['n_replicas']} replicas, and a replay follows one system; write "
                "each to a file of its own"
            )
        molecule = _molecule(np.atleast_1d(said["n_atoms"]), selection)
        forces = _forces(file)
        for k in range(int(said["entries"])):
            if not selection.wants(k):
                yield None
                continue
            row = np.asarray(rows[k, 0], dtype=np.float64)
            atoms = _atoms(row, None if forces is None else forces(k), said, molecule)
            units = selection.stated_units.over(GROMACS)
            made, notes = frame_of_atoms(atoms, Selection(), units, atoms.arrays.get("velocities"))
            time = k * float(said["time_step"]) * FS_PER_PS
            yield Image(made, k * int(said.get("every_n_steps", 1)), time, notes=notes)


def _molecule(n_atoms: Any, selection: Selection) -> tuple[int, int, int]:
    """Return which molecule is read, and its first and last atom (exclusive).

    Molecules of one file are simulated side by side, each alone.
    """
    ends = np.cumsum(n_atoms)
    if selection.atoms is None and len(ends) == 1:
        return 0, 0, int(ends[0])
    for k, (start, end) in enumerate(zip(ends - n_atoms, ends, strict=True)):
        if selection.atoms == f"{start}-{end - 1}":
            return k, int(start), int(end)
    ranges = ", ".join(f"{e - n}-{e - 1}" for e, n in zip(ends, n_atoms, strict=True))
    raise TrajectoryError(
        f"it holds {len(ends)} molecules, each simulated alone; state which one to read, by its "
        f"atoms: {ranges} (atoms=, --select)"
    )


def _forces(file: Any) -> Any:
    """Return a function that gives the forces of all atoms of an entry; None if none are stored."""
    if "properties" not in file:
        return None
    table = file["properties"]
    place = json.loads(table.attrs["positions"]).get("forces")
    return None if place is None else lambda k: np.asarray(table[k, 0, slice(*place)])


def _atoms(row: Floats, forces: Any, said: dict[str, Any], molecule: tuple[int, int, int]) -> Atoms:
    """Return one molecule of an entry, in schnetpack's units."""
    k, start, end = molecule
    n_all, n_molecules = int(said["total_n_atoms"]), int(said["n_molecules"])
    parts = np.split(row, np.cumsum([n_molecules, 3 * n_all]))
    atoms = Atoms(
        np.asarray(said["atom_types"])[start:end].astype(int), parts[1].reshape(-1, 3)[start:end]
    )
    atoms.set_masses(np.asarray(said["masses"], dtype=np.float64)[start:end])
    rest = parts[2]
    if said["has_velocities"]:
        atoms.new_array("velocities", rest[: 3 * n_all].reshape(-1, 3)[start:end])
        rest = rest[3 * n_all :]
    if said["has_cells"]:
        atoms.set_cell(rest[: 9 * n_molecules].reshape(-1, 3, 3)[k])
        atoms.pbc = np.asarray(said["pbc"], dtype=bool).reshape(-1, 3)[k]
    held: dict[str, Any] = {"energy": float(parts[0][k])}
    if forces is not None:
        held["forces"] = np.asarray(forces, dtype=np.float64).reshape(-1, 3)[start:end]
    atoms.calc = SinglePointCalculator(atoms, **held)
    return atoms
