"""Directories that hold no run, or a damaged one."""

from __future__ import annotations

import pytest

import mdxai
from mdxai.monitoring.monitor import Monitor
from mdxai.record import RecordError

from .conftest import ethanol_dynamics


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "holds no run"), ("schema = ", "is damaged"), ("schema = 99", "has schema 99")],
)
def test_directories_that_hold_no_readable_run(tmp_path, content, message):
    if content is not None:
        (tmp_path / "run.toml").write_text(content)
    with pytest.raises(RecordError, match=message):
        mdxai.open_run(tmp_path)


def test_damaged_runs_get_a_clear_error(tmp_path):
    dynamics = ethanol_dynamics()
    path = tmp_path / "run"
    with Monitor(dynamics, path) as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(3)
    run = mdxai.open_run(path)
    (path / "verdict.json").unlink()
    with pytest.raises(RecordError, match=r"has no verdict\.json yet"):
        _ = run.verdict
    (part,) = path.glob("frames-*.parquet")
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(RecordError, match="is damaged"):
        run.frames_table()
    part.unlink()
    with pytest.raises(RecordError, match="contains no recorded frames"):
        mdxai.judge(run)
