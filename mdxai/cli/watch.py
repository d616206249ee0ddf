"""`mdxai watch`: runs of other processes, while they go on."""

from __future__ import annotations

import math
import os
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdxai.cli.arguments import AsJson, RunFolders
from mdxai.cli.console import ExitCode, complain, escape, print_json

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from mdxai.report.watched_run import PrincipleNow, RunState, Watch

BLOCKS = " ▁▂▃▄▅▆▇█"
COLOURS = {
    "stable": "green", "suspect": "yellow", "reacted": "blue", "melted": "blue",
    "broken": "bold red", "unstable": "bold red", "inconclusive": "dim",
}  # fmt: skip
DETAIL = 20  # lines that the details of a run take


def watch(
    runs: RunFolders,
    *,
    every: Annotated[
        float, typer.Option(min=0.2, help="Seconds between looks.", metavar="SECONDS")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, print, and end.")] = False,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Show them as a web page of this machine that renews itself."),
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of --serve. 0: any free one.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Watch runs while they go on: progress, verdict so far, worst principles. Writes nothing.

    Runs in trouble come first. It ends with the last of the runs, or with Ctrl-C.
    """
    from mdxai.report.watched_run import Watch

    _refuse_missing(runs)
    found = Watch(runs)
    if serve:
        _serve(found, max(every, 2.0), port)
        return
    if as_json:
        states = found.look()
        print_json([state.as_dict() for state in states])
    elif once or not sys.stdout.isatty():
        states = found.look()
        _print(states)
    else:
        states = _follow(found, every)
    raise typer.Exit(_exit_code(states))


def _exit_code(states: list[RunState]) -> ExitCode:
    there = [state for state in states if state.activity != "awaited"]
    if any(state.verdict_fails or state.complaint for state in there):
        return ExitCode.UNSTABLE
    return ExitCode.DONE if there else ExitCode.INCONCLUSIVE


def _refuse_missing(runs: list[Path]) -> None:
    missing = [run for run in runs if not run.is_dir()]
    if missing:
        raise typer.BadParameter(
            f"{missing[0]} is no directory; expected those of runs, or one in which runs will begin"
        )


def _serve(found: Watch, every: float, port: int) -> None:
    from mdxai.cli.watch_server import WatchServer

    try:
        server = WatchServer(found, every, port)
    except OSError as error:
        raise typer.BadParameter(
            f"port {port} cannot be used: {error.strerror or error}; --port 0 takes a free one"
        ) from error
    print(server.url, flush=True)
    complain("open this address on this machine; Ctrl-C ends it")
    try:
        server.serve()
    except KeyboardInterrupt:
        return


def _print(states: list[RunState]) -> None:
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(view(states, 10**6))


def _follow(found: Watch, every: float) -> list[RunState]:
    """Show the runs until the last has ended, or Ctrl-C; return what they were then."""
    from rich.console import Console
    from rich.live import Live

    console, states = Console(highlight=False), found.look()
    try:
        with Live(view(states, console.height), console=console, screen=True) as live:
            while not all(state.activity.is_over for state in states):
                time.sleep(every)
                states = found.look()
                live.update(view(states, console.height))
    except KeyboardInterrupt:
        pass
    _print(states)
    return states


def view(states: list[RunState], height: int) -> RenderableType:
    """Return the runs as lines for a terminal: a table of several, and the details of the worst.

    Args:
        states: the runs, those in trouble first.
        height: lines that there are.
    """
    from rich.console import Group

    if len(states) == 1:
        return details(states[0])
    room = max(3, height - DETAIL - 6)
    shown = states[:room]
    table = overview(shown)
    if len(shown) < len(states):
        table.caption = f"and {len(states) - len(shown):,} more, in less trouble"
    return Group(table, details(states[0]))


def overview(states: list[RunState]) -> Any:
    """Return a table with a row per run."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from mdxai.report.watch_page import share_text, short_text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading, width in (("run", 14), ("verdict so far", 12), ("", 16), ("worst", 14), ("", 10)):
        table.add_column(heading, min_width=width, overflow="fold")
    above = _common_folder(states)
    for state in states:
        worst = state.worst[0] if state.worst else None
        table.add_row(
            escape(state.path.removeprefix(above)), _verdict(state), Text(short_text(state)),
            Text(f"{worst.name.replace('_', ' ')} {share_text(worst)}" if worst else
                 state.complaint),
            _sparkline(worst, 10) if worst else Text(""),
        )  # fmt: skip
    return table


def _common_folder(states: list[RunState]) -> str:
    """Return the folder that all runs lie in, with its slash; empty where there is none."""
    folders = [str(Path(state.path).parent) for state in states]
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # absolute and relative ones
        return ""
    return f"{common}/" if common else ""


def details(state: RunState) -> RenderableType:
    """Return all that is known of one run."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    from mdxai.report.watch_page import disk_text, left_text, progress_text, share_text

    lines: list[Any] = [_verdict(state, cause=True)]
    said = [progress_text(state.progress), left_text(state.progress)]
    how_far = Table.grid(padding=(0, 2))
    bar = ProgressBar(state.progress.steps or 1, max(0, state.progress.step), width=24)
    text = Text("; ".join(filter(None, said)))
    how_far.add_row(*([bar] if state.progress.steps else []), text)
    lines.append(how_far)
    if state.foretold:
        lines.append(Text(f"foretold: {state.foretold}"))
    if state.left:
        lines.append(Text(f"now: {state.left}"))
    grid = Table.grid(padding=(0, 2))
    for principle in state.worst:
        name = Text(principle.name.replace("_", " "))
        grid.add_row(name, _sparkline(principle, 40), Text(share_text(principle)))
    lines += [grid, *map(Text, state.last_findings), *map(Text, state.events)]
    if not state.complaint:
        lines.append(Text(disk_text(state.disk), style="dim"))
    title = f"{state.calculator or 'run'} {state.formula} · {state.activity} · {state.path}"
    return Panel(Group(*lines), title=escape(title), title_align="left")


def _verdict(state: RunState, *, cause: bool = False) -> Text:
    from rich.text import Text

    from mdxai.report.watch_page import verdict_text

    if state.verdict is None:
        return Text(state.complaint if cause else verdict_text(state), style="dim")
    text = Text(verdict_text(state), style=COLOURS[state.verdict.stability])
    if cause and state.verdict.reason:
        text.append(f": {state.verdict.reason}", style="default")
    return text


def _sparkline(principle: PrincipleNow, width: int) -> Text:
    """Return a principle's past; a full block is the limit, red where it was exceeded."""
    from rich.text import Text

    text = Text()
    for value in _columns(principle.past, width):
        if math.isnan(value):
            text.append(" ")
        elif value >= 1:
            text.append(BLOCKS[-1], style="red")
        else:
            style = "yellow" if value > 0.8 else "default"
            text.append(BLOCKS[max(1, round(8 * max(value, 0.0)))], style=style)
    return text


def _columns(past: tuple[float, ...], width: int) -> list[float]:
    """Return at most `width` values, the largest of each stretch; NaN where there is none."""
    n = min(width, len(past))
    edges = [len(past) * k // n for k in range(n + 1)] if n else [0]
    stretches = (past[a:b] for a, b in pairwise(edges))
    return [max((v for v in values if not math.isnan(v)), default=math.nan) for values in stretches]
