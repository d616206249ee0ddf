"""A run's record and verdict as one HTML file that needs no network.

Its scripts let a reader look into the run; without them the page says the same in still figures.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mdxai.record import RecordError, Run
from mdxai.record.durable_files import DurableFile, write_file
from mdxai.record.reader import read_run
from mdxai.report.explanation_view import Explanation, explanation_view
from mdxai.report.explorer_view import Explorer, explorer_view
from mdxai.report.judgement_view import Judgement, judgement_view
from mdxai.report.number_text import count_text, exact, rounded, signed, time_text
from mdxai.report.page_scripts import library_styles, loader, packed_scripts
from mdxai.report.run_summary import RunSummary, read_run_summary
from mdxai.report.run_view import RunBackground, run_view
from mdxai.report.weak_spot_view import WeakSpotSection, weak_spot_view

PAGE = "report.html"


@dataclass(frozen=True, slots=True)
class PageView:
    """All that the page says; the templates lay it out.

    formula: pieces, letters and numbers in turn. explorer: None without frames.
    weak_spots: None where none were followed. recorded_by: program and version.
    """

    calculator: str
    formula: tuple[str, ...]
    path: str
    recorded_by: str
    written_at: str
    judgement: Judgement
    explorer: Explorer | None
    weak_spots: WeakSpotSection | None
    explanation: Explanation
    run: RunBackground


def write_report(
    run: Run | str | os.PathLike[str], out: str | os.PathLike[str] | None = None
) -> Path:
    """Write the page of a run and return its path. The run may still be going on.

    The page appears complete or not at all. Memory does not grow with the length of the run.

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
            file.finalize(path.name)
    except OSError as error:
        raise RecordError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def write_view(template: str, view: Any, folder: str | os.PathLike[str]) -> Path:
    """Write a page that is not of a run into its folder, `report.html`, and return its path.

    Raises:
        RecordError: where it cannot be written.
    """
    path = Path(folder) / PAGE
    write_file(path, templates().get_template(template).render(page=view).encode())
    return path


def attempt_report(folder: Path) -> str | None:
    """Write the page of a run that has ended; return what prevented it, or None.

    The record is complete by then, so no error of any kind may cost more than a message.
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
    """Return the page as HTML.

    Args:
        summary: what the run directory holds.
        beside: folder that the page will lie in; links start from it.
    """
    return templates().get_template("page.html").render(page=page_view(summary, beside))


def page_view(summary: RunSummary, beside: Path) -> PageView:
    """Return what the page says; arguments as for `report_page`."""
    judgement = judgement_view(summary)
    return PageView(
        str(summary.header["calculator"].get("name", "unnamed calculator")),
        formula_pieces(summary.formula),
        str(summary.run.path),
        f"mdxai {summary.header.get('versions', {}).get('mdxai', '')}".strip(),
        now_text(),
        judgement,
        explorer_view(summary, judgement),
        weak_spot_view(summary),
        explanation_view(summary),
        run_view(summary, beside),
    )


def formula_pieces(formula: str) -> tuple[str, ...]:
    """Return the letters and numbers of a chemical formula in turn."""
    return tuple(filter(None, re.split(r"(\d+)", formula)))


def now_text() -> str:
    """Return date and time, to the minute, with the offset of the time zone."""
    return datetime.now().astimezone().isoformat(" ", "minutes")


@cache
def templates() -> Environment:
    """Return the templates. Everything that they insert is escaped, except finished figures."""
    templates = Environment(
        loader=PackageLoader("mdxai.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    templates.filters |= {
        "count": count_text, "exact": exact, "rounded": rounded, "signed": signed,
        "time_text": time_text,
    }  # fmt: skip
    templates.globals |= {
        "library_styles": library_styles, "loader": loader, "packed_scripts": packed_scripts,
    }  # fmt: skip
    templates.tests["finite"] = math.isfinite
    return templates
