"""The answers of a study in words: an effect, its interval, and the number of models behind it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mdxai.study.findings import BEST, RIVALS, Findings
from mdxai.study.lead_time.lead_times import EVERYTHING, PLAIN_OR_MOTION
from mdxai.study.markdown import digits, markdown, span
from mdxai.study.recipe import StudyRecipe
from mdxai.study.survival.association import FEW_MODELS, Association
from mdxai.study.survival.survival_page import added_headline, headline

Q = 0.1  # of Benjamini–Hochberg, below which a predictor is called a finding
EXPLAINED = ("explanation", "relevance")  # kinds that the main question is about


def summary_text(recipe: StudyRecipe, findings: Findings) -> list[str]:
    """Return the lines of a list: what was asked and what came out, negative or not."""
    lines = []
    if findings.primary is not None:
        some = recipe.analysis["primary"]
        lines += [f"- **{some['models']} at {some['temperature']:g} K**: {_primary(findings)}"]
    if findings.association is not None:
        lines += [f"- **Beyond the plain predictors**: {added_headline(findings.association)}"]
    lines += [f"- **Early warning**: {text}" for text in _warning(recipe, findings)]
    return lines or ['Nothing can be said yet: see "What is missing".']


def _primary(findings: Findings) -> str:
    found = findings.primary
    assert found is not None
    if not len(found.landmark):
        return "no landmark analysis was possible."
    table = found.landmark
    sure = table[table["kind"].isin(EXPLAINED) & _is_sure(table)]
    window = found.settings.landmark_of(found.outcomes)
    begin = f"of explanation principles and relevance, averaged over the first {window:g} fs, "
    told = f"these go with what comes after: {_named(sure)}" if len(sure) else (
        "**none** goes with what comes after "
        f"(C apart from 0.5 with q < {Q:g})"
    )  # fmt: skip
    error = table[table["predictor"] == "force_mae_mev_per_ang"]
    beside = f" The test force error beside them: {_named(error)}." if len(error) else ""
    row = table.iloc[0]
    behind = f" {row['runs']} runs of {row['models']} models, {row['unstable']} unstable."
    return begin + told + "." + beside + behind


def _is_sure(table: pd.DataFrame) -> pd.Series:
    apart = (table["concordance_lower"] > 0.5) | (table["concordance_upper"] < 0.5)
    return apart & (table["q"] < Q) & (table["models_with_event"] >= FEW_MODELS)


def _named(table: pd.DataFrame) -> str:
    rows: list[Any] = list(table.sort_values("p").itertuples())
    spans = [span(r.concordance, r.concordance_lower, r.concordance_upper) for r in rows]
    return "; ".join(f"{r.predictor} ({r.kind}) C {s}" for r, s in zip(rows, spans, strict=True))


def _warning(recipe: StudyRecipe, findings: Findings) -> list[str]:
    if findings.comparison is None:
        return []
    rates = findings.comparison.tables["model"]["alarms_per_ns"].unique()
    rate = recipe.analysis.get("focus", {}).get("alarms_per_ns", sorted(rates)[len(rates) // 2])
    table = findings.comparison.tables["model"]
    here = table[table["alarms_per_ns"] == rate].set_index(["series", "detector"])
    said = [
        f"best of {series.removeprefix('best ')} {_lead(here.loc[series, 'as chosen'])}"
        for series in (f"best {group}" for group in (PLAIN_OR_MOTION, *EXPLAINED, EVERYTHING))
        if (series, "as chosen") in here.index
    ] + [
        f"threshold on {series} {_lead(here.loc[series, 'shewhart'])}"
        for series in RIVALS
        if (series, "shewhart") in here.index
    ]
    lines = [
        f"mean lead at {rate:g} false alarms per ns, held out by model, over all unstable runs, "
        f"missed ones counted as 0, by kind of series: {'; '.join(said)}."
    ]
    return lines + _focused(recipe, findings, rate)


def _lead(row: Any) -> str:
    return (
        f"{span(row['mean_lead_fs'], row['mean_lead_fs_low'], row['mean_lead_fs_high'])} fs "
        f"({digits(row['null_mean_lead_fs'])} from the alarms of stable runs)"
    )


def _focused(recipe: StudyRecipe, findings: Findings, rate: float) -> list[str]:
    table = findings.focus
    if table is None or not len(table):
        return []
    focus = recipe.analysis["focus"]
    here = table[table["alarms_per_ns"] == rate]
    said = [
        f"{span(r.mean_fs, r.mean_fs_low, r.mean_fs_high)} fs over a {r.rival}"
        for r in here.itertuples()
    ]
    n = int(here["n_unstable"].max()) if len(here) else 0
    return [
        f"{focus['models']} at {focus['temperature']:g} K, {n} unstable runs: the best detector "
        f"({BEST[0].removeprefix('best ')}, chosen on other models) leads by {'; '.join(said)}."
    ]


def primary_lines(recipe: StudyRecipe, findings: Findings) -> list[str]:
    """Return the section on the runs that the main question is about."""
    found = findings.primary
    if found is None or not len(found.landmark):
        return []
    some = recipe.analysis["primary"]
    columns = [
        "predictor", "kind", "concordance", "concordance_lower", "concordance_upper", "spearman",
        "auroc", "p", "q", "models_with_event",
    ]  # fmt: skip
    table = found.landmark[found.landmark["kind"] != "relevance"].sort_values("p")
    return [
        "", f"### {some['models']} at {some['temperature']:g} K: the first "
        f"{found.settings.landmark_of(found.outcomes):g} fs, and what came after", "",
        headline(found), "", added_headline(found), "", *markdown(table[columns].head(16)), "",
        "Everything: [association_primary/README.md](association_primary/README.md).",
    ]  # fmt: skip


def second_lines(recipe: StudyRecipe, findings: Findings) -> list[str]:
    """Return the section on the other definition of the onset."""
    found = findings.second
    if found is None:
        return []
    return [
        "", f"### Onset by {recipe.analysis['second_onset']} alone", "", headline(found), "",
        added_headline(found), "", *markdown(_surest(found)), "",
        "Everything: [association_second/README.md](association_second/README.md).",
    ]  # fmt: skip


def _surest(found: Association) -> pd.DataFrame:
    columns = ["predictor", "kind", "hazard_ratio", "lower", "upper", "q", "models_with_event"]
    return found.summary[columns].head(8)
