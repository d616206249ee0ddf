"""Compares forecasts with what became of the models; forecast/ANALYSIS.md says how.

python runs/judge_forecasts.py prior       the prior of the combined law, from the known models
python runs/judge_forecasts.py foretell    adds models that it lacks to forecast/foretold.csv
python runs/judge_forecasts.py mended      writes forecast/foretold-mended.csv: of the mended search
python runs/judge_forecasts.py judge       writes forecast/tables.md, forecast.png and calibration
"""

import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import norm, spearmanr, t

from mdxai.forecast.allocation import usable
from mdxai.forecast.combined_law import REFERENCE, CombinedLaw, Prior, log_hazard_of
from mdxai.forecast.survival_model import ArrheniusExponential, Watched, rate_of
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
FORETOLD, MENDED = "foretold.csv", "foretold-mended.csv"


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


def models(folder: str = "weak") -> list[Model]:
    """Read every model that was searched for weak spots."""
    runs = [*known_runs(), *new_runs()]
    return [_model(json.loads(f.read_text()), runs) for f in sorted((HERE / folder).glob("*.json"))]


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


def add_foretold(everything: Sequence[Model]) -> None:
    """Add what is foretold of models that are not in the table; what was foretold once stands."""
    table = HERE / FORETOLD
    rows: list[dict[str, Any]] = list(csv.DictReader(table.open()))
    stated = {row["model"] for row in rows}
    general = fitted_prior([m for m in everything if m.known])
    print("prior", general)
    for model in everything:
        if model.name not in stated:
            prior = prior_of(model, everything) if model.known else general
            rows += foretold_rows(model, prior)
    write_table(table, rows)


def foretold_rows(model: Model, prior: Prior) -> list[dict[str, Any]]:
    """Return what is foretold of a model, a row per temperature."""
    rows = []
    for temperature in JUDGED:
        found = foretold(model, temperature, prior)
        rows.append({
            "model": model.name, "molecule": model.molecule, "known": model.known,
            "temperature_K": temperature,
            **dict(zip(("hazard", "low", "high"), found.both, strict=True)),
            "of_weak_spots": found.weak_spots,
            **dict(zip(("life", "life_low", "life_high"), found.life_test, strict=True)),
        })  # fmt: skip
    return rows


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


def predictors(chosen: Sequence[Model], temperature: float,
               hazards: dict[str, dict[str, float]]) -> list[Predictor]:  # fmt: skip
    """Return the forecast and its rivals for some models, and last what is no forecast: the hazard
    that was seen, whose C chance keeps below 1.
    """
    counted = [m.counts(temperature) for m in chosen]
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
        "hazard seen (the ceiling)": [n / time for n, time in counted],
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
    law = error_law(temperature)
    for m in chosen:
        onsets, time = m.counts(temperature)
        h = hazards[m.name] | {"of_error": law(m)}
        row = {
            "model": m.name, "force_mae": m.traits["force_mae_mev_per_ang"], "onsets": onsets,
            "runs": len(m.seen[temperature]), "watched_ps": time, "seen_hazard": onsets / time,
        }  # fmt: skip
        for name, column in (("", "hazard"), ("weak_", "of_weak_spots"), ("life_", "life"),
                             ("error_", "of_error")):  # fmt: skip
            row |= {
                f"{name}foretold": h[column],
                f"{name}within_3": _within(h[column], onsets, time),
            }
        rows.append(row | {
            "low": h["low"], "high": h["high"], "in_interval": _predicted(h, onsets, time),
        })  # fmt: skip
    return rows


def error_law(temperature: float) -> Callable[[Model], float]:
    """Return the hazard by a power law of the test force error, fitted to the known ethanol models:
    what can be foretold without looking at a model.
    """
    known = [m for m in models() if m.known and m.molecule == "ethanol"]
    counts = [m.counts(temperature) for m in known]
    errors = [math.log(m.traits["force_mae_mev_per_ang"]) for m in known]
    slope, offset = np.polyfit(errors, [math.log((n + 0.3) / time) for n, time in counts], 1)
    return lambda m: math.exp(offset + slope * math.log(m.traits["force_mae_mev_per_ang"]))


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


@dataclass(frozen=True)
class Section:
    """A part of the page: which models, and which of their forecasts."""

    name: str
    title: str
    known: bool
    molecules: tuple[str, ...]
    searched: str = "weak"
    table: str = FORETOLD

    def chosen(self, temperature: float) -> list[tuple[Model, dict[str, float]]]:
        """Return its models that ran at a temperature, with what was foretold of them."""
        found = _foretold(self.table)[temperature]
        return [
            (m, found[m.name]) for m in models(self.searched)
            if m.known == self.known and m.molecule in self.molecules and m.seen[temperature]
            and math.isfinite(found.get(m.name, {}).get("hazard", math.nan))
        ]  # fmt: skip


def page() -> str:
    """Return the tables of the study."""
    parts = [HEAD]
    for section in SECTIONS:
        for temperature in JUDGED:
            chosen = section.chosen(temperature)
            if len(chosen) >= 3:
                parts += [f"## {section.title}, {temperature:g} K"]
                parts += _section(section.name, chosen, temperature)
    return "\n\n".join(parts) + "\n"


def _section(name: str, found: Sequence[tuple[Model, dict[str, float]]],
             temperature: float) -> list[str]:  # fmt: skip
    chosen = [m for m, _ in found]
    hazards = {m.name: hazard for m, hazard in found}
    rows = calibration(chosen, temperature, hazards)
    broken = [r for r in rows if r["onsets"]]
    foretold = sum(r["foretold"] * r["watched_ps"] for r in rows)
    ratios = [r["foretold"] / r["seen_hazard"] for r in broken]
    summary = (
        f"{len(rows)} models, {len(broken)} with an onset; {sum(r['onsets'] for r in rows)} onsets "
        f"in {sum(r['runs'] for r in rows)} runs, {sum(r['watched_ps'] for r in rows):.0f} ps. "
        f"Within a factor of 3 of the time foretold: **{_share(rows, 'within_3')}** (weak spots "
        f"alone {_share(rows, 'weak_within_3')}, life test alone "
        f"{_share(rows, 'life_within_3')}; a law of the test error "
        f"{_share(rows, 'error_within_3')}). "
        f"Onsets foretold: {foretold:.0f}. "
        f"In the predictive interval: {_share(rows, 'in_interval')}."
    )
    if ratios:
        summary += f" Median of foretold over seen hazard: {np.median(ratios):.2f}."
    write_table(HERE / f"calibration-{name}-{temperature:g}K.csv", rows)
    parts = [summary, table(_shown(rows))]
    if len(broken) < 3:
        return parts
    rivals = predictors(chosen, temperature, hazards)
    several = len({m.molecule for m in chosen}) > 1
    for within in (False, True) if several else (False,):
        where = "within molecules" if within else "over all runs"
        scores = discrimination(chosen, temperature, rivals, within=within)
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


def _foretold(table: str) -> dict[float, dict[str, dict[str, float]]]:
    found: dict[float, dict[str, dict[str, float]]] = {t: {} for t in JUDGED}
    for row in csv.DictReader((HERE / table).open()) if (HERE / table).exists() else ():
        numbers = ("hazard", "low", "high", "of_weak_spots", "life", "life_low", "life_high")
        found[float(row["temperature_K"])][row["model"]] = {k: float(row[k]) for k in numbers}
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as a table of Markdown."""
    return "\n".join(markdown(pd.DataFrame(rows)))


def draw(target: Path) -> None:
    """Draw foretold against seen hazards, new models and known ones beside each other."""
    figure = Figure(figsize=(9.5, 4.6), layout="constrained")
    for ax, section in zip(figure.subplots(1, 2), (SECTIONS[0], SECTIONS[2]), strict=True):
        for temperature, colour in zip(JUDGED, ("#c1121f", "#1b6ca8"), strict=True):
            _draw_hazards(ax, section.chosen(temperature), temperature, colour)
        ends = np.array([1e-5, 1e2])
        ax.plot(ends, ends, color="#222831", lw=0.8)
        ax.fill_between(ends, ends / 3, ends * 3, color="#222831", alpha=0.08, lw=0)
        ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends, title=section.title,
               xlabel="foretold hazard / ps⁻¹", ylabel="seen hazard / ps⁻¹")  # fmt: skip
        ax.legend(frameon=False, loc="upper left")
    figure.savefig(target, dpi=110)


def _draw_hazards(ax: Any, found: Sequence[tuple[Model, dict[str, float]]], temperature: float,
                  colour: str) -> None:  # fmt: skip
    """Draw one temperature; a triangle is an upper end without an onset."""
    ax.plot([], [], "o", color=colour, label=f"{temperature:g} K")
    for model, hazard in found:
        onsets, time = model.counts(temperature)
        seen = rate_of(onsets, time, 0.95)
        height = seen.value or seen.high
        ax.plot([hazard["low"], hazard["high"]], [height] * 2, color=colour, lw=0.5)
        if onsets:
            ax.plot([hazard["hazard"]] * 2, [seen.low, seen.high], color=colour, lw=0.5)
        ax.plot(hazard["hazard"], height, "o" if onsets else "v", ms=4,
                color=colour, alpha=1.0 if onsets else 0.4)  # fmt: skip


HEAD = """# Forecasts, and what became of the models: tables

[README.md](README.md) tells the answer, [ANALYSIS.md](ANALYSIS.md) how it is analysed. Made by
`runs/judge_forecasts.py judge`."""
NEW = ("malonaldehyde", "salicylic")
SECTIONS = (
    Section("new", "New models", False, NEW),
    Section("new-mended", "New models, forecasts of the mended search (made after some runs)",
            False, NEW, "mended", MENDED),
    Section("known-ethanol", "Known models of ethanol (exploratory)", True, ("ethanol",)),
    Section("known-aspirin", "Known models of aspirin (exploratory)", True, ("aspirin",)),
)  # fmt: skip


def main(stage: str) -> None:
    """Do one stage."""
    if stage == "prior":
        print(fitted_prior([m for m in models() if m.known]))
    elif stage == "foretell":
        add_foretold(models())
    elif stage == "mended":
        rows = [row for model in models("mended") for row in foretold_rows(model, Prior())]
        write_table(HERE / MENDED, rows)
    else:
        (HERE / "tables.md").write_text(page(), encoding="utf-8")
        draw(HERE / "forecast.png")


if __name__ == "__main__":
    main(sys.argv[1])
