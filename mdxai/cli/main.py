"""The command `mdxai`: its families of commands, as its help shows them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from mdxai.cli.analyses import analyse
from mdxai.cli.arguments import spread
from mdxai.cli.bench import bench
from mdxai.cli.console import EXIT_CODES, clean_exit, debugging
from mdxai.cli.demo import demo
from mdxai.cli.explain import attribute, calculators, check
from mdxai.cli.forecasts import forecast
from mdxai.cli.mend import guard
from mdxai.cli.plain_text import show_what_can_be_shown
from mdxai.cli.runs import export, label, repair, report
from mdxai.cli.simulate import replay, run
from mdxai.cli.studies import associate, lead_times, study
from mdxai.cli.teach import mend
from mdxai.cli.train import card, train
from mdxai.cli.watch import watch

COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Start here": (run, check, attribute, report, demo),
    "More on runs": (watch, replay, export, repair, label),
    "Models": (calculators, train, card, analyse, forecast, guard, mend),
    "Many runs": (study, associate, lead_times),
    "This machine": (bench,),
}

app = typer.Typer(
    name="mdxai",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: "
    + "; ".join(f"{code.value} {words}" for code, words in EXIT_CODES.items())
    + ".",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"mdxai {version('mdxai')}")
        raise typer.Exit


@app.callback()
def _mdxai(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error. Anywhere in the line.")
    ] = False,
) -> None:
    """Watch molecular dynamics driven by machine-learned potentials, explain it, judge it."""
    debugging.set(debug)


for _panel, _commands in COMMANDS.items():
    for _command in _commands:
        _name = _command.__name__.replace("_", "-")
        app.command(_name, rich_help_panel=_panel)(clean_exit(spread(_command)))


def main() -> None:
    """Entry point; a reader that closes the pipe early, such as `head`, is no error."""
    show_what_can_be_shown()
    arguments = sys.argv[1:]
    if "--debug" in arguments:  # an option of mdxai, wherever it stands
        arguments = ["--debug", *(a for a in arguments if a != "--debug")]
    try:
        app(arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
