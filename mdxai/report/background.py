"""The sections of a run's page that say how the run was made, watched and recorded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from mdxai.report.html import Html, definitions, element, joined, number, table
from mdxai.report.run_summary import RunSummary
from mdxai.report.sections import moment, principle, remark, section
from mdxai.stability.thresholds import PROBE_THRESHOLDS, THRESHOLDS
from mdxai.stability.verdict import recorded_thresholds

MOST_EVENTS = 40
LONG = 12  # entries of a list that is written out
UNITS = {"timestep": "timestep / fs", "temperature": "temperature / K"}
WHAT_RAN = ("calculator", "engine", "parameters", "context", "record", "versions")


def notes(summary: RunSummary) -> Html:
    """Return what is to be known about the run before the rest is read."""
    lines = list(_notes(summary))
    return element("ul", *(element("li", line) for line in lines), class_="notes") if lines else (
        Html("")
    )  # fmt: skip


def _notes(summary: RunSummary) -> Iterator[str]:
    ended, cost = summary.ended, summary.ended.get("cost", {})
    if not ended:
        going = "it is going on, or was killed" if summary.is_claimed else "it was ended before"
        yield f"The run is not finished: {going}. This is what was recorded up to step " \
              f"{summary.series.last_step:,}." if summary.series.n_frames else (
                  f"The run is not finished, and no frame is recorded yet: {going}.")  # fmt: skip
        if "verdict yet" not in summary.doubt:
            yield f"The verdict was found again from the frames: {summary.doubt}"
    if ended.get("halted_by"):
        yield f"Halted by {ended['halted_by']}."
    if ended.get("interrupted_by"):
        yield f"Ended before its time by {ended['interrupted_by']}."
    resumed = [f"{step:,}" for step in cost.get("resumed_at", [])]
    if resumed:
        more = f" and {len(resumed) - LONG} more" if len(resumed) > LONG else ""
        yield f"Went on from a checkpoint at step {', '.join(resumed[:LONG])}{more}."
    for number_, back in enumerate(summary.rollbacks, start=1):
        changes = ", ".join(f"{key} {value}" for key, value in back.changes.items())
        yield joined([
            f"Rollback {number_}: unstable by {back.reason}; taken back to ",
            moment(back.to_time_fs), f", then went on with {changes or 'the same settings'}.",
        ])  # fmt: skip
    n = len(summary.verdict.unavailable) if summary.verdict is not None else 0
    if n:
        yield element("a", f"{n} not checked, and why", href="#not-checked")


def events(summary: RunSummary) -> Html:
    """Return early warnings and all else that happened."""
    if not summary.events:
        return section("Events", remark("None was recorded."))
    shown = summary.events[:MOST_EVENTS]
    rows = [
        (moment(event["time_fs"]), f"{event['step']:,}",
         {"warning": "early warning"}.get(event["kind"], event["kind"]), _told(event["content"]))
        for event in shown
    ]  # fmt: skip
    headings = {"time": "number", "step": "number", "what": "text", "": "text prose"}
    rest = len(summary.events) - len(shown)
    left = [remark(f"{rest:,} more are in events-*.parquet.")] if rest else []
    return section("Events", table(headings, rows), *left)


def _told(content: Mapping[str, Any]) -> str:
    if "text" in content:
        return str(content["text"])
    return "; ".join(f"{name}: {value}" for name, value in _flat(content))


def files(summary: RunSummary, beside: Path) -> Html:
    """Return links to what else lies in the run directory.

    Args:
        summary: of the run.
        beside: folder of the page, which links start from.
    """
    kinds = {"blackbox-*.extxyz": "last steps before the violation, to be opened with ASE or OVITO",
             "blackbox-*-pairs.parquet": "relevance of every pair in these steps",
             "figure.png": "figure of the run", "verdict.json": "the verdict",
             "run.toml": "what was run", "rollbacks.json": "what was taken back",
             "rolled-back-*": "what was recorded before a rollback: a run of its own"}  # fmt: skip
    rows = [
        (element("a", path.name, href=_link(path, beside)), what)
        for pattern, what in kinds.items()
        for path in summary.files(pattern)
    ]
    none = [] if summary.files("blackbox-*.extxyz") else [remark("There is no black box.")]
    return section("Files", table({"file": "text", "": "text"}, rows), *none)


def _link(path: Path, beside: Path) -> str:
    return quote(Path(os.path.relpath(path, beside)).as_posix())


def not_checked(summary: RunSummary) -> Html:
    """Return what was not checked, by reason."""
    verdict = summary.verdict
    reasons: dict[str, list[str]] = {}
    for name, why in ({} if verdict is None else verdict.unavailable).items():
        reasons.setdefault(why, []).append(name.replace("_", " "))
    rows = [(", ".join(names), why) for why, names in reasons.items()]
    if not rows:
        return section("Not checked", remark("Nothing was left out, as far as is known."))
    body = table({"principle": "text", "why": "text prose"}, rows)
    return element("section", element("h2", "Not checked"), body, id="not-checked")


def obeyed(summary: RunSummary) -> Html:
    """Return the principles that were checked and obeyed, with how near they came to their limits."""
    verdict = summary.verdict
    if verdict is None:
        return Html("")
    apart = {f.principle for f in verdict.findings}
    limits = {t.principle: t for t in recorded_thresholds(summary.run)}
    rows = []
    for name, unit in summary.run.deviations.items():
        curve = summary.series.curves[name]
        if name in apart or not curve.n_measured or name not in limits:
            continue
        value = np.nan if len(curve.not_finite) else curve.largest
        rows.append((principle(name), number(value), number(limits[name].warn),
                     "" if unit == "1" else unit, f"{curve.n_measured:,}"))  # fmt: skip
    if not rows:
        return Html("")
    headings = {"principle": "text", "largest": "number", "allowed": "number", "unit": "text",
                "frames": "number"}  # fmt: skip
    label = element("summary", f"{len(rows)} principles checked and obeyed")
    return element("section", element("details", label, table(headings, rows)))


def what_was_run(summary: RunSummary) -> Html:
    """Return calculator, engine, system, settings and versions, as run.toml has them."""
    header, symbols = summary.header, summary.symbols
    system = {"formula": summary.formula, "atoms": f"{len(symbols):,}",
              "periodic": _periodicity(summary)}  # fmt: skip
    shown = {"calculator": header.get("calculator", {}), "system": system}
    shown |= {name: header[name] for name in WHAT_RAN if header.get(name)}
    if "restart" in header:
        shown["restart"] = {"resumed bit by bit": header["restart"]}
    if changed := _changed_limits(summary):
        shown["limits other than the shipped"] = changed
    blocks = [
        element("div", element("h3", name), definitions(_flat(content)), class_="block")
        for name, content in shown.items()
    ]
    return section("What was run", element("div", *blocks, class_="grid"))


def _periodicity(summary: RunSummary) -> str:
    pbc = summary.header["system"]["pbc"]
    if not any(pbc):
        return "no"
    lengths = np.linalg.norm(np.array(summary.header["system"]["cell_ang"], dtype=float), axis=1)
    return f"{''.join(x for x, on in zip('abc', pbc, strict=True) if on)}; cell " + " × ".join(
        f"{length:.4g}" for length in lengths
    ) + " Å at the start"  # fmt: skip


def _changed_limits(summary: RunSummary) -> dict[str, str]:
    shipped = {t.principle: t for t in (*THRESHOLDS, *PROBE_THRESHOLDS)}
    return {
        t.principle: f"suspect above {t.warn:g}, unstable above {t.unstable:g}, "
        f"patience {t.patience:g} fs"
        for t in recorded_thresholds(summary.run)
        if t != shipped.get(t.principle)
    }


def _flat(content: Any, above: str = "") -> Iterator[tuple[str, str]]:
    """Yield what a section of run.toml holds; nested names are joined."""
    if not isinstance(content, Mapping):
        yield above.strip(), _plain(content)
        return
    for key, value in content.items():
        yield from _flat(value, f"{above} {UNITS.get(key, key.replace('_', ' '))}")


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        if len(value) > LONG:
            return f"{len(value):,} entries"
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def cost(summary: RunSummary) -> Html:
    """Return what the monitor cost."""
    spent = summary.ended.get("cost")
    if not spent:
        return section("Cost", remark("It is known once the run is finished."))
    entries = [
        ("the run", number(spent["total"], "s")),
        ("the monitor", joined([number(spent["monitor"], "s"), f" ({spent['share']:.1%})"])),
        ("setting up, not in the share", number(spent.get("start", 0.0), "s")),
        ("of that explaining", number(spent["attribution"], "s")),
        ("explained frames", number(spent["n_attributions"])),
        ("intervals stretched", number(spent["stretch"], "×")),
    ]
    return section("Cost", definitions(entries))
