"""The work of a study: failures, and workers that die."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from mdxai.study.models import Places
from mdxai.study.orchestration import run_study
from mdxai.study.replica_runs import Batch, batches, is_done
from tests.small_study import RECIPE, recipe_from


class InlineClient:
    """Runs what is submitted at once, so that the order of work can be tested without Dask."""

    def submit(self, function, *args, pure, priority=0):
        from concurrent.futures import Future

        future = Future()
        future.release = lambda: None
        args = [a.result() if isinstance(a, Future) and not a.exception() else a for a in args]
        try:
            for a in args:
                if isinstance(a, Future):
                    raise a.exception()
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future


def test_a_model_that_fails_does_not_stop_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr("distributed.as_completed", iter)
    text = RECIPE.replace('"schnet-ethanol-weak"', '"no-such-model"').replace(
        "[300.0, 900.0]", "[300]"
    )
    recipe = recipe_from(text.replace('committee = "weak"', ""), tmp_path)
    places = Places(tmp_path / "study")
    seen = []
    progress = run_study(InlineClient(), recipe, places, lambda p: seen.append(p.done))
    assert list(progress.failed) == ["no-such-model at 300 K"]
    assert "there is no calculator 'no-such-model'" in progress.failed["no-such-model at 300 K"]
    assert (progress.done, progress.total) == (1, 2)
    assert is_done(Batch(recipe.candidates[1], 300), places)
    assert run_study(InlineClient(), recipe, places).done == 1  # what is done is skipped


@pytest.mark.slow
def test_a_killed_worker_costs_only_its_batch(tmp_path):
    from mdxai.study.scheduler import workers

    recipe = recipe_from(RECIPE.replace("duration_ps = 0.02", "duration_ps = 1.0"), tmp_path)
    places = Places(tmp_path / "study")
    killed = []

    def kill(client):
        while not list(places.out.glob("runs/*/*/replica-00/run.toml")):
            time.sleep(0.2)
        pids = list(client.run(os.getpid).values())
        os.kill(pids[0], signal.SIGKILL)
        killed.append(pids[0])

    with workers(n=2) as client:
        thread = threading.Thread(target=kill, args=(client,))
        thread.start()
        progress = run_study(client, recipe, places)
        thread.join()
    assert killed
    assert not progress.failed
    assert progress.done == progress.total
    assert all(is_done(b, places) for c in recipe.candidates for b in batches(recipe, c))
    aside = list(places.out.glob("runs/*/*.interrupted-*"))
    assert len(aside) == 1  # of four batches
