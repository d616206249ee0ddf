"""The page of a study, and a study as a whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from mdxai.study.models import Places
from mdxai.study.recipe import StudyError
from mdxai.study.replica_runs import Batch, run_batch
from mdxai.study.study_page import analyse
from tests.small_study import RECIPE, recipe_from


def test_the_page_says_what_was_not_possible(tmp_path):
    recipe = recipe_from(RECIPE.replace("[300.0, 900.0]", "[300.0]"), tmp_path)
    places = Places(tmp_path / "study")
    with pytest.raises(StudyError, match="holds no run"):
        analyse(recipe, places, {})
    run_batch(Batch(recipe.candidates[0], 300.0), recipe, places)
    page = analyse(recipe, places, {"painn-ethanol-weak at 300 K": "OSError: no weights"})
    text = page.read_text()
    assert "2 of 4 runs of 1 of 2 models, 0 of them unstable" in text
    assert "- painn-ethanol-weak at 300 K: OSError: no weights" in text
    assert "- no association: " in text
    assert "- no comparison of detectors: " in text
    table = pd.read_csv(places.out / "runs.csv")
    assert list(table["run"]) == ["replica-00", "replica-01"]
    assert table["followed_fs"].tolist() == pytest.approx([20.0, 20.0])
    assert (places.out / "stability.png").stat().st_size > 1000


def test_an_unknown_entry_of_the_analysis_is_refused(tmp_path):
    recipe = recipe_from(RECIPE + "[analysis]\nlagg = 5.0\n", tmp_path)
    with pytest.raises(StudyError, match="has no 'lagg'; it takes"):
        analyse(recipe, Places(tmp_path), {})


@pytest.mark.slow
def test_the_quick_study_runs_from_a_checkout_without_data(tmp_path):
    """One command, from a checkout without data; the same again finds everything done."""
    root = Path(__file__).parents[1]
    command = [
        sys.executable, "-c", "from mdxai.cli.main import main; main()", "study",
        str(root / "runs" / "quick.toml"), "--out", str(tmp_path / "quick"), "--json",
    ]  # fmt: skip
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000)
        assert done.returncode == 0, done.stderr[-3000:]
        found = json.loads(done.stdout.splitlines()[-1])
        assert (found["done"], found["failed"]) == (8, {})
    page = (tmp_path / "quick" / "README.md").read_text()
    assert "32 of 32 runs of 4 of 4 models" in page
    assert "What is missing" not in page
    assert "- **Beyond the plain predictors**: " in page
    assert (tmp_path / "quick" / "association" / "README.md").is_file()
    assert (tmp_path / "quick" / "lead_times" / "calibration.toml").is_file()
