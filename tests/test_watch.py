"""Runs seen from outside while they go on: what is said of them is true, and nothing is written."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pytest
from ase import units
from ase.md.langevin import Langevin

import mdxai
from mdxai.cli.watch import view
from mdxai.cli.watch_server import WatchServer
from mdxai.forecast import CardForecast
from mdxai.forecast.quantity_text import share_interval_text
from mdxai.forecast.survival_model import survival_of
from mdxai.frame import Frame
from mdxai.monitoring.monitor import Monitor
from mdxai.principles import Deviation
from mdxai.record import RecordSettings, RunWriter, list_checkpoints
from mdxai.record.layout import checkpoint_path
from mdxai.report.watched_run import Watch, WatchedRun, runs_below
from mdxai.stability.verdict import judge

from .conftest import ethanol_with, invoke
from .synthetic_run import HEADER, Measure, frame_at, state_at

LIMITS = {
    "bond": {"principle": "bond", "warn": 0.4, "unstable": 0.5, "patience": 0.0, "advice": "a"},
    "contact": {"principle": "contact", "warn": 0.1, "unstable": 0.2, "patience": 0.0,
                "advice": "b"},
}  # fmt: skip
STABLE = {"stability": "stable", "onset_fs": None, "duration_fs": 1.0, "n_frames": 3,
          "findings": [], "unavailable": {}, "start_fs": 0.0}  # fmt: skip


@contextmanager
def going_on(path, steps=None):
    """Begin a run of two principles and hand over what adds frames to it."""
    context = {} if steps is None else {"context": {"settings": {"steps": steps}}}
    writer = RunWriter(path, RecordSettings())
    writer.start(HEADER | {"thresholds": LIMITS} | context, [Measure("bond", "Å"),
                                                              Measure("contact", "Å")])  # fmt: skip

    def add(steps, bond):
        for step in steps:
            found = {"bond": Deviation("bond", "Å", bond(step), (0, 1)),
                     "contact": Deviation("contact", "Å", 0.05)}  # fmt: skip
            writer.add_frame(frame_at(step), found if step % 2 else found | {"contact": None})
        writer.commit(steps[-1], state_at(steps[-1]))
        until = time.monotonic() + 30
        while not writer_has(path, steps[-1]):
            assert time.monotonic() < until
            time.sleep(0.01)

    try:
        yield add, writer
    finally:
        writer.close()


def writer_has(path, step):
    """Whether the thread that writes has come as far; a checkpoint follows its frames."""
    parts, saved = mdxai.open_run(path).parts("frames"), list_checkpoints(path)
    return bool(parts) and parts[-1].last >= step and saved[-1:] == [checkpoint_path(path, step)]


def fingerprint(folder):
    """Names, contents and times of all that a folder holds."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns, path.stat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in [folder, *folder.rglob("*")]
    }  # fmt: skip


def test_each_look_says_what_the_record_says_by_then(tmp_path):
    with going_on(tmp_path / "run", steps=100) as (add, writer):
        watched = WatchedRun(tmp_path / "run")
        assert watched.look().progress.step == -1
        for steps in (range(10), range(10, 11), range(11, 40)):
            add(steps, lambda step: 0.02 * step)
            state = watched.look()
            assert (state.activity, state.progress.step) == ("running", steps[-1])
            expected = judge(mdxai.open_run(tmp_path / "run"))
            assert state.verdict == expected
            assert state.progress.steps == 100
            assert state.worst[0].name == "bond"
            assert state.worst[0].share == pytest.approx(0.02 * steps[-1] / 0.5)
            assert state.disk.checkpoint == steps[-1]
        assert state.verdict.stability == "unstable"
        assert state.last_findings == ("unstable: bond 0.52 Å at 13 fs (atoms 0, 1), allowed 0.5",)
        assert state.progress.left > 0
        writer.finish(STABLE, None)
    state = watched.look()
    assert (state.activity, state.verdict.stability) == ("finished", "stable")
    assert state.progress.left is None
    used = sum(path.stat().st_size for path in (tmp_path / "run").iterdir())
    assert state.disk.used == used


def test_what_a_rollback_replaced_is_forgotten(tmp_path):
    with going_on(tmp_path / "run") as (add, _):
        add(range(40), lambda step: 1.0)
    watched = WatchedRun(tmp_path / "run")
    assert watched.look().verdict.stability == "unstable"
    for path in (tmp_path / "run").iterdir():
        path.unlink()
    with going_on(tmp_path / "run") as (add, _):
        add(range(20), lambda step: 0.1)
        state = watched.look()
    assert (state.progress.step, state.verdict.stability) == (19, "stable")


def test_the_past_keeps_every_peak_in_few_points(tmp_path):
    peaks = {137: 0.3, 1501: 0.45}
    with going_on(tmp_path / "run") as (add, _):
        for start in range(0, 2000, 400):
            add(range(start, start + 400), lambda step: peaks.get(step, 0.01))
            WatchedRun(tmp_path / "run").look()
        state = WatchedRun(tmp_path / "run").look()
    past = next(np.array(p.past) for p in state.worst if p.name == "bond")
    assert 40 <= len(past) <= 129
    for step, value in peaks.items():
        place = step / 2000 * len(past)
        near = past[max(0, int(place) - 2) : int(place) + 2]
        assert near.max() == pytest.approx(value / 0.5)
    assert np.sort(past)[-3] == pytest.approx(0.02)


def test_a_run_that_was_killed_or_is_silent_is_told(tmp_path):
    with going_on(tmp_path / "run") as (add, _):
        add(range(5), lambda step: 0.1)
        claim = json.loads((tmp_path / "run" / "writer").read_text())
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock = tmp_path / "run" / "writer"
    lock.write_text(json.dumps(claim | {"pid": dead.pid, "started": 1}))
    assert WatchedRun(tmp_path / "run").look().activity == "killed"
    lock.write_text(json.dumps(claim | {"host": "elsewhere"}))
    assert WatchedRun(tmp_path / "run").look().activity == "running"
    os.utime(lock, (time.time() - 500,) * 2)
    assert WatchedRun(tmp_path / "run").look().activity == "silent"
    lock.unlink()
    assert WatchedRun(tmp_path / "run").look().activity == "ended early"


def test_runs_in_trouble_come_first_and_new_ones_are_found(tmp_path):
    watch = Watch([tmp_path])
    bonds = {"calm": 0.1, "b/near": 0.35, "c/broken": 0.9}
    for name, bond in bonds.items():
        with going_on(tmp_path / name) as (add, writer):
            add(range(5), lambda step, bond=bond: bond)
            writer.finish(judge(mdxai.open_run(tmp_path / name)).as_dict(), None)
        watch.look()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "run.toml").write_text("nonsense [")
    (tmp_path / "c" / "broken" / "rolled-back-1").mkdir()
    (tmp_path / "c" / "broken" / "rolled-back-1" / "run.toml").write_text("no run of its own")
    states = watch.look()
    assert [Path(s.path).name for s in states] == ["broken", "d", "near", "calm"]
    assert "damaged" in states[1].complaint
    assert list(runs_below([tmp_path / "nothing"])) == [tmp_path / "nothing"]


def test_a_folder_without_runs_is_waited_for(tmp_path):
    (tmp_path / "study").mkdir()
    watch = Watch([tmp_path / "study"])
    (state,) = watch.look()
    assert (state.activity, state.complaint) == ("awaited", "no run here yet")
    assert not state.activity.is_over
    done = invoke("watch", tmp_path / "study", "--once")
    assert done.exit_code == 4
    assert "no run here yet" in done.output
    with going_on(tmp_path / "study" / "first") as (add, writer):
        add(range(5), lambda step: 0.1)
        (state,) = watch.look()
        assert state.activity == "running"
        writer.finish(judge(mdxai.open_run(tmp_path / "study" / "first")).as_dict(), None)


def test_what_is_foretold_of_the_rest_is_the_cards_hazard(tmp_path):
    atoms = ethanol_with("painn-ethanol", amplitude=0.02)
    dynamics = Langevin(atoms, 0.5 * units.fs, temperature_K=1000, friction=0.01 / units.fs,
                        fixcm=False)  # fmt: skip
    context = {"forecast": "a run of 4 ps", "settings": {"steps": 8000}}
    with Monitor(dynamics, tmp_path / "run", context=context, report=False,
                 attribute_every=0) as monitor:  # fmt: skip
        dynamics.attach(monitor)
        dynamics.run(4)
        monitor.checkpoint()
        until = time.monotonic() + 30
        while not writer_has(tmp_path / "run", 4):
            assert time.monotonic() < until
            time.sleep(0.01)
        state = WatchedRun(tmp_path / "run").look()
    found = CardForecast.read(mdxai.load_calculator("painn-ethanol").card)
    hazard = found.about(Frame.from_atoms(atoms)).hazard(1000.0)
    assert state.foretold == "a run of 4 ps"
    assert share_interval_text(survival_of(hazard, 7996 * 0.0005)) in state.left
    assert 0.3 < survival_of(hazard, 4.0).value < 0.95


WATCHER = """
import os, sys
folder = os.path.realpath(sys.argv[1])
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate",
           "os.utime", "os.chmod", "os.chown", "shutil.move", "shutil.rmtree", "os.unlink"}

def hook(event, arguments):
    if event != "open" and event not in CHANGES:
        return
    inside = any(isinstance(a, (str, bytes, os.PathLike))
                 and os.path.realpath(os.fsdecode(a)).startswith(folder) for a in arguments)
    if inside and (event in CHANGES or arguments[2] & WRITES):
        print("WROTE", event, arguments, flush=True)
        os._exit(99)

sys.addaudithook(hook)
if len(sys.argv) > 2:
    open(os.path.join(folder, "touched"), "w")
from mdxai.cli.main import app
app(["watch", folder, "--once"])
"""


def test_it_writes_nothing_into_the_run(tmp_path):
    """Every attempt to open a file for writing, or to change one, is seen by the interpreter."""
    with going_on(tmp_path / "runs" / "on") as (add, _):
        add(range(20), lambda step: 0.01 * step)
        with going_on(tmp_path / "runs" / "done") as (add_other, writer):
            add_other(range(20), lambda step: 0.9)
            writer.finish(judge(mdxai.open_run(tmp_path / "runs" / "done")).as_dict(), None)
        for path in (tmp_path / "runs").rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = fingerprint(tmp_path / "runs")
        command = [sys.executable, "-c", WATCHER, str(tmp_path / "runs")]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "WROTE" not in found.stdout
        assert found.returncode == 3, found.stderr
        assert "unstable since" in found.stdout
        server = WatchServer(Watch([tmp_path / "runs"]))
        assert server.answer(*address(server))[0] == 200
        for state in server.states():
            path, host = address(server)
            assert server.answer(path.replace("/?", f"/run/{state.key}?"), host)[0] == 200
        assert fingerprint(tmp_path / "runs") == before
        for path in (tmp_path / "runs").rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        caught = subprocess.run([*command, "write"], capture_output=True, text=True, check=False)
        assert caught.returncode == 99  # the hook does see writing
    server.close()


def address(server):
    parts = urlsplit(server.url)
    return f"{parts.path}?{parts.query}", parts.netloc


def test_the_local_page_needs_its_token_and_only_reads(tmp_path):
    with going_on(tmp_path / "run", steps=50) as (add, _):
        add(range(20), lambda step: 0.03 * step)
    server = WatchServer(Watch([tmp_path]), seconds=2.0)
    with server.in_background() as url:
        parts = urlsplit(url)
        assert parts.hostname == "127.0.0.1"
        with urlopen(url) as reply:
            text = reply.read().decode()
            assert reply.headers["Cache-Control"] == "no-store"
            assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert 'http-equiv="refresh" content="2.0"' in text
        assert "unstable since" in text
        assert "step 19 of 50" in text
        key = server.states()[0].key
        with urlopen(url.replace("/?", f"/run/{key}?")) as reply:
            assert "Deviations from physics" in reply.read().decode()
        path = f"{parts.path}?{parts.query}"
        asked = [
            ("GET", "/", {}), ("GET", "/?token=", {}), ("GET", path[:-1], {}),
            ("GET", path, {"Host": "evil.example"}), ("POST", path, {}), ("PUT", path, {}),
            ("GET", path.replace("/?", "/run/../../etc?"), {}),
        ]  # fmt: skip
        codes = []
        for method, where, headers in asked:
            connection = http.client.HTTPConnection(parts.netloc)
            connection.request(method, where, headers=headers)
            codes.append(connection.getresponse().status)
            connection.close()
        assert codes == [403, 403, 403, 403, 501, 501, 404]
    assert threading.active_count() < 20


def test_names_are_escaped_on_the_page_and_in_the_terminal(tmp_path):
    name = "<script>alert(1)</script>[bold]"
    header = HEADER | {"calculator": {"name": name}, "thresholds": LIMITS}
    writer = RunWriter(tmp_path / "run")
    writer.start(header, [Measure("bond")])
    for step in range(3):
        writer.add_frame(frame_at(step), {"bond": Deviation("bond", "Å", 0.1)})
        writer.add_event(step, 0.0, name, {"text": name})
    writer.finish(STABLE, None)
    watch = Watch([tmp_path])
    server = WatchServer(watch)
    text = server.answer(*address(server))[1]
    server.close()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    shown = invoke("watch", tmp_path, "--once").stdout
    assert name in shown


def test_the_command_prints_the_state_and_ends_by_it(tmp_path):
    with going_on(tmp_path / "calm") as (add, _):
        add(range(5), lambda step: 0.1)
    calm = invoke("watch", tmp_path / "calm", "--once")
    assert calm.exit_code == 0
    assert "ended early" in calm.stdout
    with going_on(tmp_path / "broken", steps=10) as (add, _):
        add(range(5), lambda step: 0.1 * step + 0.3)
    both = invoke("watch", tmp_path, "--json")
    found = json.loads(both.stdout)
    assert both.exit_code == 3
    assert [Path(s["path"]).name for s in found] == ["broken", "calm"]
    assert found[0]["verdict"]["stability"] == "unstable"
    assert found[0]["progress"]["steps"] == 10
    assert invoke("watch", tmp_path / "none").exit_code == 2


def test_a_table_of_many_runs_fits_the_terminal(tmp_path):
    from rich.console import Console

    for k in range(30):
        with going_on(tmp_path / f"r{k}") as (add, _):
            add(range(2), lambda step, k=k: 0.01 * k)
    states = Watch([tmp_path]).look()
    console = Console(width=100, height=40, record=True, file=io.StringIO())
    console.print(view(states, 40))
    lines = console.export_text().splitlines()
    assert len(lines) <= 40
    assert "r29" in lines[3]
    assert any("more, in less trouble" in line for line in lines)
