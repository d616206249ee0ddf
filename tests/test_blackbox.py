"""The black box: the last steps before a run became unstable, explained."""

from __future__ import annotations

import ase.io
import numpy as np
import pyarrow.parquet as pq
import pytest

import mdxai
from mdxai.attribution import attributor
from mdxai.engines import AseEngine
from mdxai.monitoring.blackbox import BlackBox
from mdxai.record import repair
from tests.conftest import frames_of

from .hot_ethanol import STRICT, hot, watched


@pytest.mark.parametrize("interval", [1, 4])
def test_the_black_box_holds_every_step_before_the_violation(tmp_path, interval):
    """Also of a run that is monitored sparsely; it is explained as anybody would explain it."""
    path = tmp_path / "run"
    truth = hot(0.5)
    seen = {}
    truth.attach(lambda: seen.update({truth.nsteps: truth.atoms.positions.copy()}))
    dynamics, monitor = watched(
        path, interval, timestep=0.5, on_unstable="halt", blackbox=12, thresholds=STRICT
    )
    truth.run(dynamics.nsteps)
    last = dynamics.nsteps
    frames = ase.io.read(path / f"blackbox-{last:012d}.extxyz", ":")
    assert [f.info["step"] for f in frames] == list(range(last - 11, last + 1))
    for frame in frames:
        np.testing.assert_allclose(frame.positions, seen[frame.info["step"]], atol=1e-7)
    pairs = pq.read_table(path / f"blackbox-{last:012d}-pairs.parquet")
    explain = attributor(hot().atoms.calc)
    expected = explain.attribute(frames[0])
    rows = pairs.filter(np.array(pairs["step"]) == frames[0].info["step"])
    np.testing.assert_allclose(rows["two_body_eV"], expected.two_body, atol=2e-4)
    np.testing.assert_allclose(frames[0].arrays["relevance"], expected.atoms, atol=2e-4)
    judged = [any(k.startswith("deviation_") for k in f.info) for f in frames]
    assert judged == [f.info["step"] % interval == 0 for f in frames]
    (event,) = mdxai.open_run(path).events_table().to_pylist()
    assert event["kind"] == "unstable"
    verdict = mdxai.open_run(path).verdict
    assert verdict["halted_by"] == monitor.halted_by == monitor.verdict.reason


def test_the_black_box_keeps_the_explanations_it_was_given(tmp_path):
    """It explains only the frames that came without one; also after a restart."""
    calls = []

    class Counting:
        method = "walks"

        def attribute(self, frame):
            calls.append(frame.step)
            return explain.attribute(frame)

    frames = frames_of(hot(0.5), 5)
    explain = attributor(hot().atoms.calc)
    box = BlackBox(6)
    for frame in frames:
        box.see(frame, {}, explain.attribute(frame) if frame.step % 2 == 0 else None)
    again = BlackBox(6)
    again.restore(box.state())
    for number, filled in enumerate((box, again)):
        calls.clear()
        (tmp_path / str(number)).mkdir()
        written = filled.write(tmp_path / str(number), Counting())
        assert calls == [1, 3, 5]
    assert written.read_bytes() == (tmp_path / "0" / written.name).read_bytes()


def test_repair_keeps_the_black_box_of_an_unstable_run(tmp_path):
    path = tmp_path / "run"
    watched(path, on_unstable="halt", blackbox=5)
    box = next(path.glob("blackbox-*-pairs.parquet"))
    report = repair(path)
    assert report.whole
    assert report.repaired is None
    (path / "run.toml").unlink()
    kept = repair(path, tmp_path / "kept").repaired
    assert (kept / box.name).read_bytes() == box.read_bytes()
    assert mdxai.open_run(kept).verdict["stability"] == "unstable"
    box.write_bytes(box.read_bytes()[:-9])
    damaged = repair(path, tmp_path / "again")
    assert [f.name for f in damaged.files if f.state == "damaged"] == [box.name]


def test_a_black_box_comes_back(tmp_path):
    dynamics = hot(0.5)
    engine, box, again = AseEngine(dynamics), BlackBox(5), BlackBox(5)
    dynamics.attach(lambda: box.see(engine.frame()))
    dynamics.run(8)
    again.restore(box.state())
    paths = [b.write(tmp_path / name, None) for name, b in (("a", box), ("b", again))
             if (tmp_path / name).mkdir() is None]  # fmt: skip
    assert paths[0].read_bytes() == paths[1].read_bytes()
    BlackBox(5).restore({})
