"""Permutations of whole models."""

from __future__ import annotations

import numpy as np

from mdxai.study.resampling import clusters, permuted_runs, strata
from tests.synthetic_hazards import Hazard, made_runs


def test_permutations_move_whole_models_within_strata():
    runs = made_runs(Hazard(), 1, models=5, replicas=3, temperatures=(300.0, 500.0))
    runs = [o for o in runs if not (o.model == "m4" and o.temperature == 500.0)]
    cluster, at = clusters(runs), strata(runs)
    moved = permuted_runs(cluster, at, 50, np.random.default_rng(0))
    for row in moved:
        assert (at[row] == at).all()
        donors = {(m, int(d)) for m, d in zip(cluster, cluster[row], strict=True)}
        assert len(donors) == 5  # all runs of a model come from one model
        assert sorted(row) == list(range(len(runs)))
        assert (cluster[row][cluster == 4] == 4).all()  # it has no run at 500 K
    assert len({tuple(row) for row in moved}) == 50
