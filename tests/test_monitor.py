"""The monitor on real models: it changes nothing, misses nothing, and records it all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.md.andersen import Andersen
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.nose_hoover_chain import NoseHooverChainNVT
from ase.md.nvtberendsen import NVTBerendsen
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

import mdxai
from mdxai.calculators.network_calculator import NetworkCalculator
from mdxai.engines import AseEngine
from mdxai.monitoring.monitor import InstabilityWarning, Monitor
from mdxai.monitoring.options import OptionError
from mdxai.record import RecordError, RecordSettings
from mdxai.stability.thresholds import PROBE_THRESHOLDS, THRESHOLDS, Threshold, ThresholdError
from mdxai.stability.verdict import Stability
from mdxai.testing import FaultyCalculator, NanForces

from .conftest import SOUND

RNG = np.random.default_rng(0)


def start(name="schnet-ethanol", temperature=500, seed=1):
    atoms = molecule("CH3CH2OH")
    atoms.calc = mdxai.load_calculator(name)
    rng = np.random.default_rng(seed)
    thermalize_momenta(atoms, temperature_K=temperature, rng=rng)
    dynamics = Langevin(
        atoms, 0.5 * units.fs, temperature_K=temperature, friction=0.01 / units.fs, rng=rng,
        fixcm=False,
    )  # fmt: skip
    return atoms, dynamics


@pytest.mark.parametrize(("interval", "left"), [(1, {1, *range(10, 80, 10)}), (2, None)])
def test_only_force_calls_that_are_explained_leave_activations(interval, left, tmp_path):
    """Relevance is the same to the last bit as where every step is explained."""

    def relevance(every):
        atoms, dynamics = start()
        path = tmp_path / f"{interval}-{every}"
        monitor = Monitor(dynamics, path, attribute_every=every)
        dynamics.attach(monitor, interval=interval)
        engine, kept = atoms.calc.running_potential, set()

        def look():
            seen = engine.last_activations
            if seen is not None and np.array_equal(seen.positions, atoms.positions):
                kept.add(dynamics.nsteps)

        dynamics.attach(look, interval=1)
        with monitor:
            dynamics.run(79)
        return mdxai.open_run(path).pairs_table().to_pandas(), kept

    (every_step, all_kept), (some, kept) = relevance(1), relevance(10)
    assert all_kept == set(range(1, 80))  # the monitor was not there at the force call of step 0
    assert kept == (all_kept if left is None else left)
    expected = every_step[every_step.step % 10 == 0].reset_index(drop=True)
    assert some.equals(expected)
    assert set(some.step) == set(range(0, 80, 10))


@pytest.mark.parametrize("name", SOUND)
def test_the_trajectory_is_bit_identical(name, tmp_path):
    """Same positions to the last bit, and not one evaluation more."""

    def run(monitored):
        atoms, dynamics = start(name)
        calls = []
        calculate = atoms.calc.calculate
        atoms.calc.calculate = lambda *a, **k: (calls.append(1), calculate(*a, **k))[1]
        if monitored:
            with Monitor(dynamics, tmp_path / "run", attribute_every=2) as monitor:
                dynamics.attach(monitor, interval=1)
                dynamics.run(60)
        else:
            dynamics.run(60)
        return atoms.positions, atoms.get_momenta(), len(calls)

    plain, watched = run(False), run(True)
    assert plain[0].tobytes() == watched[0].tobytes()
    assert plain[1].tobytes() == watched[1].tobytes()
    assert plain[2] == watched[2]


BATHS = {
    "Langevin": None,
    "Bussi": lambda atoms, dt: Bussi(
        atoms, dt, temperature_K=1500, taut=20 * units.fs, rng=np.random.default_rng(3)
    ),
    "NoseHooverChainNVT": lambda atoms, dt: NoseHooverChainNVT(
        atoms, dt, temperature_K=1500, tdamp=20 * units.fs
    ),
}


@pytest.mark.parametrize("bath", BATHS)
def test_frames_judged_together_and_one_by_one_leave_the_same_record(bath, tmp_path):
    """Limits so strict that the run breaks them; a thermostat that changes at every step."""
    strict = [replace(t, warn=t.warn / 4, unstable=t.unstable / 4) for t in THRESHOLDS]

    def run(name, **choices):
        atoms, dynamics = start("schnet-ethanol-weak", temperature=1500, seed=2)
        if BATHS[bath] is not None:
            dynamics = BATHS[bath](atoms, 0.5 * units.fs)
        monitor = Monitor(
            dynamics, tmp_path / name, attribute_every=4, blackbox=7, thresholds=strict, **choices
        )
        if bath == "Langevin":
            dynamics.attach(lambda: dynamics.set_temperature(temperature_K=300 + dynamics.nsteps))
        dynamics.attach(monitor, interval=1)
        with monitor:
            dynamics.run(157)
        return mdxai.open_run(tmp_path / name), monitor

    (together, first), (at_once, second) = (
        run("together", on_unstable="ignore"),
        run("at-once", on_unstable=lambda verdict: None),
    )
    assert first.verdict == second.verdict
    assert first.verdict.stability == "unstable"
    for table in ("frames_table", "trajectory_table", "pairs_table", "events_table"):
        mine, theirs = (getattr(run, table)() for run in (together, at_once))
        assert mine.to_pandas().equals(theirs.to_pandas())
    boxes = [sorted(run.path.glob("blackbox-*")) for run in (together, at_once)]
    assert len(boxes[0]) == 2
    assert [b.read_bytes() for b in boxes[0]] == [b.read_bytes() for b in boxes[1]]


def test_whoever_asks_gets_the_verdict_of_every_frame_so_far():
    _, dynamics = start()
    monitor = Monitor(dynamics, None, attribute_every=0)
    dynamics.attach(monitor, interval=1)
    for steps in (0, 3, 9, 4):
        dynamics.run(steps)
        assert monitor.verdict.n_frames == dynamics.nsteps + 1


def test_frames_that_wait_are_recorded_when_the_run_fails(tmp_path):
    _, dynamics = start()
    path = tmp_path / "run"
    monitor = Monitor(dynamics, path)

    def fail():
        if dynamics.nsteps == 17:
            raise RuntimeError("a user's observer")

    dynamics.attach(monitor, interval=1)
    dynamics.attach(fail, interval=1)
    with pytest.raises(RuntimeError, match="a user's observer"), monitor:
        dynamics.run(40)
    assert mdxai.open_run(path).to_dataframe().step.tolist() == list(range(18))
    assert mdxai.open_run(path).verdict["n_frames"] == 18


def test_the_record_holds_what_happened(tmp_path):
    atoms, dynamics = start()
    path = tmp_path / "deep" / "run"
    seen = []
    with Monitor(dynamics, path, attribute_every=5) as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.attach(lambda: seen.append((atoms.positions.copy(), atoms.get_potential_energy())))
        dynamics.run(30)
        monitor()  # one call too many: no frame is recorded twice
        dynamics.run(20)
    run = mdxai.open_run(path)
    frames = run.frames_table()
    assert frames["step"].to_pylist() == list(range(51))
    np.testing.assert_allclose(frames["time_fs"].to_numpy(), np.arange(51) * 0.5)
    positions = np.array(run.trajectory_table()["positions"].to_pylist()).reshape(51, 9, 3)
    np.testing.assert_allclose(positions[40], seen[40][0], atol=1e-6)
    assert frames["potential_energy_eV"][40].as_py() == seen[40][1]
    pairs = run.pairs_table()
    assert sorted(set(pairs["step"].to_pylist())) == list(range(0, 51, 5))
    explained = monitor.last_attribution
    last = pairs.filter(np.array(pairs["step"]) == 50)
    np.testing.assert_allclose(last["two_body_eV"].to_numpy(), explained.two_body, rtol=1e-6)
    assert monitor.profile.count.sum() == pairs.num_rows
    assert run.profile_table()["count"].to_numpy().sum() == pairs.num_rows
    assert run.header["calculator"]["weights_sha256"] == atoms.calc.card.weights_sha256
    assert run.header["engine"]["temperature"] == pytest.approx(500)
    assert run.verdict["stability"] == "stable"


def test_live_and_later_verdicts_are_the_same(tmp_path):
    atoms, dynamics = start(temperature=300)
    atoms.positions[8] += 0.45  # a stretched O–H bond: hot at once, and it does not come back
    with Monitor(dynamics, tmp_path / "run", on_unstable="ignore") as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(150)
    assert monitor.verdict.stability is not Stability.STABLE
    assert mdxai.judge(mdxai.open_run(tmp_path / "run")) == monitor.verdict


class Poisoned(EMT):
    """EMT whose forces turn to NaN at one evaluation."""

    def __init__(self, at):
        super().__init__()
        self.left = at

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.left -= 1
        if self.left < 0:
            self.results["forces"] = np.full_like(self.results["forces"], np.nan)


def copper(calculator):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=0)
    atoms.calc = calculator
    return atoms, VelocityVerlet(atoms, 2 * units.fs)


def test_nan_is_found_warned_of_and_halts():
    for reaction in ("warn", "halt"):
        _, dynamics = copper(Poisoned(at=5))
        with Monitor(dynamics, None, on_unstable=reaction) as monitor:
            dynamics.attach(monitor, interval=1)
            if reaction == "warn":
                with pytest.warns(InstabilityWarning, match="unstable: non_finite 24 values"):
                    assert dynamics.run(20) is True
                assert monitor.verdict.n_frames == 21
            else:
                assert dynamics.run(20) is False
                assert monitor.verdict.n_frames == 6
        assert monitor.verdict.onset_fs == pytest.approx(10.0)


def test_a_function_is_called_once_with_the_verdict():
    _, dynamics = copper(Poisoned(at=3))
    calls = []
    monitor = Monitor(dynamics, None, on_unstable=calls.append)
    dynamics.attach(monitor, interval=1)
    dynamics.run(10)
    (verdict,) = calls
    assert verdict.stability is Stability.UNSTABLE


def test_foreign_calculators_are_monitored_and_say_what_is_missing(tmp_path):
    _, dynamics = copper(EMT())
    with Monitor(dynamics, tmp_path / "run") as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(10)
    assert monitor.verdict.stability is Stability.STABLE
    assert "'emt' is not a SchNet or PaiNN" in monitor.verdict.unavailable["attribution"]
    assert {"attribution", "contact", "temperature"} <= set(monitor.verdict.unavailable)
    assert "not checked: attribution" in str(monitor.verdict)
    written = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert written["unavailable"] == dict(monitor.verdict.unavailable)


def test_an_error_in_the_run_still_leaves_a_readable_record(tmp_path):
    _, dynamics = start()

    def interrupt():
        if dynamics.nsteps == 7:
            raise KeyboardInterrupt

    def run():
        with Monitor(dynamics, tmp_path / "run") as monitor:
            dynamics.attach(monitor, interval=1)
            dynamics.attach(interrupt)
            dynamics.run(20)

    with pytest.raises(KeyboardInterrupt):
        run()
    run = mdxai.open_run(tmp_path / "run")
    assert run.frames_table().num_rows == 8
    assert run.verdict["interrupted_by"] == "KeyboardInterrupt"
    with pytest.warns(UserWarning, match="finished and sees no more frames"):
        dynamics.run(1)


def test_another_run_is_never_touched(tmp_path):
    _, dynamics = start()
    with Monitor(dynamics, tmp_path / "run") as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(3)
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    with pytest.raises(RecordError, match="already holds a run"):
        Monitor(start()[1], tmp_path / "run")
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}


def test_nothing_is_created_before_the_first_frame(tmp_path):
    with Monitor(start()[1], tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_a_clear_error_and_leaves_whole_parts(tmp_path, monkeypatch):
    _, dynamics = start()
    monitor = Monitor(dynamics, tmp_path / "run", record=RecordSettings(rows_per_part=5))
    dynamics.attach(monitor, interval=1)
    dynamics.run(9)
    for _ in range(2):  # the second one waits for the first
        monitor.checkpoint()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(RecordError, match=r"No space left on device.*before is intact"):
            dynamics.run(20)
        run = mdxai.open_run(tmp_path / "run")
        steps = run.frames_table()["step"].to_pylist()
        assert steps[:5] == list(range(5))
        assert steps == list(range(len(steps)))
        assert not list((tmp_path / "run").glob(".*.tmp"))
    monitor.finish()  # there is room again, and the rows have waited
    steps = run.frames_table()["step"].to_pylist()
    assert steps == list(range(len(steps)))
    assert len(steps) >= 10


def test_a_run_in_which_no_pair_was_explained_is_finished_too(tmp_path):
    """Atoms out of each other's reach, and a run that ends before an explanation is due."""
    gas = Atoms("OHH", [[0, 0, 0], [20, 0, 0], [0, 20, 0]])
    gas.calc = mdxai.load_calculator("schnet-ethanol")
    later = start()[1]
    later.run(1)
    for name, dynamics in (("gas", VelocityVerlet(gas, 0.5 * units.fs)), ("later", later)):
        with Monitor(dynamics, tmp_path / name, on_unstable="ignore") as monitor:
            dynamics.attach(monitor)
            dynamics.run(4)
        run = mdxai.open_run(tmp_path / name)
        assert run.verdict["n_frames"] == monitor.verdict.n_frames
        assert run.profile_table().num_rows == 0


def test_parts_are_plain_parquet(tmp_path):
    _, dynamics = start()
    with Monitor(dynamics, tmp_path / "run") as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(3)
    (part,) = (tmp_path / "run").glob("frames-*.parquet")
    assert pq.read_table(part).num_rows == 4


@pytest.mark.parametrize(
    ("make", "temperature", "conserves"),
    [
        (VelocityVerlet, None, True),
        (lambda a, dt: Langevin(a, dt, temperature_K=320, friction=0.01, fixcm=False), 320, False),
        (
            lambda a, dt: LangevinBAOAB(a, dt, temperature_K=320, T_tau=50 * units.fs, rng=RNG),
            320,
            False,
        ),
        (lambda a, dt: Bussi(a, dt, temperature_K=320, taut=50 * units.fs, rng=RNG), 320, False),
        (lambda a, dt: NVTBerendsen(a, dt, temperature_K=320, taut=50 * units.fs), 320, False),
        (lambda a, dt: Andersen(a, dt, temperature_K=320, andersen_prob=0.01), 320, False),
        (
            lambda a, dt: NoseHooverChainNVT(a, dt, temperature_K=320, tdamp=50 * units.fs),
            320,
            False,
        ),
    ],
)
def test_thermostats_state_their_temperature(make, temperature, conserves):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    thermalize_momenta(atoms, temperature_K=320, rng=np.random.default_rng(0))
    description = AseEngine(make(atoms, 2 * units.fs)).describe()
    assert description.timestep == pytest.approx(2.0)
    assert description.conserves_energy is conserves
    if temperature is None:
        assert description.temperature is None
    else:
        assert description.temperature == pytest.approx(temperature)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attribute_every": -1}, "attribute_every must be 0 or a positive whole number, got -1"),
        ({"on_unstable": "explode"}, "'raise', 'drop' or a function, got 'explode'"),
        ({"attribute_every": "10"}, "attribute_every must be 0 or .* whole number, got '10'"),
        ({"blackbox": None}, "blackbox must be 0 or a positive whole number, got None"),
        ({"max_overhead": "5 %"}, "max_overhead must be between 0 and 1, or None, got '5 %'"),
        ({"record": {"retain": 5}}, r"record must be RecordSettings\(...\), got {'retain'"),
        ({"context": {"seed": RNG}}, "context is a mapping for run.toml, of text, numbers"),
        ({"context": 5}, "context is a mapping for run.toml, of text, numbers"),
    ],
)
def test_unusable_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        Monitor(start()[1], tmp_path / "run", **arguments)
    assert type(caught.value).__module__.startswith("mdxai.")  # one line on the command line
    assert not (tmp_path / "run").exists()


def test_only_dynamics_can_be_monitored():
    with pytest.raises(TypeError, match=r"expected ASE molecular dynamics.*got Atoms"):
        Monitor(molecule("H2O"), None)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "holds no run"), ("schema = ", "is damaged"), ("schema = 99", "has schema 99")],
)
def test_directories_that_hold_no_readable_run(tmp_path, content, message):
    if content is not None:
        (tmp_path / "run.toml").write_text(content)
    with pytest.raises(RecordError, match=message):
        mdxai.open_run(tmp_path)


def test_importing_mdxai_is_light():
    code = (
        "import sys, mdxai\n"
        "heavy = {'torch', 'numba', 'matplotlib', 'schnetpack'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_damaged_runs_get_a_clear_error(tmp_path):
    _, dynamics = start()
    path = tmp_path / "run"
    with Monitor(dynamics, path) as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(3)
    run = mdxai.open_run(path)
    (path / "verdict.json").unlink()
    with pytest.raises(RecordError, match="has no verdict yet"):
        _ = run.verdict
    (part,) = path.glob("frames-*.parquet")
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(RecordError, match="is damaged"):
        run.frames_table()
    part.unlink()
    with pytest.raises(RecordError, match="holds no recorded frames"):
        mdxai.judge(run)


def test_sparse_monitoring_says_that_energy_was_not_checked():
    _, dynamics = start()
    monitor = Monitor(dynamics, None, attribute_every=0)
    dynamics.attach(monitor, interval=5)
    dynamics.run(20)
    assert monitor.verdict.unavailable["energy"] == "could not be measured after 0 fs"


def test_probes_on_the_way_use_a_twin_and_disturb_nothing():
    def positions(probe_every):
        atoms = Atoms("Ar3", [[0, 0, 0], [0, 0, 3.9], [0, 3.7, 0.2]])
        atoms.calc = LennardJones(sigma=3.4, epsilon=0.0103, rc=8.0, ro=7.0, smooth=True)
        dynamics = VelocityVerlet(atoms, 2 * units.fs)
        monitor = Monitor(dynamics, None, probe_every=probe_every, on_unstable="ignore")
        dynamics.attach(monitor, interval=1)
        dynamics.run(4)
        return atoms.positions, monitor

    bare, _ = positions(0)
    probed, monitor = positions(4)
    np.testing.assert_array_equal(probed, bare)
    unavailable = monitor.verdict.unavailable
    assert not {"gradient", "rotation", "squeeze"} & set(unavailable)
    assert "precision" in unavailable  # a foreign calculator has one precision
    with pytest.raises(
        ValueError, match="probe_every must be 0 or a positive whole number, got -1"
    ):
        positions(-1)


class BreaksUnderSqueeze(EMT):
    """Raises where atoms come close, as electronic structure does that finds no solution."""

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        if self.atoms.get_all_distances(mic=True)[np.triu_indices(len(self.atoms), 1)].min() < 1.9:
            raise RuntimeError("SCF not converged")


@pytest.mark.parametrize("fault", [None, NanForces(15)])
def test_probes_that_fail_do_not_end_the_run(fault):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.02, seed=1)
    atoms.calc = FaultyCalculator(EMT(), fault) if fault else BreaksUnderSqueeze()
    dynamics = VelocityVerlet(atoms, 2 * units.fs)
    monitor = mdxai.Monitor(dynamics, probe_every=10, attribute_every=0, on_unstable="ignore")
    with monitor:
        dynamics.attach(monitor)
        dynamics.run(30)
    verdict = monitor.verdict
    if fault:
        assert verdict.stability == "unstable"
    else:
        assert "could not be measured" in verdict.unavailable["squeeze"]


def test_thresholds_of_probes_can_be_changed():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.02, seed=1)
    atoms.calc = EMT()
    dynamics = VelocityVerlet(atoms, 2 * units.fs)
    strict = [Threshold(t.principle, 0, 0, 0, "mine") for t in PROBE_THRESHOLDS]
    monitor = mdxai.Monitor(
        dynamics, probe_every=10, thresholds=[*THRESHOLDS, *strict], on_unstable="ignore"
    )
    dynamics.attach(monitor)
    dynamics.run(10)
    assert "rotation" in {finding.principle for finding in monitor.verdict.findings}


def test_thresholds_that_fit_nothing_are_refused_and_missing_ones_named():
    dynamics = VelocityVerlet(bulk("Cu", cubic=True), 2 * units.fs)
    dynamics.atoms.calc = EMT()
    for thresholds, message in (
        ([Threshold("enrgy", 1, 2, 0, "x")], "name enrgy, which is no principle"),
        ("file.toml", "file.toml"),
    ):
        with pytest.raises(ThresholdError, match=message):
            mdxai.Monitor(dynamics, thresholds=thresholds)
    with pytest.raises(ThresholdError, match="got warn nan"):
        Threshold("energy", np.nan, 1, 0, "x")
    monitor = mdxai.Monitor(dynamics, thresholds=[])
    dynamics.attach(monitor)
    dynamics.run(2)
    assert "no threshold was given" in monitor.verdict.unavailable["energy"]
    for every in (np.nan, 2.5, -1):
        with pytest.raises(ValueError, match="probe_every must be 0 or a positive whole number"):
            mdxai.Monitor(dynamics, probe_every=every)


def test_before_any_forces_a_monitor_says_what_it_waits_for(tmp_path):
    _, dynamics = start()
    with pytest.raises(
        OptionError, match=r"holds no forces of the present.*dyn\.attach\(monitor\)"
    ):
        Monitor(dynamics, tmp_path / "run")()
    assert not (tmp_path / "run").exists()


def test_another_calculator_is_noticed_before_it_is_explained(tmp_path):
    atoms, dynamics = start()
    with Monitor(dynamics, tmp_path / "run", attribute_every=2) as monitor:
        dynamics.attach(monitor)
        dynamics.run(5)
        atoms.calc = mdxai.load_calculator("painn-ethanol")
        with pytest.raises(OptionError, match=r"another calculator before step 6.*another monitor"):
            dynamics.run(5)
    run = mdxai.open_run(tmp_path / "run")
    assert run.frames_table()["step"].to_pylist() == list(range(6))


class FailsAt(NetworkCalculator):
    """Raises once, at the given call, in the middle of that step."""

    at = 8
    n_calls = 0

    def calculate(self, *arguments, **options):
        self.n_calls += 1
        if self.n_calls == self.at:
            raise RuntimeError("out of memory")
        super().calculate(*arguments, **options)


def test_an_error_that_the_script_deals_with_leaves_no_checkpoint_of_half_a_step(tmp_path):
    def run(path, *, fails):
        atoms, dynamics = start()
        if fails:
            atoms.calc.__class__ = FailsAt
        with Monitor(dynamics, path, attribute_every=2) as monitor:
            dynamics.attach(monitor)
            dynamics.run(3)
            monitor.checkpoint()
            try:
                dynamics.run(9)
            except RuntimeError:
                with pytest.raises(RecordError, match="between the steps"):
                    monitor.checkpoint()
        return path

    whole, broken = run(tmp_path / "whole", fails=False), run(tmp_path / "broken", fails=True)
    _, dynamics = start()
    with Monitor.resume(dynamics, broken, attribute_every=2) as monitor:
        assert dynamics.nsteps == 3
        dynamics.attach(monitor)
        dynamics.run(12 - dynamics.nsteps)
    runs = [mdxai.open_run(path) for path in (whole, broken)]
    assert runs[0].trajectory_table().equals(runs[1].trajectory_table())
