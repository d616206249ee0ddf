"""What the analysis of a study gives: associations, a comparison of detectors, and their tables."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mdxai.early_warning import CalibrationError
from mdxai.study.lead_time.alarms import Watching
from mdxai.study.lead_time.comparison import Comparison, compare_detectors
from mdxai.study.lead_time.lead_summary import advantage
from mdxai.study.lead_time.lead_times import AS_CHOSEN, EVERYTHING, RATES
from mdxai.study.models import Places
from mdxai.study.recipe import StudyError, StudyRecipe
from mdxai.study.run_outcome import AssociationError, Outcome, read_outcomes
from mdxai.study.survival.association import Association
from mdxai.study.survival.compare_runs import associate
from mdxai.study.tables import models_table, runs_table

WATCHING = Watching()
BEST = (f"best {EVERYTHING}", AS_CHOSEN)
RIVALS = ("bond", "force_norm", "kinetic_temperature")  # under a plain threshold
OWN = ("alarms_per_ns", "focus", "primary", "second_onset")  # entries that `associate` lacks


@dataclass(slots=True)
class Findings:
    """What the analysis of a study gave; a note instead of each part that was not possible.

    Attributes:
        outcomes: the runs.
        runs, models: tables of both.
        association: of all runs.
        primary: of the runs that the main question is about.
        second: of all runs, with another definition of the onset.
        comparison: of detectors.
        focus: by how much the best detector leads plain thresholds, in some runs alone.
        notes: what was not possible, and why.
    """

    outcomes: list[Outcome]
    runs: pd.DataFrame
    models: pd.DataFrame
    association: Association | None = None
    primary: Association | None = None
    second: Association | None = None
    comparison: Comparison | None = None
    focus: pd.DataFrame | None = None
    notes: list[str] = field(default_factory=list)


def find(recipe: StudyRecipe, places: Places) -> Findings:
    """Analyse all runs of a study as its [analysis] says.

    Raises:
        StudyError: where there is no run to compare.
    """
    try:
        outcomes, left_out = read_outcomes(places.out / "runs", bin_width=WATCHING.profile.bin_ang)
    except AssociationError as error:
        raise StudyError(str(error)) from error
    runs = runs_table(outcomes, places)
    findings = Findings(outcomes, runs, models_table(runs))
    findings.notes += [f"left out: {run}: {why}" for run, why in left_out.items()]
    settings = {k: v for k, v in recipe.analysis.items() if k not in OWN}
    findings.association = _associated(findings, "association", outcomes, settings)
    if primary := recipe.analysis.get("primary"):
        some = [o for o in outcomes if _is_of(o.model, o.temperature, primary)]
        findings.primary = _associated(findings, "primary association", some, settings)
    if principle := recipe.analysis.get("second_onset"):
        other = [places.out / "runs"]
        findings.second = _associated(findings, principle, other, settings | {"onset": principle})
    try:
        _compare(findings, recipe)
    except (CalibrationError, AssociationError) as error:
        findings.notes.append(f"no comparison of detectors: {error}")
    return findings


def _associated(
    findings: Findings, what: str, runs: Sequence[Any], settings: Mapping[str, Any]
) -> Association | None:
    try:
        return associate(runs, **settings)
    except AssociationError as error:
        findings.notes.append(f"no {what}: {error}")
        return None


def _is_of(model: str, temperature: float, some: Mapping[str, Any]) -> bool:
    return fnmatch.fnmatch(model, some["models"]) and temperature == some["temperature"]


def _compare(findings: Findings, recipe: StudyRecipe) -> None:
    rates = recipe.analysis.get("alarms_per_ns", RATES)
    focus = recipe.analysis.get("focus")
    findings.comparison = compare_detectors(
        findings.outcomes, rates, WATCHING, main_rate=(focus or {}).get("alarms_per_ns")
    )
    if focus is not None:
        findings.focus = _focused(findings.comparison.rows["model"], focus)


def _focused(rows: pd.DataFrame, focus: Mapping[str, Any]) -> pd.DataFrame:
    """Return by how much the best detector leads the plain thresholds, in some runs alone."""
    mine = [_is_of(r.model, r.temperature, focus) for r in rows.itertuples()]
    here = rows[np.array(mine)]
    found = []
    for rate in sorted(here["alarms_per_ns"].unique()):
        for series in RIVALS:
            try:
                gain = advantage(here, BEST, (series, "shewhart"), rate)
            except KeyError:  # no unstable run, or not measured
                continue
            found.append({"alarms_per_ns": rate, "rival": f"threshold on {series}", **gain})
    return pd.DataFrame(found)
