"""What a release consists of: one version everywhere, a wheel and an sdist that stand alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
UV = os.environ.get("UV", "")  # set by `uv run`
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_there_is_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert version("mdxai") == PROJECT["version"] == str(citation["version"])
    assert f"\n## {PROJECT['version']}" in changes
    assert citation["abstract"] == PROJECT["description"]
    assert citation["license"] == PROJECT["license"]


def test_workflows_call_what_is_there():
    steps = [
        step
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
        for step in job["steps"]
    ]
    commands = " ".join(step.get("run", "") for step in steps)
    assert ".ci/run" in commands
    assert (ROOT / "tests" / "test_release.py").name in commands
    assert all("run" in step or "@" in step["uses"] for step in steps)


@pytest.mark.slow
@pytest.mark.skipif(not UV, reason="needs uv: python3 -m uv run pytest -m slow")
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_what_is_built_works_in_an_empty_environment(tmp_path, kind):
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*words):
        done = subprocess.run(
            [str(word) for word in words], cwd=tmp_path, env=clean, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(UV, "build", "--quiet", "--out-dir", "dist", ROOT)
    (built,) = (tmp_path / "dist").glob(kind)
    run(UV, "venv", "--quiet", "--python", sys.executable, "empty")
    there = tmp_path / "empty" / "bin"
    run(UV, "pip", "install", "--quiet", "--python", there / "python", built)
    assert run(there / "mdxai", "--version").split()[-1] == PROJECT["version"]
    run(there / "mdxai", "run", "painn-ethanol", "CH3CH2OH", "--steps", "5", "--out", "first")
    assert (tmp_path / "first" / "report.html").exists()
    explain = "import mdxai; print(len(mdxai.list_calculators()))"
    assert int(run(there / "python", "-c", explain)) > 5
