"""The comparison of runs/decay_study.py finds effects that were put in, and nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from mdxai.study.recipe import StudyRecipe

RUNS = Path(__file__).parents[1] / "runs"
RISE, GAIN = -0.3, 2.0  # what inverse powers change: form, and mean life in ps


@pytest.fixture(scope="module")
def study():
    sys.path.insert(0, str(RUNS))
    import decay_study

    yield decay_study
    sys.path.remove(str(RUNS))


@pytest.fixture(scope="module")
def planted(study, tmp_path_factory):
    """The table of 64 models whose files are made up."""
    home, recipe = tmp_path_factory.mktemp("decay"), StudyRecipe.load(RUNS / "decay.toml")
    rng, runs = np.random.default_rng(3), []
    for candidate in recipe.candidates:
        powers = "inverse-power" in candidate.name
        known = {"force_mae_mev_per_ang": rng.uniform(30, 60), "energy_mae_mev": 5.0}
        spot = {"multiplicity": 2, "prefactor_per_ps": 5.0, "barrier_eV": 0.6 + 0.3 * powers,
                "kind": "angle", "label": "x"}  # fmt: skip
        form = 0.5 + RISE * powers + rng.normal(scale=0.02)
        others = dict(zip(("exponent", "rise"), rng.uniform(size=2), strict=True))
        decay = {"prefers_exponential": form, "tail": np.nan, **others}
        texts = {
            "weak": known | {"weak": {"weak_spots": [spot], "ceiling_eV": 3.0}},
            "life": {"life": {"watched": [{"temperature": 1250.0, "time": 10.0, "onsets": 3}]}},
            "explained": {"decays": {"H-H": decay}, "shares": dict.fromkeys(study.ORDERS, 0.25)},
        }
        for stage, text in texts.items():
            (home / stage).mkdir(exist_ok=True)
            (home / stage / f"{candidate.name}.json").write_text(json.dumps(text))
        end = 4.0 + GAIN * powers + rng.normal(scale=0.2)
        runs += [
            {"model": candidate.name, "temperature_K": "1000.0", "outcome": "unstable",
             "end_ps": str(end)}
        ] * 8  # fmt: skip
    return study.pd.DataFrame([study.row_of(c, home, runs) for c in recipe.candidates])


def test_planted_effects_are_found_with_their_size(study, planted):
    found = {(r["measure"], r["of"]): r for r in study.effects(planted)}
    for measure, size in (("form", RISE), ("mean_life_1000K_ps", GAIN), ("lowest_barrier_eV", 0.3)):
        for name in ("inverse-power", "effect of inverse powers"):
            row = found[measure, name]
            assert row["mean"] == pytest.approx(size, abs=0.15)
            assert row["lower"] - 1e-9 <= size <= row["upper"] + 1e-9
            assert (row["sets"], row["same_sign"]) == (8, "16 of 16")
    for name in ("zbl", "effect of ZBL", "interaction"):
        assert abs(found["form", name]["mean"]) < 0.03
    assert np.isnan(found["mean_life_500K_ps", "zbl"]["mean"])  # not run


def test_intervals_are_those_of_training_sets_not_of_models(study, planted):
    """Two networks of one training set that agree add nothing to what is known of the set."""
    column = study.differences(planted, "form")["inverse-power"]
    alike = column.groupby(level=study.UNIT).transform("mean")
    kept = [study.effect(c) for c in (column, alike)]
    assert kept[0]["lower"] == pytest.approx(kept[1]["lower"])
    half = np.ptp([kept[0]["lower"], kept[0]["upper"]]) / 2
    means = column.groupby(level=study.UNIT).mean()
    assert half == pytest.approx(2.3646 * means.std() / np.sqrt(8), rel=1e-4)


def test_decay_that_goes_with_life_is_told_from_decay_that_does_not(study, planted, monkeypatch):
    monkeypatch.setattr(study, "RESAMPLES", 100)
    over_all = {
        (r["decay"], r["life"]): r for r in study.associations(planted) if r["over"] == "all builds"
    }
    row = over_all["form", "mean_life_1000K_ps"]
    rho = float(row["rho"].split()[0])
    assert rho < -0.5
    assert float(row["without_error"].split()[0]) == pytest.approx(rho, abs=0.15)
    assert row["differences"] == 48
    low, high = (
        float(x) for x in over_all["rise", row["life"]]["rho"].split("(")[1][:-1].split(" to ")
    )
    assert low < 0 < high


def test_a_partial_rank_takes_out_the_common_cause(study):
    rng = np.random.default_rng(1)
    cause = rng.normal(size=400)
    x, y = (cause + 0.5 * rng.normal(size=400) for _ in range(2))
    assert np.corrcoef(x, y)[0, 1] > 0.6
    assert abs(study.partial_rank(x, y, cause)) < 0.1


def test_the_life_of_runs_is_restricted_to_their_length(study):
    runs = [
        {"temperature_K": "1000", "outcome": o, "end_ps": e}
        for o, e in (("unstable", "2"), ("stable", "10"), ("reacted", "5"), ("broken", "6"))
    ]
    found = study.lived(runs)
    # Kaplan-Meier: 1 until 2 ps, 3/4 until 6, then half of that, as one was censored at 5.
    assert found["mean_life_1000K_ps"] == pytest.approx(2 + 0.75 * 4 + 0.375 * 4)
    assert found["ln_seen_1000K"] == pytest.approx(np.log(2.5 / 23))
