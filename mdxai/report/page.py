"""A record and its verdict as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

from mdxai.record import RecordError, Run
from mdxai.record.durable_files import DurableFile
from mdxai.record.reader import read_run
from mdxai.report import background, sections
from mdxai.report.html import Html, element, joined
from mdxai.report.run_summary import RunSummary, read_run_summary

PAGE = "report.html"


def write_report(
    run: Run | str | os.PathLike[str], out: str | os.PathLike[str] | None = None
) -> Path:
    """Write the page of a run, also while it is going on; return where it is.

    It appears complete or not at all. A frame more or a million more take the same memory.

    Args:
        run: a run, or its directory.
        out: file to write; `report.html` in the run directory by default.

    Raises:
        RecordError: when there is no run, it is damaged, or the file cannot be written.
    """
    run = run if isinstance(run, Run) else read_run(Path(run))
    path = run.path / PAGE if out is None else Path(out)
    content = report_page(read_run_summary(run), path.parent).encode()
    try:
        with DurableFile(path.parent) as file:
            file.write(content)
            file.settle(path.name)
    except OSError as error:
        raise RecordError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def attempt_report(folder: Path) -> str | None:
    """Write the page of a run that has come to its end; return what kept it from that.

    The record is complete by then, so no error of any kind is worth more than a line.
    """
    try:
        write_report(folder)
    except Exception as error:  # of matplotlib, say
        return (
            f"the record in {folder} is complete, but not its page: {error}; `mdxai report "
            f"{folder}` writes it, with --out FILE to another place"
        )
    return None


def report_page(summary: RunSummary, beside: Path) -> str:
    """Return the page.

    Args:
        summary: what the run directory holds.
        beside: folder that the page will lie in, from which links start.
    """
    name = summary.header["calculator"].get("name", "calculator without a name")
    title = f"{name}: {'not judged' if summary.verdict is None else summary.verdict.stability}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(Path(__file__).with_suffix(".css").read_text(encoding="utf-8"))),
    )
    body = element("body", element("main", *_content(summary, str(name), beside)))
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"


def _subscripts(formula: str) -> Html:
    pieces = re.split(r"(\d+)", formula)
    return joined(element("sub", p) if p.isdigit() else p for p in pieces)


def _content(summary: RunSummary, name: str, beside: Path) -> list[Html]:
    made = f"mdxai {summary.header.get('versions', {}).get('mdxai', '')}".strip()
    now = datetime.now().astimezone().isoformat(" ", "minutes")
    return [
        element(
            "header",
            element("h1", _subscripts(summary.formula), element("span", f" by {name}")),
            element("p", str(summary.run.path), class_="path"),
        ),
        sections.headline(summary),
        background.notes(summary),
        sections.deviations(summary),
        sections.findings(summary),
        sections.energy_and_temperature(summary),
        sections.interactions(summary),
        background.events(summary),
        background.not_checked(summary),
        background.obeyed(summary),
        background.files(summary, beside),
        background.what_was_run(summary),
        background.cost(summary),
        element("footer", joined([f"Recorded by {made}. This page was written {now}."])),
    ]
