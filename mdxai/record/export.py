"""Writing the frames of a run in formats that other programs read."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian, dict2constraint
from ase.io import write
from ase.io.trajectory import TrajectoryWriter

from mdxai.errors import MdxaiError, one_line
from mdxai.frame import Frame
from mdxai.record import RecordWarning, Run, open_run
from mdxai.record.standard_cell import on_partial_periodicity

THROUGH_ASE = (".xyz", ".extxyz", ".traj")
MODELS = (".pdb", ".ent")
WITHOUT_CELL = (".coor", ".namdbin", ".crd", ".pqr")


class ExportError(MdxaiError, ValueError):
    """A run that cannot be exported as asked."""


class ExportWarning(UserWarning):
    """What the chosen format cannot hold."""


def export(
    run: Run | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    start: int | None = None,
    stop: int | None = None,
    step: int | None = None,
) -> int:
    """Write recorded frames in the format that the extension of `out` names; return how many.

    ASE writes extended XYZ (.extxyz, .xyz) and .traj, with energies, forces, velocities,
    constraints and, in `info`, step, time_fs and every deviation ("deviation_bond"). MDAnalysis
    writes all other formats: see `mdxai.record.mdanalysis` for what it makes of a cell. An
    ExportWarning names what the format cannot hold of cell, periodicity and constraints. The file
    appears complete or not at all.

    Args:
        run: a run or its directory.
        out: file to write; must not exist.
        start: first frame, as in a slice.
        stop: frame to stop before.
        step: keep every step-th frame.

    Raises:
        ExportError: when the file exists, the format is unknown, or the file cannot be written.
        RecordError: when the run cannot be read.
    """
    run = run if isinstance(run, Run) else open_run(run)
    path, chosen = Path(out), slice(start, stop, step)
    if path.exists():
        raise ExportError(f"{path} exists already; choose another name, or delete it first")
    if step is not None and step < 1:
        raise ExportError(f"step must be positive, got {step}")
    n_frames = len(range(run.n_frames)[chosen])
    if not n_frames:
        raise ExportError(
            f"start, stop and step select none of the {run.n_frames} frames of {run.path}"
        )
    if not path.parent.is_dir():
        raise ExportError(f"{path} cannot be written: the directory {path.parent} does not exist")
    temporary = path.with_name(f".{token_hex(8)}{path.suffix}")  # short beside the longest name
    try:
        if path.suffix.lower() in THROUGH_ASE:
            _through_ase(run, temporary, chosen)
        else:
            _through_mdanalysis(run, temporary, chosen, n_frames)
        temporary.replace(path)
    except Exception as error:  # MDAnalysis' writers raise errors of any kind
        if type(error).__module__.startswith("mdxai."):
            raise
        raise ExportError(f"{path} cannot be written: {one_line(error)}") from error
    finally:
        with suppress(OSError):  # in a read-only directory, which the error above reports
            temporary.unlink(missing_ok=True)
    losses = "; ".join(_losses(run, path.suffix.lower()))
    if losses:
        warnings.warn(f"{path}: {losses}", ExportWarning, stacklevel=2)
    return n_frames


def _losses(run: Run, suffix: str) -> Iterator[str]:
    """Yield what a format cannot hold of cell, periodicity and constraints."""
    system = run.header["system"]
    pbc = np.array(system["pbc"])
    if pbc.any() and suffix in WITHOUT_CELL:
        yield f"{suffix} holds no cell"
    elif pbc.any() and not pbc.all() and suffix not in THROUGH_ASE:
        yield f"the system {on_partial_periodicity(pbc, suffix)}"
    stated = run.header["engine"].get("parameters", {}).get("constraints", [])
    kept = _constraints(run, suffix) if suffix in THROUGH_ASE else []
    lost = [text.partition(" ")[0] for text in stated]
    for constraint in kept:
        lost.remove(type(constraint).__name__)
    if lost:
        yield f"constraints are not kept ({', '.join(lost)})"


def _constraints(run: Run, suffix: str) -> list[Any]:
    """Return the constraints of a run that a format of ASE's can hold.

    Those with an energy of their own are left out: it is in the recorded energies and forces, and
    ASE would add it once more.
    """
    found = []
    for text in run.header["engine"].get("parameters", {}).get("constraints", []):
        name, _, keywords = text.partition(" ")
        with suppress(Exception):  # one of another package, or too long to be recorded
            found.append(dict2constraint({"name": name, "kwargs": json.loads(keywords)}))
    holding = [one for one in found if not hasattr(one, "adjust_potential_energy")]
    if suffix == ".traj":
        return holding
    return [one for one in holding if isinstance(one, FixAtoms | FixCartesian)]


def atoms_of(run: Run, chosen: slice) -> Iterator[Atoms]:
    """Yield frames of a run as ASE atoms with energy, forces, velocities and deviations."""
    found, names = run.to_dataframe(), list(run.deviations)
    values = found[names].to_numpy(dtype=np.float64)
    rows = {int(step): row for row, step in enumerate(found["step"])}
    for frame in run.frames(chosen.start, chosen.stop, chosen.step):
        row = rows.get(frame.step)
        known: dict[str, float] = (
            {} if row is None else dict(zip(names, values[row].tolist(), strict=True))
        )
        yield _with_deviations(frame, {k: v for k, v in known.items() if np.isfinite(v)})


def _with_deviations(frame: Frame, deviations: dict[str, float]) -> Atoms:
    atoms = frame.to_atoms()
    atoms.info |= {f"deviation_{name}": value for name, value in deviations.items()}
    return atoms


def _through_ase(run: Run, out: Path, chosen: slice) -> None:
    """Write a frame at a time, so that memory does not grow with the run."""
    constraints = _constraints(run, out.suffix.lower())
    if out.suffix.lower() == ".traj":
        with TrajectoryWriter(str(out)) as file:
            for atoms in atoms_of(run, chosen):
                atoms.set_constraint(constraints)
                file.write(atoms)
        return
    with out.open("a", encoding="utf-8") as lines:  # ASE would glob a name with "*" or "["
        for atoms in atoms_of(run, chosen):
            atoms.set_constraint(constraints)
            write(lines, atoms, format="extxyz")


def _through_mdanalysis(run: Run, out: Path, chosen: slice, n_frames: int) -> None:
    import MDAnalysis

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordWarning)  # `export` names the format
        universe = MDAnalysis.Universe(run)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"MDAnalysis\..*")
        if out.suffix.lower() in (".in", ".fhiaims"):  # which takes names for elements
            universe.atoms.names = universe.atoms.elements
        with _writer(universe, out, chosen, n_frames) as writer:
            for _ in universe.trajectory[chosen]:
                writer.write(universe.atoms)


def _writer(universe: Any, out: Path, chosen: slice, n_frames: int) -> Any:
    """Return MDAnalysis' writer for a file, open."""
    import MDAnalysis
    from MDAnalysis import _MULTIFRAME_WRITERS, _SINGLEFRAME_WRITERS

    suffix, extra = out.suffix.lower(), dict[str, Any]()
    name = suffix.removeprefix(".").upper()
    if n_frames > 1 and name in _SINGLEFRAME_WRITERS.keys() - _MULTIFRAME_WRITERS.keys():
        raise ExportError(
            f"{suffix} holds one frame, and {n_frames} are chosen; choose one, such as the last by "
            "start=-1 (--start -1)"
        )
    if suffix in MODELS:
        from mdxai.record.pdb_writer import RunPdbWriter

        return RunPdbWriter(str(out), multiframe=True)
    if suffix == ".dcd":  # the format holds no times
        extra = {"dt": universe.trajectory.dt * (chosen.step or 1)}
    if suffix in (".nc", ".ncdf"):  # leaves them out by default
        extra = {"velocities": True, "forces": True}
    if n_frames > 1:
        extra["multiframe"] = True
    return MDAnalysis.Writer(str(out), n_atoms=len(universe.atoms), **extra)
