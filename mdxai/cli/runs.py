"""`mdxai report`, `export`, `repair` and `label`: what is made of recorded runs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdxai.cli.arguments import Quiet, RunFolder, Shown
from mdxai.cli.console import (
    ExitCode,
    complain,
    escape,
    loading,
    print_json,
    print_table,
    say,
    spinner,
)

if TYPE_CHECKING:
    from mdxai.record import Repair


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write, of a single run. Default: RUN/report.html")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write a run as one HTML page: verdict, figures, findings; also while the run goes on."""
    if out is not None and len(runs) > 1:
        raise typer.BadParameter(f"--out is the file of one run, got {len(runs)} runs")
    with spinner(quiet, "reading"):
        from mdxai.report import write_report

        for run in runs:
            path = write_report(run, out)
            if not quiet:
                print(path)


def export(
    run: RunFolder,
    out: Annotated[
        Path, typer.Argument(help="File; its extension names the format: .xtc, .extxyz, .h5md, …")
    ],
    start: Annotated[int | None, typer.Option(help="First frame.")] = None,
    stop: Annotated[int | None, typer.Option(help="Frame to stop before.")] = None,
    step: Annotated[int | None, typer.Option(help="Keep every N-th frame.")] = None,
    quiet: Quiet = False,
) -> None:
    """Write the frames of a run for other programs; .extxyz with energies, forces, deviations."""
    with loading(quiet):
        from mdxai.record.export import ExportWarning
        from mdxai.record.export import export as write_frames

    with warnings.catch_warnings(record=True, category=ExportWarning) as losses:
        warnings.simplefilter("ignore" if quiet else "always", ExportWarning)
        n_frames = write_frames(run, out, start=start, stop=stop, step=step)
    for loss in losses:
        complain(f"note: {loss.message}")
    if not quiet:
        print(f"{n_frames} frames in {out}")


def repair(
    run: Annotated[Path, typer.Argument(help="Run directory that no run is writing to.")],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Directory for the intact part. Default: RUN-repaired.")
    ] = None,
    shown: Shown,
) -> None:
    """Check every file of a run, and copy what is intact where some are damaged.

    The run itself is never changed.
    """
    from mdxai.record import repair

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the table says it too
        found = repair(run, out)
    if shown.as_json:
        print_json(found.as_dict())
    elif not shown.quiet:
        _print_repair(found)
    raise typer.Exit(ExitCode.DONE if found.whole else ExitCode.UNSTABLE)


def _print_repair(report: Repair) -> None:
    from rich.table import Table

    table = Table(title=f"{report.path}: {'whole' if report.whole else 'damaged'}")
    for heading in ("file", "state", "rows", "why"):
        table.add_column(heading, no_wrap=heading != "why")
    for file in report.files:
        bad = file.state in ("damaged", "missing")
        state = f"[bold red]{file.state}[/]" if bad else file.state
        rows = "" if file.rows is None else str(file.rows)
        table.add_row(escape(file.name), state, rows, escape(file.detail))
    print_table(table, width=160)
    if report.repaired is not None:
        say(f"the intact part is in {report.repaired}")


def label(
    run: RunFolder,
    *,
    out: Annotated[Path, typer.Option(help="Extended XYZ file to write.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Number of frames.")] = 20,
    shown: Shown,
) -> None:
    """Pick frames for labelling: before the instability, where deviations rose, and diverse."""
    from mdxai.mending.active_learning import label as write_labels

    count = write_labels(run, out, n)
    if shown.as_json:
        print_json({"out": str(out), "frames": count})
    elif not shown.quiet:
        print(f"{count} frames in {out}")
