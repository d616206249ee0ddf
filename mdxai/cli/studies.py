"""`mdxai study`, `associate` and `lead-times`: what many runs show together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdxai.cli.arguments import AssociationArguments, RunFolders, Shown, StudyPlaces
from mdxai.cli.console import (
    ExitCode,
    complain,
    errors,
    escape,
    loading,
    print_json,
    print_table,
    say,
    spinner,
)

if TYPE_CHECKING:
    from mdxai.study.survival.association import Association

SIMPLE_SERIES = ("bond", "temperature", "kinetic_temperature", "force_norm")


def lead_times(
    runs: RunFolders,
    *,
    out: Annotated[Path, typer.Option(help="Folder for tables, figures and calibration.toml.")],
    alarms_per_ns: Annotated[
        list[float] | None,
        typer.Option(help="False alarms per ns. Repeatable. Default: 5, 10, 20, 50."),
    ] = None,
    baseline: Annotated[
        float, typer.Option(help="Beginning of each run that shows what is usual, fs.")
    ] = 500.0,
    shown: Shown,
) -> None:
    """Compare how early detectors warn of an instability, held out; calibrate the best of them."""
    with loading(shown.silent):
        from mdxai.early_warning import ProfileSettings
        from mdxai.study.lead_time.alarms import Watching
        from mdxai.study.lead_time.comparison import compare_detectors
        from mdxai.study.lead_time.lead_time_figure import lead_time_figure
        from mdxai.study.lead_time.lead_times import RATES
        from mdxai.study.run_outcome import load_outcomes

    watching = Watching(baseline, profile=ProfileSettings(baseline, min(200.0, baseline)))
    with spinner(shown.silent, "comparing detectors"):
        outcomes = load_outcomes(runs, bin_width=watching.profile.bin_ang)
        found = compare_detectors(outcomes, alarms_per_ns or RATES, watching)
    written = found.write(out)
    for split, table in found.tables.items():
        written.append(out / f"by_{split}.png")
        lead_time_figure(table, f"held out by {split}").savefig(written[-1], dpi=120)
    if shown.as_json:
        from mdxai.serialization import as_json

        headline = found.tables["model"].query("detector == 'as chosen'").to_dict("records")
        print_json({"files": list(map(str, written)), "left_out": found.left_out,
                    "best": as_json(headline)})  # fmt: skip
    elif not shown.quiet:
        _print_lead_times(found.tables["model"])
        for split, why in found.left_out.items():
            complain(f"not held out by {split}: {why}")
        print(f"tables, figures and calibration in {out}")


def _print_lead_times(table: Any) -> None:
    from rich.table import Table

    shown = Table(title="Held out by model; mean lead time in fs, 0 where missed")
    for heading in ("alarms/ns", "series", "detector", "detected", "mean lead", "95 %", "by chance",
                    "false/ns"):  # fmt: skip
        shown.add_column(heading, no_wrap=True)
    single = ~table["series"].str.match("any |best ")
    simple = single & (table["detector"] == "shewhart") & table["series"].isin(SIMPLE_SERIES)
    for row in table[(table["detector"] == "as chosen") | simple].to_dict("records"):
        low, high = row["mean_lead_fs_low"], row["mean_lead_fs_high"]
        shown.add_row(
            f"{row['alarms_per_ns']:g}", row["series"], row["detector"], f"{row['detected']:.0%}",
            f"{row['mean_lead_fs']:.0f}", f"{low:.0f} to {high:.0f}",
            f"{row['chance_mean_lead_fs']:.0f}", f"{row['false_per_ns']:.3g}",
        )  # fmt: skip
    print_table(shown)


def associate(
    runs: RunFolders,
    *,
    out: Annotated[
        Path | None, typer.Option(help="Folder for tables, figures and the page.")
    ] = None,
    settings: AssociationArguments,
    shown: Shown,
) -> None:
    """Measure over many runs how deviations go with instability, with censoring."""
    with loading(shown.silent):
        from mdxai.study.survival import associate, write_association

    with spinner(shown.silent, "comparing runs"):
        found = associate(runs, **asdict(settings))
        page = None if out is None else write_association(found, out)
    if shown.as_json:
        print_json(found.as_dict() | {"page": None if page is None else str(page)})
    elif not shown.quiet:
        _print_association(found, page)


def _print_association(found: Association, page: Path | None) -> None:
    from rich.table import Table

    from mdxai.study.survival.survival_page import added_headline, headline, summary_cells

    say(headline(found))
    headings, rows = summary_cells(found)
    table = Table(title="Deviations and instability (intervals: 95 %, models resampled)")
    for heading in headings:
        table.add_column(heading, no_wrap=heading == "predictor")
    for row in rows:
        table.add_row(*map(escape, row))
    print_table(table, width=160)
    if len(found.added):
        said = added_headline(found).replace("**", "")
        say(f"Beyond the plain predictors: {said}")
    for note in found.notes:
        say(note)
    if page is not None:
        say(f"page: {page}")


def study(
    recipe: Annotated[
        Path, typer.Argument(help="Recipe of a study (TOML), such as runs/quick.toml.")
    ],
    where: StudyPlaces,
    shown: Shown,
) -> None:
    """Train and run many models, and compare what broke. The same command again continues."""
    with loading(shown.silent):
        from mdxai.study.models import Places
        from mdxai.study.orchestration import run_study
        from mdxai.study.recipe import StudyRecipe
        from mdxai.study.scheduler import workers as dask_workers
        from mdxai.study.study_page import analyse

    plan = StudyRecipe.load(recipe)
    folder = (where.out or Path("runs") / plan.name).absolute()
    places = Places(folder, None if where.data is None else where.data.absolute())
    with (
        dask_workers(where.scheduler, where.workers) as client,
        _study_progress(shown.silent) as tell,
    ):
        progress = run_study(client, plan, places, tell)
    page = analyse(plan, places, progress.failed)
    if shown.as_json:
        print_json({"page": str(page), "done": progress.done, "failed": progress.failed})
    elif not shown.quiet:
        print(f"page: {page}")
    for name, reason in progress.failed.items():
        errors.print(f"[bold red]failed:[/] {escape(f'{name}: {reason}')}", soft_wrap=True)
    if progress.failed:
        raise typer.Exit(ExitCode.INCOMPLETE)


@contextmanager
def _study_progress(silent: bool) -> Iterator[Callable[[Any], None]]:
    """Show one bar for a whole study."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    with Progress(*columns, console=errors, disable=silent) as bar:
        task = bar.add_task("runs", total=None)

        def tell(progress: Any) -> None:
            failed = f", {len(progress.failed)} failed" if progress.failed else ""
            bar.update(
                task, total=progress.total, completed=progress.done,
                description=f"{progress.last or 'runs'}{failed}",
            )  # fmt: skip

        yield tell
