"""Do networks that decay as physics does live longer? decay/ANALYSIS.md says how that is asked.

    python runs/decay_study.py explain RECIPE DATA    relevance of the same frames in every model
    python runs/decay_study.py judge RECIPE           writes decay/models.csv and decay/tables.md

RECIPE is runs/decay.toml. Models are trained, forecast and run by `forecast_study.py` (train, weak,
life, watch). `explain` skips what is there; `judge` takes the models that all of it is known of.
"""

import csv
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from ase import Atoms
from forecast_study import home_of
from judge_forecasts import RESAMPLES, Spot, write_table
from lifelines import KaplanMeierFitter
from lifelines.utils import restricted_mean_survival_time
from scipy.stats import rankdata, t

from mdxai.attribution import attributor
from mdxai.calculators import NetworkCalculator
from mdxai.calculators.training import load_labelled
from mdxai.forecast.allocation import usable
from mdxai.forecast.combined_law import CombinedLaw
from mdxai.forecast.survival_model import Watched
from mdxai.frame import Frame
from mdxai.principles.explanation.body_order import body_order_shares
from mdxai.principles.explanation.decay import StrengthProfile
from mdxai.study.markdown import markdown, span
from mdxai.study.models import Places, load
from mdxai.study.recipe import Candidate, StudyRecipe
from mdxai.study.resampling import drawn, interval

N_FRAMES = 400
TEMPERATURES = (1000.0, 500.0)  # K, the primary one first
LONG = 10.0  # ps, of a run that does not break
CELL = ("network", "molecule", "n_train", "seed")  # counterparts have all of these in common
UNIT = ["molecule", "n_train", "seed"]  # a training set, which both networks see
PLAIN, BUILDS = "plain", ("inverse-power", "zbl", "inverse-power-zbl")
ORDERS = ("one", "two", "three", "more")
PRIMARY = ("form", "rise", "mean_life_1000K_ps")
DECAYS, LIVES = ("form", "exponent", "rise"), ("mean_life_1000K_ps", "ln_foretold_1000K")


def explain(recipe: StudyRecipe, places: Places) -> None:
    """Write decay of relevance and body orders of every model that lacks them."""
    folder = home_of(recipe) / "explained"
    folder.mkdir(parents=True, exist_ok=True)
    for candidate in recipe.candidates:
        target = folder / f"{candidate.name}.json"
        if target.exists() or not (places.model(candidate) / "card.toml").exists():
            continue
        calculator = load(candidate, recipe, places)
        found = explained(calculator, frames_of(candidate, recipe, places))
        target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(candidate.name, flush=True)


def frames_of(candidate: Candidate, recipe: StudyRecipe, places: Places) -> list[Frame]:
    """Return the labelled frames that every model of a molecule explains."""
    molecule = recipe.molecules[candidate.molecule]
    labelled, splits = load_labelled(places.file(str(molecule.data)))
    rows = splits[molecule.starts][:N_FRAMES]
    return [
        Frame.from_atoms(Atoms(labelled.numbers, labelled.positions[row]), step=k)
        for k, row in enumerate(rows)
    ]


def explained(calculator: NetworkCalculator, frames: Sequence[Frame]) -> dict[str, Any]:
    """Return how relevance decays per element pair, and mean shares of the body orders."""
    explainer = attributor(calculator, method="walks", body_order=3)
    profile, shares = StrengthProfile(frames[0], calculator.card.cutoff), []
    for frame in frames:
        attribution = explainer.attribute(frame)
        profile.observe(frame, attribution)
        shares.append(body_order_shares(attribution))
    return {
        "decays": {name: asdict(decay) for name, decay in profile.decays.items()},
        "shares": dict(zip(ORDERS, np.mean(shares, axis=0).tolist(), strict=True)),
    }  # fmt: skip


def row_of(candidate: Candidate, home: Path, runs: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Return what is known of a model: its cell and build, and every measure."""
    weak, life, seen = (
        json.loads((home / stage / f"{candidate.name}.json").read_text())
        for stage in ("weak", "life", "explained")
    )
    training = candidate.training or {}
    built = [training["radial"].replace("gaussian", ""), training["repulsion"].lower()]
    build = "-".join(part for part in built if part not in ("", "none")) or PLAIN
    return {
        "model": candidate.name, "network": training["type"], "molecule": candidate.molecule,
        "n_train": training["n_train"], "seed": training["seed"], "build": build,
        "ln_force_error": math.log(weak["force_mae_mev_per_ang"]),
        "ln_energy_error": math.log(weak["energy_mae_mev"]),
        **decay_of(seen["decays"]), **{f"{k}_body": v for k, v in seen["shares"].items()},
        **foretold(weak["weak"], life["life"]["watched"]),
        **lived([r for r in runs if r["model"] == candidate.name]),
    }  # fmt: skip


def decay_of(decays: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return means over the element pairs; of the tail over those that reach that far."""
    names = {"exponent": "exponent", "form": "prefers_exponential", "rise": "rise"}
    means = {k: float(np.mean([d[name] for d in decays.values()])) for k, name in names.items()}
    tails = [d["tail"] for d in decays.values() if not math.isnan(d["tail"])]
    return means | {"tail": float(np.mean(tails)) if tails else math.nan}


def foretold(weak: dict[str, Any], watched: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the barriers of a model, and the hazards that they and its replicas foretell."""
    spots = [
        Spot(s["multiplicity"], s["prefactor_per_ps"], s["barrier_eV"], s["kind"], s["label"])
        for s in weak["weak_spots"]
    ]
    lowest = min([s.barrier for s in spots], default=weak["ceiling_eV"])
    found = {
        "lowest_barrier_eV": lowest, "holes_below_2_eV": float(sum(s.barrier < 2 for s in spots)),
    }  # fmt: skip
    replicas = [Watched(**w) for w in watched]
    for temperature in TEMPERATURES:
        law = CombinedLaw(usable(replicas, temperature), spots)
        hazard = law.hazard(temperature).value
        found[f"ln_foretold_{temperature:g}K"] = math.log(hazard) if hazard > 0 else math.nan
    return found


def lived(runs: Sequence[dict[str, str]]) -> dict[str, float]:
    """Return restricted mean time to an onset, ps, and the logarithm of the hazard that was seen,
    at the temperatures that were run.
    """
    found = {}
    for temperature in TEMPERATURES:
        here = [r for r in runs if float(r["temperature_K"]) == temperature]
        ends = np.array([float(r["end_ps"]) for r in here])
        onsets = np.array([r["outcome"] in ("unstable", "broken") for r in here])
        mean = hazard = math.nan
        if here:
            curve = KaplanMeierFitter().fit(ends, onsets)
            mean = float(restricted_mean_survival_time(curve, t=LONG))
            hazard = math.log((onsets.sum() + 0.5) / ends.sum())
        found |= {
            f"mean_life_{temperature:g}K_ps": mean, f"ln_seen_{temperature:g}K": hazard,
            f"onsets_{temperature:g}K": float(onsets.sum()) if here else math.nan,
        }  # fmt: skip
    return found


def known(recipe: StudyRecipe) -> pd.DataFrame:
    """Return the models that everything is known of, a row each."""
    home = home_of(recipe)
    table = home / "runs.csv"
    runs = list(csv.DictReader(table.open())) if table.exists() else []
    return pd.DataFrame([
        row_of(c, home, runs) for c in recipe.candidates
        if all((home / s / f"{c.name}.json").exists() for s in ("weak", "life", "explained"))
    ])  # fmt: skip


def differences(models: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Return a row per cell: each build less the plain one, main effects and interaction."""
    wide = models.pivot_table(index=list(CELL), columns="build", values=measure, dropna=False)
    wide = wide.reindex(columns=[PLAIN, *BUILDS])
    powers, zbl, both = (wide[build] for build in BUILDS)
    plain = wide[PLAIN]
    return pd.DataFrame({
        **{build: wide[build] - plain for build in BUILDS},
        "effect of inverse powers": (powers - plain + both - zbl) / 2,
        "effect of ZBL": (zbl - plain + both - powers) / 2,
        "interaction": both - powers - zbl + plain,
    })  # fmt: skip


def effect(difference: pd.Series) -> dict[str, Any]:
    """Return the mean over training sets, its 95 % interval, and how many cells have its sign."""
    cells = difference.dropna()
    sets = cells.groupby(level=UNIT).mean()
    n, mean = len(sets), float(sets.mean()) if len(sets) else math.nan
    half = t.ppf(0.975, n - 1) * sets.std(ddof=1) / math.sqrt(n) if n > 1 else math.nan
    alike = int((np.sign(cells) == np.sign(mean)).sum())
    return {
        "mean": mean, "lower": mean - half, "upper": mean + half, "sets": n,
        "same_sign": f"{alike} of {len(cells)}",
    }  # fmt: skip


def effects(models: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the effect of every build and factor on every measure."""
    measures = [c for c in models.columns if c not in (*CELL, "model", "build")]
    return [
        {"measure": measure, "of": name, **effect(column)}
        for measure in sorted(measures, key=lambda m: m not in PRIMARY)
        for name, column in differences(models, measure).items()
    ]


def by_group(models: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the mean effects on the primary measures by network, molecule and number of frames."""
    for measure in PRIMARY:
        for name, column in differences(models, measure)[list(BUILDS)].items():
            means = {
                str(value): float(part.mean())
                for level in ("network", "molecule", "n_train")
                for value, part in column.groupby(level=level)
            }
            yield {"measure": measure, "of": name, **means}


def stacked(models: pd.DataFrame, builds: Sequence[str]) -> pd.DataFrame:
    """Return differences to the plain build: a row per cell and build, a column per measure."""
    columns = {
        m: differences(models, m)[list(builds)].stack() for m in (*DECAYS, *LIVES, "ln_force_error")
    }  # fmt: skip
    return pd.DataFrame(columns).dropna()


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's ρ."""
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])


def partial_rank(x: np.ndarray, y: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's ρ of x and y with the part of another variable taken out of both."""
    ranks = [rankdata(v) for v in (x, y, other)]
    x, y = (r - np.polyval(np.polyfit(ranks[2], r, 1), ranks[2]) for r in ranks[:2])
    return float(np.corrcoef(x, y)[0, 1])


def association(rows: pd.DataFrame, decay: str, life: str) -> dict[str, Any]:
    """Return ρ of a change of decay with a change of life, plain and without that of the error."""
    sets = rows.groupby(UNIT).ngroup().to_numpy()
    x, y, error = (rows[c].to_numpy() for c in (decay, life, "ln_force_error"))
    counts = drawn(sets, RESAMPLES, np.random.default_rng(1)).astype(int)
    plain, partial = [], []
    for count in counts:
        k = np.repeat(np.arange(len(rows)), count[sets])
        plain.append(rank_correlation(x[k], y[k]))
        partial.append(partial_rank(x[k], y[k], error[k]))
    return {
        "decay": decay, "life": life, "differences": len(rows),
        "rho": span(rank_correlation(x, y), *interval(np.array(plain))),
        "without_error": span(partial_rank(x, y, error), *interval(np.array(partial))),
    }  # fmt: skip


def associations(models: pd.DataFrame) -> list[dict[str, Any]]:
    """Return every association, over all builds and over inverse powers alone."""
    found = []
    for name, builds in (("all builds", BUILDS), (BUILDS[0], BUILDS[:1])):
        rows = stacked(models, builds)
        if rows.groupby(UNIT).ngroups > 1:
            found += [{"over": name, **association(rows, d, h)} for d in DECAYS for h in LIVES]
    return found


def judge(recipe: StudyRecipe) -> None:
    """Write a row per model, and the tables of effects and associations."""
    home, models = home_of(recipe), known(recipe)
    if models.empty:
        print("no model has its weak spots, life test and explanation yet", file=sys.stderr)
        return
    write_table(home / "models.csv", models.to_dict("records"))
    onsets = models[models.build == PLAIN]["onsets_1000K"]
    head = [
        "# Decay and stability", "",
        f"{len(models)} of {len(recipe.candidates)} models; {int((onsets > 0).sum())} plain ones "
        "have an onset at 1000 K. How this is analysed: [ANALYSIS.md](ANALYSIS.md). Made by "
        "`runs/decay_study.py judge`.",
    ]  # fmt: skip
    for title, rows in (
        ("Effects", effects(models)),
        ("By group", list(by_group(models))),
        ("Does decay explain stability?", associations(models)),
    ):
        head += ["", f"## {title}", "", *markdown(pd.DataFrame(rows))]
    (home / "tables.md").write_text("\n".join(head) + "\n", encoding="utf-8")


def main(stage: str, recipe_file: str, data: str | None = None) -> None:
    """Do one stage."""
    torch.set_num_threads(1)
    recipe = StudyRecipe.load(recipe_file)
    if stage == "judge":
        judge(recipe)
    elif stage == "explain" and data is not None:
        places = Places(Path(recipe_file).with_suffix("").absolute(), Path(data).absolute())
        eager = replace(recipe, simulation=replace(recipe.simulation, compile=False))
        explain(eager, places)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
