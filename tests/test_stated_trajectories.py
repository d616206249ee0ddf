"""What a trajectory file means is stated by it or by the user, or it is asked for."""

from __future__ import annotations

import gzip
import json

import h5py
import MDAnalysis
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.io import read, write
from ase.md.verlet import VelocityVerlet
from MDAnalysis.lib.formats.libdcd import DCDFile
from schnetpack.md.simulation_hooks import FileLogger, MoleculeStream, PropertyStream
from typer.testing import CliRunner

import mdxai
from mdxai.cli.main import app
from mdxai.engines import DamagedTrajectory, Selection, TrajectoryError, TrajectoryWarning
from mdxai.engines.schnetpack_engine import ReplicaReader
from mdxai.engines.stated import SYSTEMS, Units
from mdxai.monitoring.replay import IncompleteReplay, open_trajectory, replay
from tests.conftest import ethanol_with, heated
from tests.replica_simulation import simulation

FS = units.fs
NETWORK = "schnet-ethanol"


def moving(n_frames=12, timestep=0.5):
    """Return frames of ethanol in NVE, each with its time."""
    atoms = heated(ethanol_with(NETWORK), 300, rng=1)
    dynamics = VelocityVerlet(atoms, timestep * FS)
    frames = []

    def keep():
        copy = atoms.copy()
        copy.info = {"step": dynamics.nsteps, "time_fs": dynamics.get_time() / FS}
        frames.append(copy)

    dynamics.attach(keep)
    dynamics.run(n_frames - 1)
    return frames


FRAMES = moving()
T = FRAMES[0].get_temperature()


def frames_of(path, topology=None, **stated):
    return list(open_trajectory(path, topology, Selection(**stated)).frames)


def assert_same(found, frames=FRAMES, velocities=True, atol=2e-5):
    """Check positions, velocities and times against the frames that were written."""
    assert len(found) == len(frames)
    for k, (frame, atoms) in enumerate(zip(found, frames, strict=True)):
        np.testing.assert_allclose(frame.positions, atoms.positions, atol=atol)
        assert frame.time == pytest.approx(0.5 * k, abs=1e-5)
        assert frame.has_velocities == velocities
        if velocities:
            np.testing.assert_allclose(frame.velocities, atoms.get_velocities() * FS, atol=1e-6)


def lines(atoms, *columns):
    table = np.column_stack([atoms.positions, *columns])
    rows = (
        f"{s} " + " ".join(f"{v:.9f}" for v in row) + "\n"
        for s, row in zip(atoms.symbols, table, strict=True)
    )
    return "".join(rows)


def xyz(path, comment, *, scale=1.0, columns=lambda atoms: ()):
    """Write an XYZ file with a comment per frame number."""
    with path.open("w") as file:
        for k, atoms in enumerate(FRAMES):
            copy = atoms.copy()
            copy.positions *= scale
            file.write(f"{len(copy)}\n{comment(k)}\n{lines(copy, *columns(atoms))}")
    return path


def lammps(path, *, factor=1.0, ids=True, extra="", head="", frames=FRAMES, scale=1.0):
    """Write a LAMMPS dump of types without elements, atoms in any order."""
    rng = np.random.default_rng(0)
    kinds = {"C": 1, "O": 2, "H": 3}
    with path.open("w") as file:
        for k, atoms in enumerate(frames):
            file.write(f"{head if k == 0 else ''}ITEM: TIMESTEP\n{1000 + k}\n")
            file.write(f"ITEM: NUMBER OF ATOMS\n{len(atoms)}\nITEM: BOX BOUNDS ff ff ff\n")
            file.write(f"0 20\n0 20\n0 20\nITEM: ATOMS {'id ' * ids}type{extra} x y z vx vy vz\n")
            order = rng.permutation(len(atoms)) if ids else range(len(atoms))
            table = np.hstack([atoms.positions * scale, atoms.get_velocities() * FS * factor])
            for i in order:
                name = f" {atoms.symbols[i]}" if extra else ""
                file.write(f"{i + 1} " * ids + f"{kinds[atoms.symbols[i]]}{name} ")
                file.write(" ".join(f"{v:.9f}" for v in table[i]) + "\n")
    return path


ELEMENTS = ("C", "O", "H")


def test_a_lammps_dump_is_in_the_units_and_of_the_elements_that_are_stated(tmp_path):
    path = lammps(tmp_path / "types.lammpstrj")
    with pytest.raises(TrajectoryError, match=r"units of its input script.*--units real"):
        frames_of(path, timestep=0.5)
    with pytest.raises(TrajectoryError, match=r"elements of this dump are not known.*--elements"):
        frames_of(path, units="real", timestep=0.5)
    with pytest.raises(TrajectoryError, match=r"how far apart.*--timestep"):
        frames_of(path, units="real", elements=ELEMENTS)
    found = frames_of(path, units="real", elements=ELEMENTS, timestep=0.5)
    assert_same(found)
    assert found[0].temperature == pytest.approx(T, rel=1e-5)
    assert [f.step for f in found[:3]] == [1000, 1001, 1002]
    with pytest.raises(TrajectoryError, match="velocities in a unit 1000 times larger"):
        frames_of(path, units="metal", elements=ELEMENTS, timestep=0.5)
    metal = lammps(tmp_path / "metal.dump", factor=1000.0)
    assert_same(frames_of(metal, units="metal", elements=ELEMENTS, timestep=0.5))
    with pytest.raises(TrajectoryError, match="unit of its velocities is not stated"):
        frames_of(path, units="positions=Å", elements=ELEMENTS, timestep=0.5)
    single = "positions=Å,velocities=Å/fs"
    assert_same(frames_of(path, units=single, elements=ELEMENTS, timestep=0.5))
    assert not any(f.has_energy for f in found)  # ASE makes up an energy of 0


def test_a_lammps_dump_may_state_units_elements_and_time(tmp_path):
    head = "ITEM: UNITS\nreal\n"
    path = lammps(tmp_path / "md.lammpsdump", head=head, extra=" element")
    assert_same(frames_of(path, timestep=0.5))
    text = path.read_text()
    for k in range(len(FRAMES)):
        text = text.replace(
            f"ITEM: TIMESTEP\n{1000 + k}\n", f"ITEM: TIMESTEP\n{1000 + k}\nITEM: TIME\n{0.5 * k}\n"
        )
    path.write_text(text)
    assert_same(frames_of(path))


def test_frames_whose_atoms_change_places_are_told_from_other_atoms(tmp_path):
    path = tmp_path / "md.extxyz"
    atoms = FRAMES[3]
    for changed, why in (
        (atoms[::-1], "another order; write them sorted"),
        (atoms[:-1], r"other atoms than the first \(8, first 9\)"),
    ):
        write(path, [*FRAMES[:3], changed])
        with pytest.raises(TrajectoryError, match=why):
            frames_of(path, timestep=0.5)


@pytest.mark.parametrize("periodic", [False, True])
def test_like_atoms_that_change_places_are_seen_by_their_velocities(tmp_path, periodic):
    """Swapping two hydrogens with all that belongs to them; a wrapped atom has not moved."""
    path, frames = tmp_path / "md.extxyz", [atoms.copy() for atoms in FRAMES[:6]]
    for atoms, original in zip(frames, FRAMES, strict=False):
        atoms.set_velocities(original.get_velocities())
        if periodic:
            atoms.set_cell([9, 9, 9])
            atoms.pbc = True
            atoms.positions[5] += 9 * (atoms is frames[3])
    write(path, frames)
    assert len(frames_of(path, timestep=0.5)) == 6
    hydrogens = [i for i in range(9) if frames[0].symbols[i] == "H"]
    order = list(range(9))
    order[hydrogens[0]], order[hydrogens[-1]] = hydrogens[-1], hydrogens[0]
    write(path, [*frames[:4], *(atoms[order] for atoms in frames[4:])])
    with pytest.raises(TrajectoryError, match=r"atom \d is where atom \d was at 1.5 fs.*sorted"):
        frames_of(path, timestep=0.5)


def test_atoms_of_a_dump_without_ids_have_no_order(tmp_path):
    path = lammps(tmp_path / "md.dump", ids=False)
    with pytest.raises(TrajectoryError, match="no id, so nothing says which is which"):
        frames_of(path, units="real", elements=ELEMENTS, timestep=0.5)
    every = tuple(FRAMES[0].get_chemical_symbols())
    assert_same(frames_of(path, units="real", elements=every, timestep=0.5))


def test_a_topology_gives_the_elements_of_a_dump(tmp_path):
    path, top = lammps(tmp_path / "md.dump"), tmp_path / "top.data"
    kinds = {"C": 1, "O": 2, "H": 3}
    rows = [
        f"{n + 1} 1 {kinds[s]} 0.0 " + " ".join(f"{x:.6f}" for x in place)
        for n, (s, place) in enumerate(zip(FRAMES[0].symbols, FRAMES[0].positions, strict=True))
    ]
    top.write_text(
        "LAMMPS\n\n9 atoms\n3 atom types\n\n0 20 xlo xhi\n0 20 ylo yhi\n0 20 zlo zhi\n\nMasses\n\n"
        "1 12.011\n2 15.999\n3 1.008\n\nAtoms # full\n\n" + "\n".join(rows) + "\n"
    )
    found = frames_of(path, top, units="real", timestep=0.5)
    assert "".join(found[0].symbols) == "".join(FRAMES[0].symbols)
    assert_same(found)


def test_units_by_name_are_those_of_ase():
    metal, real = SYSTEMS["metal"], SYSTEMS["real"]
    assert (metal.velocities, metal.forces, metal.time) == pytest.approx((1e-3, 1.0, 1e3))
    assert real.forces == pytest.approx(units.kcal / units.mol)
    assert real.velocities == pytest.approx(1.0)
    single = Units.parse("real,velocities=m/s,positions=bohr,time=ns")
    assert single == Units(units.Bohr, pytest.approx(1e-5), real.forces, real.energy, 1e6)
    assert Units.parse("forces=kcal/mol/Å").forces == pytest.approx(real.forces)
    assert Units.parse("velocities=Å/ase_time").velocities == pytest.approx(FS)
    assert Units.parse("velocities=bohr/au_time").velocities == pytest.approx(21.8769126, rel=1e-6)
    for text, message in (
        ("lj", "have no scale"), ("velocities=Å", "is no unit of velocities"),
        ("forces=eV/furlong", "'furlong' of forces is not known"), ("mass=g", "are stated of"),
    ):  # fmt: skip
        with pytest.raises(TrajectoryError, match=message):
            Selection(units=text)


CONVENTIONS = {  # of plain XYZ: comment, scale of lengths, columns, velocities there, time there
    "CP2K": (lambda k: f" i = {k:8d}, time = {0.5 * k:12.3f}, E = -154.72", 1.0, None, True),
    "i-PI": (
        lambda k: f"# CELL(abcABC): 56 56 56 90 90 90  Step: {k}  Bead: 0 "
        "positions{atomic_unit}  cell{atomic_unit}", 1 / units.Bohr, None, False,
    ),
    "DFTB+": (
        lambda k: f"MD iter: {k}", 1.0,
        lambda a: (np.full(9, 4.0), a.get_velocities() * FS * 1000), False,
    ),
    "xtb": (lambda k: " energy: -11.39 gnorm: 0.02 xtb: 6.4.1", 1.0, None, False),
    "explicit": (lambda k: f"frame {k}, time = {0.0005 * k} ps", 1.0, None, True),
    "bohr": (lambda k: "positions in bohr", 1 / units.Bohr, None, False),
    "none": (lambda k: "", 1.0, None, False),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVENTIONS)
def test_plain_xyz_means_what_its_program_says(tmp_path, name):
    comment, scale, columns, has_time = CONVENTIONS[name]
    path = xyz(tmp_path / "md.xyz", comment, scale=scale, columns=columns or (lambda atoms: ()))
    if not has_time:
        with pytest.raises(TrajectoryError, match=r"how far apart.*--timestep"):
            frames_of(path)
    found = frames_of(path, timestep=None if has_time else 0.5)
    assert_same(found, velocities=name == "DFTB+")
    assert found[0].pbc.all() == (name == "i-PI")
    if name == "i-PI":
        np.testing.assert_allclose(np.diag(found[0].cell), 56 * units.Bohr)


def test_bohr_that_is_not_stated_is_recognized_and_believed_when_stated(tmp_path):
    path = xyz(tmp_path / "md.xyz", lambda k: "", scale=1 / units.Bohr)
    with pytest.raises(TrajectoryError, match=r"are they in bohr\? State --units positions=bohr"):
        frames_of(path, timestep=0.5)
    assert_same(frames_of(path, timestep=0.5, units="positions=bohr"), velocities=False)
    with pytest.warns(TrajectoryWarning, match="are they in bohr"):
        assert len(frames_of(path, timestep=0.5, units="positions=Å")) == len(FRAMES)
    for comment, message in (
        (lambda k: "Atoms. Timestep: 5", "LAMMPS does not say in this file in which unit"),
        (lambda k: "# CELL(abcABC): 9 9 9 90 90 90 Step: 1 Bead: 0 x", "i-PI does not say"),
        (lambda k: "# CELL(abcABC): 9 9 9 90 90 90 Step: 1 Bead: 0 velocities{atomic_unit}",
         "holds velocities of i-PI"),
    ):  # fmt: skip
        with pytest.raises(TrajectoryError, match=message):
            frames_of(xyz(tmp_path / "other.xyz", comment), timestep=0.5)


def extended(path, comment, columns):
    """Write extended XYZ with velocities in columns as given by a function of the atoms."""
    with path.open("w") as file:
        for k, atoms in enumerate(FRAMES):
            file.write(f"9\n{comment(k)}\n{lines(atoms, columns(atoms))}")
    return path


def test_velocities_and_times_of_extended_xyz(tmp_path):
    speed = lambda atoms: atoms.get_velocities() * FS  # noqa: E731
    gpumd = extended(
        tmp_path / "gpumd.xyz",
        lambda k: f'Time={0.5 * k} pbc="F F F" Lattice="30 0 0 0 30 0 0 0 30" '
        "Properties=species:S:1:pos:R:3:vel:R:3", speed,
    )  # fmt: skip
    assert_same(frames_of(gpumd))
    other = extended(
        tmp_path / "other.xyz",
        lambda k: f"Properties=species:S:1:pos:R:3:velocities:R:3 time_fs={0.5 * k}", speed,
    )  # fmt: skip
    with pytest.raises(TrajectoryError, match="unit of its column velocities"):
        frames_of(other)
    assert_same(frames_of(other, units="velocities=Å/fs"))
    assert_same(frames_of(other, without=("velocities",)), velocities=False)
    with pytest.raises(TrajectoryError, match=r"10.\d times as far as velocity × time"):
        frames_of(other, units="ase")
    janus = extended(
        tmp_path / "janus.extxyz",
        lambda k: f"Properties=species:S:1:pos:R:3:momenta:R:3 arch=mace_mp time_fs={0.5 * k} "
        f"step={k} real_time=0.1 mace_mp_energy=-3.0", lambda a: a.get_momenta(),
    )  # fmt: skip
    found = frames_of(janus)
    assert_same(found)
    assert not found[0].has_energy


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"step": 0}, "how far apart"),
        ({"step": "step_3"}, "how far apart"),
        ({"time_fs": "0.5fs"}, "its time_fs is '0.5fs', which is no single number"),
        ({"time_fs": [0.5, 0.0]}, "which is no single number"),
        ({"time": 0.0005}, r"says time=0.0005 without a unit \(units=, --units time=ps\)"),
    ],
)
def test_a_stated_timestep_settles_any_time(tmp_path, entry, message):
    frames = [atoms.copy() for atoms in FRAMES]
    for atoms in frames:
        atoms.info = dict(entry)
    write(tmp_path / "md.extxyz", frames)
    with pytest.raises(TrajectoryError, match=message):
        frames_of(tmp_path / "md.extxyz")
    found = frames_of(tmp_path / "md.extxyz", timestep=0.5)
    assert_same(found)
    assert [frame.step for frame in found] == list(range(len(FRAMES)))


def test_times_with_a_stated_unit(tmp_path):
    frames = [atoms.copy() for atoms in FRAMES]
    for k, atoms in enumerate(frames):
        atoms.info = {"time": 0.0005 * k}
    write(tmp_path / "md.extxyz", frames)
    assert_same(frames_of(tmp_path / "md.extxyz", units="time=ps"))
    with pytest.raises(TrajectoryError, match=r"rather than 0.0005 \(timestep="):
        frames_of(tmp_path / "md.extxyz", units="time=fs")


@pytest.mark.filterwarnings("ignore::mdxai.engines.TrajectoryWarning")
def test_the_frame_that_two_runs_share_counts_once(tmp_path):
    atoms = heated(molecule("CH3CH2OH"), 300, rng=1)
    atoms.calc = EMT()
    file = tmp_path / "md.traj"
    VelocityVerlet(atoms, 0.5 * FS, trajectory=str(file)).run(15)
    again = read(file)
    again.calc = EMT()
    VelocityVerlet(again, 0.5 * FS, trajectory=str(file), append_trajectory=True).run(15)
    assert len(read(file, ":")) == 32
    for step in (1, 3):
        times = [frame.time for frame in frames_of(file, step=step)]
        np.testing.assert_allclose(times, 0.5 * step * np.arange(len(times)))
        assert times[-1] == 15.0
    parts = read(file, ":16"), read(file, "16:")
    for part in parts:
        for k, image in enumerate(part):
            image.info.update(time_fs=0.5 * k, step=k)
    write(tmp_path / "both.extxyz", [*parts[0], *parts[1]])
    with pytest.raises(TrajectoryError, match=r"time does not increase.*--timestep"):
        frames_of(tmp_path / "both.extxyz")
    found = frames_of(tmp_path / "both.extxyz", timestep=0.5)
    assert [f.time for f in found] == (0.5 * np.arange(31)).tolist()
    assert np.all(np.diff([f.step for f in found]) == 1)


def test_a_run_that_was_continued_with_another_time_step_is_noticed(tmp_path):
    atoms = heated(ethanol_with(NETWORK), 300, rng=1)
    file = tmp_path / "md.traj"
    VelocityVerlet(atoms, 0.5 * FS, trajectory=str(file)).run(15)
    VelocityVerlet(atoms, 0.125 * FS, trajectory=str(file), append_trajectory=True).run(30)
    with pytest.raises(IncompleteReplay, match=r"0.12\d fs apart rather than 0.5") as caught:
        replay(NETWORK, file, attribute_every=0)
    verdict = caught.value.monitor.verdict
    assert verdict.stability != "stable"
    assert 10 < verdict.n_frames <= 22  # looked at by a few


def test_deuterium_is_heavy_hydrogen(tmp_path):
    with (tmp_path / "d2o.xyz").open("w") as file:
        for k in range(3):
            file.write(f"3\nProperties=species:S:1:pos:R:3 time_fs={k}\n")
            file.write(f"O 0 0 0\nD {0.96 + 0.01 * k} 0 0\nT -0.24 0.93 0\n")
    water = frames_of(tmp_path / "d2o.xyz")[0]
    assert water.symbols == ["O", "H", "H"]
    np.testing.assert_allclose(water.masses, [15.999, 2.014102, 3.016049], atol=1e-6)
    atoms = molecule("CH3OH")
    write(tmp_path / "h.pdb", [atoms, atoms])
    text = (tmp_path / "h.pdb").read_text().replace("           H  ", "           D  ")
    (tmp_path / "d.pdb").write_text(text)
    for topology in (None, tmp_path / "d.pdb"):
        found = frames_of(tmp_path / "d.pdb", topology, timestep=1.0, stop=1)[0]
        assert found.symbols == atoms.get_chemical_symbols()
        assert set(found.masses[2:].round(4)) == {2.0141}
    marked = lammps(tmp_path / "md.dump")
    heavy = frames_of(marked, units="real", elements=("C", "O", "D"), timestep=0.5)
    assert set(heavy[0].masses.round(3)) == {12.011, 15.999, 2.014}


def pdb(path, cell="", element="O"):
    places = ((0, 0, 0), (0.957, 0, 0), (-0.24, 0.93, 0), (0.11, 0.13, 0))
    sites = zip(("OW", "HW1", "HW2", "MW"), (element, "H", "H", ""), places, strict=True)
    sites = list(sites)
    with path.open("w") as file:
        file.write(cell)
        for model in range(3):
            file.write(f"MODEL     {model + 1:4d}\n")
            for i, (name, symbol, x) in enumerate(sites):
                y = x[1] + 0.003 * model
                file.write(
                    f"HETATM{i + 1:5d}  {name:<3s} SOL A   1    {x[0]:8.3f}{y:8.3f}{x[2]:8.3f}"
                    f"  1.00  0.00          {symbol:>2s}\n"
                )
            file.write("ENDMDL\n")
        file.write("END\n")
    return path


def test_sites_without_mass_are_left_aside_with_a_word(tmp_path):
    path = pdb(tmp_path / "tip4p.pdb")
    for topology in (None, path):
        with pytest.warns(TrajectoryWarning, match="1 of 4 atoms have no mass"):
            found = frames_of(path, topology, timestep=1.0)
        assert found[0].symbols == ["O", "H", "H"]
        assert len(frames_of(path, topology, timestep=1.0, atoms="0-2")) == 3
    assert len(frames_of(path, path, timestep=1.0, atoms="not name MW")) == 3
    with pytest.raises(TrajectoryError, match="other selections need a topology"):
        frames_of(path, timestep=1.0, atoms="not name MW")
    with pytest.raises(TrajectoryError, match=r"the element of atom 0 \(OW\).*a name is none"):
        frames_of(pdb(tmp_path / "names.pdb", element=""), timestep=1.0)
    dummy = Atoms("OHHX", [[0, 0, 0], [0.957, 0, 0], [-0.24, 0.927, 0], [0.11, 0.13, 0]])
    dummy.set_masses([15.999, 1.008, 1.008, 0.0])
    dummy.set_momenta([[0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1], [0, 0, 0]])
    with pytest.warns(TrajectoryWarning, match="1 of 4 atoms"):
        (frame,) = list(open_trajectory([dummy], None, Selection(timestep=1.0)).frames)
    assert frame.n_atoms == 3
    assert np.isfinite(frame.velocities).all()


def test_some_atoms_have_no_energy_of_their_own(tmp_path):
    atoms = FRAMES[0].copy()
    atoms.calc = EMT()
    atoms.get_forces()
    write(tmp_path / "md.extxyz", atoms)
    whole, some = (frames_of(tmp_path / "md.extxyz", atoms=a)[0] for a in (None, "C,O"))
    assert whole.has_energy
    assert {"energy", "forces"} <= some.absent
    np.testing.assert_allclose(some.positions, whole.positions[:3])


def test_a_cell_of_1_is_none_and_others_too_small_are_refused(tmp_path):
    record = "CRYST1{0:9.3f}{0:9.3f}{0:9.3f}  90.00  90.00  90.00 P 1           1\n"
    path = pdb(tmp_path / "nmr.pdb", record.format(1.0))
    with pytest.warns(TrajectoryWarning, match="CRYST1 record is 1.000 × 1.000 × 1.000"):
        assert not frames_of(path, timestep=1.0, atoms="O,H")[0].pbc.any()
    wide = frames_of(pdb(tmp_path / "wide.pdb", record.format(20.0)), timestep=1.0, atoms="O,H")
    assert all(frame.pbc.all() and frame.cell[0, 0] == 20 for frame in wide)  # of all models
    with pytest.raises(TrajectoryError, match=r"0.5 Å from their own images.*--without cell"):
        frames_of(pdb(tmp_path / "small.pdb", record.format(0.5)), timestep=1.0, atoms="O,H")
    found = frames_of(tmp_path / "small.pdb", timestep=1.0, atoms="O,H", without=("cell",))
    assert not found[0].pbc.any()


def dcd(path, delta, remarks):
    with DCDFile(str(path), "w") as file:
        file.write_header(remarks=remarks, natoms=9, istart=0, nsavc=1, delta=delta, is_periodic=0)
        for atoms in FRAMES:
            file.write(atoms.positions.astype(np.float32), np.array([0, 0, 0, 90, 90, 90.0]))
    return path


def test_times_of_a_dcd_are_believed_of_programs_that_keep_to_its_unit(tmp_path):
    top = tmp_path / "top.pdb"
    write(top, FRAMES[0])
    akma = 0.0005 / 0.04888821
    assert_same(
        frames_of(dcd(tmp_path / "a.dcd", akma, "Created by OpenMM"), top), velocities=False
    )
    for delta, remarks, why in (
        (0.5, "REMARK Written by LAMMPS", "it says 'REMARK Written by LAMMPS'"),
        (0.0, "Created by OpenMM", "a time step of 0"),
    ):
        path = dcd(tmp_path / "b.dcd", delta, remarks)
        with pytest.raises(TrajectoryError, match=why + r".*--timestep"):
            frames_of(path, top)
        assert_same(frames_of(path, top, timestep=0.5), velocities=False)


def test_frames_of_schnetpacks_own_md(tmp_path):
    network = mdxai.load_calculator("schnet-ethanol")
    streams = [MoleculeStream(store_velocities=True), PropertyStream(["forces"])]
    logger = FileLogger(str(tmp_path / "md.hdf5"), 5, data_streams=streams)
    simulator = simulation(network, logger, n_replicas=1)
    simulator.simulate(10)
    (seen,) = ReplicaReader(simulator).frames(10)
    found = frames_of(tmp_path / "md.hdf5")
    assert len(found) == 10
    np.testing.assert_allclose(np.diff([f.time for f in found]), 0.5, rtol=1e-6)
    last = found[-1]
    np.testing.assert_allclose(last.positions, seen.positions, atol=1e-4)
    np.testing.assert_allclose(last.velocities, seen.velocities, atol=1e-6)
    with h5py.File(tmp_path / "md.hdf5", "a") as file:
        file["molecules"].attrs["n_replicas"] = 2
    with pytest.raises(TrajectoryError, match="holds 2 replicas"):
        frames_of(tmp_path / "md.hdf5")


def exploded():
    """Return 40 frames that fly apart from frame 34 on."""
    frames = moving(40)
    for k in range(34, 40):
        frames[k].positions *= 1 + 2.0 * (k - 33)
    return frames


def test_frames_before_a_damage_are_judged_and_the_damage_is_named(tmp_path):
    write(tmp_path / "whole.extxyz", exploded())
    (tmp_path / "cut.extxyz").write_bytes((tmp_path / "whole.extxyz").read_bytes()[:-400])
    with pytest.raises(
        IncompleteReplay, match="cannot be read beyond its first 39 frames"
    ) as caught:
        replay(NETWORK, tmp_path / "cut.extxyz", tmp_path / "out", attribute_every=0)
    verdict = caught.value.monitor.verdict
    assert (verdict.stability, verdict.onset_fs, verdict.n_frames) == ("unstable", 17.0, 39)
    run = mdxai.open_run(tmp_path / "out")
    assert run.n_frames == 39
    assert "its first 39 frames" in run.verdict["interrupted_by"]


@pytest.mark.parametrize("end", ["stable", "unstable"])
def test_a_file_without_its_end_is_never_stable(tmp_path, end):
    write(tmp_path / "md.extxyz", moving(20) if end == "stable" else exploded())
    content = (tmp_path / "md.extxyz").read_bytes()
    (tmp_path / "md.extxyz").write_bytes(content[:-300])
    arguments = ["replay", NETWORK, str(tmp_path / "md.extxyz"), "--attribute-every", "0"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out"), "--json"])
    assert result.exit_code == (2 if end == "stable" else 3), result.output
    said = json.loads(result.stdout.splitlines()[-1])
    assert said["stability"] == ("inconclusive" if end == "stable" else "unstable")
    assert "cannot be read beyond" in said["unavailable"]["end of the trajectory"]
    assert mdxai.judge(mdxai.open_run(tmp_path / "out")).stability == said["stability"]


def test_half_a_frame_of_a_binary_file_is_seen(tmp_path):
    """MDAnalysis leaves it out unsaid."""
    write(tmp_path / "top.pdb", FRAMES[0])
    universe = MDAnalysis.Universe(str(tmp_path / "top.pdb"))
    universe.dimensions = [50, 50, 50, 90, 90, 90]
    for suffix in ("xtc", "trr", "dcd"):
        whole = tmp_path / f"whole.{suffix}"
        with MDAnalysis.Writer(str(whole), 9, dt=0.0005) as writer:
            for k, atoms in enumerate(FRAMES):
                universe.atoms.positions = atoms.positions
                universe.trajectory.ts.frame, universe.trajectory.ts.time = k, 0.0005 * k
                writer.write(universe.atoms)
        assert len(frames_of(whole, tmp_path / "top.pdb", timestep=0.5)) == len(FRAMES)
        (tmp_path / f"cut.{suffix}").write_bytes(whole.read_bytes()[:-20])
        opened = open_trajectory(
            tmp_path / f"cut.{suffix}", tmp_path / "top.pdb", Selection(timestep=0.5)
        )
        with pytest.raises(DamagedTrajectory, match=f"beyond its first {len(FRAMES) - 1} frames"):
            list(opened.frames)


def test_a_number_cut_in_two_is_not_read(tmp_path):
    """0.57 of 0.5712 is a number too."""
    path = xyz(tmp_path / "md.xyz", lambda k: "")
    whole = path.read_bytes()
    for cut in range(2, 12):
        path.write_bytes(whole[:-cut])
        with pytest.raises(DamagedTrajectory, match=f"beyond its first {len(FRAMES) - 1} frames"):
            frames_of(path, timestep=0.5)
    with gzip.open(tmp_path / "md.xyz.gz", "wb") as file:
        file.write(whole)
    packed = (tmp_path / "md.xyz.gz").read_bytes()
    assert_same(frames_of(tmp_path / "md.xyz.gz", timestep=0.5), velocities=False)
    (tmp_path / "md.xyz.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DamagedTrajectory, match="cannot be read beyond"):
        frames_of(tmp_path / "md.xyz.gz", timestep=0.5)


def test_a_stated_format_wins_and_an_unknown_one_is_refused(tmp_path):
    path = xyz(tmp_path / "xtb.trj", lambda k: "energy: -11 gnorm: 0.1 xtb: 6")
    assert len(frames_of(path, timestep=0.5)) == len(FRAMES)  # by its content
    odd = tmp_path / "md.dat"
    odd.write_text(path.read_text())
    assert len(frames_of(odd, timestep=0.5, format="xyz")) == len(FRAMES)
    with pytest.raises(TrajectoryError, match="'amber' is none of ASE's"):
        frames_of(odd, format="amber")


def test_what_is_stated_is_recorded_and_notes_are_shown(tmp_path):
    path = pdb(tmp_path / "tip4p.pdb")
    carbon_monoxide = [Atoms("CO", [[0, 0, 0], [1.13 + 0.01 * k, 0, 0]]) for k in range(3)]
    write(tmp_path / "co.xyz", carbon_monoxide, format="xyz")
    common = ["--attribute-every", "0", "--timestep", "1"]
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["replay", "emt", str(path), *common, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "note: 1 of 4 atoms have no mass" in result.output
    assert "1 of 4" in mdxai.open_run(out).header["engine"]["parameters"]["notes"][0]
    out = tmp_path / "other"
    stated = ["--units", "positions=Å", "--elements", "N,O", "--select", "0-1"]
    result = CliRunner().invoke(
        app, ["replay", "emt", str(tmp_path / "co.xyz"), *common, *stated, "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    parameters = mdxai.open_run(out).header["engine"]["parameters"]
    assert (parameters["units"], parameters["elements"]) == ("positions=Å", "N,O")
    assert mdxai.open_run(out).frame(0).symbols == ["N", "O"]
