"""What a study found: tables, figures and a page that says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from mdxai.study.accuracy_figure import stability_figure
from mdxai.study.findings import BEST, OWN, RIVALS, Findings, find
from mdxai.study.lead_time.lead_time_figure import lead_time_figure
from mdxai.study.markdown import markdown
from mdxai.study.models import Places
from mdxai.study.recipe import StudyError, StudyRecipe
from mdxai.study.summary_text import primary_lines, second_lines, summary_text
from mdxai.study.survival.association import AssociationSettings
from mdxai.study.survival.survival_page import added_headline, headline, write_association
from mdxai.study.tables import causes_table, compute_spent

PAGE = "README.md"
ANALYSIS = "ANALYSIS.md"  # written by hand, before the runs


def analyse(recipe: StudyRecipe, places: Places, failed: Mapping[str, str]) -> Path:
    """Compare all runs of a study, write tables, figures and the page, and return the page.

    Args:
        recipe: of the study; its [analysis] holds settings of `mdxai.associate` and
            `alarms_per_ns`: rates at which detectors are compared;
            `second_onset`: a principle that alone makes an onset, reported beside the verdict's;
            `primary`: models (a pattern) and a temperature that the main question is about;
            `focus`: the same, for lead times of their own, with the main rate of false alarms.
        places: folders of the study.
        failed: what could not be made, with reasons.

    Raises:
        StudyError: where there is no run to compare, or [analysis] has an unknown entry.
    """
    _check(recipe.analysis)
    findings = find(recipe, places)
    _write_tables(findings, places.out)
    page = places.out / PAGE
    page.write_text("\n".join(_lines(recipe, places, findings, failed)) + "\n", encoding="utf-8")
    return page


def _check(analysis: Mapping[str, Any]) -> None:
    known = {f.name for f in fields(AssociationSettings)} | set(OWN)
    unknown = sorted(set(analysis) - known)
    if unknown:
        raise StudyError(f"[analysis] has no {unknown[0]!r}; it takes {', '.join(sorted(known))}")


def _write_tables(findings: Findings, out: Path) -> None:
    findings.runs.to_csv(out / "runs.csv", index=False, float_format="%.6g")
    findings.models.to_csv(out / "models.csv", index=False, float_format="%.6g")
    stability_figure(findings.runs).savefig(out / "stability.png", dpi=120)
    for found, name in (
        (findings.association, "association"),
        (findings.primary, "association_primary"),
        (findings.second, "association_second"),
    ):
        if found is not None:
            write_association(found, out / name)
    if findings.comparison is not None:
        findings.comparison.write(out / "lead_times")
        for split, table in findings.comparison.tables.items():
            figure = lead_time_figure(table, f"held out by {split}")
            figure.savefig(out / "lead_times" / f"by_{split}.png", dpi=120)
    if findings.focus is not None:
        findings.focus.to_csv(out / "focus.csv", index=False, float_format="%.6g")


def _lines(
    recipe: StudyRecipe, places: Places, findings: Findings, failed: Mapping[str, str]
) -> list[str]:
    lines = [f"# {recipe.name}", "", recipe.summary, "", *_scope(recipe, places, findings)]
    if (places.out / ANALYSIS).is_file():
        lines += ["", f"How it is analysed, and what was changed: [{ANALYSIS}]({ANALYSIS})."]
    lines += ["", "## In short", "", *summary_text(recipe, findings)]
    lines += ["", "## Stability", "", "![Time followed against test error](stability.png)", ""]
    lines += [*markdown(_short(findings.models)), "", "All runs: [runs.csv](runs.csv)."]
    lines += _causes_lines(findings)
    lines += ["", "## What goes with instability", "", *_association_lines(recipe, findings)]
    lines += ["", "## Early warning", "", *_warning_lines(recipe, findings)]
    absent = sorted({c.name for c in recipe.candidates} - set(findings.runs["model"]))
    missing = [f"- {name}: {reason}" for name, reason in failed.items()]
    missing += [f"- no run of {name}" for name in absent]
    missing += [f"- {note}" for note in findings.notes]
    return [*lines, "", "## What is missing", "", *missing] if missing else lines


def _scope(recipe: StudyRecipe, places: Places, findings: Findings) -> list[str]:
    runs, spent, settings = findings.runs, compute_spent(places), recipe.simulation
    wanted = len(recipe.candidates) * len(settings.temperatures) * settings.replicas
    broke = runs["unstable"]
    return [
        f"{len(runs)} of {wanted} runs of {runs['model'].nunique()} of {len(recipe.candidates)} "
        f"models, {broke.sum()} of them unstable ({runs.loc[broke, 'model'].nunique()} models); "
        f"{runs['followed_fs'].sum() / 1e6:.3g} ns in all.",
        f"Compute: {spent['batches']:.0f} batches, {spent['simulation_cpu_h']:.1f} h of CPU "
        f"({spent['simulation_wall_h']:.1f} h of wall time), training "
        f"{spent['training_wall_h']:.1f} h.",
    ]


def _short(models: pd.DataFrame) -> pd.DataFrame:
    """Return the table of models without the times, the most accurate first."""
    columns = [c for c in models.columns if not c.startswith("followed_")]
    table = models[columns].sort_values(["molecule", "force_mae_mev_per_ang"])
    renamed = {c: f"broke at {c.removeprefix('broke_')}" for c in columns if c.startswith("broke_")}
    return table.rename(columns={"force_mae_mev_per_ang": "force MAE / meV/Å", **renamed})


def _causes_lines(findings: Findings) -> list[str]:
    table = causes_table(findings.runs)
    if not len(table):
        return []
    return ["", "What broke first, between which elements, and when:", "", *markdown(table)]


def _association_lines(recipe: StudyRecipe, findings: Findings) -> list[str]:
    found = findings.association
    if found is None:
        return ["Not possible with these runs."]
    shown = found.summary[
        ["predictor", "kind", "hazard_ratio", "lower", "upper", "q", "models_with_event", "problem"]
    ]
    return [
        headline(found), "", added_headline(found), "",
        "The surest hazard ratios per standard deviation, deviations lagged:", "",
        *markdown(shown.head(12)), "",
        "Everything: [association/README.md](association/README.md).",
        *primary_lines(recipe, findings), *second_lines(recipe, findings),
    ]  # fmt: skip


def _warning_lines(recipe: StudyRecipe, findings: Findings) -> list[str]:
    comparison = findings.comparison
    if comparison is None:
        return ["Not possible with these runs."]
    lines = [
        "Lead times in fs over all unstable runs (0 where missed); `null` is what the alarms of "
        "stable runs would give.",
    ]
    for split, table in comparison.tables.items():
        plain = (table["detector"] == "shewhart") & table["series"].isin(RIVALS)
        shown = table[plain | (table["detector"] == BEST[1])]
        lines += [
            "", f"### Held out by {split}", "", *markdown(shown[_LEADS]), "",
            f"![Lead times](lead_times/by_{split}.png)",
        ]  # fmt: skip
    if findings.focus is not None and len(findings.focus):
        focus = recipe.analysis["focus"]
        lines += [
            "", f"### {focus['models']} at {focus['temperature']:g} K", "",
            "By how much the best detector, chosen on the other models, warns earlier than a plain "
            "threshold at the same rate of false alarms; fs, mean over unstable runs, missed ones "
            "counted as 0:", "", *markdown(findings.focus),
        ]  # fmt: skip
    return lines


_LEADS = [
    "alarms_per_ns", "series", "kind", "detector", "n_unstable", "detected", "mean_lead_fs",
    "mean_lead_fs_low", "mean_lead_fs_high", "null_mean_lead_fs", "false_per_ns",
]  # fmt: skip
