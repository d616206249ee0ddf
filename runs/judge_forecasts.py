"""Compares forecasts with what became of the models; forecast/ANALYSIS.md says how.

python runs/judge_forecasts.py prior       the prior of the combined law, from the known models
python runs/judge_forecasts.py foretell    writes forecast/foretold.csv, one row per model
python runs/judge_forecasts.py judge       writes forecast/README.md with its tables and figures
"""

import csv
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import norm, spearmanr, t

from mdxai.forecast.allocation import usable
from mdxai.forecast.combined_law import REFERENCE, CombinedLaw, Prior, log_hazard_of
from mdxai.forecast.survival_model import ArrheniusExponential, Watched
from mdxai.frame import BOLTZMANN
from mdxai.study.markdown import markdown
from mdxai.study.resampling import drawn, interval
from mdxai.study.survival.ranks import concordance

RUNS = Path(__file__).parent
HERE = RUNS / "forecast"
JUDGED = (1000.0, 500.0)  # K
# Of the prior: what is not fitted, and the grid on which it is.
FREEDOM, LEAST_SPREAD, BARRIER = 4.0, 0.5, 0.05
A, B = np.linspace(-8.0, 8.0, 161), np.linspace(-0.2, 0.2, 21)
RESAMPLES = 2000


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
    """Return the prior under which the runs of the known models are likeliest.

    The width of b is not fitted: the few onsets at 500 K cannot tell it.
    """
    likelihoods = np.array([log_likelihoods(model) for model in known if model.spots])

    def unlikely(x: np.ndarray) -> float:
        spread = LEAST_SPREAD + math.exp(x[1])
        heights = t.logpdf((A - x[0]) / spread, FREEDOM)[:, None] + norm.logpdf(B / BARRIER)
        return -float((logsumexp(likelihoods + heights, axis=(1, 2)) - logsumexp(heights)).sum())

    found = minimize(unlikely, [-0.6, -2.0], method="Nelder-Mead", options={"xatol": 1e-3})
    return Prior(float(found.x[0]), LEAST_SPREAD + math.exp(found.x[1]), FREEDOM, BARRIER)


def log_likelihoods(model: Model) -> np.ndarray:
    """Return the logarithm of the probability of a model's runs for every a (rows) and b."""
    heights = np.zeros((len(A), len(B)))
    for temperature in model.seen:
        onsets, time = model.counts(temperature)
        shift = 1 / (BOLTZMANN * temperature) - 1 / (BOLTZMANN * REFERENCE)
        logs = log_hazard_of(model.spots, temperature) + A[:, None] - B * shift
        heights += onsets * logs - time * np.exp(logs)
    return heights


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
    weak = math.exp(log_hazard_of(model.spots, temperature))
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


@dataclass(frozen=True)
class Predictor:
    """A number per model that may foretell its hazard: larger where it breaks sooner."""

    name: str
    values: np.ndarray


def predictors(chosen: Sequence[Model], hazards: dict[str, dict[str, float]]) -> list[Predictor]:
    """Return the forecast and its rivals for some models."""
    lowest = [min((s.barrier for s in m.spots), default=math.inf) for m in chosen]
    stretched = [
        min((s.barrier for s in m.spots if s.kind == "stretch"), default=math.inf) for m in chosen
    ]
    columns = {
        "forecast": [hazards[m.name]["hazard"] for m in chosen],
        "weak spots alone": [hazards[m.name]["of_weak_spots"] for m in chosen],
        "life test alone": [hazards[m.name]["life"] for m in chosen],
        "force error": [m.traits["force_mae_mev_per_ang"] for m in chosen],
        "energy error": [m.traits["energy_mae_mev"] for m in chosen],
        "lowest barrier": [-b for b in lowest],
        "lowest stretch": [-b for b in stretched],
        "softness": [m.rivals.get("softness", math.nan) for m in chosen],
        "squeeze": [m.rivals.get("squeeze", math.nan) for m in chosen],
    }
    return [Predictor(name, np.array(values)) for name, values in columns.items()]


def runs_of(chosen: Sequence[Model], temperature: float) -> tuple[np.ndarray, ...]:
    """Return index of the model, end (ps) and onset of every run."""
    rows = [(k, r["end_ps"], r["onset"]) for k, m in enumerate(chosen) for r in m.seen[temperature]]
    index, end, onset = (np.array(column) for column in zip(*rows, strict=True))
    return index, end, onset.astype(bool)


def sooner(chosen: Sequence[Model], temperature: float, *, within: bool) -> np.ndarray:
    """Return (n, n): 1 where run i certainly broke before run j, within molecules or over all."""
    index, end, onset = runs_of(chosen, temperature)
    molecule = np.array([m.molecule for m in chosen])[index]
    earlier = (end[:, None] < end) | ((end[:, None] == end) & ~onset)
    pairs = onset[:, None] & earlier
    if within:
        pairs &= molecule[:, None] == molecule
    return pairs.astype(float)


def discrimination(chosen: Sequence[Model], temperature: float, found: Sequence[Predictor],
                   *, within: bool) -> list[dict[str, Any]]:  # fmt: skip
    """Return Harrell's C of every predictor, and how far the forecast's is above it.

    Models whose predictor is not known are left out, for the forecast beside it too.
    """
    index = runs_of(chosen, temperature)[0]
    pairs = sooner(chosen, temperature, within=within)
    counts = drawn(np.arange(len(chosen)), RESAMPLES, np.random.default_rng(1))
    forecast = found[0].values
    rows = []
    for p in found:
        known = ~np.isnan(p.values[index])
        both = pairs * known[:, None] * known
        (seen, boots), (best, best_boots) = (
            (float(concordance(v[index], both)[0]), concordance(v[index], both, counts[:, index]))
            for v in (p.values, forecast)
        )
        low, high = interval(boots)
        less, more = interval(best_boots - boots)
        rows.append({
            "predictor": p.name, "models": int((~np.isnan(p.values)).sum()), "C": seen,
            "lower": low, "upper": high, "forecast_less_this": best - seen,
            "difference_lower": less, "difference_upper": more,
            "spearman": _spearman(p.values, chosen, temperature),
        })  # fmt: skip
    return rows


def _spearman(values: np.ndarray, chosen: Sequence[Model], temperature: float) -> float:
    seen = np.array([(n + 0.3) / time for n, time in (m.counts(temperature) for m in chosen)])
    known = np.isfinite(values)
    return float(spearmanr(values[known], seen[known]).statistic)


def calibration(chosen: Sequence[Model], temperature: float,
                hazards: dict[str, dict[str, float]]) -> list[dict[str, Any]]:  # fmt: skip
    """Return foretold and seen hazard of every model, and whether they agree."""
    rows = []
    for m in chosen:
        onsets, time = m.counts(temperature)
        h = hazards[m.name]
        row = {
            "model": m.name, "force_mae": m.traits["force_mae_mev_per_ang"], "onsets": onsets,
            "runs": len(m.seen[temperature]), "watched_ps": time, "seen_hazard": onsets / time,
        }  # fmt: skip
        for name, column in (("", "hazard"), ("weak_", "of_weak_spots"), ("life_", "life")):
            row |= {
                f"{name}foretold": h[column],
                f"{name}within_3": _within(h[column], onsets, time),
            }
        rows.append(row | {
            "low": h["low"], "high": h["high"], "in_interval": _predicted(h, onsets, time),
        })  # fmt: skip
    return rows


def _within(hazard: float, onsets: int, time: float) -> bool:
    """Return whether a foretold mean time is within a factor of 3 of the seen one."""
    if not onsets:
        return hazard <= 3 / time
    return bool(1 / 3 <= hazard * time / onsets <= 3)


def _predicted(hazard: dict[str, float], onsets: int, time: float) -> bool:
    """Return whether a count lies in the predictive interval of a forecast.

    The hazard is taken as log-normal on either side of its median, with the ends of its interval.
    """
    rng = np.random.default_rng(2)
    z = rng.standard_normal(20000)
    middle = math.log(hazard["hazard"])
    up, down = (abs(math.log(hazard[end]) - middle) / 1.96 for end in ("high", "low"))
    counts = rng.poisson(np.exp(middle + np.where(z > 0, up, down) * z) * time)
    low, high = np.quantile(counts, [0.025, 0.975])
    return bool(low <= onsets <= high)


def page(everything: Sequence[Model]) -> str:
    """Return the page of the study."""
    hazards = _foretold()
    parts = [HEAD]
    for title, known, molecule, temperature in SECTIONS:
        chosen = [
            m for m in everything
            if m.known == known and (molecule in ("", m.molecule)) and m.seen[temperature]
            and math.isfinite(hazards[temperature].get(m.name, {}).get("hazard", math.nan))
        ]  # fmt: skip
        if len(chosen) < 3:
            continue
        parts += [f"## {title}, {temperature:g} K", *_section(chosen, temperature, hazards)]
    return "\n\n".join(parts) + "\n"


def _section(chosen: Sequence[Model], temperature: float,
             hazards: dict[float, dict[str, dict[str, float]]]) -> list[str]:  # fmt: skip
    rows = calibration(chosen, temperature, hazards[temperature])
    broken = [r for r in rows if r["onsets"]]
    foretold = sum(r["foretold"] * r["watched_ps"] for r in rows)
    ratios = [r["foretold"] / r["seen_hazard"] for r in broken]
    summary = (
        f"{len(rows)} models, {len(broken)} with an onset; {sum(r['onsets'] for r in rows)} onsets "
        f"in {sum(r['runs'] for r in rows)} runs, {sum(r['watched_ps'] for r in rows):.0f} ps. "
        f"Within a factor of 3 of the time foretold: **{_share(rows, 'within_3')}** (weak spots "
        f"alone {_share(rows, 'weak_within_3')}, life test alone {_share(rows, 'life_within_3')}). "
        f"Onsets foretold: {foretold:.0f}. "
        f"In the predictive interval: {_share(rows, 'in_interval')}."
    )
    if ratios:
        summary += f" Median of foretold over seen hazard: {np.median(ratios):.2f}."
    name = f"{'known' if chosen[0].known else 'new'}-{chosen[0].molecule}-{temperature:g}K"
    write_table(HERE / f"calibration-{name}.csv", rows)
    parts = [summary, table(_shown(rows))]
    if len(broken) < 3:
        return parts
    found = predictors(chosen, hazards[temperature])
    several = len({m.molecule for m in chosen}) > 1
    for within in (False, True) if several else (False,):
        where = "within molecules" if within else "over all runs"
        scores = discrimination(chosen, temperature, found, within=within)
        parts += [f"Harrell's C {where}, 95 % over models:", table(scores)]
    return parts


def _share(rows: Sequence[dict[str, Any]], column: str) -> str:
    return f"{sum(r[column] for r in rows)} of {len(rows)}"


def _shown(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "model": r["model"], "force MAE / meV/Å": f"{r['force_mae']:.1f}",
            "onsets": f"{r['onsets']} of {r['runs']}",
            "seen / ps⁻¹": f"{r['seen_hazard']:.3g}" if r["onsets"]
            else f"< {3 / r['watched_ps']:.2g}",
            "foretold / ps⁻¹": f"{r['foretold']:.2g} ({r['low']:.2g}–{r['high']:.2g})",
            "weak spots": f"{r['weak_foretold']:.2g}", "life test": f"{r['life_foretold']:.2g}",
            "within 3": "yes" if r["within_3"] else "no",
        }
        for r in rows
    ]  # fmt: skip


def _foretold() -> dict[float, dict[str, dict[str, float]]]:
    found: dict[float, dict[str, dict[str, float]]] = {t: {} for t in JUDGED}
    for row in csv.DictReader((HERE / "foretold.csv").open()):
        numbers = ("hazard", "low", "high", "of_weak_spots", "life", "life_low", "life_high")
        found[float(row["temperature_K"])][row["model"]] = {k: float(row[k]) for k in numbers}
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as a table of Markdown."""
    return "\n".join(markdown(pd.DataFrame(rows)))


HEAD = """# Forecasts, and what became of the models

How it is analysed was written before the runs of the new models: [ANALYSIS.md](ANALYSIS.md). Made
by `runs/judge_forecasts.py judge`."""
SECTIONS = (
    ("New models", False, "", 1000.0),
    ("New models", False, "", 500.0),
    ("Known models of ethanol (exploratory)", True, "ethanol", 1000.0),
    ("Known models of ethanol (exploratory)", True, "ethanol", 500.0),
    ("Known models of aspirin (exploratory)", True, "aspirin", 1000.0),
    ("Known models of aspirin (exploratory)", True, "aspirin", 500.0),
)


def main(stage: str) -> None:
    """Do one stage."""
    everything = models()
    if stage == "prior":
        print(fitted_prior([m for m in everything if m.known]))
    elif stage == "foretell":
        write_foretold(everything)
    else:
        (HERE / "README.md").write_text(page(everything), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
