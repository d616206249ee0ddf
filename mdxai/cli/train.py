"""`mdxai train`: a calculator from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdxai.cli.arguments import Shown
from mdxai.cli.console import loading, print_json, say


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe (TOML).")],
    *,
    data: Annotated[Path, typer.Option(help="Data file, or the folder that holds it.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the calculator. Default: calculators/NAME of the recipe."),
    ] = None,
    shown: Shown,
) -> None:
    """Train a calculator from a recipe."""
    with loading(shown.silent):
        from mdxai.calculators.training import Recipe
        from mdxai.calculators.training import train as fit

    plan = Recipe.load(recipe)
    folder = out or Path("calculators") / plan.name
    found = fit(plan, data, folder, progress=not shown.silent).errors
    if shown.as_json:
        print_json({"out": str(folder), **found})
    elif not shown.quiet:
        say(
            f"{folder}: force MAE {found['force_mae_mev_per_ang']:.1f} meV/Å, energy MAE "
            f"{found['energy_mae_mev']:.1f} meV on {found['split']}"
        )
