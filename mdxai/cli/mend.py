"""`mdxai guard`: a network with a guard that closes its weak spots, as a calculator of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from mdxai.cli.arguments import AnyNetwork, Calculator, Reference, Shown
from mdxai.cli.console import escape, loading, print_json, say, spinner
from mdxai.cli.explain import CheckedStructure


def guard(
    calculator: Calculator,
    structure: CheckedStructure = None,
    *,
    height: Annotated[
        float, Option(help="eV; no weak spot is left below, if a guard can close it.")
    ] = 1.5,
    reference_data: Reference = None,
    out: Annotated[
        Path | None, Option(help="Folder to write. Default: calculators/NAME-guarded.")
    ] = None,
    network: AnyNetwork,
    shown: Shown,
) -> None:
    """Add a potential that keeps atoms within the training domain and closes weak spots."""
    with loading(shown.silent):
        from mdxai.calculators import card_of
        from mdxai.calculators.guarded_calculator import GUARDED
        from mdxai.calculators.model_name import model_name
        from mdxai.mending import strengthen, write_guarded
        from mdxai.mending.guard_on_disk import network_to_write
        from mdxai.monitoring.check import default_structure
        from mdxai.monitoring.run import read_structure

    made = network.factory(calculator)()
    name = model_name(made).removesuffix(GUARDED) + GUARDED
    folder = out or Path("calculators") / name
    network_to_write(made, folder)
    atoms = read_structure(structure or default_structure(card_of(made)))
    with spinner(shown.silent, "looking for weak spots") as status:
        found = strengthen(
            made, atoms, height=height, reference=reference_data,
            progress=None if status is None else lambda what: status.update(escape(what)),
        )  # fmt: skip
    write_guarded(found.calculator, folder)
    if shown.as_json:
        print_json({"out": str(folder), **found.as_dict()})
    elif not shown.quiet:
        for line in str(found).splitlines():
            say(line)
        say(f"{folder} is a calculator, with the guard, for all commands")
