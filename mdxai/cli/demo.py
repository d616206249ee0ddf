"""`mdxai demo`: two models of ethanol, the same start, one of them breaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdxai.cli.arguments import Shown
from mdxai.cli.console import complain, loading, print_json, print_table, run_progress, unused

if TYPE_CHECKING:
    from rich.table import Table

    from mdxai.calculators import Card
    from mdxai.monitoring.run import RunSettings
    from mdxai.stability.verdict import Verdict

MOLECULE = "CH3CH2OH"
MODELS = ("schnet-ethanol", "schnet-ethanol-weak")
TEMPERATURE = 1000.0  # K; training data come from 500 K
SEED = 7  # one of the seeds from which the weak model breaks early, and the sound one does not
# A displacement of 1e-12 Å grows to 1e-8 Å within a picosecond here, so rounding in float64 cannot
# change the outcome from machine to machine.
DTYPE = "float64"


@dataclass(frozen=True, slots=True)
class DemoResult:
    """One run of the demo.

    Attributes:
        card: of its calculator.
        verdict: its judgement.
        symbols: chemical symbols of its atoms.
        monitor_share: share of the wall time that the monitor took.
        figure: its picture.
        report: its page, or None where that could not be written.
    """

    card: Card
    verdict: Verdict
    symbols: tuple[str, ...]
    monitor_share: float
    figure: Path
    report: Path | None

    @property
    def broken_by(self) -> str:
        """The atoms that broke the first principle, such as "C1–H5"."""
        cause = self.verdict.cause
        return cause.label(self.symbols) if cause else ""

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return self.verdict.as_dict() | {
            "force_mae_mev_per_ang": self.card.errors["force_mae_mev_per_ang"],
            "broken_by": self.broken_by,
            "monitor_share": self.monitor_share,
            "figure": str(self.figure),
            "report": None if self.report is None else str(self.report),
        }


def demo(
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the two runs. Default: runs/demo, or demo-2, …"),
    ] = None,
    steps: Annotated[int, typer.Option(help="MD steps of each run.")] = 3000,
    shown: Shown,
) -> None:
    """Watch a sound and a weak model of ethanol, one of which breaks."""
    with loading(shown.silent):
        import mdxai.monitoring.run  # noqa: F401 (takes a while)

    results = run_demo(out or unused(Path("runs/demo")), steps, shown.silent)
    if shown.as_json:
        print_json({name: result.as_dict() for name, result in results.items()})
    elif not shown.quiet:
        print_table(comparison(results))
        pages = [str(result.report) for result in results.values() if result.report]
        complain(f"pages: {', '.join(pages)}; a figure beside each")


def run_demo(out: Path, steps: int, silent: bool) -> dict[str, DemoResult]:
    """Run both models under the monitor and draw a figure of each.

    Args:
        out: folder; each run gets one inside, named like its model.
        steps: MD steps of each run.
        silent: whether to show no progress.

    Raises:
        RecordError: when `out` holds an earlier demo.
        SettingsError: for a number of steps that is not positive.
    """
    from mdxai.monitoring.options import MonitorOptions
    from mdxai.monitoring.run import RunSettings
    from mdxai.record import refuse_other_run

    quietly = MonitorOptions(on_unstable="ignore", on_warning="ignore", report=False)
    settings = RunSettings(temperature=TEMPERATURE, steps=steps, seed=SEED, monitor=quietly)
    for name in MODELS:
        refuse_other_run(out / name)
    return {name: _run_one(name, settings, out / name, silent) for name in MODELS}


def _run_one(name: str, settings: RunSettings, folder: Path, silent: bool) -> DemoResult:
    from mdxai.calculators import load_calculator
    from mdxai.monitoring.run import read_structure, simulate
    from mdxai.record import open_run
    from mdxai.report import attempt_report, run_figure
    from mdxai.report.page import PAGE

    calculator = load_calculator(name, dtype=DTYPE)
    atoms = read_structure(MOLECULE)
    with run_progress(silent, settings.steps, name) as progress:
        monitor = simulate(calculator, atoms, settings, folder, progress=progress)
    figure = folder / "figure.png"
    run_figure(open_run(folder)).savefig(figure, dpi=120)
    complaint = attempt_report(folder)
    if complaint is not None:
        complain(complaint)
    return DemoResult(
        calculator.card, monitor.verdict, tuple(atoms.symbols), monitor.cost.share, figure,
        folder / PAGE if complaint is None else None,
    )  # fmt: skip


def comparison(results: Mapping[str, DemoResult]) -> Table:
    """Return the table that sets the runs side by side."""
    from rich.table import Table

    table = Table(title=f"Ethanol at {TEMPERATURE:g} K, Langevin, 0.5 fs")
    table.add_column("")
    for name in results:
        table.add_column(name)
    for label, text in _ROWS.items():
        table.add_row(label, *(text(result) for result in results.values()))
    return table


def _onset(result: DemoResult) -> str:
    onset = result.verdict.onset_fs
    return "none" if onset is None else f"{onset:g} fs"


def _first_broken(result: DemoResult) -> str:
    cause = result.verdict.cause
    if cause is None:
        return "none"
    return f"{cause.principle}: {cause.value:.2f} {cause.unit}, allowed {cause.threshold:g}"


_ROWS: dict[str, Callable[[DemoResult], str]] = {
    "test error of forces": lambda r: f"{r.card.errors['force_mae_mev_per_ang']:.0f} meV/Å",
    "verdict": lambda r: str(r.verdict.stability),
    "simulated": lambda r: f"{r.verdict.duration_fs:g} fs",
    "onset": _onset,
    "broken first": _first_broken,
    "by atoms": lambda r: r.broken_by or "none",
    "what to do": lambda r: r.verdict.cause.advice if r.verdict.cause else "nothing",
    "cost of the monitor": lambda r: f"{r.monitor_share:.0%} of the run",
}
