"""A monitor that follows weak spots: record, verdict, resumption, replay, replicas, page."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ase import units
from ase.build import molecule

import mdxai
from mdxai.forecast import Forecast
from mdxai.forecast.kept_paths import paths_of
from mdxai.frame import Frame
from mdxai.monitoring.options import MonitorOptions, OptionError
from mdxai.monitoring.replay import replay
from mdxai.principles import FollowedPath, FollowedPaths
from mdxai.record import RecordError
from mdxai.report.page import write_report
from mdxai.report.page_figures import heights_plot
from mdxai.serialization import as_plain
from mdxai.stability.thresholds import THRESHOLDS

from .conftest import copper, ethanol_dynamics, ethanol_with, heated, invoke, langevin
from .holed_pair import HoledPair, pair
from .replica_simulation import simulation

pytestmark = pytest.mark.filterwarnings("ignore")


def dynamics(temperature=1000.0, seed=3):
    """Return dynamics of a diatomic with a hole behind a barrier of 0.58 eV."""
    atoms = pair()
    atoms.calc = HoledPair()
    return langevin(heated(atoms, temperature, seed), temperature, rng=seed, timestep=1.0)


N_STEPS = 5_250  # of 1 fs


def watch(n_steps, path=None, seen=None, **options):
    dyn = dynamics()
    with mdxai.Monitor(dyn, path, forecast=True, report=False, **options) as monitor:
        dyn.attach(monitor, interval=1)
        if seen is not None:
            dyn.attach(lambda: seen.append(monitor.weak_spots), 5_000)
        dyn.run(n_steps)
    return dyn, monitor


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 5.25 ps, which stays sound, its record, and what was foretold after 5 ps."""
    path, seen = tmp_path_factory.mktemp("live") / "run", []
    dyn, monitor = watch(N_STEPS, path, seen)
    return dyn, monitor, path, seen[-1]


def test_the_record_and_the_verdict_tell_of_weak_spots(whole):
    _, monitor, path, _ = whole
    verdict, run = monitor.verdict, mdxai.open_run(path)
    assert verdict.closest.startswith("closest to a weak spot: C0–O1, 0.")
    assert "hazard of this run" in str(verdict)
    assert mdxai.judge(run) == verdict
    table = run.frames_table(["time_fs", "weak_spot", "weak_spot_atoms"]).to_pydict()
    (trace,) = (seen.trace for seen in monitor.weak_spots.paths)
    at = int(np.argmax(table["weak_spot"]))
    assert table["weak_spot"][at] == trace.highest
    assert table["time_fs"][at] == trace.time
    assert table["weak_spot_atoms"][at] == [0, 1]
    assert run.weak_spots == monitor.weak_spots.as_dict()
    assert json.loads((path / "weak_spots.json").read_text())["paths"][0]["kind"] == "compression"
    hazard = monitor.weak_spots.per_ps
    assert hazard.low < 0.021 < hazard.high  # brute force: tests/test_run_hazard.py


def test_the_trajectory_is_bit_identical(whole):
    bare = dynamics()
    bare.run(N_STEPS)
    np.testing.assert_array_equal(bare.atoms.positions, whole[0].atoms.positions)


def test_a_resumed_run_goes_on_without_a_new_search(whole, tmp_path, monkeypatch):
    watch(3_100, tmp_path / "run")
    monkeypatch.setattr("mdxai.forecast.weak_spots", None)  # a call would fail
    dyn = dynamics()
    path = tmp_path / "run"
    options = {"forecast": True, "report": False}
    with mdxai.Monitor.resume(dyn, path, **options) as monitor:
        dyn.attach(monitor, interval=1)
        dyn.run(N_STEPS - dyn.nsteps)
    assert monitor.weak_spots.as_dict() == whole[1].weak_spots.as_dict()
    assert monitor.verdict.closest == whole[1].verdict.closest
    with pytest.raises(RecordError, match="forecast"):
        mdxai.Monitor.resume(dynamics(), path, report=False)


@pytest.mark.slow
def test_a_replay_tells_the_same(whole, tmp_path):
    again = replay(HoledPair(), mdxai.open_run(whole[2]), forecast=True, attribute_every=0)
    one, other = again.weak_spots, whole[1].weak_spots
    # The search begins from another structure, and its minimum is as exact as a relaxation is.
    assert one.closest.trace.highest == pytest.approx(other.closest.trace.highest, rel=1e-4)
    assert one.per_ps.value == pytest.approx(other.per_ps.value, rel=0.3)


def test_a_fall_is_an_alarm():
    given = paths_of(mdxai.weak_spots(HoledPair(), pair()))
    dyn = dynamics(2500.0)
    judged = [t for t in THRESHOLDS if t.principle == "weak_spot"]
    with mdxai.Monitor(dyn, forecast=given, thresholds=judged, on_unstable="halt") as monitor:
        dyn.attach(monitor, interval=1)
        dyn.run(20_000)
    finding = monitor.verdict.cause
    assert finding.principle == "weak_spot"
    assert finding.atoms == (0, 1)
    assert dyn.atoms.get_distance(0, 1) < 0.8
    trace = monitor.weak_spots.closest.trace
    assert trace.highest > 1
    assert "are too little" in monitor.weak_spots.unknown  # within the first 0.5 ps
    assert monitor.weak_spots.survival is None


def test_what_is_left_of_the_run_is_foretold(whole):
    found = whole[3]
    assert found.left == pytest.approx(250.0)
    assert found.survival.value == pytest.approx(np.exp(-0.25 * found.per_ps.value))
    assert "the 250 fs left survive with probability" in str(found)


def test_a_sound_calculator_has_nothing_to_follow():
    dyn = langevin(heated(copper(), 300.0))
    given = FollowedPaths((), "no weak spot below 3 eV; coordinates scanned: 12")
    with mdxai.Monitor(dyn, forecast=given) as monitor:
        dyn.attach(monitor)
        dyn.run(3)
    assert monitor.weak_spots is None
    assert monitor.verdict.unavailable["weak_spot"].startswith("no weak spot below 3 eV")
    assert monitor.verdict.closest == ""


def test_a_wrong_option_is_one_clear_error():
    with pytest.raises(OptionError, match="weak spots or a forecast, got 3"):
        mdxai.Monitor(dynamics(), forecast=3)


def test_a_forecast_is_followed_by_its_weak_spots():
    spots = mdxai.weak_spots(HoledPair(), pair(), temperature=600.0)
    known = Forecast(600.0, 1.0, spots, None, Frame.from_atoms(pair()))
    taken, given = (MonitorOptions(forecast=one).forecast for one in (known, spots))
    assert as_plain(taken) == as_plain(given)
    test = SimpleNamespace()
    with pytest.raises(OptionError, match="knows no weak spots to follow"):
        MonitorOptions(forecast=replace(known, weak_spots=None, life_test=test))


ANGLE = FollowedPath(
    "angle", "H4–C1–H5", ((4, 1, 5),), np.array([1.78, 1.4, 1.12, 0.9]),
    np.array([0.0, 0.3, 0.69, 0.2]), 2, 0.69, 1e-3, 500.0, "H4–H5 0.90 Å apart",
)  # fmt: skip


def test_replicas_are_searched_once_and_followed_each(tmp_path, monkeypatch):
    searches = []

    def search(engine, first):
        searches.append(first.n_atoms)
        return FollowedPaths((ANGLE,), numbers=tuple(first.numbers.tolist()))

    monkeypatch.setattr("mdxai.monitoring.live_forecast._found", search)
    network = mdxai.load_calculator("schnet-ethanol")
    monitor = mdxai.ReplicaMonitor(tmp_path, attribute_every=0, forecast=True)
    with monitor:
        simulation(network, monitor, n_replicas=2).simulate(20)
    assert searches == [9]
    far = [one.weak_spots.closest.trace.highest for one in monitor.monitors]
    assert len(set(far)) == 2
    for name in monitor.names:
        run = mdxai.open_run(tmp_path / name)
        assert mdxai.judge(run).closest == monitor.verdicts[name].closest != ""


@pytest.mark.pages
def test_the_page_shows_weak_spots(whole):
    text = write_report(whole[2]).read_text()
    assert "<h2>Weak spots</h2>" in text
    assert "progress to the nearest weak spot over time" in text
    assert "how often points on the path to C0–O1 were higher" in text
    assert "Closest to a weak spot" in text


@pytest.mark.slow
def test_a_shipped_network_from_the_command_line(tmp_path):
    done = invoke("run", "schnet-ethanol", "CH3CH2OH", "--forecast", "--steps", "200",
                  "--temperature", "500", "--attribute-every", "0", "--out", tmp_path / "run",
                  "--json")  # fmt: skip
    assert done.exit_code == 0
    content = json.loads(done.stdout)
    assert len(content["weak_spots"]["paths"]) >= 10
    assert content["closest"].startswith("closest to a weak spot: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "temperature"), [("schnet-ethanol", 300.0), ("painn-ethanol", 500.0)]
)
def test_no_alarm_in_sound_runs_of_shipped_networks(name, temperature):
    dyn = ethanol_dynamics(name, temperature)
    with mdxai.Monitor(dyn, forecast=True, attribute_every=0) as monitor:
        dyn.attach(monitor)
        dyn.run(10_000)
    assert not [f for f in monitor.verdict.findings if f.principle == "weak_spot"]
    assert monitor.weak_spots.closest.trace.highest < 1


@pytest.mark.slow
def test_the_hole_that_contact_does_not_see_is_an_alarm():
    """C–O–H closes over 0.38 eV: H at 1.05 Å from C while it is still on O."""
    atoms = ethanol_with("runs/stability/models/painn-ethanol-200-c5-b2-s1")
    rng = np.random.default_rng(1)
    dyn = langevin(heated(atoms, 1000.0, rng), 1000.0, rng=rng, friction=0.01 / units.fs)
    with mdxai.Monitor(dyn, forecast=True, attribute_every=0, on_unstable="halt") as monitor:
        dyn.attach(monitor)
        dyn.run(10_000)
    cause = monitor.verdict.cause
    assert cause.principle == "weak_spot"
    assert {cause.atoms[0], cause.atoms[-1]} == {1, 3}


@pytest.mark.slow
def test_paths_into_one_hole_are_followed_by_the_distance_that_closes():
    """An approach of H3 and H4 leads to C1–H3: its passages by heat are no falls."""
    found = mdxai.weak_spots(mdxai.load_calculator("painn-ethanol"), molecule("CH3CH2OH"))
    kinds = {(spot.kind, spot.label): spot for spot in found.spots}
    approach, angle = kinds["approach", "H3–H4"], kinds["angle", "C1–O2–H3"]
    (path,) = paths_of(replace(found, spots=(approach,))).paths
    assert {path.atoms[0][0], path.atoms[0][-1]} == {1, 3}
    (path,) = paths_of(replace(found, spots=(angle, approach))).paths
    assert path.atoms == ((1, 2, 3),)


def test_a_path_on_which_nothing_was_counted_yet_is_drawn_all_the_same():
    assert "<svg" in heights_plot("H7–C0–H8", np.zeros(129), 0.7, 0.05, None)
