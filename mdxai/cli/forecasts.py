"""`mdxai forecast`: how long a run will last, and where it will break, before it is made."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mdxai.cli.arguments import (
    AnyNetwork,
    Calculator,
    ForecastQuestion,
    LifeTesting,
    Part,
    Shown,
    WeakSpotSearch,
)
from mdxai.cli.console import (
    ExitCode,
    attempt_page,
    escape,
    kept_if_stopped,
    loading,
    print_json,
    print_table,
    say,
    spinner,
)
from mdxai.cli.explain import CheckedStructure
from mdxai.cli.freed_memory import keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mdxai.forecast import Forecast, ForecastOptions

ALONE = 1000.0  # ps of replicas, at most, of a life test without weak spots
SHOWN = 12  # weak spots in the terminal


def forecast(
    calculator: Calculator,
    structure: CheckedStructure = None,
    *,
    question: ForecastQuestion,
    search: WeakSpotSearch,
    testing: LifeTesting,
    network: AnyNetwork,
    shown: Shown,
) -> None:
    """Foretell how long a run will last, from weak spots of the model and hot replicas."""
    keep_freed_memory()
    with loading(shown.silent):
        from mdxai.calculators import card_of
        from mdxai.forecast import foretell
        from mdxai.forecast.card_forecast import refuse_for_card
        from mdxai.forecast.quantity_text import time_of
        from mdxai.frame import Frame
        from mdxai.monitoring.check import default_structure
        from mdxai.monitoring.run import read_structure

    duration = time_of(question.duration)
    options = _options(question, search, testing)
    card = _card_to_write(calculator, search) if question.write_card else None
    make, reference = network.factory(calculator), search.calculator()
    atoms = read_structure(structure or default_structure(card_of(make())))
    if card is not None:
        refuse_for_card(Frame.from_atoms(atoms), search.ceiling)
    with (
        spinner(shown.silent, "looking for weak spots") as status,
        kept_if_stopped(question.out, "what was found"), _workers(testing) as client,
    ):  # fmt: skip
        found = foretell(
            make, atoms, temperature=question.temperature, duration=duration, options=options,
            frames=search.frames, reference=reference, path=question.out, client=client,
            progress=None if status is None else lambda what: status.update(escape(what)),
        )  # fmt: skip
    if question.out is not None:
        _write_page(found, question.out)
    if shown.as_json:
        print_json(found.as_dict())
    elif not shown.quiet:
        _print_forecast(found)
    if card is not None:
        _write_card(card, found)
    if found.is_good_enough is None:
        raise typer.Exit(ExitCode.INCONCLUSIVE)
    raise typer.Exit(ExitCode.DONE if found.is_good_enough else ExitCode.UNSTABLE)


def _options(
    question: ForecastQuestion, search: WeakSpotSearch, testing: LifeTesting
) -> ForecastOptions:
    from mdxai.forecast import ForecastOptions, LifeTestOptions

    usual = ForecastOptions()
    alone = search.only is Part.LIFE_TEST
    most = (ALONE if alone else usual.testing.most) if testing.most is None else testing.most
    return replace(
        usual, at_least=question.at_least, cutoff=search.cutoff,
        parts=usual.parts if search.only is None else (search.only.value,),
        scans=replace(usual.scans, ceiling=search.ceiling),
        testing=LifeTestOptions(
            width=testing.width, at_least=question.at_least, most=most, seconds=testing.seconds,
            replicas=testing.replicas, hottest=testing.hottest, seed=testing.seed,
        ),
    )  # fmt: skip


def _workers(testing: LifeTesting) -> AbstractContextManager[Any]:
    """Return a Dask client if workers were asked for, else None."""
    if testing.workers is None and testing.scheduler is None:
        return nullcontext()
    from mdxai.study.scheduler import workers

    return workers(testing.scheduler, testing.workers)


def _card_to_write(calculator: str, search: WeakSpotSearch) -> Path:
    """Return the card of a calculator, before anything is computed that it would not hold."""
    from mdxai.calculators import CalculatorError, find_calculator

    if search.only is Part.LIFE_TEST:
        raise typer.BadParameter("--write-card needs weak spots, which --only life-test leaves out")
    needs = "--write-card needs a calculator's folder, or its name"
    try:
        folder = find_calculator(calculator)
    except CalculatorError as error:
        raise CalculatorError(f"{calculator} has no card to write into; {needs}") from error
    if not folder.is_dir():
        raise CalculatorError(f"{folder} has no card to write into; {needs}")
    card = folder / "card.toml"
    if not (os.access(folder, os.W_OK) and os.access(card, os.W_OK)):
        raise CalculatorError(f"{card} cannot be written; copy {folder} to a place of your own")
    return card


def _write_card(path: Path, found: Forecast) -> None:
    from mdxai.calculators import Card
    from mdxai.forecast import CardForecast

    card = Card.load(path)
    held = CardForecast.of(found, card.weights_sha256).as_dict()
    replace(card, forecast=held).dump(path)


def _write_page(found: Forecast, out: Path) -> None:
    from mdxai.report import write_forecast_page

    attempt_page(write_forecast_page, found, out, "holds the forecast")


def _print_forecast(found: Forecast) -> None:
    from mdxai.forecast.forecast_result import LIFE_HEADINGS

    say(found.sentence)
    spots = found.weak_spots
    if spots is not None and spots.spots:
        _print_rows("weak spots", spots.headings, spots.rows[:SHOWN], words=(0, 1, -1))
        if len(spots) > SHOWN:
            say(f"  and {len(spots) - SHOWN} more, of higher barriers")
    if found.life_test is not None:
        _print_rows("life test", LIFE_HEADINGS, found.life_rows)
    for note in found.notes():
        say(f"  {note}")


def _print_rows(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int] = ()
) -> None:
    """Print a table; `words` are columns of text, all others of numbers."""
    from rich.table import Table

    table = Table(title=title)
    left = {k % len(headings) for k in words}
    for k, heading in enumerate(headings):
        table.add_column(
            heading, justify="left" if k in left else "right", no_wrap=k < len(headings) - 1
        )
    for row in rows:
        table.add_row(*map(escape, row))
    print_table(table)
