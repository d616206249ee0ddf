"""The tables of a study: every run, every model at every temperature, and what it cost."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from ase.data import chemical_symbols

from mdxai.record import RecordError, open_run
from mdxai.stability.outcomes import Stability
from mdxai.study.models import Places
from mdxai.study.run_outcome import Outcome
from mdxai.study.survival.association import LANDMARK


def runs_table(outcomes: Sequence[Outcome], places: Places) -> pd.DataFrame:
    """Return a row per run: model, temperature, time to instability, cause, early deviations.

    Columns that end in `_early` are means over the first 500 fs; empty where the run broke earlier
    or nothing was measured.
    """
    rows = []
    for outcome in outcomes:
        row = {
            "run": outcome.run, "model": outcome.model, "molecule": outcome.molecule,
            "temperature_K": outcome.temperature, "unstable": outcome.unstable,
            "followed_fs": outcome.end, **_cause(places.out / "runs" / outcome.run),
            **outcome.traits,
        }  # fmt: skip
        survived = outcome.end > LANDMARK or not outcome.unstable
        for name, values in sorted(outcome.series.items()):
            early = values[outcome.times <= LANDMARK]
            known = early[np.isfinite(early)]
            row[f"{name}_early"] = known.mean() if survived and len(known) else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def _cause(folder: Path) -> dict[str, str]:
    """Return the principle that an unstable run broke first, and between which elements."""
    nothing = {"cause": "", "cause_between": ""}
    try:
        run = open_run(folder)
        findings = run.verdict["findings"]
    except RecordError:
        return nothing
    grave = [f for f in findings if Stability.of_finding(f["severity"]).is_failure]
    if not grave:
        return nothing
    first = min(grave, key=lambda f: f["time_fs"])
    numbers = run.header["system"]["numbers"]
    symbols = sorted(chemical_symbols[numbers[atom]] for atom in first["atoms"])
    return {"cause": str(first["principle"]), "cause_between": "-".join(symbols)}


def causes_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return how many runs broke which principle first, between which elements.

    A row per molecule, temperature, principle and elements: runs, models, median time in fs.
    """
    broke = runs[runs["unstable"]]
    keys = ["molecule", "temperature_K", "cause", "cause_between"]
    table = broke.groupby(keys).agg(
        runs=("run", "size"), models=("model", "nunique"), median_fs=("followed_fs", "median")
    )
    return table.reset_index().sort_values([*keys[:2], "runs"], ascending=[True, True, False])


def models_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row per model: its errors, and at each temperature how many runs broke and when."""
    rows = []
    for (molecule, model), mine in runs.groupby(["molecule", "model"], sort=False):
        row = {
            "model": model, "molecule": molecule,
            "force_mae_mev_per_ang": mine["force_mae_mev_per_ang"].iloc[0],
        }  # fmt: skip
        for temperature, some in mine.groupby("temperature_K"):
            broke = some[some["unstable"]]
            row[f"broke_{temperature:g}K"] = f"{len(broke)}/{len(some)}"
            row[f"followed_ps_{temperature:g}K"] = some["followed_fs"].sum() / 1e3
        rows.append(row)
    return pd.DataFrame(rows)


def compute_spent(places: Places) -> dict[str, float]:
    """Return the hours that finished batches and training took, and the number of batches."""
    batches = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in (places.out / "runs").glob("*/*/batch.json")
    ]
    minutes = 0.0
    for card in (places.out / "models").glob("*/card.toml"):
        provenance = tomllib.loads(card.read_text(encoding="utf-8")).get("provenance", {})
        minutes += float(provenance.get("training_minutes", 0.0))
    return {
        "batches": len(batches),
        "simulation_wall_h": sum(b["wall_s"] for b in batches) / 3600,
        "simulation_cpu_h": sum(b["cpu_s"] for b in batches) / 3600,
        "training_wall_h": minutes / 60,
    }
