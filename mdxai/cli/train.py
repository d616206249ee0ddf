"""`mdxai train`: a calculator from a recipe; `mdxai card`: what training data hold."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdxai.cli.arguments import Shown
from mdxai.cli.console import loading, print_json, print_table, say
from mdxai.cli.freed_memory import keep_freed_memory

if TYPE_CHECKING:
    from mdxai.calculators.reference_data import ReferenceData


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
    """Train a calculator from a recipe, or a network of another property (`target`)."""
    keep_freed_memory()
    with loading(shown.silent):
        from mdxai.calculators.training import Recipe
        from mdxai.calculators.training import train as fit

    if _is_of_property(recipe):
        _train_property(recipe, data, out, shown)
        return
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


def _is_of_property(recipe: Path) -> bool:
    """Return whether a recipe trains on a `target`; what is wrong with it is said later."""
    try:
        return "target" in tomllib.loads(recipe.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False


def _train_property(recipe: Path, data: Path, out: Path | None, shown: Shown) -> None:
    from mdxai.calculators.property_training import PropertyRecipe, train_property

    plan = PropertyRecipe.load(recipe)
    folder = out or Path("calculators") / plan.name
    found = train_property(plan, data, folder, progress=not shown.silent)
    if shown.as_json:
        print_json({"out": str(folder), **found})
    elif not shown.quiet:
        say(
            f"{folder / plan.name}.pt: {plan.output} MAE {found['mae']:.4g} {plan.unit} on "
            f"{plan.n_test} molecules (their mean absolute deviation: {found['target_mad']:.4g})"
        )


def card(
    data: Annotated[Path, typer.Argument(help="Data set: extxyz, db, traj …, npz of MD17.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="File (.toml) that --reference-data takes in place of the data."),
    ] = None,
    shown: Shown,
) -> None:
    """Say what a data set holds: elements, distances, bonds and forces, as a card states them."""
    from mdxai.calculators.reference_data import ReferenceData

    found = ReferenceData.load(data)
    if out is not None:
        found.write(out)
    if shown.as_json:
        print_json(found.as_dict())
    elif not shown.quiet:
        _print_data(found)


def _print_data(found: ReferenceData) -> None:
    from rich.table import Table

    forces = "not known" if found.forces_max is None else f"{found.forces_max:.3g} eV/Å"
    say(f"{found.source}: {', '.join(found.elements)}; largest force on an atom {forces}")
    table = Table(title="distances / Å")
    for k, heading in enumerate(("pair", "shortest", "longest", "longest bond", "closest contact")):
        table.add_column(heading, justify="right" if k else "left")
    for pair, span in sorted(found.distances.items()):
        table.add_row(pair, *map(_length, (*span, *found.gaps.get(pair, ()))))
    print_table(table)
    for composition, (least, most) in found.volumes.items():
        say(f"  {composition}: {least:.4g} to {most:.4g} Å³ per atom")


def _length(length: float) -> str:
    return f"{length:.3f}" if 0 < length < math.inf else "none"
