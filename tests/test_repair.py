"""Disks that fill, files that rot, readers that are fed rubbish."""

from __future__ import annotations

import errno
import json
import os
import shutil
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import mdxai
from mdxai.cli.main import app
from mdxai.record import (
    RecordError,
    RecordSettings,
    RecordWarning,
    RunWriter,
    latest_checkpoint,
    list_checkpoints,
    list_parts,
    read_checkpoint,
    repair,
)
from mdxai.record import durable_files as files
from mdxai.record.layout import ROWS

from .synthetic_run import HEADER, PRINCIPLES, add_step, state_at, write_run
from .test_record import assert_complete

MANY = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Faulty(files.FileSystem):
    """Fails from the n-th call that changes something on; writes only a few bytes at a time."""

    def __init__(self, at, number):
        self.left, self.number, self.calls = at, number, 0

    def _spend(self):
        self.calls += 1
        self.left -= 1
        if self.left < 0:
            raise OSError(self.number, os.strerror(self.number))

    def create(self, path):
        self._spend()
        return super().create(path)

    def write(self, descriptor, content):
        self._spend()
        return super().write(descriptor, content[: 1 + len(content) // 2])

    def sync(self, descriptor):
        self._spend()
        super().sync(descriptor)

    def rename(self, old, new):
        self._spend()
        super().rename(old, new)

    def link(self, old, new):
        self._spend()
        super().link(old, new)

    def remove(self, path):
        self._spend()
        super().remove(path)

    def touch(self, path):
        self._spend()
        super().touch(path)

    def sync_folder(self, path):
        self._spend()
        super().sync_folder(path)


def write_until_it_fails(path, monkeypatch, at, number):
    """Return the writer of a run of 36 steps, and what it met."""
    faulty = Faulty(at, number)
    met = ""
    monkeypatch.setattr(files, "system", faulty)
    writer = RunWriter(path, RecordSettings())
    try:
        writer.start(HEADER, PRINCIPLES)
        for step in range(36):
            add_step(writer, step)
            if step % 4 == 3:
                writer.commit(step, state_at(step))
        writer.finish({}, None)
    except RecordError as error:
        met = str(error)
    finally:
        monkeypatch.setattr(files, "system", files.FileSystem())
    assert not met or (os.strerror(number) in met and str(path) in met)
    return writer, met


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_disk_errors_leave_what_was_written_intact(tmp_path, monkeypatch, number):
    """The n-th call fails, and all after it: what is there is whole, and the run can go on."""
    at, failed = {errno.ENOSPC: 0, errno.EIO: 3, errno.EACCES: 7}[number], True
    while failed:
        path = tmp_path / str(at)
        _, failed = write_until_it_fails(path, monkeypatch, at, number)
        assert not list(path.glob(".*.tmp"))
        if (path / "run.toml").exists():
            assert_whole_and_resumable(path)
        at += 67
    assert at > 60


def assert_whole_and_resumable(path):
    assert repair(path).whole
    run = mdxai.open_run(path)
    steps = [step for t in run.tables("frames", ["step"]) for step in t["step"].to_pylist()]
    assert steps == list(range(len(steps)))
    if not list_checkpoints(path):
        return
    checkpoint = latest_checkpoint(path)
    writer = RunWriter(path)
    writer.resume(checkpoint)
    for step in range(checkpoint.step + 1, 40):
        add_step(writer, step)
    writer.finish({}, None)
    assert_complete(path, 40)


def test_finish_writes_pending_rows_once_there_is_room(tmp_path, monkeypatch):
    writer, failed = write_until_it_fails(tmp_path / "run", monkeypatch, 60, errno.ENOSPC)
    assert failed
    assert writer.open
    writer.finish({}, None)
    steps = mdxai.open_run(tmp_path / "run").frames_table()["step"].to_pylist()
    assert steps == list(range(len(steps)))
    assert repair(tmp_path / "run").whole


def test_unwritable_directories_are_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="is a file; expected a directory"):
        RunWriter(tmp_path / "file").start(HEADER, PRINCIPLES)
    with pytest.raises(RecordError, match="cannot create the run directory"):
        RunWriter(tmp_path / "file" / "run").start(HEADER, PRINCIPLES)
    write_run(tmp_path / "run", 5)
    with pytest.raises(RecordError, match="already holds a run"):
        RunWriter(tmp_path / "run").start(HEADER, PRINCIPLES)
    monkeypatch.setattr(files, "system", Faulty(0, errno.EROFS))
    with pytest.raises(RecordError, match="Read-only file system"):
        RunWriter(tmp_path / "other").start(HEADER, PRINCIPLES)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A finished run with several parts of each kind."""
    path = tmp_path_factory.mktemp("sound") / "run"
    write_run(path, 20, 9, finish=False)
    writer = RunWriter(path)
    writer.resume(latest_checkpoint(path))
    (path / "verdict.json").unlink(missing_ok=True)
    writer.finish({"stability": "stable"}, None, state_at(19))
    return path


def altered(sound, tmp_path, name, content):
    path = tmp_path / "altered"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(sound, path)
    (path / name).write_bytes(content)
    shutil.rmtree(tmp_path / "altered-repaired", ignore_errors=True)
    return path


@MANY
@given(data=st.data())
def test_every_flipped_bit_is_detected(sound, tmp_path, data):
    name = data.draw(st.sampled_from(sorted(p.name for p in sound.iterdir())))
    content = bytearray((sound / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = altered(sound, tmp_path, name, bytes(content))
    before = {p.name: p.read_bytes() for p in path.iterdir()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = repair(path)
    assert [file.name for file in report.files if file.state == "damaged"] == [name]
    assert before == {p.name: p.read_bytes() for p in path.iterdir()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert repair(report.repaired).whole
    assert mdxai.open_run(report.repaired).header == mdxai.open_run(sound).header


def read_all(path):
    """Call every reader; only RecordError may come out."""

    def verdict():
        return mdxai.open_run(path).verdict

    def tables():
        run = mdxai.open_run(path)
        return [run.frames_table(), run.trajectory_table(), run.explanations_table(),
                run.pairs_table(), run.triples_table(), run.events_table(), run.profile_table(),
                run.to_dataframe(), run.to_xarray().load(), list(run.attributions())]  # fmt: skip

    def frames():
        return list(mdxai.open_run(path).frames())

    def states():
        return [read_checkpoint(p) for p in list_checkpoints(path)]

    refused = 0
    for reader in (verdict, tables, frames, states):
        try:
            reader()
        except RecordError:
            refused += 1
    return refused


@MANY
@given(data=st.data())
def test_malformed_files_raise_a_record_error(sound, tmp_path, data):
    """Random bytes, cut, spliced or flipped files, some under the name that fits their hash."""
    name = data.draw(st.sampled_from(sorted(p.name for p in sound.iterdir())))
    content = (sound / name).read_bytes()
    at = data.draw(st.integers(0, len(content)))
    middle = data.draw(st.binary(max_size=60))
    end = data.draw(st.sampled_from([content[at:], content[at + len(middle) :], b""]))
    new = data.draw(st.sampled_from([content[:at] + middle + end, middle]))
    path = altered(sound, tmp_path, name, new)
    refused = read_all(path)
    assert refused or new == content
    if name.endswith(".parquet"):
        digest = files.hash_of(path / name)[:16]
        (path / name).rename(path / f"{name[:-24]}{digest}.parquet")
        read_all(path)


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("finish", [False, True])
def test_repair_lists_a_missing_part(tmp_path, kind, finish):
    write_run(tmp_path / "run", 26, 4, finish)
    part = list_parts(tmp_path / "run", kind)[0]
    part.path.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = repair(tmp_path / "run")
    assert [f.name for f in report.files if f.state == "missing"] == [part.name]
    with pytest.raises(RecordError, match="no checkpoint"), pytest.warns(RecordWarning):
        latest_checkpoint(tmp_path / "run")


def test_the_repair_command_copies_what_is_undamaged(tmp_path):
    write_run(tmp_path / "run", 20, 4)
    result = CliRunner().invoke(app, ["repair", str(tmp_path / "run")])
    assert (result.exit_code, "damaged" in result.stdout) == (0, False)
    part = list_parts(tmp_path / "run", "pairs")[0]
    part.path.write_bytes(part.path.read_bytes()[:-5])
    result = CliRunner().invoke(app, ["repair", str(tmp_path / "run"), "--json"])
    report = json.loads(result.stdout)
    assert result.exit_code == 3
    states = {file["name"]: file["state"] for file in report["files"]}
    assert states[part.name] == "damaged"
    assert mdxai.open_run(report["repaired"]).frames_table().num_rows == 20
    assert mdxai.open_run(report["repaired"]).pairs_table().num_rows == 0
    again = CliRunner().invoke(app, ["repair", str(tmp_path / "run")])
    assert again.exit_code == 2
    nothing = CliRunner().invoke(app, ["repair", str(tmp_path)])
    assert nothing.exit_code == 2


@pytest.mark.parametrize(
    ("writer", "message"),
    [
        (
            '"0.1.0"',
            r"written by mdxai 0\.1\.0 and has .* To read the run, install mdxai==0\.1\.\*",
        ),
        (
            '"0.2.0"',
            r"written by another version of mdxai .* To read the run, install that version",
        ),
        ("3", r"written by another version of mdxai .* To read the run, install that version"),
    ],
)
def test_an_older_schema_is_refused_with_the_version_to_install(
    tmp_path, monkeypatch, writer, message
):
    monkeypatch.setattr("mdxai.record.header.version", lambda name: "0.2.0")
    (tmp_path / "run.toml").write_text(f"schema = 2\n[versions]\nmdxai = {writer}\n")
    with pytest.raises(RecordError, match=message) as refused:
        mdxai.open_run(tmp_path)
    assert "has schema 2; mdxai 0.2.0 reads schema 3." in str(refused.value)
