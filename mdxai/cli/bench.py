"""`mdxai bench`: what mdxai costs on this machine, as one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdxai.cli.arguments import Quiet
from mdxai.cli.console import loading, say

SECTIONS = "resources, explanations, monitored, starts, sizes, replicas, compiled; with a GPU also "
ON_GPU = "“explanations, GPU” and “replicas, GPU”"


def bench(
    out: Annotated[
        Path, typer.Option(help="Folder of bench.json and bench.md; another run there adds ranges.")
    ] = Path("bench"),
    only: Annotated[
        list[str] | None, typer.Option(help=f"Section, repeatable: {SECTIONS}{ON_GPU}.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Measure what mdxai costs on this machine, one thread: some minutes on a quiet one.

    Each value is printed and written as soon as it is known.
    """
    with loading(quiet):
        from mdxai.testing.speed_cases import sections
        from mdxai.testing.speed_table import SpeedTable

    known = sections()
    unknown = set(only or ()) - set(known)
    if unknown:
        raise typer.BadParameter(
            f"there is no section {sorted(unknown)[0]!r} here; expected {', '.join(known)}"
        )
    table = SpeedTable(out)
    for section, measure in known.items():
        if only and section not in only:
            continue
        for found in measure():
            table.add(section, *found)
            if not quiet:
                bar = f"   (bar {found.bar})" if found.bar else ""
                say(f"{section} | {found.what}: {found.value:.3g} {found.unit}{bar}")
    if not quiet:
        say(f"table in {out / 'bench.md'}")
