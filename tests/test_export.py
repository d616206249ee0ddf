"""What other programs read of an exported run, against ASE's own distances and the run itself."""

from __future__ import annotations

import shutil
import warnings
from typing import NamedTuple

import MDAnalysis
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength, FixCartesian, Hookean
from ase.io import read
from ase.md.verlet import VelocityVerlet
from MDAnalysis.lib.distances import distance_array

import mdxai
from mdxai.record import RecordWarning
from mdxai.record.export import ExportWarning, export
from mdxai.record.standard_cell import standard_cell

from .conftest import heated

KJ = units.kJ / units.mol
# Largest error of a distance, Å: two rounded coordinates, and what lengths and angles lose.
PRECISION = dict.fromkeys(("xtc", "gro"), 0.02) | dict.fromkeys(
    ("pdb", "ent", "pdbqt"), 0.004
)  # fmt: skip
WITH_VELOCITIES = ("trr", "ncdf", "nc", "h5md", "gro", "trz", "in", "fhiaims")
WITH_FORCES = ("trr", "ncdf", "nc", "h5md")
WITH_CELL = (*WITH_VELOCITIES, "xtc", "dcd", "pdb", "ent", "pdbqt", "lammps")
READ_BY_ASE = {"pdb": "proteindatabank", "ent": "proteindatabank", "gro": "gromacs", "in": "aims",
               "fhiaims": "aims"}  # fmt: skip
WITHOUT_CELL = ("coor", "crd", "namdbin", "pqr")


def _skewed() -> Atoms:
    """Return copper in a cell without a right angle, no edge along an axis."""
    cell = [[7.4, 0.3, 0.2], [1.1, 7.2, 0.4], [-0.8, 0.9, 4.4]]
    return Atoms("Cu16", (bulk("Cu", cubic=True) * (2, 2, 1)).positions, cell=cell, pbc=True)


def _left_handed() -> Atoms:
    atoms = bulk("Cu") * (3, 3, 3)
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    return atoms


def _slab() -> Atoms:
    """Return a slab that would meet its image if the cell repeated along the third direction."""
    atoms = fcc111("Cu", (3, 3, 3), vacuum=1.0)
    atoms.pbc = [True, True, False]
    return atoms


def _turned_slab() -> Atoms:
    """Return a slab that does not repeat along its first cell vector, in no special orientation."""
    atoms = fcc111("Cu", (3, 3, 3), vacuum=1.0)
    atoms.set_cell(atoms.cell.array[[2, 0, 1]])
    atoms.pbc = [False, True, True]
    atoms.rotate(37, (1, 2, 3), rotate_cell=True)
    return atoms


def _wire() -> Atoms:
    atoms = bulk("Cu", cubic=True) * (1, 3, 1)
    atoms.pbc = [False, True, False]
    atoms.center(vacuum=0.6, axis=(0, 2))
    atoms.rotate(30, (0, 1, 1), rotate_cell=True)
    return atoms


def _boxed() -> Atoms:
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.pbc = False
    return atoms


SYSTEMS = {
    "skewed": _skewed,
    "fcc": lambda: bulk("Cu") * (3, 3, 3),
    "bcc": lambda: bulk("Cu", "bcc", a=2.9) * (3, 3, 3),
    "left-handed": _left_handed,
    "slab": _slab,
    "turned slab": _turned_slab,
    "wire": _wire,
    "boxed": _boxed,
    "molecule": lambda: molecule("C6H6"),
}


class Recorded(NamedTuple):
    run: mdxai.Run
    atoms: Atoms
    distances: np.ndarray


def _recorded(atoms: Atoms, path) -> Recorded:
    atoms.rattle(0.05, seed=1)
    atoms.calc = EMT()
    dynamics = VelocityVerlet(heated(atoms), 1 * units.fs)
    with mdxai.Monitor(dynamics, path, attribute_every=0, on_unstable="ignore") as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(3)
    return Recorded(mdxai.open_run(path), atoms, atoms.get_all_distances(mic=True))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    made: dict[str, Recorded] = {}

    def make(name: str) -> Recorded:
        if name not in made:
            made[name] = _recorded(SYSTEMS[name](), tmp_path_factory.mktemp("export") / "run")
        return made[name]

    return make


def _exported(found: Recorded, path) -> list[str]:
    """Write the last frame and return the warnings."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        export(found.run, path, start=-1)
    return [str(warning.message) for warning in said if warning.category is ExportWarning]


def _universe(found: Recorded, path=None) -> MDAnalysis.Universe:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = MDAnalysis.Universe(found.run)
        if path is not None:
            top = path.with_name("top.pdb")
            universe.atoms.write(str(top))
            return MDAnalysis.Universe(str(top), str(path))
        universe.trajectory[-1]
    return universe


def _seen(universe: MDAnalysis.Universe) -> np.ndarray:
    atoms = universe.atoms
    return distance_array(atoms.positions, atoms.positions, box=universe.dimensions)


def _centred(vectors: np.ndarray) -> np.ndarray:
    return vectors - vectors.mean(axis=0)


def _assert_turned(vectors, positions, own_vectors, own_positions, error: float) -> None:
    """Products with positions about the centre, and lengths, do not depend on orientation."""
    for a, b in ((positions, own_positions), (vectors, own_vectors)):
        np.testing.assert_allclose(
            (_centred(vectors) * _centred(a)).sum(axis=1),
            (_centred(own_vectors) * _centred(b)).sum(axis=1),
            atol=error * (1 + np.abs(a).max()),
        )


@pytest.mark.parametrize("name", SYSTEMS)
def test_mdanalysis_sees_the_distances_velocities_and_forces_of_the_run(recorded, name):
    found = recorded(name)
    universe = _universe(found)
    np.testing.assert_allclose(_seen(universe), found.distances, atol=1e-4)
    own, ts = found.atoms, universe.trajectory.ts
    _assert_turned(ts.velocities, ts.positions, own.get_velocities() * units.fs * 1e3,
                   own.positions, 1e-4)  # fmt: skip
    _assert_turned(ts.forces, ts.positions, own.get_forces() / KJ, own.positions, 1e-3)
    if own.pbc.any():
        np.testing.assert_array_equal(ts.data["pbc"], own.pbc)
        turn = ts.data["rotation"]
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(turn) == pytest.approx(1)  # no molecule becomes its mirror image
        np.testing.assert_allclose(ts.positions, own.positions @ turn, atol=1e-4)
        turned = Atoms(own.numbers, ts.positions, cell=ts.data["cell_ang"], pbc=ts.data["pbc"])
        np.testing.assert_allclose(turned.get_all_distances(mic=True), found.distances, atol=1e-4)


USUAL = ("xtc", "trr", "dcd", "pdb", "gro", "ncdf")  # the others are slow only in number


@pytest.mark.parametrize("suffix", [
    pytest.param(suffix, marks=() if suffix in USUAL else pytest.mark.slow) for suffix in WITH_CELL
])  # fmt: skip
@pytest.mark.parametrize("name", SYSTEMS)
def test_files_keep_distances_velocities_and_forces(recorded, tmp_path, name, suffix):
    found, path = recorded(name), tmp_path / f"out.{suffix}"
    said = _exported(found, path)
    partial = found.atoms.pbc.any() and not found.atoms.pbc.all()
    assert len(said) == partial
    assert all(f"which .{suffix} cannot express" in words for words in said)
    universe, own, error = _universe(found, path), found.atoms, PRECISION.get(suffix, 1e-4)
    np.testing.assert_allclose(_seen(universe), found.distances, atol=error)
    ts = universe.trajectory.ts
    if suffix in WITH_VELOCITIES:
        velocities = own.get_velocities() * units.fs * 1e3
        _assert_turned(ts.velocities, ts.positions, velocities, own.positions, 10 * error)
    if suffix in WITH_FORCES:
        _assert_turned(ts.forces, ts.positions, own.get_forces() / KJ, own.positions, 1e-3)
    if suffix in READ_BY_ASE:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # on where ASE will read "aims"
            again = read(path, format=READ_BY_ASE[suffix])
        np.testing.assert_allclose(again.get_all_distances(mic=True), found.distances, atol=error)


@pytest.mark.parametrize("suffix", WITHOUT_CELL)
def test_a_format_without_a_cell_says_so(recorded, tmp_path, suffix):
    assert f".{suffix} holds no cell" in _exported(recorded("fcc"), tmp_path / f"a.{suffix}")[0]
    assert not _exported(recorded("molecule"), tmp_path / f"b.{suffix}")


@pytest.mark.parametrize("suffix", ["extxyz", "xyz", "traj"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_ase_gets_the_very_atoms(recorded, tmp_path, name, suffix):
    found, path = recorded(name), tmp_path / f"out.{suffix}"
    assert not _exported(found, path)
    again, own = read(path), found.atoms
    np.testing.assert_array_equal(again.pbc, own.pbc)
    np.testing.assert_allclose(again.cell.array, own.cell.array, atol=1e-12)
    exact = {"rtol": 3e-7, "atol": 1e-6}  # the record's float32
    np.testing.assert_allclose(again.positions, own.positions, **exact)
    np.testing.assert_allclose(again.get_velocities(), own.get_velocities(), **exact)
    np.testing.assert_allclose(again.get_forces(), own.get_forces(), **exact)
    np.testing.assert_allclose(again.get_all_distances(mic=True), found.distances, **exact)


def test_a_pdb_file_of_many_frames_is_read_frame_by_frame_with_its_cells(recorded, tmp_path):
    found = recorded("fcc")
    path = tmp_path / "all.pdb"
    export(found.run, path)
    assert [len(atoms) for atoms in read(path, ":")] == [27] * 4
    cells = [2.0, 2.1, 2.1, 2.3]
    frames = found.run.frames()
    changing = [frame.to_atoms() for frame in frames]
    for atoms, factor in zip(changing, cells, strict=True):
        atoms.set_cell(factor * atoms.cell, scale_atoms=True)
    other = tmp_path / "run"
    shutil.copytree(found.run.path, other)
    run = _with_frames(mdxai.open_run(other), changing)
    export(run, tmp_path / "npt.pdb")
    again = read(tmp_path / "npt.pdb", ":")
    found_lengths = [atoms.cell.lengths()[0] for atoms in again]
    expected = [atoms.cell.lengths()[0] for atoms in changing]
    np.testing.assert_allclose(found_lengths, expected, atol=1e-3)
    universe = MDAnalysis.Universe(str(tmp_path / "npt.pdb"))
    lengths = [ts.dimensions[0] for ts in universe.trajectory]
    np.testing.assert_allclose(lengths, expected, atol=1e-3)


def _with_frames(run, atoms):
    """Return the run with other frames."""
    from mdxai.frame import Frame

    frames = [Frame.from_atoms(one, step=k, time=float(k)) for k, one in enumerate(atoms)]

    class Other(type(run)):
        def frame(self, index):
            return frames[index]

    run.__class__ = Other
    return run


def test_constraints_are_kept_where_the_format_can(tmp_path):
    atoms = SYSTEMS["slab"]()
    atoms.set_constraint([
        FixAtoms([0, 1, 2]), FixCartesian([5], (True, False, True)), FixBondLength(10, 11),
        Hookean(20, 21, k=5.0, rt=2.0),
    ])  # fmt: skip
    found = _recorded(atoms, tmp_path / "run")
    said = _exported(found, tmp_path / "a.traj")
    assert len(said) == 1
    assert "constraints are not kept (Hookean)" in said[0]
    kept = read(tmp_path / "a.traj").constraints
    assert [type(one).__name__ for one in kept] == ["FixAtoms", "FixCartesian", "FixBondLengths"]
    assert kept[0].index.tolist() == [0, 1, 2]
    (said,) = _exported(found, tmp_path / "a.extxyz")
    assert "(FixBondLengths, Hookean)" in said
    fixed = np.zeros((len(atoms), 3), dtype=bool)
    for one in read(tmp_path / "a.extxyz").constraints:
        fixed[one.index] |= one.mask
    expected = np.zeros((len(atoms), 3), dtype=bool)
    expected[:3], expected[5] = True, (True, False, True)
    np.testing.assert_array_equal(fixed, expected)
    (said,) = _exported(found, tmp_path / "a.xtc")
    assert "cannot express" in said
    assert "(FixAtoms, FixCartesian, FixBondLengths, Hookean)" in said
    for name in ("a.traj", "a.extxyz"):
        held = read(tmp_path / name).calc.results["forces"]
        np.testing.assert_allclose(held, found.run.frame(3).forces, atol=1e-8)


def test_partial_periodicity_is_said_when_a_universe_is_made(recorded):
    with pytest.warns(RecordWarning, match="repeats along b only, which MDAnalysis cannot"):
        MDAnalysis.Universe(recorded("wire").run)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MDAnalysis.Universe(recorded("fcc").run)


def test_a_cell_in_the_standard_orientation_is_left_alone(recorded):
    frame = recorded("boxed").run.frame(0)
    assert standard_cell(frame) is None
    cubic = mdxai.Frame.from_atoms(bulk("Cu", cubic=True) * (2, 2, 2))
    assert standard_cell(cubic).turned(cubic.positions) is cubic.positions


def test_the_box_of_a_slab_does_not_follow_each_step(recorded):
    frames = list(recorded("slab").run.frames())
    boxes = [standard_cell(frame).box[2, 2] for frame in frames]
    assert set(boxes) == {30.0}
