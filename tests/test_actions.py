"""What happens when a run becomes unstable: reactions, the black box, frames to label, overhead."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace

import ase.io
import numpy as np
import pyarrow.parquet as pq
import pytest
from ase import units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

import mdxai
from mdxai.attribution import attributor
from mdxai.engines import AseEngine
from mdxai.mending.active_learning import farthest_first, frames_to_label
from mdxai.monitoring.blackbox import BlackBox
from mdxai.monitoring.monitor import InstabilityWarning, Monitor, UnstableTrajectory
from mdxai.monitoring.overhead import Cost, Overhead, OverheadWarning
from mdxai.record import repair
from mdxai.stability.thresholds import THRESHOLDS
from tests.conftest import frames_of

# Bonds that stretch for 10 fs count as broken: a hot molecule gets there after 20 steps.
STRICT = [replace(t, warn=0.0, unstable=0.02, patience=10.0) for t in THRESHOLDS
          if t.principle == "bond"]  # fmt: skip


def hot(timestep=5.0):
    """Ethanol with a timestep that tears it apart within a few steps."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = mdxai.load_calculator("schnet-ethanol")
    rng = np.random.default_rng(1)
    thermalize_momenta(atoms, temperature_K=800, rng=rng)
    return Langevin(atoms, timestep * units.fs, temperature_K=800, friction=0.02, fixcm=False,
                    rng=rng)  # fmt: skip


def watched(path, interval=1, steps=200, timestep=5.0, **options):
    dynamics = hot(timestep)
    with Monitor(dynamics, path, attribute_every=4, **options) as monitor:
        dynamics.attach(monitor, interval=interval)
        dynamics.run(steps)
    return dynamics, monitor


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


def test_reactions(tmp_path):
    with pytest.raises(UnstableTrajectory, match="unstable") as caught:
        watched(tmp_path / "raise", on_unstable="raise")
    assert caught.value.verdict.stability == "unstable"
    verdict = mdxai.open_run(tmp_path / "raise").verdict
    assert verdict["interrupted_by"].startswith("UnstableTrajectory: unstable")
    assert verdict["halted_by"]
    with pytest.warns(InstabilityWarning, match="unstable over"):
        dynamics, _ = watched(None, steps=60)
    assert dynamics.nsteps == 60
    told = []
    watched(None, steps=60, on_unstable=told.append)
    assert len(told) == 1


def test_a_halted_run_is_halted_again():
    dynamics, _ = watched(None, on_unstable="halt")
    halted = dynamics.nsteps
    dynamics = hot()
    with Monitor(dynamics, None, attribute_every=0, on_unstable="halt") as monitor:
        dynamics.attach(monitor)
        for _ in range(10):
            dynamics.run(20)
    assert monitor.halted_by
    assert dynamics.nsteps <= halted + 10


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


def test_frames_to_label_come_before_the_onset_and_differ(tmp_path):
    path = tmp_path / "run"
    watched(path, on_unstable="halt")
    run = mdxai.open_run(path)
    frames = frames_to_label(run, 5)
    assert 0 < len(frames) <= 5
    for atoms in frames:
        assert atoms.info["time_fs"] < run.verdict["onset_fs"]
        assert atoms.calc is None
        assert atoms.get_all_distances()[np.triu_indices(9, 1)].max() < 8
    assert len({atoms.positions.tobytes() for atoms in frames}) == len(frames)


def test_farthest_first_against_brute_force():
    points = np.random.default_rng(0).normal(size=(30, 3))
    chosen = farthest_first(points, 6)
    for k in range(1, 6):
        gaps = [min(np.linalg.norm(p - points[c]) for c in chosen[:k]) for p in points]
        assert chosen[k] == int(np.argmax(gaps))
    assert farthest_first(np.zeros((4, 2)), 3) == [0]


def test_overhead_follows_a_clock():
    """Explanations cost 1 s, everything else 0.1 s of a step of 0.9 s."""
    cost = Cost()
    overhead = Overhead(0.2, cost)
    explained = []
    for step in range(4000):
        due = overhead.due(step, 2)
        explained.append(due)
        cost.total += 0.9 + (1.1 if due else 0.1)
        cost.monitor += 1.1 if due else 0.1
        overhead.review()
    late = np.array(explained[2000:])
    share = (0.1 * 2000 + late.sum()) / (2000 + late.sum())
    assert share <= 0.2
    assert 4 <= cost.stretch <= 32
    cost.monitor -= 1e9  # as if it cost nothing any more
    for _ in range(40 * cost.stretch):
        cost.total += 1
        overhead.review()
    assert cost.stretch < 32


def test_an_overhead_that_cannot_be_kept_is_said_once():
    """What is done in every frame takes 10 % by itself; setting up took a minute, once."""
    cost = Cost(total=60.0, monitor=60.0, start=60.0)
    overhead = Overhead(0.05, cost)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for step in range(20_000):
            explained = overhead.due(step, 1)
            cost.total += 1.0 + explained
            cost.monitor += 0.1 + explained
            cost.attribution += explained
            overhead.review()
    assert [w.category for w in said] == [OverheadWarning]
    assert re.match(r"checking .* alone take (9|10)\.\d% .* allows 5.0%", str(said[0].message))
    assert cost.share == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("options", [{"max_overhead": 0}, {"max_overhead": 2}, {"blackbox": -1}])
def test_unusable_choices(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Monitor(hot(), None, **options)
