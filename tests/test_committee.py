"""The spread of an ensemble."""

from __future__ import annotations

import numpy as np
import pytest

import mdxai
from mdxai.study.committee import SPREAD, committees, measure_spread
from mdxai.study.models import Places
from mdxai.study.replica_runs import Batch, run_batch
from tests.small_study import RECIPE, recipe_from


def test_the_spread_is_that_of_the_members_one_by_one(tmp_path):
    recipe = recipe_from(RECIPE, tmp_path)
    places = Places(tmp_path / "study")
    candidate = recipe.candidates[0]
    run_batch(Batch(candidate, 300.0), recipe, places)
    (committee,) = committees(recipe)
    measure_spread(committee, candidate, recipe, places)
    import pyarrow.parquet as pq
    from ase import Atoms

    run = mdxai.open_run(places.runs(candidate, 300.0) / "replica-00")
    table = pq.read_table(run.path / SPREAD)
    frames = list(run.frames())
    assert table["step"].to_pylist() == [f.step for f in frames]
    forces = []
    for member in committee.members:
        atoms = Atoms(frames[-1].numbers, frames[-1].positions)
        atoms.calc = mdxai.load_calculator(member.source)
        forces.append(atoms.get_forces())
    by_hand = np.sqrt(np.var(forces, axis=0).sum(axis=1)).max()
    assert table["committee_spread"][-1].as_py() == pytest.approx(by_hand, rel=1e-4)
