"""The page of an association: each line an effect size, its interval, and what is behind it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mdxai.study.markdown import span
from mdxai.study.run_outcome import AssociationError
from mdxai.study.survival.association import FEW_MODELS, TABLES, Association
from mdxai.study.survival.survival_figures import association_figures

TOP = 10
CAPTIONS = {
    "kaplan_meier": "Share of runs still stable over time.",
    "hazard_ratios": "Hazard ratio per standard deviation of the lagged value.",
    "relevance": "Relevance of element pairs at each distance, and instability.",
}
# Every kind of predictor: the heading of its list, and what one and several are called.
KINDS = {
    "explanation": (
        "Explanation principles", "explanation principle", "explanation principles",
    ),
    "relevance": (
        "Relevance per element pair and distance", "relevance", "relevances in bins of distance",
    ),
    "plain": ("Plain predictors", "plain predictor", "plain predictors"),
    "trait": ("Traits of the model", "trait", "traits of the model"),
    "motion": (
        "Motion principles (their `unstable` limits define the onset)",
        "motion principle", "motion principles",
    ),
    "probe": ("Probes", "probe", "probes"),
    "other": ("Other series", "other series", "other series"),
}  # fmt: skip
ORDER = {kind: place for place, kind in enumerate(KINDS)}


def write_association(association: Association, folder: str | os.PathLike[str]) -> Path:
    """Write every table as CSV, the figures as PNG and a page, README.md; return the page.

    Raises:
        AssociationError: when the folder cannot be written.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name in TABLES:
            getattr(association, name).to_csv(target / f"{name}.csv", index=False)
        figures = association_figures(association)
        for name, figure in figures.items():
            figure.savefig(target / f"{name}.png", dpi=120)
        page = target / "README.md"
        page.write_text(page_of(association, list(figures)), encoding="utf-8")
    except OSError as error:
        raise AssociationError(f"cannot write to {target}: {error}") from error
    return page


def page_of(association: Association, figures: list[str]) -> str:
    """Return the page in Markdown; figures are `NAME.png` beside it."""
    settings = association.settings
    parts = ["# Deviations and instability", "", headline(association), ""]
    parts += [f"- {note}" for note in association.notes]
    for name in figures:
        parts += ["", f"![{CAPTIONS[name]}]({name}.png)"]
    parts += ["", "## Time to instability", ""]
    parts += [_log_rank_line(row) for row in _rows(association.log_rank)]
    parts += ["", f"## Hazard ratios, deviations {settings.lag:g} fs before the onset", "",
              "Cox regression with time-dependent values, within molecule and temperature, per "
              "standard deviation. Interval: 95 %, models resampled with all their runs. p: "
              "deviations of whole models exchanged. q: Benjamini–Hochberg within each kind.",
              ""]  # fmt: skip
    parts += _by_kind(association.hazard_ratios, _hazard_line)
    if len(association.landmark):
        parts += ["", f"## The first {settings.landmark:g} fs, and what came after", "",
                  "Concordance (Harrell's C; 0.5 is chance) of the mean over that window with the "
                  "time to instability after it, among runs of one molecule and temperature. "
                  "Interval: models resampled. p: models exchanged as a whole, runs of a model "
                  "shuffled among themselves.", ""]  # fmt: skip
        parts += _by_kind(association.landmark, _landmark_line)
        parts += ["", "## Beyond the plain predictors", "", added_headline(association), ""]
        parts += _by_kind(association.added, _added_line)
    parts += [
        "",
        "## How early",
        "",
        "AUROC at each lag between the run that breaks and those of its molecule and "
        "temperature still followed then; models resampled. All lags: lags.csv.",
        "",
    ]
    parts += _lag_lines(association)
    parts += ["", "Tables: " + ", ".join(f"{name}.csv" for name in TABLES) + ".", ""]
    return "\n".join(parts)


def _rows(table: pd.DataFrame) -> list[Any]:
    return list(table.itertuples(index=False))


def headline(association: Association) -> str:
    """Return how many runs, models and onsets there are, and how they were resampled."""
    outcomes, settings = association.outcomes, association.settings
    broken = [o for o in outcomes if o.unstable]
    return (
        f"{len(outcomes)} runs of {len({o.model for o in outcomes})} models, {len(broken)} of them "
        f"unstable ({len({o.model for o in broken})} models), the others censored at their end. "
        f"Onset: {settings.onset}. Horizon {settings.horizon:g} fs. "
        f"{settings.resamples} resamples, seed {settings.seed}."
    )


def _by_kind(table: pd.DataFrame, line: Callable[[Any], str]) -> list[str]:
    """Return a list per kind, the surest first; predictors without a number are left out."""
    parts: list[str] = []
    for kind in sorted(table["kind"].unique(), key=ORDER.__getitem__):
        rows = table[table["kind"] == kind].sort_values("p")
        lines = [line(row) for row in _rows(rows)]
        shown = [text for text in lines if text][:TOP]
        more = len([text for text in lines if text]) - len(shown)
        parts += ["", f"**{KINDS[kind][0]}**", "", *(shown or ["- nothing that can be compared"])]
        parts += [f"- and {more} more in the table"] if more > 0 else []
    return parts


def _p(value: float) -> str:
    return "no p" if np.isnan(value) else f"{value:.2g}"


def _log_rank_line(row: Any) -> str:
    return (
        f"- by {row.groups_by}: log-rank χ² {row.statistic:.3g} on {row.degrees}, permutation p "
        f"{_p(row.p)} (p {row.p_independent:.2g} if runs were independent, which they are not); "
        f"{row.runs} runs, {row.unstable} unstable, {row.models} models"
    )


def _hazard_line(row: Any) -> str:
    if np.isnan(row.hazard_ratio):
        return ""
    problem = f"; **{row.problem}**" if row.problem else ""
    if row.models_with_event < FEW_MODELS:
        problem += "; too few models with an onset for a claim"
    beside = ""
    if not np.isnan(row.adjusted):
        given = span(row.adjusted, row.adjusted_lower, row.adjusted_upper)
        beside = f"; beside {row.adjusted_for}: {given}"
    return (
        f"- {row.predictor}: hazard ratio {span(row.hazard_ratio, row.lower, row.upper)}, p "
        f"{_p(row.p)}, q {_p(row.q)}; {row.events} onsets of {row.models_with_event} models among "
        f"{row.runs} runs of {row.models} models{problem}{beside}"
    )


def _landmark_line(row: Any) -> str:
    if np.isnan(row.concordance):
        return ""
    auroc = span(row.auroc, row.auroc_lower, row.auroc_upper)
    return (
        f"- {row.predictor}: concordance "
        f"{span(row.concordance, row.concordance_lower, row.concordance_upper)}, p "
        f"{_p(row.concordance_p)}, q {_p(row.q)}; AUROC {auroc}; Spearman over models "
        f"{span(row.spearman, row.spearman_lower, row.spearman_upper)}; {row.runs} runs, "
        f"{row.unstable} unstable, {row.models} models, {row.models_with_event} with an onset"
    )


def added_headline(association: Association) -> str:
    """Return which kinds of predictors add to the plain ones; \"nothing\" is an answer."""
    table = association.added
    judged = table[table["adds"] != "not judged"]
    if not len(judged):
        return f"Not judged: no predictor has {FEW_MODELS} models with an onset behind it."
    counts = judged["kind"].value_counts()
    kinds = [kind for kind in KINDS if kind in counts]
    of = ", ".join(f"{counts[k]} {KINDS[k][1 if counts[k] == 1 else 2]}" for k in kinds)
    adding = judged[judged["adds"] == "yes"]
    if not len(adding):
        return (
            f"**Nothing** adds to the plain predictors in models that were left out. Judged: {of}."
        )
    named = ", ".join(f"{KINDS[row.kind][1]} {row.predictor}" for row in _rows(adding))
    without = [KINDS[kind][2] for kind in kinds if kind not in set(adding["kind"])]
    none = f" Nothing among: {', '.join(without)}." if without else ""
    return f"These add to the plain predictors in models that were left out: {named}.{none}"


def _added_line(row: Any) -> str:
    if row.adds == "not judged":
        return ""
    return (
        f"- {row.predictor}: {row.adds}; likelihood ratio {row.likelihood_ratio:.3g}, permutation "
        f"p {_p(row.p)}, q {_p(row.q)}; held-out concordance {row.plain_concordance:.3g} → "
        f"{row.concordance:.3g}, gain {span(row.gain, row.gain_lower, row.gain_upper)}; AUROC gain "
        f"{span(row.auroc_gain, row.auroc_gain_lower, row.auroc_gain_upper)}; beside "
        f"{row.beside or 'nothing: there is no plain predictor'}; {row.runs} runs, "
        f"{row.unstable} unstable, folds: {row.models} models"
        + (f"; **{row.problem}**" if row.problem else "")
    )


def _lag_lines(association: Association) -> list[str]:
    table = association.lags
    surest = association.hazard_ratios.sort_values("p")["predictor"]
    names = [n for n in surest if n in set(table["predictor"])][:TOP]
    lines = []
    for name in names:
        rows = table[(table["predictor"] == name) & table["auroc"].notna()]
        cells = ", ".join(
            f"{row.lag_fs:g} fs {span(row.auroc, row.auroc_lower, row.auroc_upper)} "
            f"[{row.events} onsets of {row.models_with_event} models]"
            for row in _rows(rows)
        )
        if cells:
            kind = KINDS[rows["kind"].iloc[0]][1]
            lines.append(f"- {name} ({kind}): {cells}")
    return lines or ["- no series was measured that early before an onset"]


HEADINGS = (
    "predictor", "kind", "hazard ratio per SD", "p", "q", "onsets", "runs", "models",
    "landmark concordance", "held-out gain", "adds",
)  # fmt: skip


def summary_cells(association: Association) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and cells of the main table; of the relevances only the surest ten."""
    table = association.summary
    table = table[table["problem"] != "constant"]
    relevance = table[table["kind"] == "relevance"].head(TOP)
    table = pd.concat([table[table["kind"] != "relevance"], relevance])
    table = table.sort_values("kind", key=lambda kind: kind.map(ORDER), kind="stable")
    return HEADINGS, [_cells(row) for row in _rows(table)]


def _cells(row: Any) -> tuple[str, ...]:
    concordance = gain = adds = ""
    if hasattr(row, "concordance") and not np.isnan(row.concordance):
        concordance = span(row.concordance, row.concordance_lower, row.concordance_upper)
    if hasattr(row, "gain") and not np.isnan(row.gain):
        gain, adds = span(row.gain, row.gain_lower, row.gain_upper), str(row.adds)
    ratio = row.problem
    if not np.isnan(row.hazard_ratio) and not row.problem:
        ratio = span(row.hazard_ratio, row.lower, row.upper)
    return (
        row.predictor, row.kind, ratio, _p(row.p), _p(row.q), str(row.events), str(row.runs),
        f"{row.models} ({row.models_with_event} with onset)", concordance, gain, adds,
    )  # fmt: skip
