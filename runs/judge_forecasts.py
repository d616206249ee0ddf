"""Compares forecasts with what became of the models; forecast/ANALYSIS.md says how.

python runs/judge_forecasts.py prior       the prior of the combined law, from the known models
python runs/judge_forecasts.py foretell    writes forecast/foretold.csv, one row per model
python runs/judge_forecasts.py judge       writes forecast/README.md with its tables and figures
"""

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from mdxai.forecast.allocation import usable
from mdxai.forecast.combined_law import CombinedLaw, Prior
from mdxai.forecast.survival_model import ArrheniusExponential, Watched
from mdxai.frame import BOLTZMANN

RUNS = Path(__file__).parent
HERE = RUNS / "forecast"
JUDGED = (1000.0, 500.0)  # K
FREEDOM = 4.0


@dataclass(frozen=True)
class Spot:
    """A weak spot as it stands in a file."""

    multiplicity: int
    prefactor_per_ps: float
    barrier: float
    kind: str
    label: str


@dataclass(frozen=True)
class Model:
    """What was foretold of a model, and what was seen of it.

    seen: runs by temperature. watched: by the life test; empty where there was none.
    """

    name: str
    molecule: str
    network: str
    known: bool
    traits: dict[str, float]
    rivals: dict[str, float]
    spots: tuple[Spot, ...]
    watched: tuple[Watched, ...]
    seen: dict[float, tuple[dict[str, Any], ...]]

    def counts(self, temperature: float) -> tuple[int, float]:
        """Return the onsets and the time watched, ps, of the runs at a temperature."""
        rows = self.seen.get(temperature, ())
        return sum(r["onset"] for r in rows), sum(r["end_ps"] for r in rows)


def models() -> list[Model]:
    """Read every model that was searched for weak spots."""
    runs = [*known_runs(), *new_runs()]
    return [_model(json.loads(f.read_text()), runs) for f in sorted((HERE / "weak").glob("*.json"))]


def _model(plain: dict[str, Any], runs: Sequence[dict[str, Any]]) -> Model:
    spots = tuple(
        Spot(s["multiplicity"], s["prefactor_per_ps"], s["barrier_eV"], s["kind"], s["label"])
        for s in plain["weak"]["weak_spots"]
    )
    life = HERE / "life" / f"{plain['model']}.json"
    watched = json.loads(life.read_text())["life"]["watched"] if life.exists() else []
    mine = [r for r in runs if r["model"] == plain["model"]]
    return Model(
        plain["model"], plain["molecule"], plain["network"], plain["of"] == "stability",
        {k: plain[k] for k in ("force_mae_mev_per_ang", "energy_mae_mev")}, plain["rivals"],
        spots, tuple(Watched(**w) for w in watched),
        {t: tuple(r for r in mine if r["temperature_K"] == t) for t in (300.0, *JUDGED)},
    )  # fmt: skip


def known_runs() -> Iterable[dict[str, Any]]:
    """Yield how the runs of the known models ended."""
    for row in csv.DictReader((RUNS / "stability" / "runs.csv").open()):
        yield {
            "model": row["model"], "temperature_K": float(row["temperature_K"]),
            "onset": row["unstable"] == "True", "end_ps": float(row["followed_fs"]) / 1000,
        }  # fmt: skip


def new_runs() -> Iterable[dict[str, Any]]:
    """Yield how the runs of the new models ended."""
    table = HERE / "runs.csv"
    for row in csv.DictReader(table.open()) if table.exists() else ():
        yield {
            "model": row["model"], "temperature_K": float(row["temperature_K"]),
            "onset": row["outcome"] in ("unstable", "broken"), "end_ps": float(row["end_ps"]),
        }  # fmt: skip


def fitted_prior(known: Sequence[Model]) -> Prior:
    """Return the prior under which the runs of the known models are likeliest."""

    def unlikely(x: np.ndarray) -> float:
        prior = Prior(x[0], math.exp(x[1]), FREEDOM, math.exp(x[2]))
        return -sum(log_evidence(model, prior) for model in known)

    found = minimize(unlikely, [-0.6, 0.0, -2.3], method="Nelder-Mead", options={"xatol": 1e-3})
    return Prior(float(found.x[0]), math.exp(found.x[1]), FREEDOM, math.exp(found.x[2]))


def log_evidence(model: Model, prior: Prior) -> float:
    """Return the logarithm of the probability of a model's runs, up to a constant."""
    runs = [Watched(t, time, n) for t in model.seen for n, time in [model.counts(t)] if time > 0]
    return CombinedLaw(runs, model.spots, prior=prior).log_evidence if model.spots else 0.0


def prior_of(model: Model, everything: Sequence[Model]) -> Prior:
    """Return the prior for a model: from the other known models."""
    return fitted_prior([m for m in everything if m.known and m.name != model.name])


@dataclass(frozen=True)
class Foretold:
    """Hazards of a model at one temperature, per ps: value, low, high; NaN where not known."""

    both: tuple[float, float, float]
    weak_spots: float
    life_test: tuple[float, float, float]


def foretold(model: Model, temperature: float, prior: Prior) -> Foretold:
    """Return what is foretold of a model at a temperature (K)."""
    unknown = (math.nan,) * 3
    weak = sum(
        s.multiplicity * s.prefactor_per_ps * math.exp(-s.barrier / (BOLTZMANN * temperature))
        for s in model.spots
    )
    if not model.watched:
        return Foretold(unknown, weak, unknown)
    slow = usable(model.watched, temperature)
    both = CombinedLaw(slow, model.spots, prior=prior).hazard(temperature)
    life = ArrheniusExponential(slow).hazard(temperature)
    return Foretold((both.value, both.low, both.high), weak, (life.value, life.low, life.high))


def write_foretold(everything: Sequence[Model]) -> None:
    """Write what is foretold, one row per model and temperature."""
    rows = []
    general = fitted_prior([m for m in everything if m.known])
    print("prior", general)
    for model in everything:
        prior = prior_of(model, everything) if model.known else general
        for temperature in JUDGED:
            found = foretold(model, temperature, prior)
            rows.append({
                "model": model.name, "molecule": model.molecule, "known": model.known,
                "temperature_K": temperature,
                **dict(zip(("hazard", "low", "high"), found.both, strict=True)),
                "of_weak_spots": found.weak_spots,
                **dict(zip(("life", "life_low", "life_high"), found.life_test, strict=True)),
            })  # fmt: skip
    write_table(HERE / "foretold.csv", rows)


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as CSV, numbers to four digits."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for row in rows:
            writer.writerow({
                k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()
            })  # fmt: skip
