"""The command line: parse, call, print."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from functools import wraps
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from mdxai.monitor import Monitor

EXIT_STABLE, EXIT_BAD_INPUT, EXIT_UNSTABLE, EXIT_INCONCLUSIVE = 0, 2, 3, 4

app = typer.Typer(
    name="mdxai",
    help="Watch molecular dynamics driven by machine-learned potentials, explain it, judge it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
errors = Console(stderr=True, highlight=False)


class Ensemble(StrEnum):
    NVE = "nve"
    NVT = "nvt"


def _clean_exit[**P, R](command: Callable[P, R]) -> Callable[P, R]:
    """Turn bad input into one line and exit code 2."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        _quieten_libraries()
        try:
            return command(*args, **kwargs)
        except ValueError as error:  # all of mdxai's own errors are ValueErrors
            if not type(error).__module__.startswith("mdxai."):
                raise
            errors.print(f"[bold red]error:[/] {_escape(str(error))}", soft_wrap=True)
            raise typer.Exit(EXIT_BAD_INPUT) from error

    return wrapped


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


def _quieten_libraries() -> None:
    """Silence warnings that other packages raise about their own insides."""
    for module in ("torch", "schnetpack", "dirsync", "pytorch_lightning", "lightning_fabric"):
        warnings.filterwarnings("ignore", module=rf"{module}(\..*)?$")
    warnings.filterwarnings("ignore", category=SyntaxWarning)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


@contextmanager
def _loading(silent: bool) -> Iterator[None]:
    """Say that the heavy imports are under way; small networks run fastest on one thread."""
    with nullcontext() if silent else errors.status("loading torch and schnetpack"):
        import torch

        import mdxai.calculators  # noqa: F401 (the slow part is importing schnetpack)

        torch.set_num_threads(1)
        yield


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command()
@_clean_exit
def run(
    calculator: Annotated[str, typer.Argument(help="Name, folder or file of a calculator.")],
    structure: Annotated[
        str,
        typer.Argument(
            help="File that ASE reads (its last frame), or a G2 molecule such as CH3CH2OH. "
            "Velocities are drawn anew."
        ),
    ],
    temperature: Annotated[float, typer.Option(help="K.")] = 300.0,
    timestep: Annotated[float, typer.Option(help="fs.")] = 0.5,
    steps: Annotated[int, typer.Option(help="MD steps.")] = 10_000,
    ensemble: Annotated[Ensemble, typer.Option(help="NVE, or NVT by Langevin.")] = Ensemble.NVT,
    friction: Annotated[float, typer.Option(help="Langevin friction, 1/fs.")] = 0.01,
    interval: Annotated[int, typer.Option(help="Steps between monitored frames.")] = 1,
    attribute_every: Annotated[
        int | None,
        typer.Option(help="Steps between explained frames; 0 for none. Default: 10 intervals."),
    ] = None,
    gamma: Annotated[float, typer.Option(help="γ of the attribution rule.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of velocities and thermostat.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Run directory to write. Default: runs/run, run-2, …")
    ] = None,
    halt: Annotated[bool, typer.Option("--halt", help="End the run when it is unstable.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the network.")] = False,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Load a pickled model, which may run any code.")
    ] = False,
    energy_unit: Annotated[str | None, typer.Option(help="Of a pickled model.")] = None,
    length_unit: Annotated[str | None, typer.Option(help="Of a pickled model.")] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Run monitored MD. Exit code 0: stable, 3: unstable, 2: bad input, 4: nothing to judge."""
    with _loading(quiet or as_json):
        from mdxai.calculators import load_calculator
        from mdxai.record import refuse_other_run
        from mdxai.report import run_figure
        from mdxai.simulation import RunSettings, read_structure, simulate

    settings = RunSettings(
        temperature, timestep, steps, ensemble.value, friction, interval,
        10 * interval if attribute_every is None else attribute_every, gamma,
        seed, halt,
    )  # fmt: skip
    out = out or _unused(Path("runs/run"))
    refuse_other_run(out)
    atoms = read_structure(structure)
    potential = load_calculator(
        calculator, dtype=dtype, device=device, compile=compile, trust_pickle=trust_pickle,
        energy_unit=energy_unit, length_unit=length_unit,
    )  # fmt: skip
    with _progress(quiet or as_json, steps, calculator) as progress:
        monitor = simulate(
            potential, atoms, settings, out,
            progress=progress, context={"command": shlex.join(sys.argv), "structure": structure},
        )  # fmt: skip
    _save_figure(run_figure, out)
    _print_run(monitor, out, quiet, as_json)
    raise typer.Exit(_exit_code(str(monitor.verdict.stability)))


def _save_figure(draw: Callable[..., Any], out: Path) -> None:
    from mdxai.record import open_run

    draw(open_run(out)).savefig(out / "figure.png", dpi=120)


def _print_run(monitor: Monitor, out: Path, quiet: bool, as_json: bool) -> None:
    if as_json:
        print(_json(json.loads((out / "verdict.json").read_text()) | {"run": str(out)}))
    elif not quiet:
        console = Console(highlight=False)
        console.print(_escape(str(monitor.verdict)), soft_wrap=True)
        console.print(
            f"monitoring took {monitor.cost.share:.0%} of the run; record and figure in {out}",
            soft_wrap=True,
        )


def _json(content: Any) -> str:
    return json.dumps(content, allow_nan=False)


def _unused(path: Path) -> Path:
    """Return `path`, or the first of path-2, path-3, … that does not exist."""
    numbered = (path.with_name(f"{path.name}-{n}") for n in count(2))
    return path if not path.exists() else next(p for p in numbered if not p.exists())


def _exit_code(stability: str) -> int:
    return {"unstable": EXIT_UNSTABLE, "inconclusive": EXIT_INCONCLUSIVE}.get(
        stability, EXIT_STABLE
    )


@contextmanager
def _progress(silent: bool, steps: int, label: str) -> Iterator[Callable[[Monitor], None] | None]:
    """Show a bar with time left and the state of the checks."""
    if silent:
        yield None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[state]}"),
    )  # fmt: skip
    with Progress(*columns, console=errors) as bar:
        task = bar.add_task(label, total=steps, state="")

        def show(monitor: Monitor) -> None:
            verdict = monitor.verdict
            cause = verdict.cause
            state = str(verdict.stability) + (f" ({cause.principle})" if cause else "")
            bar.update(task, completed=monitor.last_step, state=state)

        yield show


@app.command()
@_clean_exit
def calculators(as_json: AsJson = False) -> None:
    """List the calculators that can be used by name."""
    from mdxai.calculators.card import CalculatorError, Card
    from mdxai.calculators.loading import list_calculators

    cards = {}
    for name, path in list_calculators().items():
        try:
            cards[name] = Card.load(path / "card.toml")
        except CalculatorError as damaged:
            errors.print(f"[bold yellow]left out:[/] {_escape(str(damaged))}", soft_wrap=True)
    if as_json:
        print(json.dumps({name: _card_summary(card) for name, card in cards.items()}))
        return
    from rich.table import Table

    table = Table(title="Calculators (MAE: of forces on the test split, meV/Å)")
    for heading in ("name", "network", "elements", "cutoff / Å", "MAE", "trained on"):
        table.add_column(heading, no_wrap=heading == "name")
    for name, card in cards.items():
        row = _card_summary(card)
        error = row["force_mae_mev_per_ang"]
        table.add_row(
            name, row["network"], " ".join(card.elements), f"{card.cutoff:g}",
            "" if error is None else f"{error:.1f}",
            str(row["data"] or "").partition(": ")[2].partition(" ")[0] + " frames",
        )  # fmt: skip
    Console().print(table)


def _card_summary(card: Any) -> dict[str, Any]:
    network = card.network
    shape = f"{network['n_atom_basis']}×{network['n_interactions']}"
    return {
        "network": f"{network['type']} {shape}",
        "elements": list(card.elements),
        "cutoff_ang": card.cutoff,
        "force_mae_mev_per_ang": card.errors.get("force_mae_mev_per_ang"),
        "data": card.provenance.get("rows"),
    }


@app.command()
@_clean_exit
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe (TOML).")],
    data: Annotated[Path, typer.Option(help="Data file, or the folder that holds it.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write the calculator to.")] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a calculator from a recipe."""
    with _loading(quiet or as_json):
        from mdxai.calculators.training import Recipe, train

    plan = Recipe.load(recipe)
    folder = out or Path("calculators") / plan.name
    card = train(plan, data, folder, progress=not (quiet or as_json))
    if as_json:
        print(json.dumps({"out": str(folder), **card.errors}))
    elif not quiet:
        error = card.errors
        Console(highlight=False).print(
            f"{folder}: force MAE {error['force_mae_mev_per_ang']:.1f} meV/Å, energy MAE "
            f"{error['energy_mae_mev']:.1f} meV on {error['split']}", soft_wrap=True,
        )  # fmt: skip


@app.command()
@_clean_exit
def demo(
    out: Annotated[
        Path | None, typer.Option(help="Folder for the two runs. Default: runs/demo, demo-2, …")
    ] = None,
    steps: Annotated[int, typer.Option(help="MD steps of each run.")] = 3000,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Watch a sound and a weak model of ethanol live, and one of them blow up."""
    silent = quiet or as_json
    with _loading(silent):
        from mdxai.demo import comparison, run_demo

    results = run_demo(
        out or _unused(Path("runs/demo")), steps, lambda label: _progress(silent, steps, label)
    )
    if as_json:
        print(_json({name: result.as_dict() for name, result in results.items()}))
    elif not quiet:
        Console().print(comparison(results))
        errors.print(
            f"figures: {', '.join(str(r.figure) for r in results.values())}", soft_wrap=True
        )


def main() -> None:
    """Entry point; restores the default broken-pipe behaviour of command-line tools."""
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
