"""Early warnings in a run that is going on: as calibrated, recorded, restartable, free when off."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import mdxai
from mdxai.attribution import Attribution
from mdxai.cli.main import app
from mdxai.early_warning import (
    Calibration,
    CalibrationError,
    EarlyWarningIssued,
    EarlyWarnings,
    History,
    Level,
    ProfileChange,
    ProfileSettings,
    Rate,
    Watch,
)
from mdxai.frame import Frame, find_pairs
from mdxai.monitoring.monitor import Monitor
from mdxai.principles import Deviation
from mdxai.record import RecordSettings
from mdxai.serialization import decode, encode, restore, snapshot
from mdxai.statistics import element_pair_channels
from mdxai.study.lead_time.alarms import Streams, Watching, with_profiles
from mdxai.study.run_outcome import Outcome
from tests.conftest import ethanol_with, heated, langevin

NUMBERS = np.array([6, 6, 8, 1, 1, 1])
HISTORY = History(12, 9, 210.0, 430.0, 900.0)


def calibration(*watches, threshold=3.0, baseline=100.0, profile=None):
    rates = (Rate(10.0, 1, 0.4, 11.9), Rate(20.0, 5, 0.4, 26.3))
    levels = (Level(10.0, threshold, HISTORY), Level(20.0, threshold / 2, HISTORY))
    return Calibration(
        tuple(replace(watch, levels=levels) for watch in watches), rates, baseline,
        profile or ProfileSettings(100.0, 50.0, bin_ang=0.1), "made up",
    )  # fmt: skip


def frame_at(step, timestep=0.5, seed=0):
    rng = np.random.default_rng((seed, step))
    positions = 1.3 * np.arange(6)[:, None] * np.array([1.0, 0.2, 0.0])
    positions = positions + rng.normal(scale=0.05, size=(6, 3))
    return Frame(step, timestep * step, NUMBERS, np.ones(6), positions, rng.normal(size=(6, 3)),
                 rng.normal(size=(6, 3)), 0.0, np.zeros((3, 3)), np.zeros(3, bool))  # fmt: skip


def attribution_of(frame, moved=0.0):
    pairs = find_pairs(frame.positions, frame.cell, frame.pbc, 5.0)
    rng = np.random.default_rng(frame.step)
    strengths = 1.0 / pairs.distances + 0.05 * rng.normal(size=len(pairs))
    bond = (frame.numbers[pairs.i] == 6) & (frame.numbers[pairs.j] == 6)
    strengths = strengths + moved * bond
    return Attribution("walks", 0.1, 0.0, np.zeros(6), np.zeros(6), pairs, strengths, np.zeros(3),
                       numbers=frame.numbers)  # fmt: skip


def watched(made, frames=2000, moves_at=1500, cutoff=5.0):
    """Feed a run whose principle and C–C relevance rise at a step; return all that came of it."""
    rng = np.random.default_rng(1)
    early = EarlyWarnings(made, frame_at(0), {"principle": "free", "other": "free"}, cutoff)
    values = rng.normal(5.0, 2.0, size=frames) + 8.0 * (np.arange(frames) >= moves_at)
    found = []
    for step in range(frames):
        frame = frame_at(step)
        principle = (
            Deviation("principle", "eV", float(values[step]), (1, 5)) if step % 2 == 0 else None
        )
        explained = attribution_of(frame, 0.5 * (step >= moves_at)) if step % 20 == 0 else None
        found += early.see(frame, {"principle": principle, "other": None}, explained)
    return early, values, found


@pytest.mark.parametrize("detector", ["shewhart", "cusum", "ewma", "page_hinkley"])
@pytest.mark.parametrize("every", [1.0, 5.0])
def test_live_warnings_are_those_of_the_calibrated_runs(detector, every):
    """Sampled more finely than calibrated, the same values are looked at."""
    made = calibration(Watch("principle", detector, every), threshold=6.0)
    _, values, found = watched(made)
    stride = round(every / 0.5)
    times, measured = 0.5 * np.arange(2000)[::stride], values[::stride]
    outcome = Outcome("r", "m", "A", 1.0, 1000.0, False, times, {"principle": measured})
    alarms = Streams([outcome], "principle", Watching(100.0)).alarms(detector)
    expected = alarms.at(6.0)[0]
    assert found[0].time_fs == expected
    assert found[0].statistic > found[0].threshold == 6.0
    assert (np.diff([w.time_fs for w in found]) >= 100).all()


def test_a_warning_says_what_where_and_what_it_came_to():
    made = calibration(Watch("principle", "cusum", 1.0), threshold=9.0)
    _, values, (first, *_) = watched(made)
    assert (first.principle, first.atoms, first.history) == ("principle", (1, 5), HISTORY)
    assert (first.usual, first.spread) == pytest.approx((5.0, 2.0), rel=0.3)
    assert first.statistic > first.threshold == 9.0
    assert first.value == values[first.step]
    text = str(first)
    assert "principle has changed, CUSUM" in text
    assert "atoms 1, 5" in text
    assert "of 12 reference runs in which this came 9 broke, half of these 210 to 900 fs" in text
    plain = json.loads(json.dumps(first.as_dict(), allow_nan=False))
    assert plain["history"]["median_fs"] == 430.0


def test_a_changed_profile_names_its_bins_and_atoms():
    made = calibration(Watch("profile_rms", "ewma", 20.0, location=1.0, scale=0.3), threshold=4.0)
    early, _, found = watched(made, 2400)
    assert found[0].time_fs > 750
    assert found[0].bins[0].channel == "C-C"
    assert found[0].bins[0].left < 1.35 < found[0].bins[0].right + 0.2
    assert found[0].bins[0].after - found[0].bins[0].before == pytest.approx(0.5, abs=0.1)
    assert set(found[0].atoms) <= {0, 1}
    assert "most in C-C at 1." in str(found[0])
    without = EarlyWarnings(made, frame_at(0), {}, None)
    assert without.unavailable == {"profile_rms": "frames are not explained"}
    assert without.see(frame_at(0), {}, None) == []
    assert early.unavailable == {}


def test_profiles_live_are_those_of_outcomes():
    """The same profile from an attribution and from bins' means as an outcome holds them."""
    made = calibration(Watch("profile_peak", "shewhart", 10.0, location=0.0, scale=1.0),
                       threshold=1e3)  # fmt: skip
    change = ProfileChange(element_pair_channels(NUMBERS).names, 5.0, made.profile)
    times, series, live = [], {}, []
    for step in range(0, 1000, 10):
        frame = frame_at(step)
        explained = attribution_of(frame)
        pairs = explained.pairs
        names = [f"{'-'.join(sorted((frame.symbols[i], frame.symbols[j])))} "
                 f"{(int(r / 0.1) + 0.5) * 0.1:.2f} Å"
                 for i, j, r in zip(pairs.i, pairs.j, pairs.distances, strict=True)]  # fmt: skip
        for name in set(names):
            mine = [abs(s) for n, s in zip(names, explained.strengths, strict=True) if n == name]
            series.setdefault(name, {})[len(times)] = np.mean(mine)
        times.append(frame.time)
        live.append(change.peak if change.add(frame.time, explained.profile) else np.nan)
    columns = {name: np.array([cells.get(n, np.nan) for n in range(len(times))])
               for name, cells in series.items()}  # fmt: skip
    outcome = Outcome("r", "m", "A", 1.0, 500.0, False, np.array(times), columns)
    (found,) = with_profiles([outcome], made.profile)
    known = ~np.isnan(live)
    assert known.sum() == 35
    np.testing.assert_allclose(np.array(live)[known], found.series["profile_peak"][known])


def test_a_run_in_which_nothing_changes_is_warned_of_as_rarely_as_calibrated():
    """Alarms of a long run are a renewal process: the watch starts afresh after each."""
    watch = Watch("principle", "cusum", 1.0, location=0.0, scale=1.0)
    made = calibration(watch, threshold=2.5, baseline=10.0)
    early = EarlyWarnings(made, frame_at(0), {"principle": "free"}, None)
    rng = np.random.default_rng(4)
    times = []
    for step in range(9000):
        frame = SimpleNamespace(time=float(step), step=step)
        principle = Deviation("principle", "eV", float(rng.normal()))
        times += [w.time_fs for w in early.see(frame, {"principle": principle}, None)]
    gaps = np.diff(times) - 10.0 + 1.0
    single = []
    for seed in range(400):
        z = np.random.default_rng((5, seed)).normal(size=2000)
        total, n = 0.0, 0
        while total <= 2.5:
            total, n = max(0.0, total + z[n] - 0.5), n + 1
        single.append(n)
    error = np.hypot(gaps.std() / np.sqrt(len(gaps)), np.std(single) / 20)
    assert abs(gaps.mean() - np.mean(single)) < 4 * error
    assert len(early.issued) == 100


def test_values_that_come_too_rarely_are_told_of_once():
    made = calibration(
        Watch("principle", "cusum", 2.0), Watch("other", "cusum", 5.0), threshold=50.0
    )
    early = EarlyWarnings(made, frame_at(0), {"principle": "free", "other": "free"}, None)
    principle = Deviation("principle", "eV", 1.0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for step in range(0, 200, 10):  # every 5 fs
            early.see(frame_at(step), {"principle": principle, "other": principle}, None)
    (message,) = told
    assert "principle: a value every 5 fs, but the calibration is made for one every 2" in str(
        message.message
    )


def test_watching_goes_on_from_a_checkpoint():
    watches = (
        Watch("principle", "ewma", 1.0),
        Watch("profile_rms", "shewhart", 10.0),
        Watch("principle", "page_hinkley", 2.0),
        Watch("kinetic_temperature", "cusum", 0.5),
    )
    made = calibration(*watches, threshold=1.5)

    def feed(early, steps):
        found = []
        for step in steps:
            frame = frame_at(step)
            principle = Deviation("principle", "eV", float(np.sin(step) + step // 500))
            explained = attribution_of(frame) if step % 20 == 0 else None
            found += early.see(frame, {"principle": principle}, explained)
        return [w.as_dict() for w in found]

    whole = EarlyWarnings(made, frame_at(0), {"principle": "free"}, 5.0)
    feed(whole, range(700))
    state = decode(encode(snapshot({"early": whole})))
    again = EarlyWarnings(made, frame_at(0), {"principle": "free"}, 5.0)
    again = restore({"early": again}, state)["early"]
    expected = feed(whole, range(700, 1500))
    assert feed(again, range(700, 1500)) == expected
    assert {w["principle"] for w in expected} >= {"principle", "kinetic_temperature"}
    assert list(again.issued) == list(whole.issued)


def dynamics_of(steps_seed=3):
    atoms = heated(ethanol_with(amplitude=0.03), 600)
    return langevin(atoms, 600, friction=0.01, rng=steps_seed)


SHORT = calibration(
    Watch("bond", "cusum", 0.5), Watch("temperature", "ewma", 1.0),
    Watch("profile_rms", "shewhart", 5.0, location=0.0, scale=0.1), Watch("absent", "cusum", 1.0),
    threshold=0.8, baseline=6.0, profile=ProfileSettings(10.0, 10.0, 2),
)  # fmt: skip
HOW = {"attribute_every": 2, "record": RecordSettings(checkpoint_steps=10)}


def monitored(path, until=60, **more):
    dynamics = dynamics_of()
    make = Monitor if not path.exists() else Monitor.resume
    with make(dynamics, path, **HOW, **more) as monitor:
        dynamics.attach(monitor)
        dynamics.run(until - dynamics.nsteps)
    return dynamics, monitor


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: path, dynamics, monitor, and the Python warnings."""
    path = tmp_path_factory.mktemp("whole") / "run"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", EarlyWarningIssued)
        dynamics, monitor = monitored(path, early_warning=SHORT)
    return path, dynamics, monitor, [w for w in told if w.category is EarlyWarningIssued]


def test_a_monitor_records_tells_and_shows_warnings(whole, tmp_path):
    path, dynamics, monitor, python_warnings = whole
    run = mdxai.open_run(path)
    assert [str(w.message) for w in python_warnings] == [str(w) for w in monitor.warnings]
    events = run.events_table().to_pylist()
    told = [json.loads(e["content"]) for e in events if e["kind"] == "warning"]
    assert told == [w.as_dict() for w in monitor.warnings] == run.verdict["warnings"]
    assert {"bond", "profile_rms"} <= {w.principle for w in monitor.warnings}
    assert next(w for w in monitor.warnings if w.principle == "profile_rms").bins
    assert run.header["parameters"]["early_warning"]["alarms_per_ns"] == 10.0
    assert monitor.verdict.unavailable["early warning by absent"] == "not measured in this run"

    off, silent = monitored(tmp_path / "off")
    assert silent.warnings == ()
    np.testing.assert_array_equal(dynamics.atoms.positions, off.atoms.positions)
    plain = mdxai.open_run(tmp_path / "off")
    for name in ("frames_table", "trajectory_table", "pairs_table", "profile_table"):
        assert repr(getattr(run, name)().to_pydict()) == repr(getattr(plain, name)().to_pydict())
    assert "warnings" not in plain.verdict
    assert "early_warning" not in plain.header["parameters"]


def test_a_resumed_run_gives_the_same_warnings(whole, tmp_path):
    for until in (27, 45, 60):
        monitored(tmp_path / "parts", until, early_warning=SHORT, on_warning="ignore")
    run, parts = (mdxai.open_run(path) for path in (whole[0], tmp_path / "parts"))
    assert run.events_table().to_pydict() == parts.events_table().to_pydict()
    assert run.verdict["warnings"] == parts.verdict["warnings"] != []
    with pytest.raises(mdxai.RecordError, match=r"parameters.early_warning.sha256: recorded"):
        monitored(tmp_path / "parts", early_warning=replace(SHORT, baseline_fs=7.0))
    with pytest.raises(mdxai.RecordError, match=r"parameters.early_warning: recorded .* now noth"):
        monitored(tmp_path / "parts")


def test_listeners_get_warnings_and_the_higher_rate_gives_them_sooner(whole, tmp_path):
    received = []
    monitored(tmp_path / "run", 40, early_warning=SHORT.at(20.0), on_warning=received.append)
    assert {w.alarms_per_ns for w in received} == {20.0}
    assert received[0].time_fs <= whole[2].warnings[0].time_fs
    with pytest.raises(ValueError, match="on_warning must be"):
        Monitor(dynamics_of(), on_warning="shout")


def test_the_command_line_takes_a_calibration(tmp_path):
    SHORT.save(tmp_path / "c.toml")

    def invoke(*arguments):
        return CliRunner().invoke(app, [str(a) for a in arguments])

    command = ("run", "schnet-ethanol", "CH3CH2OH", "--steps", 40, "--attribute-every", 2)
    given = ("--early-warning", tmp_path / "c.toml", "--alarms-per-ns")
    result = invoke(*command, "--out", tmp_path / "run", *given, 25)
    assert result.exit_code == 0, result.output
    assert "early warning at" in result.stdout
    written = mdxai.open_run(tmp_path / "run").verdict["warnings"]
    assert written[0]["alarms_per_ns"] == 20.0
    refused = invoke(*command, "--out", tmp_path / "other", *given, 5)
    assert refused.exit_code == 2
    assert "5 false alarms per ns is less than this calibration supports" in refused.stderr
    alone = invoke(*command, "--out", tmp_path / "other", "--alarms-per-ns", 5)
    assert (alone.exit_code, "need early_warning" in alone.stderr) == (2, True)
    again = invoke(
        "replay", "schnet-ethanol", tmp_path / "run", "--attribute-every", 2,
        "--out", tmp_path / "replay", *given, 25,
    )  # fmt: skip
    assert again.exit_code == 0, again.output
    repeated = mdxai.open_run(tmp_path / "replay").verdict["warnings"]
    bonds = [[w["time_fs"] for w in ws if w["principle"] == "bond"] for ws in (written, repeated)]
    assert bonds[0] == bonds[1] != []


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_each_replica_is_watched_by_itself(tmp_path):
    from .replica_simulation import simulation

    network = mdxai.load_calculator("schnet-ethanol")
    monitor = mdxai.ReplicaMonitor(tmp_path, attribute_every=5, early_warning=SHORT)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", EarlyWarningIssued)
        with monitor:
            simulation(network, monitor).simulate(40)
    assert all(m.warnings for m in monitor.monitors)
    texts = [str(w.message) for w in told if w.category is EarlyWarningIssued]
    expected = [f"{name}: {w}" for name, m in zip(monitor.names, monitor.monitors, strict=True)
                for w in m.warnings]  # fmt: skip
    assert sorted(texts) == sorted(expected)


def test_files_that_are_no_calibration_are_refused(tmp_path):
    path = tmp_path / "c.toml"
    text = SHORT.text()
    for changed, why in (
        ("nonsense", "is not a calibration"),
        ("", "expected schema 1, got None"),
        (text.replace('detector = "cusum"', 'detector = "magic"'), "got 'magic'"),
        (text.replace("every_fs = 0.5", "every_fs = 0"), "must be > 0"),
        (text.replace("threshold = 0.8", "threshold = nan"), "must be > 0"),
        (text.replace("baseline_fs = 6.0", "baseline_fs = -1"), "baseline_fs > 0"),
        (text.replace("alarms_per_ns = 20.0", "alarms_per_ns = 30.0", 1), "a level for each"),
        (text.replace("n_blocks = 2", "colour = 2"), "colour"),
    ):
        path.write_text(changed)
        with pytest.raises(CalibrationError, match=why):
            Calibration.load(path)
    path.write_text(text)
    assert Calibration.load(path).text() == text
    with pytest.raises(CalibrationError, match="No such file"):
        Monitor(dynamics_of(), early_warning=tmp_path / "none.toml")


def test_the_shipped_calibration_loads_and_quotes_its_runs():
    calibration = Calibration.load("shipped")
    assert calibration.watches
    assert {10.0} <= {rate.alarms_per_ns for rate in calibration.rates}
    assert "stable" in calibration.made_from
    chosen = calibration.at(10)
    history = chosen.watches[0].levels[0].history
    assert 0 < history.n_unstable <= history.n_runs
