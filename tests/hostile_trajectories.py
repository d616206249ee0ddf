"""Trajectories as they are not meant to be: cells, units, times, names, cut at any byte."""

from __future__ import annotations

import gzip
import warnings
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import MDAnalysis
import numpy as np
from ase import Atoms, units
from ase.io import read, write
from hypothesis import assume
from hypothesis import strategies as st

from mdxai.engines import Selection
from mdxai.engines.stated import SYSTEMS

FS = units.fs
TEXT = ("extxyz", "xyz", "lammpstrj", "pdb", "gz")
KINDS = (*TEXT, "traj", "xtc", "dcd")
TYPES = (1, 6, 8)  # elements of the LAMMPS types
UNITS = (None, "ase", "real", "metal", "positions=bohr", "velocities=m/s,time=ps", "electron")


@dataclass(frozen=True)
class Hostile:
    """A file, what is stated about it, and what is in it.

    truth: as ASE or MDAnalysis reads the whole file, in its own numbers. ends: bytes at which its
    frames end, of text. cut: bytes that are left of the file.
    """

    path: Path
    kind: str
    selection: Selection
    topology: Path | None
    truth: list[Atoms]
    ends: tuple[int, ...]
    cut: int
    size: int


def cells():
    """Cells with their periodicity: none, sound, tiny, flat, missing, partly periodic."""
    length = st.floats(2.0, 30.0)
    cubic = length.map(lambda a: a * np.eye(3))
    triclinic = st.tuples(length, st.floats(-5, 5), st.floats(-5, 5)).map(
        lambda t: np.array([[t[0] + 8, 0, 0], [t[1], t[0] + 9, 0], [t[2], t[1], t[0] + 7]])
    )
    odd = st.sampled_from(
        [
            0.1 * np.eye(3), np.zeros((3, 3)), np.diag([10.0, 10.0, 0.0]), -9.0 * np.eye(3),
            np.array([[9.0, 0, 0], [9.0, 0, 0], [0, 0, 9.0]]), np.full((3, 3), np.nan),
        ]
    )  # fmt: skip
    pbc = st.lists(st.booleans(), min_size=3, max_size=3)
    none = st.just((np.zeros((3, 3)), [False] * 3))
    return st.one_of(none, st.tuples(st.one_of(cubic, triclinic, cubic, odd), pbc))


TIMES = {
    "good": lambda k: {"time_fs": 0.5 * k, "step": k},
    "missing": lambda k: {},
    "constant": lambda k: {"time_fs": 1.0, "step": 0},
    "decreasing": lambda k: {"time_fs": -0.5 * k, "step": 10 - k},
    "restarting": lambda k: {"time_fs": 0.5 * (k % 3)},
    "text": lambda k: {"time_fs": f"{k}fs", "step": f"step_{k}"},
    "vector": lambda k: {"time_fs": [0.5 * k, 1.0]},
    "nan": lambda k: {"time_fs": float("nan"), "step": k},
    "no unit": lambda k: {"time": 0.5 * k},
    "huge": lambda k: {"time_fs": 1e300 * (k + 1), "step": 10**15 + k},
    "half": lambda k: {"step": 0.5 * k, "time_ps": 0.001 * k},
}
COLUMNS = {
    "tags": np.arange,
    "label": lambda n: np.array([f"a{k}" for k in range(n)]),
    "vel": lambda n: np.ones((n, 3)),
    "velocities": lambda n: np.ones((n, 3)),
    "initial_charges": lambda n: np.linspace(-1, 1, n),
    "initial_magmoms": np.ones,
    "masses": lambda n: np.linspace(1, 20, n),
    "numbers_of_neighbours": np.arange,
    "displacement": lambda n: np.zeros((n, 3)),
}
NAMES = st.dictionaries(
    st.text("abcXYZ_-é=: \"'", min_size=1, max_size=8),
    st.one_of(st.integers(), st.text("ab \"'{}[],=é", max_size=6), st.booleans()),
    max_size=2,
)


@st.composite
def images(draw):
    """Draw the frames of a file: one molecule that moves, with oddities."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n_atoms, n_frames = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    numbers = rng.choice(TYPES, n_atoms)
    grid = 1.3 * np.array([[k % 2, k // 2 % 2, k // 4] for k in range(n_atoms)])
    start = grid + rng.normal(scale=0.05, size=(n_atoms, 3))
    velocities = rng.normal(scale=draw(st.sampled_from([0.0, 0.002, 0.01])), size=(n_atoms, 3))
    cell, pbc = draw(cells())
    breathing = draw(st.booleans())
    time = TIMES[draw(st.sampled_from(sorted(TIMES)))]
    moving, extra = (
        draw(st.booleans()),
        draw(st.lists(st.sampled_from(sorted(COLUMNS)), max_size=2)),
    )
    names = draw(NAMES)
    found = []
    for k in range(n_frames):
        here = start + 0.5 * k * velocities + rng.normal(scale=1e-6, size=start.shape)
        size = 1 + 0.01 * k * breathing
        atoms = Atoms(numbers, here, cell=np.array(cell) * size, pbc=pbc)
        for name in extra:
            atoms.set_array(name, COLUMNS[name](n_atoms))
        if moving:
            atoms.set_velocities(velocities / FS)
        atoms.info = names | time(k)
        found.append(atoms)
    if draw(st.integers(0, 4)) == 0:  # as where a run was continued
        found.insert(n_frames // 2, found[n_frames // 2].copy())
    if draw(st.integers(0, 9)) == 0:
        found[-1] = found[-1][:-1] if n_atoms > 1 else found[-1] + Atoms("H")
    if draw(st.integers(0, 9)) == 0:
        found[-1].positions[0, 0] = np.nan
    return found


def written(path: Path, kind: str, frames: list[Atoms]) -> tuple[int, ...]:
    """Write frames, and return where each ends in a file of text."""
    if kind == "traj":
        write(path, frames)
        return ()
    if kind in ("xtc", "dcd"):
        _write_mdanalysis(path, frames)
        return ()
    parts = []
    for k, atoms in enumerate(frames):
        text = StringIO()
        if kind == "lammpstrj":
            text.write(_dump(k, atoms))
        elif kind == "xyz":
            write(text, atoms, format="xyz", comment=f"frame {k}")
        elif kind == "pdb":
            text.write(_model(k, atoms))
        else:
            write(text, atoms, format="extxyz")
        parts.append(text.getvalue().encode())
    content = b"".join(parts)
    path.write_bytes(gzip.compress(content) if kind == "gz" else content)
    return tuple(np.cumsum([len(part) for part in parts]).tolist())


def _dump(k: int, atoms: Atoms) -> str:
    x, y, z = (max(abs(atoms.cell.array[n, n]), 1.0) for n in range(3))
    head = f"ITEM: TIMESTEP\n{10 * k}\nITEM: NUMBER OF ATOMS\n{len(atoms)}\n"
    bounds = " ".join("pp" if p else "ff" for p in atoms.pbc)
    head += f"ITEM: BOX BOUNDS {bounds}\n0 {x}\n0 {y}\n0 {z}\nITEM: ATOMS id type x y z vx vy vz\n"
    speeds = atoms.get_velocities() * FS
    rows = [
        f"{n + 1} {TYPES.index(int(atoms.numbers[n])) + 1} "
        + " ".join(repr(float(v)) for v in (*atoms.positions[n], *speeds[n]))
        for n in range(len(atoms))
    ]
    order = np.random.default_rng(k).permutation(len(rows))
    return head + "".join(rows[n] + "\n" for n in order)


def _model(k: int, atoms: Atoms) -> str:
    text = StringIO()
    plain = Atoms(atoms.numbers, np.nan_to_num(atoms.positions))
    if np.isfinite(atoms.cell.array).all() and abs(np.linalg.det(atoms.cell.array)) > 1:
        plain.set_cell(np.diag(atoms.cell.lengths()))
        plain.pbc = True
    write(text, plain, format="proteindatabank")
    lines = [line for line in text.getvalue().splitlines() if not line.startswith(("MODEL", "END"))]
    return f"MODEL {k + 1}\n" + "\n".join(lines) + "\nENDMDL\n"


def _write_mdanalysis(path: Path, frames: list[Atoms]) -> None:
    universe = MDAnalysis.Universe.empty(len(frames[0]), trajectory=True)
    with MDAnalysis.Writer(str(path), len(frames[0]), dt=0.0005) as writer:
        for k, atoms in enumerate(frames):
            universe.atoms.positions = np.nan_to_num(atoms.positions)
            sound = abs(np.linalg.det(np.nan_to_num(atoms.cell.array))) > 1
            universe.dimensions = atoms.cell.cellpar() if sound else [0, 0, 0, 90, 90, 90]
            universe.trajectory.ts.frame, universe.trajectory.ts.time = k, 0.0005 * k
            writer.write(universe.atoms)


def truth_of(path: Path, kind: str, topology: Path | None) -> list[Atoms]:
    """Return the whole file as ASE or MDAnalysis reads it."""
    if kind == "lammpstrj":
        symbols = [Atoms([z]).get_chemical_symbols()[0] for z in TYPES]
        return read(path, ":", format="lammps-dump-text", units="ASE", specorder=symbols)
    if kind in ("xtc", "dcd"):
        universe = MDAnalysis.Universe(str(topology), str(path))
        numbers = read(topology).numbers
        return [
            Atoms(
                numbers, ts.positions, pbc=ts.dimensions is not None,
                cell=None if ts.dimensions is None else ts.triclinic_dimensions,
            )
            for ts in universe.trajectory
        ]  # fmt: skip
    if kind == "pdb":  # ASE forgets the cell after the first model, so each is read alone
        return [
            read(StringIO(part + "ENDMDL\n"), format="proteindatabank")
            for part in path.read_text().split("ENDMDL\n")[:-1]
        ]
    return read(path, ":", format={"gz": "extxyz"}.get(kind, kind))


@st.composite
def hostile_files(draw, folder: Path):
    """Draw a file in `folder`, what is stated about it, and what is in it."""
    kind = draw(st.sampled_from(KINDS))
    frames = draw(images())
    if kind in ("xtc", "dcd"):
        frames = [atoms for atoms in frames if len(atoms) == len(frames[0])]
    suffix = "extxyz.gz" if kind == "gz" else kind
    path, topology = folder / f"md.{suffix}", None
    for old in folder.iterdir():
        old.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ends = written(path, kind, frames)
    if kind in ("xtc", "dcd"):
        topology = folder / "top.pdb"
        write(topology, Atoms(frames[0].numbers, np.nan_to_num(frames[0].positions)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            truth = truth_of(path, kind, topology)
        except Exception:  # ASE writes names that it cannot read
            truth = None
    assume(truth is not None)
    content = path.read_bytes()
    cut = draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    path.write_bytes(content[:cut])
    symbols = ("H", "C", "O")
    selection = Selection(
        timestep=draw(st.sampled_from([None, 0.5, 0.5])),
        units=draw(st.sampled_from(UNITS)),
        elements=symbols if kind == "lammpstrj" and draw(st.integers(0, 5)) else (),
        without=draw(st.sampled_from([(), (), ("cell",), ("velocities",)])),
        start=draw(st.sampled_from([0, 0, 0, 1])),
    )
    return Hostile(path, kind, selection, topology, truth, ends, cut, len(content))


def scales(hostile: Hostile) -> tuple[float, float]:
    """Return what lengths and velocities of the file are multiplied by: Å, and Å/fs."""
    stated = hostile.selection.stated_units
    length = 1.0 if stated.positions is None else stated.positions
    if hostile.kind == "lammpstrj":
        return length, stated.velocities or 0.0
    return length, SYSTEMS["ase"].velocities if stated.velocities is None else stated.velocities
