"""Data sets of analyses: trajectories with a topology, and bad entries of every kind of file."""

from __future__ import annotations

import warnings
from itertools import chain

import ase.db
import ase.io
import MDAnalysis
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from MDAnalysis.coordinates.memory import MemoryReader

import mdxai
from mdxai.analysis import AnalyseError, AnalysisOptions, DataSet, entries_of
from mdxai.engines import Selection

from .hand_made_network import hand_made

ETHANOL = molecule("CH3CH2OH")
N_FRAMES = 6
QUICK = AnalysisOptions(closely=0, block=4)


def frames():
    rng = np.random.default_rng(3)
    return ETHANOL.positions + rng.normal(0, 0.02, (N_FRAMES, len(ETHANOL), 3))


def written_by_mdanalysis(folder, positions, suffix, atoms=ETHANOL, box=None):
    """Write positions as MDAnalysis does, and a topology beside; return both files."""
    top, path = folder / "top.pdb", folder / f"md.{suffix}"
    ase.io.write(top, atoms)
    universe = MDAnalysis.Universe(str(top))
    boxes = None if box is None else np.tile(box, (len(positions), 1))
    universe.load_new(positions.astype(np.float32), format=MemoryReader, dimensions=boxes)
    with warnings.catch_warnings(), MDAnalysis.Writer(str(path), len(atoms)) as writer:
        warnings.simplefilter("ignore")  # of a cell that is not there
        for _ in universe.trajectory:
            writer.write(universe.atoms)
    return path, top


@pytest.mark.parametrize(("suffix", "tolerance"), [("dcd", 1e-5), ("xtc", 0.01), ("trr", 1e-5)])
def test_trajectories_with_a_topology_are_data_sets(suffix, tolerance, tmp_path):
    path, top = written_by_mdanalysis(tmp_path, frames(), suffix)
    read = list(entries_of(path, top))
    assert [entry.index for entry in read] == list(range(N_FRAMES))
    for entry, expected in zip(read, frames(), strict=True):
        np.testing.assert_array_equal(entry.frame.numbers, ETHANOL.numbers)
        np.testing.assert_allclose(entry.frame.positions, expected, atol=tolerance)
    done = []
    found = mdxai.analyse(
        "painn-ethanol", DataSet.of(path, top), options=QUICK, progress=lambda *d: done.append(d)
    )
    data = tmp_path / "same.xyz"
    ase.io.write(data, [Atoms(ETHANOL.numbers, p) for p in frames()], format="extxyz")
    expected = mdxai.analyse("painn-ethanol", data, options=QUICK).tables()["bonds"]
    bonds = found.tables()["bonds"].set_index("name").loc[expected["name"]]
    loose = 0.05 if suffix == "xtc" else 1e-3
    np.testing.assert_allclose(bonds["mean"], expected["mean"], rtol=loose)
    assert done == [(4, N_FRAMES), (N_FRAMES, N_FRAMES)]  # their number is known beforehand
    assert found.identity["reading"]["topology"] == str(top)


def test_a_part_of_a_trajectory_is_analysed(tmp_path):
    """As a solute within its solvent; without the cell, which no molecule has."""
    water = molecule("H2O")
    water.positions += [8.0, 0, 0]
    both = ETHANOL + water
    path, top = written_by_mdanalysis(
        tmp_path, np.stack([both.positions] * 3), "dcd", both, box=[30, 30, 30, 90, 90, 90]
    )
    selection = Selection(atoms="index 0:8", without=("cell",))
    found = mdxai.analyse("painn-ethanol", DataSet.of(path, top, selection), options=QUICK)
    assert found.n_used == 3
    assert set(np.flatnonzero(found.models[0].tally.sizes.count[0])) == {9}
    with pytest.raises(AnalyseError, match="3 periodic"):
        mdxai.analyse("painn-ethanol", DataSet.of(path, top), options=QUICK)


def test_a_dump_of_lammps_needs_its_elements(tmp_path):
    lines = []
    for step, positions in enumerate(frames()[:2]):
        lines += ["ITEM: TIMESTEP", str(step), "ITEM: NUMBER OF ATOMS", "9"]
        lines += ["ITEM: BOX BOUNDS ff ff ff", *["-20 20"] * 3, "ITEM: ATOMS id type x y z"]
        for k, (z, place) in enumerate(zip(ETHANOL.numbers, positions, strict=True), 1):
            kind = {1: 1, 6: 2, 8: 3}[int(z)]
            lines.append(f"{k} {kind} " + " ".join(f"{x:.6f}" for x in place))
    path = tmp_path / "md.lammpstrj"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(AnalyseError, match="state them"):
        mdxai.analyse("painn-ethanol", path, options=QUICK)
    stated = Selection(elements=("H", "C", "O"), units="real")
    read = list(entries_of(path, selection=stated))
    np.testing.assert_array_equal(read[0].frame.numbers, ETHANOL.numbers)
    np.testing.assert_allclose(read[1].frame.positions, frames()[1], atol=1e-5)


def test_what_a_trajectory_lacks_is_said(tmp_path):
    path, top = written_by_mdanalysis(tmp_path, frames(), "dcd")
    with pytest.raises(AnalyseError, match=r"need a topology \(topology=, --topology\)"):
        mdxai.analyse("painn-ethanol", path, options=QUICK)
    with pytest.raises(AnalyseError, match="there is no topology"):
        DataSet.of(path, tmp_path / "none.pdb")
    np.savez(tmp_path / "odd.npz", n_atoms=[3, 9], Z=[8, 1, 1], R=np.zeros((3, 3)))
    with pytest.raises(AnalyseError, match=r"odd.npz cannot be read .* 3\)$"):
        mdxai.analyse("painn-ethanol", tmp_path / "odd.npz", options=QUICK)
    np.savez(tmp_path / "md.npz", z=ETHANOL.numbers, R=frames())
    with pytest.raises(AnalyseError, match="needs no topology"):
        DataSet.of(tmp_path / "md.npz", top)


def bad_frames():
    """Return frames of ethanol of which the second is not finite and the fourth overlaps."""
    positions = frames()
    positions[1, 3] = np.nan
    positions[3, 1] = positions[3, 0] + [0, 0, 0.3]
    return positions


def with_bad_frames(folder, kind):
    positions = bad_frames()
    images = [Atoms(ETHANOL.numbers, p) for p in positions]
    if kind == "npz":
        np.savez(folder / "md.npz", z=ETHANOL.numbers, R=positions)
        return folder / "md.npz", None
    if kind == "ragged":
        np.savez(
            folder / "md.npz", n_atoms=[len(ETHANOL)] * N_FRAMES,
            Z=np.tile(ETHANOL.numbers, N_FRAMES), R=positions.reshape(-1, 3),
        )  # fmt: skip
        return folder / "md.npz", None
    if kind == "db":
        with ase.db.connect(folder / "md.db") as database:
            for atoms in images:
                database.write(atoms)
        return folder / "md.db", None
    if kind in ("xyz", "traj"):
        ase.io.write(folder / f"md.{kind}", images)
        return folder / f"md.{kind}", None
    return written_by_mdanalysis(folder, positions, kind)


@pytest.mark.parametrize("kind", ["npz", "ragged", "db", "xyz", "traj", "dcd", "trr"])
def test_bad_frames_are_left_out_of_every_kind_of_file(kind, tmp_path):
    path, top = with_bad_frames(tmp_path, kind)
    found = mdxai.analyse(hand_made(3.0), DataSet.of(path, top), options=QUICK)
    reasons = {one.first: one.reason for one in found.left_out}
    assert "not finite" in reasons[(1,)]
    assert "overlapping" in reasons[(3,)]
    assert (found.n_read, found.n_used) == (N_FRAMES, N_FRAMES - 2)


def test_bad_molecules_of_an_npz_of_many_are_left_out(tmp_path):
    numbers = [[8, 1, 1], [], [2], [0, 0], [130, 6]]
    np.savez(
        tmp_path / "many.npz", n_atoms=[len(z) for z in numbers], Z=[*chain(*numbers)],
        R=np.vstack([molecule("H2O").positions, np.zeros((1, 3)), *[[[0, 0, 0], [0, 0, 2]]] * 2]),
    )  # fmt: skip
    found = mdxai.analyse("painn-ethanol", tmp_path / "many.npz", options=QUICK)
    reasons = {k: one.reason for one in found.left_out for k in one.first}
    assert found.n_used == 1
    assert reasons == {1: "no atoms", 2: "a single atom, which has no pairs",
                       3: "an unknown element", 4: "an unknown element"}  # fmt: skip


class Stopped(Exception):
    """Stands for a kill: nothing after it runs."""


@pytest.mark.parametrize("kind", ["npz", "db", "dcd"])
def test_an_analysis_goes_on_behind_bad_frames(kind, tmp_path):
    path, top = with_bad_frames(tmp_path, kind)
    options, out = AnalysisOptions(closely=0, block=2), tmp_path / "out"

    def stop(done, count):
        if done >= 4:
            raise Stopped("killed")

    data = DataSet.of(path, top)
    with pytest.raises(Stopped, match="killed"):
        mdxai.analyse(hand_made(3.0), data, path=out, options=options, progress=stop)
    again = []
    resumed = mdxai.analyse(
        hand_made(3.0), data, path=out, options=options, progress=lambda *d: again.append(d)
    )
    assert again == [(N_FRAMES, N_FRAMES)]
    straight = mdxai.analyse(hand_made(3.0), data, options=options)
    assert resumed.left_out == straight.left_out
    for name, table in straight.tables().items():
        assert table.equals(resumed.tables()[name]), name


def test_what_follows_a_damage_is_left_out(tmp_path):
    path, top = written_by_mdanalysis(tmp_path, frames(), "dcd")
    path.write_bytes(path.read_bytes()[:-40])
    found = mdxai.analyse(hand_made(3.0), DataSet.of(path, top), options=QUICK)
    assert found.n_used == N_FRAMES - 1
    assert "nor what follows" in found.left_out[0].reason


def test_folders_that_cannot_hold_an_analysis(tmp_path):
    network = hand_made(3.0)
    data = tmp_path / "one.xyz"
    ase.io.write(data, ETHANOL)
    for name, why in (("run.toml", "something else"), ("report.html", "something else")):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_text("of a run")
        with pytest.raises(AnalyseError, match=why):
            mdxai.analyse(network, data, path=folder, options=QUICK)
        assert (folder / name).read_text() == "of a run"
    with pytest.raises(
        AnalyseError, match=r"one.xyz cannot be written to as a folder: File exists"
    ):
        mdxai.analyse(network, data, path=data, options=QUICK)
    with pytest.raises(AnalyseError, match="cannot be written to as a folder: Not a directory"):
        mdxai.analyse(network, data, path=data / "below", options=QUICK)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")  # other files do no harm
    assert mdxai.analyse(network, data, path=tmp_path / "out", options=QUICK).n_used == 1
    (tmp_path / "out" / "sums.npz").write_bytes(b"cut")
    with pytest.raises(AnalyseError, match="is damaged, or is no sums of an analysis"):
        mdxai.analyse(network, data, path=tmp_path / "out", options=QUICK)


def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch):
    data = tmp_path / "one.xyz"
    ase.io.write(data, ETHANOL)
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    with pytest.raises(AnalyseError, match="Permission denied"):
        mdxai.analyse(hand_made(3.0), data, path=tmp_path / "out", options=QUICK)
