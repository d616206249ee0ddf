"""A run that is killed at any instant and resumed leaves the record of one never killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def survive(folder: Path, kills: int, seed: int, steps: int) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kill_runner", str(folder), *map(str, (kills, seed, steps))],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False, timeout=3000,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["equal"], (result, done.stderr[-4000:])
    return result


def test_a_record_survives_a_few_kills(tmp_path):
    result = survive(tmp_path, 2, 1, 45)
    assert result["killed"] >= 2


@pytest.mark.slow
def test_a_record_survives_a_hundred_kills(tmp_path):
    result = survive(tmp_path, 100, 2, 400)
    assert result["killed"] >= 100
    assert min(result[stage] for stage in ("part", "merge", "checkpoint")) >= 10
