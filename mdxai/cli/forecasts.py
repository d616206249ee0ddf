"""`mdxai forecast`: how long a run will last, before it is made."""

from __future__ import annotations

from contextlib import contextmanager
from math import isnan
from typing import TYPE_CHECKING

import typer

from mdxai.cli.arguments import AnyNetwork, Calculator, ForecastQuestion, LifeTesting, Shown
from mdxai.cli.console import ExitCode, loading, print_json, print_table, say, spinner
from mdxai.cli.explain import CheckedStructure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mdxai.forecast import LifeTest


def forecast(
    calculator: Calculator,
    structure: CheckedStructure = None,
    *,
    question: ForecastQuestion,
    testing: LifeTesting,
    network: AnyNetwork,
    shown: Shown,
) -> None:
    """Foretell how long a run will last, from hot replicas that break soon."""
    with loading(shown.silent):
        from mdxai.calculators import card_of
        from mdxai.forecast import LifeTestOptions, life_test
        from mdxai.forecast.quantity_text import share_interval_text, time_of
        from mdxai.monitoring.check import default_structure
        from mdxai.monitoring.run import read_structure

    duration = time_of(question.duration)
    options = LifeTestOptions(
        width=question.width, at_least=question.at_least, most=testing.most,
        seconds=testing.seconds, replicas=testing.replicas, hottest=testing.hottest,
        seed=testing.seed,
    )  # fmt: skip
    make = network.factory(calculator)
    made = make()
    atoms = read_structure(structure or default_structure(card_of(made)))
    with spinner(shown.silent, "testing replicas") as status, _kept(testing):
        found = life_test(
            make, atoms, temperature=question.temperature, duration=duration, options=options,
            path=testing.out,
            progress=None if status is None
            else lambda test: status.update(
                f"{test.simulated:.0f} ps of replicas, {sum(test.causes.values())} broke: "
                f"survival {share_interval_text(test.survival)}"
            ),
        )  # fmt: skip
    if shown.as_json:
        print_json(found.as_dict())
    elif not shown.quiet:
        _print_forecast(found)
    if isnan(found.survival.value):
        raise typer.Exit(ExitCode.INCONCLUSIVE)
    below = found.survival.value < question.at_least
    raise typer.Exit(ExitCode.UNSTABLE if below else ExitCode.DONE)


@contextmanager
def _kept(testing: LifeTesting) -> Iterator[None]:
    """Say what is kept where the test is interrupted."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if testing.out is not None:
            stop.add_note(f"{testing.out} keeps the test; the same command continues it")
        raise


def _print_forecast(found: LifeTest) -> None:
    from rich.table import Table

    say(found.sentence)
    table = Table()
    for heading in ("T / K", "watched / ps", "onsets", "per ps", "by the law"):
        table.add_column(heading, justify="right")
    for row in found.rows:
        table.add_row(*row)
    print_table(table)
    for note in found.notes():
        say(f"  {note}")
