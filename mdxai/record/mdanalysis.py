"""A run as an MDAnalysis trajectory. Importing this module registers the format "MDXAI".

    universe = MDAnalysis.Universe(mdxai.open_run("runs/ethanol"))

Units are those of MDAnalysis: Å, ps, Å/ps, kJ/(mol·Å). `ts.data` holds what mdxai recorded, in its
own units, under the same keys in every frame, NaN where it was not recorded: "step",
"potential_energy_eV", "kinetic_energy_eV", "temperature_K", each deviation by the name of its
principle, and, in eV, "relevance_per_atom" and "relevance_one_body" (n_atoms,),
"relevance_by_body_order" (n_orders,), whose last entry is all higher orders, "explained_output",
"explained_residual" (output − total relevance) and, up to 200 atoms, "relevance"
(n_atoms, n_atoms), symmetric, of each pair.

MDAnalysis knows cells by lengths and angles alone. Positions, velocities and forces are turned to
the orientation that it takes them to have; "rotation" (3, 3) says how: own vector @ rotation. It
knows no partial periodicity either: along other directions the box is made so wide that the nearest
image of an atom is the atom itself, and a RecordWarning says so. "cell_ang" (3, 3) and "pbc" (3,)
are the system's own, the cell turned. All three are there where the system is periodic.
"""

from __future__ import annotations

import os
import warnings
from errno import EIO
from pathlib import Path
from typing import Any

import numpy as np
from ase import units
from MDAnalysis.coordinates.base import ReaderBase
from MDAnalysis.coordinates.core import triclinic_box
from MDAnalysis.core import topologyattrs as attrs
from MDAnalysis.core.topology import Topology
from MDAnalysis.lib.util import store_init_arguments
from MDAnalysis.topology.base import TopologyReaderBase

from mdxai.frame import Frame
from mdxai.principles.motion.structure import bonds_of
from mdxai.record.durable_files import RecordError, RecordWarning
from mdxai.record.explanations import ExplanationReader
from mdxai.record.layout import HEADER
from mdxai.record.reader import Run, read_run
from mdxai.record.standard_cell import StandardCell, on_partial_periodicity, standard_cell
from mdxai.record.step_rows import StepRows

FS_PER_PS = 1000.0
KJ_PER_MOL = units.kJ / units.mol  # eV
MATRIX_LIMIT = 200  # atoms; no matrix of relevance for larger systems
SCALARS = ("potential_energy_eV", "kinetic_energy_eV", "temperature_K")


def is_run(thing: Any) -> bool:
    """Return whether this is a run, or the path of a run directory."""
    if isinstance(thing, Run):
        return True
    return isinstance(thing, str | os.PathLike) and (Path(thing) / HEADER).is_file()


def _run(thing: Any) -> Run:
    return thing if isinstance(thing, Run) else read_run(Path(thing))


class RunParser(TopologyReaderBase):  # type: ignore[misc]
    """Reads the system of a run: elements, names such as "C1", masses and bonds.

    Bonds follow from covalent radii and the distances in the first recorded frame.
    """

    format = "MDXAI"

    @staticmethod
    def _format_hint(thing: Any) -> bool:
        return is_run(thing)

    def parse(self, **_: Any) -> Topology:
        """Return the topology.

        Raises:
            RecordError: when no positions were recorded, or the record is damaged.
        """
        run = _run(self.filename)
        if not run.n_frames:
            raise RecordError(f"{run.path} holds no recorded positions")
        first = run.frame(0)
        symbols = np.array(first.symbols, dtype=object)
        names = np.array([f"{symbol}{k}" for k, symbol in enumerate(symbols)], dtype=object)
        bonded = np.isfinite(first.positions).all()
        i, j = bonds_of(first) if bonded else (np.empty(0, int), np.empty(0, int))
        columns = [
            attrs.Atomnames(names),
            attrs.Elements(symbols),
            attrs.Atomtypes(symbols.copy()),
            attrs.Masses(first.masses.copy()),
            attrs.Bonds([(int(a), int(b)) for a, b in zip(i, j, strict=True)], guessed=True),
            attrs.Resids(np.array([1])),
            attrs.Resnums(np.array([1])),
            attrs.Resnames(np.array(["SYS"], dtype=object)),
            attrs.Segids(np.array(["SYSTEM"], dtype=object)),
        ]
        return Topology(first.n_atoms, 1, 1, attrs=columns)


class RunReader(ReaderBase):  # type: ignore[misc]
    """Reads the frames of a run in any order. Copies and pickles open the directory again.

    Args:
        filename: a run, or the path of its directory.

    Raises:
        RecordError: when there is no run, no positions were recorded, or the record is damaged.
    """

    format = ["MDXAI"]  # noqa: RUF012 (MDAnalysis' own convention)
    units = {"time": "ps", "length": "Angstrom", "velocity": "Angstrom/ps",  # noqa: RUF012
             "force": "kJ/(mol*Angstrom)"}  # fmt: skip

    @staticmethod
    def _format_hint(thing: Any) -> bool:
        return is_run(thing)

    @store_init_arguments  # type: ignore[untyped-decorator]
    def __init__(self, filename: Any, **kwargs: Any) -> None:
        run = _run(filename)
        super().__init__(str(run.path), **kwargs)
        self._kwargs["filename"] = str(run.path)
        self._open(run)
        if not self.n_frames:
            raise RecordError(f"{run.path} holds no recorded positions")
        missing = run.header.get("engine", {}).get("missing", {})
        self.ts = self._Timestep(
            self.n_atoms, velocities="velocities" not in missing, forces="forces" not in missing,
            **self._ts_kwargs,
        )  # fmt: skip
        self._read_frame(0)
        pbc = self.ts.data.get("pbc")
        if pbc is not None and not pbc.all():
            warnings.warn(
                f"{run.path} {on_partial_periodicity(pbc, 'MDAnalysis')}",
                RecordWarning,
                stacklevel=2,
            )

    def _open(self, run: Run) -> None:
        self._run = run
        self.n_frames = run.n_frames
        self.n_atoms = len(run.header["system"]["numbers"])
        self._found = StepRows(run, "frames", ["step", *SCALARS, *run.deviations])
        self._explanations = ExplanationReader(run, np.array(run.header["system"]["numbers"]))
        first = next(run.tables("explanations", ["by_body_order_eV"]), None)
        self._n_orders = 0 if first is None else len(first["by_body_order_eV"][0])

    def __getstate__(self) -> dict[str, Any]:
        left_out = ("_run", "_found", "_explanations")
        return {key: value for key, value in self.__dict__.items() if key not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open(read_run(Path(self.filename)))
        self[self.ts.frame]

    @staticmethod
    def parse_n_atoms(filename: Any, **_: Any) -> int:
        """Return the number of atoms of a run."""
        return len(_run(filename).header["system"]["numbers"])

    def _reopen(self) -> None:
        self.ts.frame = -1

    def _read_next_timestep(self, ts: Any = None) -> Any:
        if self.ts.frame + 1 >= self.n_frames:
            raise OSError(EIO, "there are no more frames")
        return self._read_frame(self.ts.frame + 1)

    def _read_frame(self, frame: int) -> Any:
        ts, recorded = self.ts, self._run.frame(frame)
        ts.frame = frame
        ts.time = recorded.time / FS_PER_PS
        ts.data["dt"] = self._get_dt()
        cell = standard_cell(recorded)
        turned = cell.turned if cell else lambda vectors: vectors
        ts.positions = turned(recorded.positions)
        if ts.has_velocities:
            ts.velocities = turned(recorded.velocities) * FS_PER_PS
        if ts.has_forces:
            ts.forces = turned(recorded.forces) / KJ_PER_MOL
        ts.dimensions = triclinic_box(*cell.box) if cell else None
        ts.data.update(self._data(recorded, cell))
        return ts

    def _get_dt(self) -> float:
        """Return the time between the first two frames, ps; of a single frame the timestep."""
        if "_dt" not in self.__dict__:
            first = self._run.frame(0).time
            step = float(self._run.header["engine"]["timestep"])
            self._dt = (self._run.frame(1).time - first if self.n_frames > 1 else step) / FS_PER_PS
        return self._dt

    def _data(self, frame: Frame, cell: StandardCell | None) -> dict[str, Any]:
        data: dict[str, Any] = {"step": frame.step}
        row = self._found.at(frame.step)
        for name in (*SCALARS, *self._run.deviations):
            value = row[name][0].as_py() if row is not None else None
            data[name] = np.nan if value is None else value
        if cell is not None:
            data |= {"cell_ang": cell.cell, "pbc": cell.pbc, "rotation": cell.rotation}
        return data | self._relevance(frame)

    def _relevance(self, frame: Frame) -> dict[str, Any]:
        n, found = frame.n_atoms, self._explanations.at(frame.step)
        none = np.full(n, np.nan)
        orders = np.full(self._n_orders, np.nan)
        data: dict[str, Any] = {
            "relevance_per_atom": none if found is None else found.atoms,
            "relevance_one_body": none.copy() if found is None else found.one_body,
            "relevance_by_body_order": orders if found is None else found.by_body_order,
            "explained_output": np.nan if found is None else found.output,
            "explained_residual": self._explanations.residual(frame.step),
        }
        if n <= MATRIX_LIMIT:
            data["relevance"] = np.full((n, n), np.nan if found is None else 0.0)
        if n <= MATRIX_LIMIT and found is not None:
            i, j = found.pairs.i, found.pairs.j
            for a, b in ((i, j), (j, i)):
                np.add.at(data["relevance"], (a, b), found.strengths)
        return data
