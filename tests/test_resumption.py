"""Going on from an earlier checkpoint, with another seed or a smaller timestep."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import mdxai
from mdxai.monitoring.monitor import Monitor
from mdxai.monitoring.options import MonitorOptions
from mdxai.monitoring.run import RunSettings, SettingsError, make_dynamics, simulate
from mdxai.record import RecordError, RecordSettings, list_checkpoints, read_checkpoint, repair
from mdxai.record.rollbacks import ROLLBACKS, is_pending, plan_rollback, rollbacks_of

from .conftest import ethanol_with

# 5 fs tear ethanol apart within some ten steps, a tenth of that does not.
OPTIONS = MonitorOptions(
    attribute_every=4, on_warning="ignore", record=RecordSettings(checkpoint_steps=2)
)
WILD = RunSettings(
    temperature=500, timestep=4.0, steps=60, seed=1, rollback=2, rollback_timestep=0.25,
    monitor=OPTIONS,
)  # fmt: skip


def run(path, settings=WILD, **options):
    return simulate(
        mdxai.load_calculator("schnet-ethanol"), ethanol_with(None), settings, path, **options
    )


@pytest.fixture(scope="module")
def rolled_back(tmp_path_factory):
    path = tmp_path_factory.mktemp("rollback") / "run"
    return path, run(path)


def test_an_unstable_run_is_rolled_back_and_completed(rolled_back):
    path, monitor = rolled_back
    assert monitor.rollbacks, "the wild run was stable: the test shows nothing"
    assert monitor.verdict.onset_fs is None
    assert monitor.halted_by is None
    recorded = mdxai.open_run(path).to_dataframe()
    assert recorded["time_fs"].is_monotonic_increasing
    assert recorded["time_fs"].iloc[-1] == pytest.approx(WILD.duration)
    first = monitor.rollbacks[0]
    steps = np.diff(recorded["time_fs"])
    before = recorded["step"].to_numpy()[1:] <= first.to_step
    np.testing.assert_allclose(steps[before], 4.0)
    np.testing.assert_allclose(steps[-1], 4.0 * 0.25 ** len(monitor.rollbacks))


def test_up_to_the_checkpoint_the_record_is_that_of_the_unstable_run(rolled_back, tmp_path):
    path, monitor = rolled_back
    run(
        tmp_path / "broken", replace(WILD, rollback=0, monitor=replace(OPTIONS, on_unstable="halt"))
    )
    broken = {f.step: f for f in mdxai.open_run(tmp_path / "broken").frames()}
    last = monitor.rollbacks[0].to_step
    kept = [f for f in mdxai.open_run(path).frames() if f.step <= last]
    assert kept[-1].step == last
    for frame in kept:
        assert frame.positions.tobytes() == broken[frame.step].positions.tobytes()


def test_a_rollback_is_recorded_and_deletes_nothing(rolled_back):
    path, monitor = rolled_back
    events = mdxai.open_run(path).events_table().to_pylist()
    told = [json.loads(e["content"]) for e in events if e["kind"] == "rollback"]
    assert [t["number"] for t in told] == list(range(1, len(monitor.rollbacks) + 1))
    assert told[-1]["changes"]["seed"] == WILD.seed + len(told)
    assert told[-1]["to_time_fs"] < told[-1]["onset_fs"]
    assert told[-1]["reason"]
    assert mdxai.open_run(path).verdict["rollbacks"][-1]["reason"] == told[-1]["reason"]
    for number, rollback in enumerate(monitor.rollbacks, start=1):
        given_up = mdxai.open_run(path / f"rolled-back-{number}")
        assert given_up.verdict["onset_fs"] == rollback.onset_fs
        steps = [frame.step for frame in given_up.frames()]
        assert steps[-1] == rollback.from_step
        assert {*range(rollback.to_step + 1, steps[-1] + 1)} <= {*steps}
        assert list(given_up.path.glob("blackbox-*.extxyz"))
    assert not list(path.glob("*.orphan"))
    assert repair(path).whole


def test_after_the_last_rollback_the_verdict_stands(tmp_path):
    hopeless = replace(WILD, rollback_timestep=1.0, rollback=1)
    monitor = run(tmp_path / "run", hopeless)
    assert len(monitor.rollbacks) == 1
    assert monitor.halted_by is not None
    assert monitor.verdict.stability == "unstable"


@pytest.mark.slow
def test_a_rollback_that_was_killed_is_completed(tmp_path, rolled_back, monkeypatch):
    whole, monitor = rolled_back
    path = tmp_path / "run"

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("mdxai.record.writer.truncate", die)
        with pytest.raises(KeyboardInterrupt):
            run(path)
    assert is_pending(path, rollbacks_of(path))
    with pytest.raises(RecordError, match="was being rolled back"):
        Monitor.resume(make_dynamics(ethanol_with(), WILD), path, attribute_every=4)
    again = run(path, resume=True)
    assert again.rollbacks == monitor.rollbacks
    same_record(path, whole)


def same_record(one, other):
    first, second = (mdxai.open_run(p).trajectory_table() for p in (one, other))
    assert first["step"].equals(second["step"])
    assert first["positions"].equals(second["positions"])


def test_a_run_stopped_after_a_rollback_is_resumed_with_what_it_changed(rolled_back, tmp_path):
    whole, monitor = rolled_back
    last = monitor.rollbacks[-1]
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    (path / "verdict.json").unlink()
    later = [c for c in list_checkpoints(path) if read_checkpoint(c).step > last.to_step]
    for checkpoint in later[1:]:
        checkpoint.unlink()
    step = read_checkpoint(later[0]).step
    again = run(path, resume=True)
    assert again.cost.resumed_at[-1] == step
    same_record(path, whole)


def test_impossible_rollbacks_are_refused(rolled_back, tmp_path):
    path, _ = rolled_back
    dynamics = make_dynamics(ethanol_with(), WILD)
    with pytest.raises(RecordError, match="holds no run"):
        plan_rollback(tmp_path / "nothing", 100.0, {})
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="is a file; expected the directory of a run"):
        plan_rollback(tmp_path / "file", 100.0, {})
    with pytest.raises(RecordError, match="only an unstable run can be rolled back"):
        Monitor.rollback(dynamics, path)
    unjudged = tmp_path / "unjudged"
    shutil.copytree(path, unjudged)
    (unjudged / "verdict.json").unlink()
    with pytest.raises(RecordError, match="has no verdict"):
        Monitor.rollback(dynamics, unjudged)
    with pytest.raises(SettingsError, match="rollback_timestep"):
        RunSettings(rollback=1, rollback_timestep=2.0)
    with pytest.raises(SettingsError, match="repeat the same steps"):
        RunSettings(rollback=1, ensemble="nve")
    with pytest.raises(SettingsError, match="on_unstable must be 'halt', 'warn' or 'ignore'"):
        RunSettings(rollback=1, monitor=MonitorOptions(on_unstable="raise"))
    with pytest.raises(SettingsError, match="needs a record"):
        run(None)
    (tmp_path / ROLLBACKS).write_text('[{"reason": 1}]')
    with pytest.raises(RecordError, match="damaged"):
        rollbacks_of(tmp_path)
    history = path / ROLLBACKS
    assert len(json.loads(history.read_text())) == len(rollbacks_of(path))
