"""The answers of a study in words."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from mdxai.study.findings import Findings
from mdxai.study.summary_text import summary_text
from mdxai.study.survival.association import AssociationSettings
from tests.small_study import RECIPE, recipe_from


def primary_of(**changes):
    """Return findings of which one principle is sure, but for `changes`."""
    sure = {
        "predictor": "drift", "kind": "explanation", "concordance": 0.7, "concordance_lower": 0.6,
        "concordance_upper": 0.8, "p": 0.001, "q": 0.01, "runs": 40, "unstable": 20, "models": 9,
        "models_with_event": 6,
    }  # fmt: skip
    error = sure | {"predictor": "force_mae_mev_per_ang", "kind": "trait", "concordance": 0.9}
    landmark = pd.DataFrame([sure | changes, error])
    found = SimpleNamespace(
        landmark=landmark, settings=AssociationSettings(landmark=500.0), outcomes=()
    )
    return Findings([], pd.DataFrame(), pd.DataFrame(), primary=found)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, True),
        ({"concordance": 0.3, "concordance_lower": 0.2, "concordance_upper": 0.4}, True),
        ({"concordance_lower": 0.49}, False),
        ({"q": 0.11}, False),
        ({"models_with_event": 4}, False),
        ({"kind": "motion"}, False),
    ],
)
def test_the_text_names_a_principle_only_where_it_is_sure(changes, named, tmp_path):
    analysis = '[analysis.primary]\nmodels = "*"\ntemperature = 300.0\n'
    (line,) = summary_text(recipe_from(RECIPE + analysis, tmp_path), primary_of(**changes))
    assert ("drift (explanation) C 0." in line) == named
    assert ("**none** goes with" in line) != named
    assert "test force error beside them: force_mae_mev_per_ang (trait) C 0.9 (0.6 to 0.8)" in line
    assert "40 runs of 9 models, 20 unstable" in line
