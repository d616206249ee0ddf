"""What the page says of the verdict: the cause, findings, deviations, what was not checked."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache

import numpy as np
from markupsafe import Markup

from mdxai import principles
from mdxai.principles import Kind, kind_of
from mdxai.report.figures import most_telling
from mdxai.report.page_figures import deviation_plot
from mdxai.report.run_summary import RunSummary
from mdxai.stability.verdict import Finding, Verdict, recorded_thresholds

PANELS, NAMED_ATOMS = 6, 4
KINDS: tuple[Kind | None, ...] = ("motion", "explanation", "probe", None)


@dataclass(frozen=True, slots=True)
class PrincipleText:
    """A principle in words. kind: None for a name that is no principle of ours. measure: what it
    measures, in a sentence; may be empty.
    """

    name: str
    kind: Kind | None
    measure: str


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A finding as a row. atoms: the first few, such as "C1–O2". n_unnamed: how many follow."""

    finding: Finding
    principle: PrincipleText
    atoms: str
    n_unnamed: int


@dataclass(frozen=True, slots=True)
class DeviationPanel:
    """A deviation over time as a figure. key: the principle's name in the record. measured: whether
    it has any value.
    """

    key: str
    principle: PrincipleText
    svg: Markup
    measured: bool


@dataclass(frozen=True, slots=True)
class ObeyedRow:
    """An obeyed principle. largest, allowed: in `unit`. n_frames: in which it was measured."""

    principle: PrincipleText
    largest: float
    allowed: float
    unit: str
    n_frames: int


@dataclass(frozen=True, slots=True)
class ObeyedGroup:
    """The obeyed principles of one kind; None for those that are no principles of ours."""

    kind: Kind | None
    rows: tuple[ObeyedRow, ...]


@dataclass(frozen=True, slots=True)
class NotChecked:
    """Principles of one kind that were not checked for the same reason."""

    kind: Kind | None
    names: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict with all that explains it. verdict, cause: None where there is none."""

    verdict: Verdict | None
    cause: FindingRow | None
    deviations: tuple[DeviationPanel, ...]
    findings: tuple[FindingRow, ...]
    obeyed: tuple[ObeyedGroup, ...]
    not_checked: tuple[NotChecked, ...]


def judgement_view(summary: RunSummary) -> Judgement:
    """Return what the page says of the verdict."""
    verdict = summary.verdict
    if verdict is None:
        return Judgement(None, None, (), (), (), ())
    cause = verdict.cause
    return Judgement(
        verdict,
        None if cause is None else _finding_row(summary, cause),
        tuple(_panels(summary, verdict)),
        tuple(_finding_row(summary, finding) for finding in verdict.findings),
        tuple(_obeyed(summary, verdict)),
        tuple(_not_checked(verdict)),
    )


def principle_text(name: str) -> PrincipleText:
    """Return a principle as the page names it."""
    return PrincipleText(name.replace("_", " "), kind_of(name), _measures().get(name, ""))


@cache
def _measures() -> dict[str, str]:
    """Return the first sentence of each principle's docstring, by the principle's name."""
    found = {}
    for _, principle in inspect.getmembers(principles, inspect.isclass):
        name = vars(principle).get("name")
        if isinstance(name, str) and principle.__doc__:
            first = inspect.cleandoc(principle.__doc__).partition("\n\n")[0]
            found[name] = " ".join(first.split())
    return found


def _finding_row(summary: RunSummary, finding: Finding) -> FindingRow:
    named = finding.atoms[:NAMED_ATOMS]
    return FindingRow(
        finding, principle_text(finding.principle), summary.label(*named),
        len(finding.atoms) - len(named),
    )  # fmt: skip


def _panels(summary: RunSummary, verdict: Verdict) -> list[DeviationPanel]:
    if not summary.series.n_frames:
        return []
    thresholds = {t.principle: t for t in recorded_thresholds(summary.run)}
    panels = []
    for name in most_telling(summary.run, verdict, PANELS):
        curve, unit = summary.series.curves[name], summary.run.deviations[name]
        svg = deviation_plot(name, unit, curve, thresholds.get(name), summary.time_axis)
        panels.append(DeviationPanel(name, principle_text(name), svg, curve.n_measured > 0))
    return panels


def _obeyed(summary: RunSummary, verdict: Verdict) -> list[ObeyedGroup]:
    broken = {finding.principle for finding in verdict.findings}
    limits = {t.principle: t for t in recorded_thresholds(summary.run)}
    rows = []
    for name, unit in summary.run.deviations.items():
        curve = summary.series.curves[name]
        if name in broken or not curve.n_measured or name not in limits:
            continue
        largest = np.nan if len(curve.not_finite) else curve.largest
        text = principle_text(name)
        rows.append(ObeyedRow(text, largest, limits[name].warn, unit, curve.n_measured))
    groups = (
        ObeyedGroup(kind, tuple(row for row in rows if row.principle.kind == kind))
        for kind in KINDS
    )
    return [group for group in groups if group.rows]


def _not_checked(verdict: Verdict) -> list[NotChecked]:
    groups: dict[tuple[Kind | None, str], list[str]] = {}
    for name, why in verdict.unavailable.items():
        groups.setdefault((_kind_of_check(name), why), []).append(name.replace("_", " "))
    ordered = sorted(groups, key=lambda group: KINDS.index(group[0]))
    return [NotChecked(kind, tuple(groups[kind, why]), why) for kind, why in ordered]


def _kind_of_check(name: str) -> Kind | None:
    """Return the kind of what was not checked: a principle, a part of one ("contact of C-H"), or
    the explanation as a whole.
    """
    return "explanation" if name == "attribution" else kind_of(name.partition(" of ")[0])
