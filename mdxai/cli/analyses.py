"""`mdxai analyse`: what networks have learned, over whole data sets."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdxai.cli.arguments import Shown, Stated
from mdxai.cli.console import (
    attempt_page,
    errors,
    kept_if_stopped,
    loading,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from mdxai.analysis import Analysis

SHOWN = 12  # kinds of pairs in the terminal


@dataclass(frozen=True, kw_only=True)
class AnalysisChoices:
    """How a data set is analysed; the fields of `AnalysisOptions`."""

    gamma: Annotated[float, typer.Option(help="γ of the attribution rule; 0 is LRP-0.")] = 0.1
    closely: Annotated[
        int,
        typer.Option(min=0, help="Molecules of which also three and four bodies are looked at."),
    ] = 100
    most: Annotated[
        int | None,
        typer.Option(
            min=1, help="Entries that are read, spread over the data.", show_default="all"
        ),
    ] = None
    block: Annotated[int, typer.Option(min=1, help="Entries between two savings.")] = 500
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu"


def analyse(
    calculators: Annotated[
        list[str],
        typer.Argument(help="Names, folders or files of networks, also of other properties."),
    ],
    data: Annotated[
        Path,
        typer.Argument(
            help="Data set: what ASE reads (extxyz, db, traj …), an npz as of MD17 or QM9, a run "
            "directory, or with --topology what MDAnalysis reads.",
        ),
    ],
    *,
    out: Annotated[
        Path, typer.Option(help="Folder of the page, tables and figures; continued if it is there.")
    ],
    choices: AnalysisChoices,
    stated: Stated,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Dask workers that explain, on this machine.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers do, or slurm.")
    ] = None,
    shown: Shown,
) -> None:
    """Analyse what networks have learned, over all molecules of a data set."""
    with loading(shown.silent):
        from dataclasses import asdict

        from mdxai.analysis import AnalysisOptions, DataSet
        from mdxai.analysis import analyse as find
        from mdxai.analysis.analysis_files import write_tables
        from mdxai.analysis.progress_bar import progress_bar
        from mdxai.engines import Selection
        from mdxai.report import write_analysis_page

    options, selection = AnalysisOptions(**asdict(choices)), stated.selection()
    source = DataSet.of(data, stated.topology, None if selection == Selection() else selection)
    with (
        kept_if_stopped(out, "what was summed"), _workers(workers, scheduler) as client,
        nullcontext(False) if shown.silent else progress_bar(errors) as progress,
    ):  # fmt: skip
        found = find(
            calculators, source, path=out, options=options, progress=progress, client=client
        )
    write_tables(found, out)
    attempt_page(write_analysis_page, found, out, "holds the tables of the analysis")
    if shown.as_json:
        from mdxai.analysis.analysis_files import repeating
        from mdxai.serialization import as_json

        print_json(as_json(repeating(found)))
    elif not shown.quiet:
        _print(found, out)


def _workers(n: int | None, scheduler: str | None) -> AbstractContextManager[Any]:
    if n is None and scheduler is None:
        return nullcontext()
    from mdxai.study.scheduler import workers

    return workers(scheduler, n)


def _print(found: Analysis, out: Path) -> None:
    from rich.table import Table

    say(f"{found.n_used} of {found.n_read} molecules of {found.data}: {out / 'report.html'}")
    for one in found.left_out:
        say(f"  left out: {one.count} with {one.reason}")
    for model in found.models:
        table = Table(title=f"{model.name}: mean strength / {model.unit}")
        for k, heading in enumerate(("kind of pair", "pairs", "strength", "± (95 %)")):
            table.add_column(heading, justify="right" if k else "left")
        for b in model.bonds[:SHOWN]:
            table.add_row(b.name, str(b.count), f"{b.mean:.4g}", f"{1.96 * b.error:.2g}")
        print_table(table)
