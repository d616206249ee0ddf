"""Rank statistics of the landmark analysis, against lifelines and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from lifelines.utils import concordance_index
from scipy import stats

from mdxai.study.survival.association import AssociationSettings
from mdxai.study.survival.ranks import ModelMeans, concordance, landmark_of
from tests.synthetic_hazards import FAST, Hazard, made_runs


def test_concordance_is_that_of_lifelines_with_and_without_weights():
    runs = made_runs(Hazard(beta=0.5), 6, models=5)
    landmark = landmark_of(runs, FAST)
    rng = np.random.default_rng(0)
    x = rng.normal(size=len(landmark.outcomes)).round(1)
    expected = concordance_index(landmark.end, -x, landmark.unstable)
    assert concordance(x, landmark.sooner)[0] == pytest.approx(expected)
    counts = np.array([2, 1, 0, 1, 1])[landmark.cluster]
    copies = np.repeat(np.arange(len(x)), counts)
    repeated = concordance_index(landmark.end[copies], -x[copies], landmark.unstable[copies])
    weighted = concordance(x, landmark.sooner, counts[None, :].astype(float))[0]
    # Copies of one run are pairs of equal time, which lifelines does not compare either.
    assert weighted == pytest.approx(repeated)


def test_auroc_counts_pairs_and_spearman_is_scipys():
    runs = made_runs(Hazard(beta=0.8, between=1.0, within=0.0), 7, models=8)
    landmark = landmark_of(runs, AssociationSettings(landmark=100.0, horizon=1500.0))
    x = np.arange(len(landmark.outcomes), dtype=float) % 7
    case = landmark.unstable & (landmark.end <= 1500.0)
    pairs = [(a > b) + 0.5 * (a == b) for a in x[case] for b in x[~case]]
    assert concordance(x, landmark.broke)[0] == pytest.approx(np.mean(pairs))
    points = ModelMeans.of(landmark)
    values = points.means(x)
    ours = points.spearman(values, np.ones((1, landmark.cluster.max() + 1)))[0]
    assert ours == pytest.approx(stats.spearmanr(values, -points.stable).statistic)


def repeated(hazard, n, **made):
    return [made_runs(hazard, seed, **made) for seed in range(n)]
