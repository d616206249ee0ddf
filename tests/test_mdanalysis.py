"""Runs in MDAnalysis: its reader contract, writers and analyses; exports; AttributionAnalysis."""

from __future__ import annotations

import pickle
import subprocess
import sys

import MDAnalysis
import numpy as np
import pytest
from ase import units
from ase.io import read
from ase.md.verlet import VelocityVerlet
from MDAnalysis.analysis.rms import RMSD

import mdxai
from mdxai.attribution.trajectory_analysis import AnalysisError, AttributionAnalysis
from mdxai.monitoring.monitor import Monitor
from mdxai.record.export import ExportError, export
from tests.conftest import ethanol_with, heated

KJ = units.kJ / units.mol
STEPS = 24


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("universe") / "run"
    atoms = heated(ethanol_with(), 300, rng=1)
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    with Monitor(dynamics, path, attribute_every=4) as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(STEPS)
    return mdxai.open_run(path)


@pytest.fixture
def universe(run):
    return MDAnalysis.Universe(run)


def test_frames_are_those_of_the_record_in_units_of_mdanalysis(run, universe):
    frames = list(run.frames())
    table = run.to_dataframe().set_index("step")
    assert len(universe.trajectory) == STEPS + 1
    for ts, frame in zip(universe.trajectory, frames, strict=True):
        np.testing.assert_allclose(ts.positions, frame.positions, rtol=1e-6)
        np.testing.assert_allclose(ts.velocities, frame.velocities * 1e3, rtol=1e-6)
        np.testing.assert_allclose(ts.forces, frame.forces / KJ, rtol=1e-6, atol=1e-4)
        assert ts.time == pytest.approx(frame.time / 1e3)
        assert ts.dt == pytest.approx(0.0005)
        assert ts.dimensions is None
        for name in (*run.deviations, "temperature_K", "potential_energy_eV"):
            np.testing.assert_equal(ts.data[name], float(table.loc[frame.step, name]))
        assert np.isnan(ts.data["relevance"]).all() == (frame.step % 4 != 0)


def test_relevance_is_that_of_the_explanation(run, universe):
    explain = mdxai.attributor(mdxai.load_calculator("schnet-ethanol"))
    found = explain.attribute(run.frame(8))
    data = universe.trajectory[8].data
    i, j = found.pairs.i, found.pairs.j
    np.testing.assert_allclose(data["relevance"][i, j], found.two_body, atol=2e-4)
    np.testing.assert_array_equal(data["relevance"], data["relevance"].T)
    np.testing.assert_allclose(data["relevance_per_atom"], found.atoms, atol=2e-4)
    np.testing.assert_allclose(data["relevance_one_body"], found.one_body, atol=2e-4)
    np.testing.assert_allclose(data["relevance_by_body_order"], found.by_body_order, atol=2e-3)
    assert data["explained_output"] == pytest.approx(found.output, abs=2e-4)
    assert data["explained_residual"] == pytest.approx(found.residual, abs=1e-3)


def test_every_frame_has_the_same_keys(universe):
    keys, shapes = set(), set()
    for ts in universe.trajectory:
        keys.add(tuple(ts.data))
        shapes.add(tuple(np.shape(value) for value in ts.data.values()))
        explained = ts.data["step"] % 4 == 0
        for name in ("relevance_per_atom", "relevance_by_body_order", "explained_residual"):
            assert np.isfinite(ts.data[name]).all() == explained
    assert len(keys) == len(shapes) == 1


def test_topology(universe):
    assert universe.atoms.names[:3].tolist() == ["C0", "C1", "O2"]
    assert universe.atoms.elements.tolist() == ethanol_with(None).get_chemical_symbols()
    np.testing.assert_allclose(universe.atoms.masses, ethanol_with(None).get_masses())
    assert len(universe.bonds) == 8
    assert len(universe.atoms.fragments) == 1


def test_the_reader_contract(universe):
    reader = universe.trajectory
    assert reader[5].frame == 5
    assert reader[-1].frame == STEPS
    assert [ts.frame for ts in reader[2:12:3]] == [2, 5, 8, 11]
    assert [ts.frame for ts in reader[[4, 1, 7]]] == [4, 1, 7]
    assert [ts.frame for ts in reader[::-8]] == [24, 16, 8, 0]
    assert reader.totaltime == pytest.approx(STEPS * 0.0005)
    with pytest.raises(IndexError, match="exceeds length of trajectory"):
        reader[STEPS + 1]
    reader[3]
    other = universe.copy()
    assert other.trajectory.frame == 3
    other.trajectory[9]
    assert reader.frame == 3
    reader.rewind()
    assert reader.frame == 0
    assert next(reader).frame == 1
    series = reader.timeseries(universe.atoms[:2], order="fac")
    np.testing.assert_array_equal(series[6], reader[6].positions[:2])


def test_universes_can_be_pickled(universe):
    universe.trajectory[7]
    again = pickle.loads(pickle.dumps(universe))
    assert again.trajectory.frame == 7
    np.testing.assert_array_equal(again.atoms.positions, universe.atoms.positions)
    assert again.trajectory[2].data["step"] == 2


def test_analyses_work_on_a_run(universe):
    serial = RMSD(universe.atoms).run().results.rmsd
    assert serial.shape == (STEPS + 1, 3)
    parallel = RMSD(universe.atoms).run(backend="multiprocessing", n_workers=2).results.rmsd
    np.testing.assert_array_equal(serial, parallel)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["MDAnalysis", "mdxai"])
def test_it_works_in_a_fresh_interpreter_in_any_order(run, first):
    code = (
        f"import {first}, mdxai\n"
        f"run = mdxai.open_run({str(run.path)!r})\n"
        "import MDAnalysis\n"
        "assert len(MDAnalysis.Universe(run).trajectory) == 25\n"
        f"assert len(MDAnalysis.Universe({str(run.path)!r}).trajectory) == 25\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


@pytest.mark.parametrize("suffix", ["xtc", "trr", "dcd", "h5md", "pdb", "ncdf"])
def test_export_through_mdanalysis(run, tmp_path, suffix, universe):
    out = tmp_path / f"out.{suffix}"
    assert export(run, out, start=2, stop=20, step=3) == 6
    universe.atoms.write(str(tmp_path / "top.xyz"))
    again = MDAnalysis.Universe(str(tmp_path / "top.xyz"), str(out))
    assert len(again.trajectory) == 6
    frames = list(run.frames(2, 20, 3))
    begin = again.trajectory[0].time if suffix != "pdb" else 0.0
    for ts, frame in zip(again.trajectory, frames, strict=True):
        np.testing.assert_allclose(ts.positions, frame.positions, atol=6e-3)
        if suffix != "pdb":
            assert ts.time - begin == pytest.approx((frame.time - frames[0].time) / 1e3, abs=1e-6)
        if suffix in ("trr", "h5md", "ncdf"):
            np.testing.assert_allclose(ts.velocities, frame.velocities * 1e3, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(ts.forces, frame.forces / KJ, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("suffix", ["extxyz", "traj"])
def test_export_through_ase_keeps_what_was_found(run, tmp_path, suffix):
    out = tmp_path / f"out.{suffix}"
    assert export(run.path, out, step=5) == 5
    table = run.to_dataframe().set_index("step")
    for atoms, frame in zip(read(out, ":"), run.frames(step=5), strict=True):
        assert atoms.info["step"] == frame.step
        assert atoms.info["deviation_bond"] == pytest.approx(table.loc[frame.step, "bond"])
        assert atoms.get_potential_energy() == pytest.approx(frame.energy)
        np.testing.assert_allclose(atoms.get_forces(), frame.forces, atol=1e-7)
        np.testing.assert_allclose(atoms.get_velocities() * units.fs, frame.velocities, atol=1e-7)


def test_exports_that_cannot_be(run, tmp_path):
    taken = tmp_path / "taken.xtc"
    taken.write_text("mine")
    with pytest.raises(ExportError, match="exists already"):
        export(run, taken)
    assert taken.read_text() == "mine"
    with pytest.raises(ExportError, match="select none of the"):
        export(run, tmp_path / "a.xtc", start=99)
    with pytest.raises(ExportError, match="cannot be written"):
        export(run, tmp_path / "a.nothing")
    for suffix in ("gro", "coor", "in"):
        with pytest.raises(ExportError, match="holds one frame, and 25 are chosen"):
            export(run, tmp_path / f"a.{suffix}")
    with pytest.raises(ExportError, match="cannot be written"):
        export(run, tmp_path / "a.mol2")  # needs charges
    assert [p.name for p in tmp_path.iterdir()] == ["taken.xtc"]


def test_attribution_analysis_equals_one_by_one(run, universe):
    analysis = AttributionAnalysis(universe, "schnet-ethanol").run(start=2, stop=14, step=4)
    results = analysis.results
    explain = mdxai.attributor(mdxai.load_calculator("schnet-ethanol"))
    assert results.times.tolist() == pytest.approx([0.001, 0.003, 0.005])
    for row, frame in enumerate(run.frames(2, 14, 4)):
        found = explain.attribute(frame)
        np.testing.assert_array_equal(results.pairs, np.stack([found.pairs.i, found.pairs.j], 1))
        np.testing.assert_allclose(results.two_body[row], found.two_body, atol=1e-5)
        np.testing.assert_allclose(results.distances[row], found.pairs.distances, atol=1e-6)
        np.testing.assert_allclose(results.by_body_order[row], found.by_body_order, atol=1e-4)
        assert results.residual[row] == pytest.approx(found.residual, abs=1e-4)
    assert results.profile.count.sum() == 3 * len(results.pairs)
    with pytest.raises(AnalysisError, match="no frame was selected"):
        AttributionAnalysis(universe, "schnet-ethanol").run(start=99)


@pytest.mark.slow
@pytest.mark.parametrize("by_name", [True, False])
def test_all_backends_give_identical_results(universe, by_name):
    calculator = "schnet-ethanol" if by_name else mdxai.load_calculator("schnet-ethanol")
    analysis = AttributionAnalysis(universe, calculator)
    expected = analysis.run(step=4).results
    for backend in ("multiprocessing", "dask"):
        found = AttributionAnalysis(universe, calculator).run(
            step=4, backend=backend, n_workers=2
        ).results  # fmt: skip
        for name in ("pairs", "two_body", "distances", "by_body_order", "residual", "times"):
            np.testing.assert_array_equal(found[name], expected[name])
        np.testing.assert_array_equal(found.profile.mean, expected.profile.mean)
