"""On a real scheduler: the job script of the docs, and studies through dask-jobqueue."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

import mdxai
from mdxai.study.models import Places
from mdxai.study.replica_runs import batches, is_done

from .one_node_slurm import missing, one_node
from .small_study import RECIPE, recipe_from

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]
JOBQUEUE = """
jobqueue:
  slurm:
    cores: 1
    processes: 1
    memory: 2GB
    walltime: "01:00:00"
"""
JOB = Path(__file__).parents[1] / "examples" / "cluster_job.sh"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    folder = tmp_path / "slurm"
    folder.mkdir()
    beside = Path(sys.executable).parent  # of the command mdxai
    monkeypatch.setenv("PATH", f"{beside}{os.pathsep}{os.environ['PATH']}")
    with one_node(folder) as node:
        yield node


def test_an_array_of_runs_is_stopped_requeued_and_resumed(slurm, tmp_path):
    """A job has one minute, of which 20 s are left when it is told to stop."""
    write(tmp_path / "copper.xyz", bulk("Cu", cubic=True).repeat(2))
    asked = ["emt", tmp_path / "copper.xyz", "--temperature", "300"]

    def ran(steps, folder, seed="1"):
        begun = time.monotonic()
        command = [sys.executable, "-m", "mdxai", "run", *asked, "--steps", str(steps)]
        slurm.command(*command, "--seed", seed, "--out", tmp_path / folder, "--quiet")
        return time.monotonic() - begun

    per_step = (ran(600, "more") - ran(100, "few")) / 500
    steps = round(45 / per_step)  # more than a job can do in 40 s
    asked_of_jobs = [*asked, "--steps", str(steps)]
    limits = ["--array=1-2", "--time=1", "--signal=USR1@20"]
    slurm.command("sbatch", *limits, JOB, *asked_of_jobs, cwd=tmp_path)
    slurm.until(lambda: not slurm.jobs(), 900)
    for seed in ("1", "2"):
        log = (tmp_path / f"run-{seed}.log").read_text()
        assert "stopped by SIGUSR1" in log, log
        ran(steps, f"whole-{seed}", seed)
        mine, theirs = (
            mdxai.open_run(tmp_path / folder).frames_table().to_pandas()
            for folder in (f"runs/{seed}", f"whole-{seed}")
        )
        assert mine["step"].max() == steps
        for name in ("step", "potential_energy_eV"):
            np.testing.assert_array_equal(mine[name], theirs[name])


def test_a_study_runs_as_jobs(slurm, tmp_path, monkeypatch):
    """As a user does it: dask-jobqueue's configuration file says what a job is."""
    pytest.importorskip("dask_jobqueue", reason="needs mdxai[slurm]")
    (tmp_path / "dask").mkdir()
    (tmp_path / "dask" / "jobqueue.yaml").write_text(JOBQUEUE)
    slurm.environment["DASK_CONFIG"] = str(tmp_path / "dask")
    recipe = recipe_from(RECIPE, tmp_path)
    study = ["study", tmp_path / "tiny.toml", "--out", tmp_path / "out"]
    seen = []
    with ThreadPoolExecutor() as pool:
        done = pool.submit(
            slurm.command, sys.executable, "-m", "mdxai", *study, "--scheduler", "slurm",
            "--workers", "2", cwd=tmp_path,
        )  # fmt: skip
        slurm.until(lambda: bool(seen.extend(slurm.jobs()) or seen) or done.done(), 120)
        assert done.result(400)
    assert any("dask" in job for job in seen)
    places = Places(tmp_path / "out")
    assert all(is_done(b, places) for c in recipe.candidates for b in batches(recipe, c))
    slurm.until(lambda: not slurm.jobs(), 60)  # the workers' jobs end with the study
