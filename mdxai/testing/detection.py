"""Which principle reports which fault, and how soon: monitored runs set side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mdxai.stability.thresholds import THRESHOLDS, Threshold
from mdxai.stability.verdict import Verdict


def report_times(
    verdict: Verdict, thresholds: Sequence[Threshold] = THRESHOLDS
) -> dict[str, float | None]:
    """Return when each principle reported, as a warning or worse, by its name.

    Args:
        verdict: of a monitored run.
        thresholds: those it was judged by.

    Returns:
        fs from the start of the run until the violation had lasted for its patience; None for a
        principle that was checked and did not report. Principles not checked are left out.
    """
    findings = {finding.principle: finding for finding in verdict.findings}
    times: dict[str, float | None] = {}
    for threshold in thresholds:
        finding = findings.get(threshold.principle)
        if finding is not None:
            known = finding.time_fs - verdict.start_fs + threshold.patience
            times[threshold.principle] = min(known, verdict.duration_fs)
        elif threshold.principle not in verdict.unavailable:
            times[threshold.principle] = None
    return times


def detection_table(
    verdicts: Mapping[str, Verdict], thresholds: Sequence[Threshold] = THRESHOLDS
) -> str:
    """Return a Markdown table: a row per principle, a column per run.

    A cell gives the fs after which the principle reported, "missed" where it was checked and did
    not report, and "–" where it could not be checked.

    Args:
        verdicts: of monitored runs, by the heading of their column.
        thresholds: those they were judged by.
    """
    rows = [["principle", *verdicts], ["---"] * (len(verdicts) + 1)]
    columns = [report_times(verdict, thresholds) for verdict in verdicts.values()]
    for threshold in thresholds:
        name = threshold.principle
        rows.append([name, *(_cell(times, name) for times in columns)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(times: Mapping[str, float | None], principle: str) -> str:
    if principle not in times:
        return "–"
    time = times[principle]
    return "missed" if time is None else f"{time:g} fs"
