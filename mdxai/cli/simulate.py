"""`mdxai run` and `mdxai replay`: trajectories under a monitor."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdxai.cli.arguments import (
    AnyNetwork,
    Calculator,
    CompiledNetwork,
    Monitored,
    MonitoredLive,
    Reading,
    ResumableOutput,
    RunOutput,
    Shown,
    Simulation,
    Structure,
)
from mdxai.cli.console import (
    ExitCode,
    complain,
    exit_code_of,
    loading,
    print_json,
    run_progress,
    say,
    spinner,
    unused,
)

if TYPE_CHECKING:
    from ase import Atoms

    from mdxai.monitoring.monitor import Monitor
    from mdxai.monitoring.run import RunSettings

Trajectory = Annotated[
    str,
    typer.Argument(
        help="File that ASE reads, or MDAnalysis with --topology; a run directory; or "
        "imd://host:port of a running LAMMPS, GROMACS or NAMD."
    ),
]


def run(
    calculator: Calculator,
    structure: Structure,
    simulation: Simulation,
    monitored: MonitoredLive,
    network: CompiledNetwork,
    output: ResumableOutput,
) -> None:
    """Run MD under a monitor, and write its verdict, figure and page.

    Velocities are drawn anew.
    """
    if output.resume and output.out is None:
        raise typer.BadParameter("--resume needs --out, the directory of the run to continue")
    with loading(output.silent):
        from mdxai.monitoring.run import has_ended, read_structure, simulate
        from mdxai.record import refuse_other_run
        from mdxai.record.layout import WEAK_SPOTS

    monitor_options = monitored.options(simulation.interval, context={"structure": structure})
    settings = simulation.settings(monitor_options)
    out = output.out or unused(Path("runs/run"))
    if not output.resume:
        refuse_other_run(out)
    atoms = read_structure(structure)
    potential = network.factory(calculator)()
    settings = _with_forecast(settings, potential, atoms, output)
    if output.resume and has_ended(out, potential, atoms, settings):
        _tell_finished(out, output)
    if not (output.resume and (out / WEAK_SPOTS).exists()):
        _announce_search(monitored, output)
    named = "" if output.out else f" and --out {shlex.quote(str(out))}"
    onwards = f"the same command with --resume{named} continues up to step {settings.steps}"
    with (
        run_progress(output.silent, settings.steps, calculator) as progress,
        _interruptible(out, onwards),
    ):
        monitor = simulate(potential, atoms, settings, out, resume=output.resume, progress=progress)
    _stop_if_told(monitor, onwards)
    _end(monitor, out, output)


def _with_forecast(
    settings: RunSettings, potential: Any, atoms: Atoms, shown: Shown
) -> RunSettings:
    """Say what the calculator's card foretells of this run, and let run.toml hold it."""
    from mdxai.calculators import Card, card_of

    card, duration = card_of(potential), settings.duration / 1000  # ps
    if not isinstance(card, Card) or not card.forecast or not settings.temperature * duration > 0:
        return settings
    if settings.ensemble == "nve":  # half of the heat goes into the potential energy
        return settings
    from mdxai.forecast import CardForecast
    from mdxai.frame import Frame

    frame = Frame.from_atoms(atoms)
    about = CardForecast.for_frame(card, frame)
    if about is None:
        return settings
    says = about.sentence(frame, settings.temperature, duration)
    if not shown.silent:
        complain(f"forecast: {says}")
    monitor = settings.monitor
    context = {**monitor.context, "forecast": says}
    return replace(settings, monitor=replace(monitor, context=context))


def replay(
    calculator: Calculator,
    trajectory: Trajectory,
    reading: Reading,
    monitored: Monitored,
    network: AnyNetwork,
    output: RunOutput,
) -> None:
    """Check a finished trajectory, or a live stream, as if it ran under a monitor."""
    with loading(output.silent):
        from mdxai.monitoring import replay as replaying
        from mdxai.record import refuse_other_run

    out = output.out or unused(Path("runs/replay"))
    refuse_other_run(out)
    options = monitored.options()
    settings = replaying.ReplaySettings(
        topology=reading.topology,
        selection=reading.selection(),
        dynamics=replaying.stated_dynamics(reading.ensemble, reading.temperature),
        recompute=reading.recompute,
        workers=reading.workers,
    )
    make = network.factory(calculator)
    _announce_search(monitored, output)
    onwards = "a replay cannot be resumed"
    with (
        spinner(output.silent, "replaying") as status,
        _interruptible(out, onwards),
        _notes_shown(output),
    ):
        try:
            monitor = replaying.replay(
                make(), trajectory, out, options, settings, report=False,
                progress=None if status is None
                else lambda m: status.update(f"step {m.last_step}: {m.verdict.stability}"),
            )  # fmt: skip
        except replaying.IncompleteReplay as error:
            complain(f"error: {error}")
            _end(error.monitor, out, output, incomplete=True)
            raise  # not reached
    _stop_if_told(monitor, f"{out} holds the frames up to there; {onwards}")
    _end(monitor, out, output)


def _announce_search(monitored: Monitored, shown: Shown) -> None:
    if monitored.forecast and not shown.silent:
        complain(
            "first looking for weak spots, unless the calculator's card holds them: every pair of "
            "atoms pushed together, every bond pulled apart; some seconds for ten atoms, minutes "
            "for twenty"
        )


@contextmanager
def _notes_shown(shown: Shown) -> Iterator[None]:
    """Print what a trajectory's reader has to say in a line each, without the place in our code."""
    from mdxai.engines import TrajectoryWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if shown.quiet else "always", TrajectoryWarning)
        show = warnings.showwarning

        def say_it(message: Warning | str, category: type[Warning], *place: Any) -> None:
            if issubclass(category, TrajectoryWarning):
                complain(f"note: {message}")
            else:
                show(message, category, *place)

        warnings.showwarning = say_it  # type: ignore[assignment]  # catch_warnings puts it back
        yield


@contextmanager
def _interruptible(out: Path, what_next: str) -> Iterator[None]:
    """Let signals end the run, but not this process before it has said so.

    Whatever else ends it gets a note of what is kept.
    """
    from mdxai.monitoring.signals import commanded

    try:
        with commanded():
            yield
    except (Exception, KeyboardInterrupt) as error:
        kept = _kept(out)
        if kept is not None:
            error.add_note(f"{kept}; {what_next}")
        raise


def _kept(out: Path) -> str | None:
    from mdxai.record import RecordError, open_run

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            last = open_run(out).last_frame()
    except RecordError:
        return None
    return None if last is None else f"{out} keeps the frames up to step {last.step}"


def _stop_if_told(monitor: Monitor, what_next: str) -> None:
    if monitor.stopped_by is not None:
        complain(f"stopped by {monitor.stopped_by} after step {monitor.last_step}; {what_next}")
        raise typer.Exit(ExitCode.STOPPED)


def _tell_finished(out: Path, shown: Shown) -> None:
    """Give the verdict of a run that has ended, and exit with its code."""
    from mdxai.record import open_run

    verdict = open_run(out).verdict
    halted_by = verdict.get("halted_by")
    if shown.as_json:
        print_json(verdict | {"run": str(out)})
    elif not shown.quiet:
        reason = f" (halted by {halted_by})" if halted_by else ""
        say(f"{out} is finished: {verdict['stability']}{reason}")
    raise typer.Exit(ExitCode.HALTED if halted_by else exit_code_of(verdict["stability"]))


def _end(monitor: Monitor, out: Path, shown: Shown, *, incomplete: bool = False) -> None:
    """Write figure and page, print the verdict and exit with its code.

    Where the input was incomplete, that is the reason to exit, unless the verdict is graver.
    """
    from mdxai.record import open_run
    from mdxai.report import attempt_report, run_figure

    finished = open_run(out)
    _save_figure(run_figure(finished), out / "figure.png")
    complaint = attempt_report(out)
    if complaint is not None:
        complain(complaint)
    if shown.as_json:
        print_json(finished.verdict | {"run": str(out)})
    elif not shown.quiet:
        _print_run(monitor, out)
    if monitor.halted_by is not None:
        raise typer.Exit(ExitCode.HALTED)
    verdict = monitor.verdict
    if incomplete and not verdict.stability.is_failure:
        raise typer.Exit(ExitCode.BAD_INPUT)
    raise typer.Exit(exit_code_of(str(verdict.stability)))


def _save_figure(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        complain(f"the record is complete, but {path} cannot be written: {error.strerror or error}")


def _print_run(monitor: Monitor, out: Path) -> None:
    say(str(monitor.verdict))
    for warning in monitor.warnings:
        say(f"  {warning}")
    cost = monitor.cost
    say(
        f"monitoring took {cost.share:.0%} of the run, after {cost.start:.1f} s to set up; "
        f"record and page in {out}"
    )
