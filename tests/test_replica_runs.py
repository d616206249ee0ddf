"""Batches of replicas."""

from __future__ import annotations

import numpy as np

import mdxai
from mdxai.study.models import Places
from mdxai.study.replica_runs import Batch, batches, is_done, run_batch, set_aside
from tests.small_study import RECIPE, recipe_from

SOUND = RECIPE.replace("-weak", "")
GUARDED = SOUND.replace("compile = false", "compile = false\nguard = true")


def positions_of(folder):
    return np.array([f.positions for f in mdxai.open_run(folder).frames()])


def test_a_finished_batch_is_skipped_and_an_unfinished_one_repeats_the_same_runs(tmp_path):
    recipe = recipe_from(RECIPE, tmp_path)
    candidate = recipe.candidates[0]
    batch = batches(recipe, candidate)[0]
    assert batch == Batch(candidate, 900.0)  # the hottest first
    places = Places(tmp_path / "study")
    run_batch(batch, recipe, places)
    folder = places.runs(candidate, 900.0)
    first = positions_of(folder / "replica-01")
    written = (folder / "batch.json").stat().st_mtime_ns
    run_batch(batch, recipe, places)
    assert (folder / "batch.json").stat().st_mtime_ns == written
    (folder / "batch.json").unlink()  # as if the worker had been killed before the end
    assert not is_done(batch, places)
    run_batch(batch, recipe, places)
    assert positions_of(folder / "replica-01").tobytes() == first.tobytes()
    assert positions_of(folder / "replica-00").tobytes() != first.tobytes()
    aside = folder.with_name("900K.interrupted-1")
    assert positions_of(aside / "replica-01").tobytes() == first.tobytes()  # nothing is lost
    assert set_aside(tmp_path / "nothing") is None


def test_a_guarded_study_runs_the_same_models_with_a_guard(tmp_path):
    """To the bit those without, as long as the guard does not act."""
    found = []
    for name, settings in (("plain", SOUND), ("guarded", GUARDED)):
        recipe = recipe_from(settings, tmp_path, name)
        places = Places(tmp_path / name)
        run_batch(Batch(recipe.candidates[0], 300.0), recipe, places)
        found.append(mdxai.open_run(places.runs(recipe.candidates[0], 300.0) / "replica-00"))
    plain, guarded = found
    work = guarded.to_dataframe()["guard_work"]
    assert "guard_work" not in plain.to_dataframe()
    assert (work == 0).all()
    assert positions_of(guarded.path).tobytes() == positions_of(plain.path).tobytes()
