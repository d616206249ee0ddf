"""Are the explanations behind the barriers? forecast/ANALYSIS.md says how that is asked.

python runs/explain_forecasts.py    writes forecast/explanations.md and forecast/paths.csv

Reads forecast/paths/MODEL.json, which `forecast_study.py paths` makes.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from judge_forecasts import HERE, RESAMPLES, models, table, write_table
from scipy.stats import spearmanr

from mdxai.study.resampling import drawn, interval

PARTS = ("pair", "other_pairs", "three_and_more", "one_body", "residual")
DISTANCE = 1.3  # Å, of two hydrogens
GROUPS = (
    ("Known models of ethanol", True, ("ethanol",)),
    ("Known models of aspirin", True, ("aspirin",)),
    ("New models", False, ("malonaldehyde", "salicylic")),
)
HEAD = """# Are the explanations behind the barriers?

How it is analysed: [ANALYSIS.md](ANALYSIS.md). Made by `runs/explain_forecasts.py`. Of each model
the weak spot with the highest rate, and what the energy is made of at its top, less that at the
minimum, in eV (`paths.csv`)."""

Statistic = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Association:
    """A statistic of two columns over models, with its interval."""

    value: float
    lower: float
    upper: float
    models: int


def rows_of(folder: Path) -> list[dict[str, object]]:
    """Return a row per model: its worst weak spot, the parts of its barrier, and its hazard."""
    seen = {m.name: m for m in models()}
    rows = []
    for file in sorted(folder.glob("*.json")):
        plain = json.loads(file.read_text())
        if not plain["weak"]:
            continue
        spot, model = plain["weak"][0], seen[plain["model"]]
        onsets, time = model.counts(1000.0)
        parts = spot["explanation"]["at_top_eV"]
        parts["three_and_more"] = parts.pop("three_body") + parts.pop("higher")
        near = [h["relevance"] for h in plain["hydrogens"] if h["distance"] == DISTANCE]
        rows.append({
            "model": model.name, "molecule": model.molecule, "network": model.network,
            "known": model.known, "weak_spot": spot["label"], "kind": spot["kind"],
            "barrier": spot["barrier_eV"], **{part: parts[part] for part in PARTS},
            "hh_at_1.3": float(np.mean(near)) if near else np.nan,
            "hazard_seen": (onsets + 0.3) / time if time else np.nan,
        })  # fmt: skip
    return rows


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's ρ; NaN where a column does not vary."""
    constant = np.ptp(x) == 0 or np.ptp(y) == 0
    return float("nan") if constant else float(spearmanr(x, y).statistic)


def share_of_variance(x: np.ndarray, y: np.ndarray) -> float:
    """Return cov(x, y) / var(y); NaN where y does not vary."""
    return float(np.cov(x, y)[0, 1] / np.var(y, ddof=1)) if np.ptp(y) else float("nan")


def associated(x: Sequence[float], y: Sequence[float], statistic: Statistic) -> Association:
    """Return a statistic over the models for which both are known, with its 95 % interval."""
    columns = np.array([x, y], dtype=float)
    x, y = columns[:, np.isfinite(columns).all(axis=0)]
    if len(x) < 4:
        return Association(np.nan, np.nan, np.nan, len(x))
    counts = drawn(np.arange(len(x)), RESAMPLES, np.random.default_rng(1)).astype(int)
    boots = [
        statistic(np.repeat(x, n), np.repeat(y, n)) if (n > 0).sum() > 2 else np.nan for n in counts
    ]
    return Association(statistic(x, y), *interval(np.array(boots)), len(x))


def associations(rows: pd.DataFrame) -> list[dict[str, object]]:
    """Return what is asked of a group of models."""
    found = []
    for part in PARTS:
        for name, statistic in (("Spearman ρ", rank_correlation), ("share", share_of_variance)):
            one = associated(rows[part], rows["barrier"], statistic)
            found.append(_row(part, "barrier", name, one))
    for target in ("hazard_seen", "barrier"):
        one = associated(rows["hh_at_1.3"], rows[target], rank_correlation)
        found.append(_row("H–H relevance at 1.3 Å", target, "Spearman ρ", one))
    for part in ("barrier", *PARTS):
        one = associated(rows[part], rows["hazard_seen"], rank_correlation)
        found.append(_row(part, "hazard seen at 1000 K", "Spearman ρ", one))
    return found


def _row(what: str, target: str, statistic: str, one: Association) -> dict[str, object]:
    return {
        "what": what.replace("_", " "), "with": target.replace("_", " "), "statistic": statistic,
        "value": f"{one.value:.2f}", "95 % over models": f"{one.lower:.2f} to {one.upper:.2f}",
        "models": one.models,
    }  # fmt: skip


def means(rows: pd.DataFrame) -> list[dict[str, object]]:
    """Return the mean barrier and its parts by network and kind of weak spot."""
    columns = ["barrier", *PARTS]
    grouped = rows.groupby(["network", "kind"])[columns]
    counted = grouped.mean().round(2).assign(models=grouped.size()).reset_index()
    return [{str(k).replace("_", " "): v for k, v in row.items()}
            for row in counted.to_dict("records")]  # fmt: skip


def page(rows: pd.DataFrame) -> str:
    """Return the page."""
    parts = [HEAD]
    for title, known, molecules in GROUPS:
        group = rows[(rows["known"] == known) & rows["molecule"].isin(molecules)]
        if len(group) < 4:
            continue
        parts += [f"## {title}: {len(group)}", "Mean parts of the barrier, eV:"]
        parts += [table(means(group)), table(associations(group))]
        angles = group[group["kind"] == "angle"]
        if 4 <= len(angles) < len(group):
            parts += [f"### Closing angles only: {len(angles)}", table(associations(angles))]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the table and the page."""
    rows = rows_of(HERE / "paths")
    write_table(HERE / "paths.csv", rows)
    (HERE / "explanations.md").write_text(page(pd.DataFrame(rows)), encoding="utf-8")


if __name__ == "__main__":
    main()
