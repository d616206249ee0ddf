"""The monitor on real models: it changes nothing, misses nothing, and records it all."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet

import mdxai
from mdxai.monitoring.monitor import Monitor
from mdxai.monitoring.options import OptionError
from mdxai.stability.outcomes import Stability

from .conftest import SOUND, copper, ethanol_dynamics


@pytest.mark.parametrize(("interval", "left"), [(1, {1, *range(10, 80, 10)}), (2, None)])
def test_only_force_calls_that_are_explained_leave_activations(interval, left, tmp_path):
    """Relevance is the same to the last bit as where every step is explained."""

    def relevance(every):
        dynamics = ethanol_dynamics()
        atoms = dynamics.atoms
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
        dynamics = ethanol_dynamics(name)
        atoms = dynamics.atoms
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


def test_the_record_holds_what_happened(tmp_path):
    dynamics = ethanol_dynamics()
    atoms = dynamics.atoms
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
    dynamics = ethanol_dynamics(temperature=300)
    atoms = dynamics.atoms
    atoms.positions[8] += 0.45  # a stretched O–H bond: hot at once, and it does not come back
    with Monitor(dynamics, tmp_path / "run", on_unstable="ignore") as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(150)
    assert monitor.verdict.stability is not Stability.STABLE
    assert mdxai.judge(mdxai.open_run(tmp_path / "run")) == monitor.verdict


def test_foreign_calculators_are_monitored_and_say_what_is_missing(tmp_path):
    atoms = copper()
    atoms.rattle(0.05, seed=0)
    dynamics = VelocityVerlet(atoms, 2 * units.fs)
    with Monitor(dynamics, tmp_path / "run") as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(10)
    assert monitor.verdict.stability is Stability.STABLE
    assert "'emt' is not a SchNet, PaiNN or SO3net" in monitor.verdict.unavailable["attribution"]
    assert {"attribution", "beyond_training", "temperature"} <= set(monitor.verdict.unavailable)
    assert "not checked: attribution" in str(monitor.verdict)
    written = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert written["unavailable"] == dict(monitor.verdict.unavailable)


def test_a_run_in_which_no_pair_was_explained_is_finished_too(tmp_path):
    """Atoms out of each other's reach, and a run that ends before an explanation is due."""
    gas = Atoms("OHH", [[0, 0, 0], [20, 0, 0], [0, 20, 0]])
    gas.calc = mdxai.load_calculator("schnet-ethanol")
    later = ethanol_dynamics()
    later.run(1)
    for name, dynamics in (("gas", VelocityVerlet(gas, 0.5 * units.fs)), ("later", later)):
        with Monitor(dynamics, tmp_path / name, on_unstable="ignore") as monitor:
            dynamics.attach(monitor)
            dynamics.run(4)
        run = mdxai.open_run(tmp_path / name)
        assert run.verdict["n_frames"] == monitor.verdict.n_frames
        assert run.profile_table().num_rows == 0


def test_only_dynamics_can_be_monitored():
    with pytest.raises(TypeError, match=r"expected ASE molecular dynamics.*got Atoms"):
        Monitor(molecule("H2O"), None)


def test_before_any_forces_a_monitor_says_what_it_waits_for(tmp_path):
    dynamics = ethanol_dynamics()
    with pytest.raises(
        OptionError, match=r"holds no forces of the present.*dyn\.attach\(monitor\)"
    ):
        Monitor(dynamics, tmp_path / "run")()
    assert not (tmp_path / "run").exists()


def test_another_calculator_is_noticed_before_it_is_explained(tmp_path):
    dynamics = ethanol_dynamics()
    atoms = dynamics.atoms
    with Monitor(dynamics, tmp_path / "run", attribute_every=2) as monitor:
        dynamics.attach(monitor)
        dynamics.run(5)
        atoms.calc = mdxai.load_calculator("painn-ethanol")
        with pytest.raises(OptionError, match=r"another calculator before step 6.*another monitor"):
            dynamics.run(5)
    run = mdxai.open_run(tmp_path / "run")
    assert run.frames_table()["step"].to_pylist() == list(range(6))
