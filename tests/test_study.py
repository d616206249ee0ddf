"""Studies: recipes, batches of runs, failures, workers that die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from ase.data import chemical_symbols

import mdxai
from mdxai.record import RunWriter
from mdxai.study.committee import SPREAD, committees, measure_spread
from mdxai.study.findings import Findings
from mdxai.study.models import Places
from mdxai.study.orchestration import run_study
from mdxai.study.recipe import StudyError, StudyRecipe
from mdxai.study.replica_runs import Batch, batches, is_done, run_batch, set_aside
from mdxai.study.study_page import analyse
from mdxai.study.summary_text import summary_text
from mdxai.study.survival.association import AssociationSettings
from mdxai.study.tables import causes_table, runs_table
from tests.synthetic_run import HEADER, LAWS

RECIPE = """
[simulation]
temperatures = [300.0, 900.0]
replicas = 2
duration_ps = 0.02
compile = false

[molecules.ethanol]
structure = "CH3CH2OH"

[[load]]
molecule = "ethanol"
committee = "weak"
calculators = ["schnet-ethanol-weak", "painn-ethanol-weak"]
"""


def recipe_from(text, tmp_path, name="tiny"):
    path = tmp_path / f"{name}.toml"
    path.write_text(text)
    return StudyRecipe.load(path)


def test_a_grid_of_models_is_every_combination(tmp_path):
    recipe = recipe_from(
        RECIPE.replace('structure = "CH3CH2OH"', 'data = "e.npz"')
        + """
[training]
n_atom_basis = 32
[[train]]
molecule = "ethanol"
type = ["SchNet", "PaiNN"]
n_train = [50, 950]
cutoff = [3, 5.5]
n_interactions = 2
seed = [1, 2]
""",
        tmp_path,
    )
    trained = [c for c in recipe.candidates if c.training]
    assert len(trained) == 2 * 2 * 2 * 2
    assert len({c.name for c in trained}) == len(trained)
    chosen = next(c for c in trained if c.name == "painn-ethanol-50-c5.5-b2-s2")
    assert chosen.training["cutoff"] == 5.5
    assert chosen.training["n_atom_basis"] == 32
    assert [c.source for c in recipe.candidates[:2]] == [
        "schnet-ethanol-weak", "painn-ethanol-weak",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("replicas = 2", "replicas = 0", "replicas must be a whole number above 0, got 0"),
        ("replicas = 2", "replica = 2", "has no 'replica'; it takes"),
        ("[300.0, 900.0]", "[300.0, nan]", "temperatures must be a list of positive numbers"),
        ("[300.0, 900.0]", "[]", "temperatures must be"),
        ("duration_ps = 0.02", "duration_ps = inf", "duration_ps must be positive and finite"),
        ("duration_ps = 0.02", "attribute_every = 7", "must be a multiple of record_every"),
        ('molecule = "ethanol"', 'molecule = "water"', "none of the molecules ethanol"),
        ('"painn-ethanol-weak"', '"x/schnet-ethanol-weak"', "two models are called"),
        ('structure = "CH3CH2OH"', "", "needs either data or a structure"),
        ("[[load]]", "[[fetch]]", "has no 'fetch'"),
        ("[simulation]", "[[simulation]]", "must be a table"),
        ("[[load]]", "[load", "is not a study recipe"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(old, new, message, tmp_path):
    with pytest.raises(StudyError, match=message.replace("[", r"\[")):
        recipe_from(RECIPE.replace(old, new, 1), tmp_path)


def test_training_needs_labelled_data(tmp_path):
    train = '[[train]]\nmolecule="ethanol"\ntype="SchNet"\nn_train=50\ncutoff=5\nn_interactions=2'
    with pytest.raises(StudyError, match="is to be trained, but ethanol has no data"):
        recipe_from(RECIPE + train, tmp_path)
    with pytest.raises(StudyError, match="lacks cutoff"):
        recipe_from(RECIPE + train.replace("cutoff=5\n", ""), tmp_path)


def positions_of(folder):
    return np.array([f.positions for f in mdxai.open_run(folder).frames()])


def test_batches_are_made_once_and_again_from_the_same_seeds(tmp_path):
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


def test_the_committee_spread_is_that_of_its_members_one_by_one(tmp_path):
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
def test_the_answer_names_a_principle_only_where_it_is_sure(changes, named, tmp_path):
    analysis = '[analysis.primary]\nmodels = "*"\ntemperature = 300.0\n'
    (line,) = summary_text(recipe_from(RECIPE + analysis, tmp_path), primary_of(**changes))
    assert ("drift (explanation) C 0." in line) == named
    assert ("**none** goes with" in line) != named
    assert "test force error beside them: force_mae_mev_per_ang (trait) C 0.9 (0.6 to 0.8)" in line
    assert "40 runs of 9 models, 20 unstable" in line


def test_an_unknown_entry_of_the_analysis_is_refused(tmp_path):
    recipe = recipe_from(RECIPE + "[analysis]\nlagg = 5.0\n", tmp_path)
    with pytest.raises(StudyError, match="has no 'lagg'; it takes"):
        analyse(recipe, Places(tmp_path), {})


@pytest.mark.slow
def test_the_quick_study(tmp_path):
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


@pytest.mark.slow
def test_a_killed_worker_costs_only_the_batch_it_held(tmp_path):
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


def test_causes_are_counted_with_their_elements(tmp_path):
    findings = [
        {"principle": "bond", "severity": "unstable", "time_fs": 9.0, "atoms": [0, 1]},
        {"principle": "contact", "severity": "unstable", "time_fs": 4.0, "atoms": [3, 2]},
        {"principle": "decay_rise", "severity": "warn", "time_fs": 0.0, "atoms": []},
    ]
    for k, found in enumerate((findings, findings, findings[:1], findings[2:])):
        writer = RunWriter(tmp_path / "runs" / f"m{k}" / "r")
        writer.start(HEADER, LAWS)
        writer.finish({"findings": found}, None)
    outcomes = [
        SimpleNamespace(
            run=f"m{k}/r", model=f"m{k}", molecule="ethanol", temperature=300.0, end=10.0 + k,
            unstable=k < 3, traits={}, series={}, times=np.zeros(0),
        )
        for k in range(4)
    ]  # fmt: skip
    table = causes_table(runs_table(outcomes, Places(tmp_path, tmp_path)))
    between = ["-".join(sorted(chemical_symbols[HEADER["system"]["numbers"][a]] for a in pair))
               for pair in ((2, 3), (0, 1))]  # fmt: skip
    assert table["cause"].tolist() == ["contact", "bond"]
    assert table["cause_between"].tolist() == between
    assert table["runs"].tolist() == [2, 1]
    assert table["median_fs"].tolist() == [10.5, 12.0]
