"""One process writes to a run directory; a second one is refused, a replaced one stops."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from mdxai.record import (
    RecordError,
    RecordSettings,
    RecordWarning,
    RunWriter,
    latest_checkpoint,
    open_run,
    repair,
)
from mdxai.record.layout import WRITER, checkpoint_path
from mdxai.record.writer_lock import (
    SILENT_SECONDS,
    DirectoryTakenOver,
    WriterLock,
    refuse_other_writer,
)

from .synthetic_run import HEADER, PRINCIPLES, add_step, state_at
from .test_record import assert_complete

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture
def holder(tmp_path):
    """Id of a process that has taken `tmp_path / "run"`; a fork, since importing takes seconds."""
    path = tmp_path / "run"
    path.mkdir()
    number = os.fork()
    if number == 0:
        try:
            WriterLock(path).take()
            time.sleep(600)
        finally:
            os._exit(1)
    while not (path / WRITER).exists():
        time.sleep(0.01)
    yield number
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)


def wait_for_checkpoint(path, step):
    """Wait until the writer thread has written the checkpoint of a step."""
    while not checkpoint_path(path, step).exists():
        time.sleep(0.01)


def begun(path, steps=14):
    """Return an open writer that has committed `steps` steps."""
    writer = RunWriter(path, RecordSettings())
    writer.start(HEADER, PRINCIPLES)
    for step in range(steps):
        add_step(writer, step)
    writer.commit(steps - 1, state_at(steps - 1))
    wait_for_checkpoint(path, steps - 1)
    return writer


def test_a_running_writer_keeps_others_out_and_a_killed_one_does_not(tmp_path, holder):
    path = tmp_path / "run"
    for attempt in (WriterLock(path).take, lambda: RunWriter(path).start(HEADER, PRINCIPLES)):
        with pytest.raises(RecordError, match=rf"being written by process {holder} on"):
            attempt()
    assert [entry.name for entry in path.iterdir()] == [WRITER]
    os.kill(holder, signal.SIGKILL)
    os.waitid(os.P_PID, holder, os.WEXITED | os.WNOWAIT)
    refuse_other_writer(path)  # dead, though its parent has not taken note of it yet
    begun(path).finish({}, None)
    assert_complete(path, 14)
    assert not (path / WRITER).exists()


def test_a_recycled_pid_is_another_process(tmp_path, holder):
    token = tmp_path / "run" / WRITER
    content = json.loads(token.read_text())
    assert content["pid"] == holder
    token.write_text(json.dumps(content | {"started": content["started"] - 1}))
    refuse_other_writer(tmp_path / "run")


ELSEWHERE = ['{"id": "1", "host": "elsewhere", "pid": 1, "started": 1}', "{"]


@pytest.mark.parametrize("content", ELSEWHERE)
def test_a_writer_on_another_machine_counts_as_dead_after_silence(tmp_path, content, monkeypatch):
    """The clock is the file's: each look finds it older, and nobody waits in this test."""
    token = tmp_path / WRITER
    token.write_text(content)
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        then = time.time() - sum(waits)
        os.utime(token, (then, then))

    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.warns(RecordWarning, match=r"waiting 1\d\d s to see whether that has ended"):
        refuse_other_writer(tmp_path)
    assert SILENT_SECONDS <= sum(waits) < SILENT_SECONDS + 10
    refuse_other_writer(tmp_path)


@pytest.mark.parametrize("content", ELSEWHERE)
def test_an_active_writer_on_another_machine_keeps_others_out(tmp_path, content, monkeypatch):
    token = tmp_path / WRITER
    token.write_text(content)
    then = time.time() - 20
    os.utime(token, (then, then))
    monkeypatch.setattr(time, "sleep", lambda _: os.utime(token))
    with (
        pytest.warns(RecordWarning, match="waiting"),
        pytest.raises(RecordError, match="is being written by"),
    ):
        refuse_other_writer(tmp_path)


def test_a_replaced_writer_stops_before_it_writes(tmp_path):
    path = tmp_path / "run"
    first = begun(path)
    second = RunWriter(path, RecordSettings())  # of the same process, as in a notebook
    second.resume(latest_checkpoint(path))
    for step in range(14, 20):
        add_step(first, step)
        add_step(second, step)
    before = sorted(path.iterdir())
    first.commit(19, state_at(19))
    with pytest.raises(DirectoryTakenOver, match="was taken over by process"):
        first.finish({}, None)
    assert sorted(path.iterdir()) == before
    assert not first.open
    with pytest.raises(DirectoryTakenOver, match="was taken over by process"):
        first.check()
    assert not repair(path).files[-1].name.startswith("verdict")
    second.finish({}, None)
    assert_complete(path, 20)


def test_every_commit_touches_the_writer_file(tmp_path):
    path = tmp_path / "run"
    writer = begun(path)
    os.utime(path / WRITER, (0, 0))
    add_step(writer, 14)
    writer.commit(14, state_at(14))
    wait_for_checkpoint(path, 14)
    assert (path / WRITER).stat().st_mtime > time.time() - 600
    (path / WRITER).unlink()  # as another one does that has gone on with the run to its end
    with pytest.raises(DirectoryTakenOver, match="writer is gone"):
        writer.finish({}, None)
    assert not (path / WRITER).exists()
    assert open_run(path).frames_table().num_rows == 15


def test_a_released_lock_leaves_no_file(tmp_path):
    lock = WriterLock(tmp_path)
    lock.take()
    lock.confirm()
    lock.release()
    assert not list(tmp_path.iterdir())
