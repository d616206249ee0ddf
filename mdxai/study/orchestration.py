"""The work of a study: train and run what is missing; a failure stops only what depends on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mdxai.study.committee import Committee, committees, measure_spread
from mdxai.study.models import Places, provide
from mdxai.study.recipe import Candidate, StudyRecipe
from mdxai.study.replica_runs import Batch, batches, is_done, run_batch

Report = Callable[["Progress"], None]


@dataclass(slots=True)
class Progress:
    """How far a study is.

    Attributes:
        total: batches of runs, and measurements of committees.
        done: how many of them are finished, earlier starts of the study included.
        last: name of the one finished last.
        failed: reason by name of the model or batch.
    """

    total: int
    done: int = 0
    last: str = ""
    failed: dict[str, str] = field(default_factory=dict)


def run_study(
    client: Any, recipe: StudyRecipe, places: Places, report: Report = lambda _: None
) -> Progress:
    """Train and run what a study still lacks, on the workers of a Dask client.

    Results are read from the folders of the runs, so a worker that dies costs only its batch, which
    Dask gives to another worker.

    Args:
        client: `distributed.Client`; its workers see the same folders.
        recipe: of the study.
        places: absolute folders.
        report: called whenever a batch is finished or has failed.

    Returns:
        What was done and what failed.
    """
    everything = [b for c in recipe.candidates for b in batches(recipe, c)]
    progress = Progress(len(everything) + len(list(_spreads(recipe, places))))
    progress.done = sum(is_done(b, places) for b in everything)
    report(progress)
    _follow(client, _submit_batches(client, recipe, places), progress, report)
    _follow(client, _submit_spreads(client, recipe, places), progress, report)
    return progress


def _submit_batches(client: Any, recipe: StudyRecipe, places: Places) -> dict[Any, str]:
    """Submit what is missing: the hottest batch of every model before any model's second."""
    todo = [
        (rank, batch)
        for candidate in recipe.candidates
        for rank, batch in enumerate(batches(recipe, candidate))
        if not is_done(batch, places)
    ]
    models: dict[str, Any] = {}
    names = {}
    for rank, batch in sorted(todo, key=lambda item: item[0]):
        candidate = batch.candidate
        if candidate.name not in models:
            models[candidate.name] = client.submit(provide, candidate, recipe, places, pure=False)
        future = client.submit(
            _run_after, models[candidate.name], batch, recipe, places, pure=False, priority=-rank
        )
        names[future] = batch.name
    return names


def _run_after(_model: str, batch: Batch, recipe: StudyRecipe, places: Places) -> str:
    """Run a batch; Dask calls this once its model exists."""
    return run_batch(batch, recipe, places)


def _spreads(recipe: StudyRecipe, places: Places) -> Iterator[tuple[Committee, Candidate]]:
    for committee in committees(recipe):
        for candidate in committee.members:
            yield committee, candidate


def _submit_spreads(client: Any, recipe: StudyRecipe, places: Places) -> dict[Any, str]:
    return {
        client.submit(
            measure_spread, committee, candidate, recipe, places, pure=False
        ): f"committee spread along {candidate.name}"
        for committee, candidate in _spreads(recipe, places)
    }


def _follow(client: Any, names: dict[Any, str], progress: Progress, report: Report) -> None:
    from distributed import as_completed

    for future in as_completed(list(names)):
        name = names[future]
        error = future.exception()
        if error is None:
            progress.done += 1
            progress.last = name
        else:
            progress.failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        future.release()
        report(progress)
