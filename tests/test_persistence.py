"""What a monitored run writes, when, and what it never touches."""

from __future__ import annotations

import os

import pyarrow.parquet as pq
import pytest

import mdxai
from mdxai.calculators.network_calculator import NetworkCalculator
from mdxai.monitoring.monitor import Monitor
from mdxai.record import RecordError, RecordSettings

from .conftest import ethanol_dynamics


def test_nothing_is_created_before_the_first_frame(tmp_path):
    with Monitor(ethanol_dynamics(), tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_another_run_is_never_touched(tmp_path):
    dynamics = ethanol_dynamics()
    with Monitor(dynamics, tmp_path / "run") as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(3)
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    with pytest.raises(RecordError, match="already holds a run"):
        Monitor(ethanol_dynamics(), tmp_path / "run")
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}


def test_parts_are_plain_parquet(tmp_path):
    dynamics = ethanol_dynamics()
    with Monitor(dynamics, tmp_path / "run") as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(3)
    (part,) = (tmp_path / "run").glob("frames-*.parquet")
    assert pq.read_table(part).num_rows == 4


def test_frames_that_wait_are_recorded_when_the_run_fails(tmp_path):
    dynamics = ethanol_dynamics()
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


def test_an_error_in_the_run_still_leaves_a_readable_record(tmp_path):
    dynamics = ethanol_dynamics()

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


def test_a_full_disk_is_a_clear_error_and_leaves_whole_parts(tmp_path, monkeypatch):
    dynamics = ethanol_dynamics()
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
        dynamics = ethanol_dynamics()
        atoms = dynamics.atoms
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
    dynamics = ethanol_dynamics()
    with Monitor.resume(dynamics, broken, attribute_every=2) as monitor:
        assert dynamics.nsteps == 3
        dynamics.attach(monitor)
        dynamics.run(12 - dynamics.nsteps)
    runs = [mdxai.open_run(path) for path in (whole, broken)]
    assert runs[0].trajectory_table().equals(runs[1].trajectory_table())
