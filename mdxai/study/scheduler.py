"""Where a study, or replicas, run: Dask workers on this machine or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mdxai.study.recipe import StudyError

SLURM = "slurm"


@contextmanager
def workers(scheduler: str | None = None, n: int | None = None) -> Iterator[Any]:
    """Yield a `dask.distributed.Client`; workers that were started for it end with the block.

    Args:
        scheduler: None: n processes of this machine; "slurm": n jobs as dask-jobqueue's own
            configuration file (`jobqueue.yaml`) describes them; else the address of a Dask
            scheduler whose workers see the study's folders, such as "tcp://node1:8786".
        n: number of workers; by default one per CPU here, and 4 jobs on a cluster.

    Raises:
        StudyError: where a package is missing or the scheduler does not answer.
    """
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise StudyError("this runs on Dask: pip install 'mdxai[study]'") from error
    if scheduler is None:
        quiet = {"distributed.nanny.pre-spawn-environ.PYTHONWARNINGS": "ignore"}
        with (
            dask.config.set(quiet),  # other packages warn when workers import them
            LocalCluster(
                n_workers=n or _n_cpus(), threads_per_worker=1, processes=True,
                memory_limit=None, dashboard_address=None,
            ) as cluster,
            Client(cluster) as client,
        ):  # fmt: skip
            yield client
    elif scheduler == SLURM:
        with _slurm(n or 4) as cluster, Client(cluster) as client:
            yield client
    else:
        try:
            client = Client(scheduler, timeout="20s")
        except (OSError, ValueError) as error:
            raise StudyError(f"no Dask scheduler answers at {scheduler}: {error}") from error
        with client:
            yield client


def _n_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _slurm(n: int) -> Any:
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise StudyError("SLURM needs dask-jobqueue: pip install 'mdxai[slurm]'") from error
    cluster = SLURMCluster()
    cluster.scale(jobs=n)
    return cluster
