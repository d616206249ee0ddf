"""Replayed trajectories are judged as live ones; what they cannot tell is said."""

from __future__ import annotations

import signal
from dataclasses import replace

import MDAnalysis
import numpy as np
import pytest
from ase import Atoms, units
from ase.io import read, write
from ase.md.verlet import VelocityVerlet
from typer.testing import CliRunner

import mdxai
from mdxai.cli.main import app
from mdxai.engines import EngineDescription, Selection, TrajectoryEngine, TrajectoryError
from mdxai.frame import Frame
from mdxai.monitoring.monitor import Monitor
from mdxai.monitoring.replay import ReplayError, open_trajectory, replay, stated_dynamics
from mdxai.record.export import export
from tests.conftest import ethanol_dynamics, ethanol_with, heated

STEPS = 60
LANGEVIN = EngineDescription(temperature=500.0, random_bath=True)


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A run whose stretched O–H bond breaks the rules, as mdxai and as ASE record it."""
    folder = tmp_path_factory.mktemp("live")
    dynamics = ethanol_dynamics(trajectory=str(folder / "md.traj"))
    atoms = dynamics.atoms
    atoms.positions[8] += 0.45
    images = []

    def keep():
        copy = atoms.copy()
        copy.info = {"step": dynamics.nsteps, "time_fs": dynamics.get_time() / units.fs}
        copy.calc = atoms.calc.__class__(atoms.calc.potential)
        copy.calc.results = dict(atoms.calc.results)
        copy.calc.atoms = copy.copy()
        images.append(copy)

    with Monitor(dynamics, folder / "run", on_unstable="ignore") as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.attach(keep, interval=1)
        dynamics.run(STEPS)
    write(folder / "md.extxyz", images, format="extxyz")
    return folder, monitor


def deviations(path):
    run = mdxai.open_run(path)
    return run.to_dataframe().set_index("step")[list(run.deviations)]


def assert_same(replayed, monitor, tolerance):
    found, expected = replayed.verdict, monitor.verdict
    assert found.stability == expected.stability
    assert found.onset_fs == pytest.approx(expected.onset_fs)
    assert [f.principle for f in found.findings] == [f.principle for f in expected.findings]
    for a, b in zip(found.findings, expected.findings, strict=True):
        assert (a.severity, a.atoms) == (b.severity, b.atoms)
        assert a.time_fs == pytest.approx(b.time_fs)
        assert a.value == pytest.approx(b.value, rel=tolerance)
    assert set(found.unavailable) == set(expected.unavailable)


@pytest.mark.parametrize(
    ("name", "tolerance", "made"),
    [("md.traj", 1e-6, None), ("md.extxyz", 1e-4, LANGEVIN), ("run", 1e-3, None)],
)
def test_a_replayed_run_is_judged_as_it_was_live(live, tmp_path, name, tolerance, made):
    folder, monitor = live
    assert monitor.verdict.onset_fs is not None
    replayed = replay("schnet-ethanol", folder / name, tmp_path / "out", dynamics=made)
    assert_same(replayed, monitor, tolerance)
    ours, theirs = deviations(tmp_path / "out"), deviations(folder / "run")
    assert list(ours.columns) == list(theirs.columns)
    assert (ours.index == theirs.index).all()
    assert (ours.isna() == theirs.isna()).all().all()
    # Energies of a record in single precision: eV per atom to 1e-7 of hundreds, and their sums.
    atol = 1e-5 if name != "run" else 0.1
    np.testing.assert_allclose(
        ours.fillna(0.0), theirs.fillna(0.0), rtol=100 * tolerance, atol=atol
    )
    pairs = [mdxai.open_run(p).pairs_table() for p in (tmp_path / "out", folder / "run")]
    assert pairs[0]["step"].equals(pairs[1]["step"])
    np.testing.assert_allclose(*(p["two_body_eV"].to_numpy() for p in pairs), atol=1e-3)


def test_mdanalysis_formats_are_replayed_with_a_topology(live, tmp_path):
    folder, monitor = live
    universe = MDAnalysis.Universe(mdxai.open_run(folder / "run"))
    universe.atoms.write(str(tmp_path / "top.xyz"))
    universe.atoms.write(str(tmp_path / "md.trr"), frames="all")
    with pytest.raises(TrajectoryError, match="need a topology"):
        open_trajectory(tmp_path / "md.trr")
    replayed = replay(
        "schnet-ethanol", tmp_path / "md.trr", topology=tmp_path / "top.xyz", dynamics=LANGEVIN
    )
    # TRR has no energies, so energies and forces are computed.
    assert replayed.verdict.onset_fs == pytest.approx(monitor.verdict.onset_fs)
    assert replayed.verdict.stability == monitor.verdict.stability
    assert replayed.verdict.n_frames == STEPS + 1


def test_frames_that_are_all_numbered_0_are_counted(live, tmp_path):
    """As writers do that know no step; the time is the file's, or the one that is stated."""
    universe = MDAnalysis.Universe(mdxai.open_run(live[0] / "run"))
    with MDAnalysis.Writer(str(tmp_path / "md.xtc"), n_atoms=9) as writer:
        for ts in universe.trajectory[:5]:
            ts.data["step"] = 0
            writer.write(universe.atoms)
    universe.atoms.write(str(tmp_path / "top.xyz"))
    for timestep, spacing in ((None, 0.5), (3.0, 3.0)):
        opened = open_trajectory(
            tmp_path / "md.xtc", tmp_path / "top.xyz", Selection(timestep=timestep)
        )
        frames = list(opened.frames)
        assert [frame.step for frame in frames] == [0, 1, 2, 3, 4]
        np.testing.assert_allclose([f.time for f in frames], spacing * np.arange(5), atol=1e-3)
        assert not opened.counts_steps


@pytest.mark.parametrize("suffix", ["dcd", "xtc"])
@pytest.mark.parametrize(("every", "timestep"), [(1, None), (50, None), (1, 25.0)])
def test_files_that_count_frames_do_not_claim_single_steps(live, tmp_path, suffix, every, timestep):
    """The work of the forces over 25 fs is no change of energy, whatever a file calls a step."""
    export(live[0] / "run", tmp_path / "md.dcd", step=every)
    universe = MDAnalysis.Universe(mdxai.open_run(live[0] / "run"))
    universe.atoms.write(str(tmp_path / "top.xyz"))
    counted = MDAnalysis.Universe(str(tmp_path / "top.xyz"), str(tmp_path / "md.dcd"))
    if suffix == "xtc":
        counted.atoms.write(str(tmp_path / "md.xtc"), frames="all")
    replayed = replay(
        "schnet-ethanol", tmp_path / f"md.{suffix}",
        topology=tmp_path / "top.xyz", dynamics=LANGEVIN,
        selection=Selection(timestep=timestep), attribute_every=0,
    )  # fmt: skip
    spacing = timestep or 0.5 * every
    assert ("energy" in replayed.verdict.unavailable) == (spacing > 2)
    assert not [f for f in replayed.verdict.findings if f.principle == "energy" and spacing > 2]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # MDAnalysis' own
def test_a_damaged_dcd_is_one_clear_error(live, tmp_path):
    """Of its readers some fail with StopIteration, others with what the C library says."""
    export(live[0] / "run", tmp_path / "whole.dcd")
    universe = MDAnalysis.Universe(mdxai.open_run(live[0] / "run"))
    universe.atoms.write(str(tmp_path / "top.xyz"))
    whole = (tmp_path / "whole.dcd").read_bytes()
    rng, refused = np.random.default_rng(0), 0
    for _ in range(60):
        content = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for place in rng.integers(0, min(len(content), 400), size=3):
            content[place] = rng.integers(256)
        (tmp_path / "md.dcd").write_bytes(content)
        try:
            list(open_trajectory(tmp_path / "md.dcd", tmp_path / "top.xyz").frames)
        except TrajectoryError:
            refused += 1
    assert refused > 20


def test_what_a_file_lacks_is_said_and_the_rest_is_checked(live, tmp_path):
    folder, monitor = live
    bare = [Atoms(a.numbers, a.positions) for a in read(folder / "md.traj", ":")]
    write(tmp_path / "bare.xyz", bare, format="xyz")
    with pytest.raises(TrajectoryError, match=r"how far apart.*timestep"):
        replay("schnet-ethanol", tmp_path / "bare.xyz")
    replayed = replay(
        "schnet-ethanol", tmp_path / "bare.xyz", tmp_path / "out",
        selection=Selection(timestep=0.5), dynamics=LANGEVIN,
    )  # fmt: skip
    verdict = replayed.verdict
    assert verdict.unavailable["temperature"] == "the trajectory has no velocities"
    assert verdict.onset_fs == pytest.approx(monitor.verdict.onset_fs)
    assert "non_finite" not in {f.principle for f in verdict.findings}
    engine = mdxai.open_run(tmp_path / "out").header["engine"]
    assert engine["energies"] == "computed" if "energies" in engine else True
    assert engine["parameters"]["energies"] == "computed"
    ours, theirs = deviations(tmp_path / "out"), deviations(folder / "run")
    np.testing.assert_allclose(ours["bond"], theirs["bond"], atol=1e-6)
    np.testing.assert_allclose(ours["energy"], theirs["energy"], atol=0.05)


def test_sparse_frames_do_not_pretend_to_count_energy(live):
    folder, _ = live
    replayed = replay("schnet-ethanol", folder / "md.traj", selection=Selection(step=10))
    assert replayed.verdict.n_frames == STEPS // 10 + 1
    reason = replayed.verdict.unavailable["energy"]
    assert reason.startswith("frames are 5 fs apart")
    assert replayed.verdict.unavailable["energy_jump"] == reason


def test_an_unknown_thermostat_is_asked_for(live):
    folder, _ = live
    verdict = replay("schnet-ethanol", folder / "md.extxyz").verdict
    assert "--temperature" in verdict.unavailable["temperature"]
    assert "energy" not in verdict.unavailable  # the work of the forces needs no thermostat


def test_energy_is_conserved_without_a_thermostat_at_any_spacing():
    atoms = heated(ethanol_with(), 300, rng=2)
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    frames = []
    dynamics.attach(
        lambda: frames.append(Frame.from_atoms(
            atoms, step=dynamics.nsteps, time=dynamics.get_time() / units.fs)), 5,
    )  # fmt: skip
    dynamics.run(40)
    verdict = replay("schnet-ethanol", frames, dynamics=stated_dynamics("nve", None)).verdict
    assert {"energy", "momentum"}.isdisjoint(verdict.unavailable)
    assert not verdict.findings
    kicked = [replace(f, velocities=f.velocities * (3 if k > 4 else 1))
              for k, f in enumerate(frames)]  # fmt: skip
    broken = replay("schnet-ethanol", kicked, dynamics=stated_dynamics("nve", None)).verdict
    assert {"energy", "momentum"} & {f.principle for f in broken.findings}


def test_nan_in_a_trajectory_is_unstable_from_then_on(live):
    folder, _ = live
    frames = list(open_trajectory(folder / "run").frames)
    poisoned = frames[20].positions.copy()
    poisoned[3] = np.nan
    frames[20] = replace(frames[20], positions=poisoned)
    verdict = replay("schnet-ethanol", frames[15:30], recompute=True).verdict
    (finding,) = (f for f in verdict.findings if f.principle == "non_finite")
    assert finding.time_fs == frames[20].time


def test_halting_ends_the_replay(live):
    folder, monitor = live
    replayed = replay("schnet-ethanol", folder / "md.traj", on_unstable="halt")
    assert replayed.verdict.onset_fs == pytest.approx(monitor.verdict.onset_fs)
    assert replayed.verdict.n_frames < STEPS + 1


@pytest.mark.slow
def test_workers_give_the_same_record(live, tmp_path):
    folder, _ = live
    for workers in (1, 2):
        replay("schnet-ethanol", folder / "md.traj", tmp_path / str(workers), workers=workers,
               recompute=True, attribute_every=2)  # fmt: skip
    one, two = (mdxai.open_run(tmp_path / name) for name in ("1", "2"))
    assert one.frames_table().equals(two.frames_table())
    assert one.pairs_table().equals(two.pairs_table())


def test_calculators_that_cannot_travel_are_refused(live):
    folder, _ = live

    class Local(mdxai.load_calculator("schnet-ethanol").__class__):
        pass

    calculator = Local(mdxai.load_calculator("schnet-ethanol").potential)
    with pytest.raises(ReplayError, match="cannot be sent to other processes"):
        replay(calculator, folder / "md.traj", workers=2)


def jump_back(frames):
    return [frames[3], frames[2]]


def other_atoms(frames):
    return [frames[0], replace(frames[1], numbers=frames[1].numbers[::-1].copy())]


def forces_said_absent(frames):
    return [replace(frames[0].without("forces"), forces=frames[0].forces)]


def no_velocities(frames):
    return [frames[0], frames[1].without("velocities")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (jump_back, "time does not increase"),
        (other_atoms, "has the atoms of the first in another order"),
        (no_velocities, "has no velocities"),
        (forces_said_absent, "says that its forces are absent, yet holds some"),
        (lambda frames: [], "has no frames"),
        (lambda frames: ["H2O"], "expected frames or ASE atoms"),
    ],
)
def test_unusable_frames(live, change, message):
    frames = list(open_trajectory(live[0] / "run", selection=Selection(stop=5)).frames)
    with pytest.raises(TrajectoryError, match=message):
        replay("schnet-ethanol", change(frames))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Selection(step=0), "step must be positive"),
        (lambda: Selection(start=-1), "start must be 0 or positive"),
        (lambda: Selection(timestep=0.0), "timestep must be positive"),
        (lambda: Selection(without=("mass",)), "without takes"),
        (lambda: stated_dynamics("nve", 300.0), "is given without a temperature"),
        (lambda: stated_dynamics("langevin", None), "is given with a temperature"),
        (lambda: stated_dynamics("npt", 300.0), "must be one of nve"),
        (lambda: stated_dynamics("nvt", float("nan")), "temperature must be positive"),
        (lambda: replay("schnet-ethanol", [], workers=0), "workers must be positive"),
        (lambda: open_trajectory("nowhere.traj"), "there is no file"),
        (lambda: open_trajectory("nowhere.xtc", "top.pdb"), "there is no file"),
        (lambda: open_trajectory("imd://localhost:1"), "sends no elements"),
    ],
)
def test_bad_input_is_one_clear_error(make, message):
    with pytest.raises((TrajectoryError, ReplayError), match=message):
        make()


def test_damaged_files(tmp_path, live):
    whole = (live[0] / "md.traj").read_bytes()
    for name, content in (("a.traj", whole[: len(whole) // 2]), ("b.traj", b"nonsense"),
                          ("c.extxyz", b"9\nno lattice\nC 0 0\n")):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TrajectoryError, match=name):
            list(open_trajectory(tmp_path / name, selection=Selection(timestep=1.0)).frames)


def test_real_ab_initio_frames(shared_data):
    data = np.load(shared_data / "rmd17" / "rmd17_ethanol.npz")
    order = np.argsort(data["old_index"])[:40]
    kcal = units.kcal / units.mol
    scale = 1.0 if np.abs(data["F"]).max() < 50 else kcal
    frames = []
    for row in order:
        atoms = Atoms(data["z"], data["R"][row])
        frame = Frame.from_atoms(
            atoms, step=int(data["old_index"][row]), time=0.5 * float(data["old_index"][row])
        )
        energy, forces = scale * float(data["E"][row]), scale * data["F"][row].astype(float)
        frames.append(frame.without("velocities").with_results(energy, forces))
    verdict = replay("painn-ethanol", frames).verdict
    assert verdict.stability == "stable", verdict
    assert verdict.unavailable["flying_ice_cube"] == "the trajectory has no velocities"
    assert "apart" in verdict.unavailable["energy"]


def test_real_water(shared_data):
    data = np.load(shared_data / "water" / "water64_pbe0ts_dpmd.npz")
    frames = []
    for k in range(3):
        atoms = Atoms(data["z"], data["R"][k], cell=data["cell"][k], pbc=True)
        frame = Frame.from_atoms(atoms, step=100 * k, time=50.0 * k).without("velocities")
        frames.append(frame.with_results(float(data["E"][k]), data["F"][k].astype(float)))
    monitor = replay("painn-ethanol", frames, attribute_every=2)
    assert monitor.verdict.n_frames == 3
    assert monitor.cost.n_attributions == 2
    assert monitor.last_attribution.pairs.distances.max() <= 5.0
    largest = max(np.linalg.norm(f.forces.sum(axis=0)) for f in frames)  # the data's own
    (finding,) = (f for f in monitor.verdict.findings if f.principle == "net_force")
    assert finding.worst == pytest.approx(largest)


def test_a_signal_ends_a_replay_with_what_was_done_so_far(live, tmp_path, monkeypatch):
    show = TrajectoryEngine.show

    def stopping(self, frame):
        show(self, frame)
        if frame.step == 20:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(TrajectoryEngine, "show", stopping)
    out = tmp_path / "replayed"
    arguments = ["replay", "schnet-ethanol", str(live[0] / "md.extxyz"), "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 5, result.output
    assert "stopped by SIGTERM after step 20" in result.output
    run = mdxai.open_run(out)
    assert run.verdict["interrupted_by"] == "SIGTERM"
    assert run.frames_table()["step"].to_pylist() == list(range(21))
