"""The scripts in examples/ run as they stand, and do what the task pages say.

`examples/cluster_job.sh` is run by test_slurm.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SAYS = {
    "watch_your_script": ("stable over 1000 fs", "C0–C1: -"),
    "any_calculator": ("stable over 400 fs", "eV/Å²"),
    "judge_a_trajectory": (
        "unstable over 1500 fs",
        "onset at 11",
        "the last frames up to the onset",
    ),
    "forecast_and_mend": ("barrier 0.6", "weak spots before, 0 with the guard", "over 2000 fs"),
    "analyse_a_data_set": ("C-C single: 1.", "open analysis/report.html"),
}
NEEDS = {"any_calculator": "chgnet"}


def run(arguments, folder):
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=900,
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip


def test_every_example_is_known_here():
    assert {file.stem for file in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs_and_says_what_its_page_says(name, tmp_path):
    if name in NEEDS and find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed: uv run --group potentials")
    ended = run([EXAMPLES / f"{name}.py"], tmp_path)
    assert ended.returncode == 0, ended.stderr
    for words in SAYS[name]:
        assert words in ended.stdout


@pytest.mark.slow
def test_the_ci_of_a_model_developer_passes_what_got_better_and_fails_what_got_worse(tmp_path):
    sound = (EXAMPLES / "model_ci" / "test_my_potential.py").read_text(encoding="utf-8")
    scaled = "FaultyCalculator(mdxai.load_calculator('schnet-ethanol'), ScaledForces(1.1))"
    worse = sound.replace('mdxai.load_calculator("schnet-ethanol")', scaled).replace(
        "import assert_stable", "import FaultyCalculator, ScaledForces, assert_stable"
    )
    assert scaled in worse
    file = tmp_path / "test_my_potential.py"

    def tested(text, *options):
        file.write_text(text, encoding="utf-8")
        return run(["-m", "pytest", "-q", "-p", "no:cacheprovider", *options], tmp_path)

    assert tested(sound, "--mdxai-update").returncode == 0
    baseline = tmp_path / "baselines" / "my-potential.toml"
    first = baseline.read_text(encoding="utf-8")
    assert tested(sound).returncode == 0
    failed = tested(worse)
    assert failed.returncode == 1
    assert "worse than" in failed.stdout
    assert "work: " in failed.stdout

    weak = tested(sound.replace('"schnet-ethanol"', '"schnet-ethanol-weak"'))
    assert weak.returncode == 1
    assert "1 failed, 1 passed" in weak.stdout  # only its weak spots tell it apart
    assert "barrier" in weak.stdout or "E‡/eV" in weak.stdout

    assert tested(worse, "--mdxai-update").returncode == 0
    assert baseline.read_text(encoding="utf-8") != first
    assert tested(sound).returncode == 0
