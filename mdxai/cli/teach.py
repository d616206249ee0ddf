"""`mdxai mend`: a model taught by labels of the structures in which it goes wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdxai.cli.arguments import Shown
from mdxai.cli.console import (
    ExitCode,
    attempt_page,
    escape,
    kept_if_stopped,
    loading,
    print_json,
    quieten_libraries,
    say,
    spinner,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mdxai.mending import Teaching, TeachOptions


@dataclass(frozen=True, kw_only=True)
class TeachQuestion:
    """Which run is to survive, and what may be spent."""

    temperature: Annotated[float, typer.Option(help="Of the run that is to survive, K.")] = 300.0
    duration: Annotated[str, typer.Option(help="Of that run, with its unit: 500ps, 1ns, 2us.")] = (
        "1ns"
    )
    at_least: Annotated[
        float, typer.Option(help="Survival that ends it; exit code 3 where it is not reached.")
    ] = 0.95
    frames: Annotated[int, typer.Option(min=1, help="Labels in all, at most.")] = 300
    per_round: Annotated[int, typer.Option(min=5, help="Labels of a round, at most.")] = 80
    minutes: Annotated[
        float, typer.Option(help="After which no label is begun.", show_default="any")
    ] = float("inf")
    tolerance: Annotated[
        float, typer.Option(min=0, help="Share by which the test error of forces may grow.")
    ] = 0.1
    observe: Annotated[
        float, typer.Option(min=0, help="ps of replicas to watch at the temperature, each round.")
    ] = 0.0
    ceiling: Annotated[
        float, typer.Option(min=3.0, help="Highest barrier that is looked for, eV.")
    ] = 4.5
    most: Annotated[
        float, typer.Option(min=0, help="ps of hot replicas in each forecast; 0 for none.")
    ] = 8.0

    def options(self) -> TeachOptions:
        """Return the options of teaching; TeachError or TimeError for values that cannot be."""
        from mdxai.forecast import ForecastOptions, ScanOptions
        from mdxai.forecast.quantity_text import time_of
        from mdxai.mending import TeachOptions

        usual = ForecastOptions()
        forecast = replace(
            usual, at_least=self.at_least, scans=ScanOptions(ceiling=self.ceiling),
            parts=usual.parts if self.most else usual.parts[:1],
            testing=replace(usual.testing, most=self.most or usual.testing.most),
        )  # fmt: skip
        return TeachOptions(
            temperature=self.temperature, duration=time_of(self.duration), at_least=self.at_least,
            frames=self.frames, minutes=self.minutes, per_round=self.per_round,
            tolerance=self.tolerance, observed=self.observe, forecast=forecast,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """Where labels come from, and frames beside weak spots."""

    label: Annotated[
        str | None,
        typer.Option(
            help="Calculator that labels, given like CALCULATOR: pyscf (PBE/def2-SVP), "
            "tblite.ase:TBLite. Default: frames are written out and wait for --labelled."
        ),
    ] = None
    label_arg: Annotated[
        list[str] | None, typer.Option(help="key=value for an imported one. Repeatable.")
    ] = None
    labelled: Annotated[
        list[Path] | None,
        typer.Option(help="File of labelled frames that ASE reads (eV, eV/Å). Repeatable."),
    ] = None
    runs: Annotated[
        list[Path] | None,
        typer.Option(help="Run directory whose frames before its instability are labelled too."),
    ] = None

    def source(self) -> Any:
        """Return the source of labels; CalculatorError for a calculator that is none."""
        from mdxai.calculators.by_name import calculator_factory
        from mdxai.mending import LabelSource

        reference: Callable[[], Any] | None = None
        if self.label is not None:
            reference = calculator_factory(self.label, self.label_arg or ())
        return LabelSource(reference, tuple(self.labelled or ()), tuple(self.runs or ()))


@dataclass(frozen=True, kw_only=True)
class TrainedFurther:
    """How the model is trained further."""

    epochs: Annotated[int, typer.Option(min=1, help="Of training, each round.")] = 70
    learning_rate: Annotated[float, typer.Option(help="At its beginning.")] = 5e-4
    repeats: Annotated[
        int, typer.Option(min=1, help="How often a label comes in an epoch; other frames once.")
    ] = 1


def mend(
    calculator: Annotated[
        str, typer.Argument(help="Name or folder of a calculator that `mdxai train` wrote.")
    ],
    structure: Annotated[
        str | None,
        typer.Argument(help="File that ASE reads. Default: the first frame of the data."),
    ] = None,
    *,
    data: Annotated[
        Path, typer.Option(help="Data that it was trained on: the file, or its folder.")
    ],
    labelling: Labelling,
    question: TeachQuestion,
    training: TrainedFurther,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write. Default: calculators/NAME-mended.")
    ] = None,
    shown: Shown,
) -> None:
    """Teach a trained model by labels of its weak spots, until a run survives."""
    with loading(shown.silent):
        from mdxai.calculators import find_calculator
        from mdxai.calculators.fine_tuning import FineTuner, FineTuning
        from mdxai.mending import teach
        from mdxai.monitoring.run import read_structure

    quieten_libraries()  # anew, as lightning, imported by now, has made itself heard
    start, options, source = find_calculator(calculator), question.options(), labelling.source()
    tuning = FineTuning(training.epochs, training.learning_rate, training.repeats)
    folder = out or Path("calculators") / f"{start.name}-mended"
    atoms = None if structure is None else read_structure(structure)
    stopped = kept_if_stopped(folder, "labels and rounds")
    with spinner(shown.silent, "looking for weak spots") as status, stopped:
        found = teach(
            start, FineTuner(start, data, tuning), source, folder, structure=atoms, options=options,
            progress=None if status is None else lambda what: status.update(escape(what)),
            seen=lambda so_far: _write_page(so_far, folder),
        )  # fmt: skip
    _write_page(found, folder)
    if shown.as_json:
        print_json(found.as_dict())
    elif not shown.quiet:
        say(str(found))
        if found.folder is not None:
            say(f"{found.folder} is a calculator for all commands")
    raise typer.Exit(_exit_code(found))


def _exit_code(found: Teaching) -> ExitCode:
    if found.asked is not None:
        return ExitCode.INCOMPLETE
    return ExitCode.DONE if found.best.forecast.is_good_enough else ExitCode.UNSTABLE


def _write_page(found: Teaching, out: Path) -> None:
    from mdxai.report import write_teaching_page

    attempt_page(write_teaching_page, found, out, "keeps what was found")
