"""Writing the frames of a run in formats that other programs read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write
from ase.io.trajectory import TrajectoryWriter

from mdxai.errors import MdxaiError
from mdxai.frame import Frame
from mdxai.record import Run, open_run

THROUGH_ASE = (".xyz", ".extxyz", ".traj")


class ExportError(MdxaiError, ValueError):
    """A run that cannot be exported as asked."""


def export(
    run: Run | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    start: int | None = None,
    stop: int | None = None,
    step: int | None = None,
) -> int:
    """Write recorded frames in the format that the extension of `out` names; return how many.

    ASE writes extended XYZ (.extxyz, .xyz) and .traj, with energies, forces, velocities and, in
    `info`, step, time_fs and every deviation ("deviation_bond"). MDAnalysis writes all other
    formats. The file appears complete or not at all.

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
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        if path.suffix.lower() in THROUGH_ASE:
            _through_ase(run, temporary, chosen)
        else:
            _through_mdanalysis(run, temporary, chosen, n_frames)
        temporary.replace(path)
    except Exception as error:  # MDAnalysis' writers raise errors of any kind
        if type(error).__module__.startswith("mdxai."):
            raise
        raise ExportError(f"{path} cannot be written: {error}") from error
    finally:
        with suppress(OSError):  # in a read-only directory, which the error above reports
            temporary.unlink(missing_ok=True)
    return n_frames


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
    if out.suffix.lower() == ".traj":
        with TrajectoryWriter(str(out)) as file:
            for atoms in atoms_of(run, chosen):
                file.write(atoms)
        return
    for atoms in atoms_of(run, chosen):
        write(str(out), atoms, format="extxyz", append=True)


def _through_mdanalysis(run: Run, out: Path, chosen: slice, n_frames: int) -> None:
    import MDAnalysis

    universe = MDAnalysis.Universe(run)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"MDAnalysis\..*")
        spacing = universe.trajectory.dt * (chosen.step or 1)
        extra = {"dt": spacing} if out.suffix.lower() == ".dcd" else {}  # the format holds no times
        if out.suffix.lower() in (".nc", ".ncdf"):  # leaves them out by default
            extra = {"velocities": True, "forces": True}
        if n_frames > 1:  # so that formats of one frame are refused
            extra["multiframe"] = True
        with MDAnalysis.Writer(str(out), n_atoms=len(universe.atoms), **extra) as writer:
            for _ in universe.trajectory[chosen]:
                writer.write(universe.atoms)
