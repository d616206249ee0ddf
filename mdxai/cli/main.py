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
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mdxai.errors import MdxaiError

if TYPE_CHECKING:
    from mdxai.attribution import Attribution
    from mdxai.monitoring.check import CheckResult
    from mdxai.monitoring.monitor import Monitor
    from mdxai.record import Repair
    from mdxai.study.survival.association import Association

EXIT_STABLE, EXIT_BAD_INPUT, EXIT_UNSTABLE, EXIT_INCONCLUSIVE = 0, 2, 3, 4
EXIT_STOPPED, EXIT_HALTED, EXIT_INCOMPLETE = 5, 6, 7

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
        except MdxaiError as error:
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
Thresholds = Annotated[
    Path | None,
    typer.Option(help="TOML that changes them: [bond] unstable = 0.7."),
]


EarlyWarningFile = Annotated[
    Path | None,
    typer.Option(help="Calibration of early warnings: shipped, or a TOML file of `lead-times`."),
]
AlarmsPerNs = Annotated[
    float | None,
    typer.Option(help="False alarms per ns of these. Default: the lowest that the file has."),
]


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
    thresholds: Thresholds = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(help="Bond that may break and form: C1-O2 (atoms from 0) or O-H. Repeatable."),
    ] = None,
    halt: Annotated[bool, typer.Option("--halt", help="End the run when it is unstable.")] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in --out, or start it."),
    ] = False,
    blackbox: Annotated[
        int, typer.Option(help="Last steps to keep in full for the moment of a violation.")
    ] = 50,
    checkpoint_steps: Annotated[
        int | None, typer.Option(help="Steps between checkpoints. Default: every 30 s.")
    ] = None,
    checkpoint_seconds: Annotated[
        float | None, typer.Option(help="Wall time between checkpoints, s.")
    ] = None,
    max_overhead: Annotated[
        float | None,
        typer.Option(help="Share of the wall time for the monitor: it explains more rarely."),
    ] = None,
    early_warning: EarlyWarningFile = None,
    alarms_per_ns: AlarmsPerNs = None,
    rollback: Annotated[
        int,
        typer.Option(
            min=0,
            help="When unstable, go back to a good checkpoint with another seed, at most so often.",
        ),
    ] = 0,
    rollback_timestep: Annotated[
        float, typer.Option(help="Factor on the timestep at each rollback, such as 0.5.")
    ] = 1.0,
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
    """Run monitored MD.

    Exit code 0: stable, 2: bad input, 3: unstable, 4: nothing to judge, 5: stopped by SIGTERM or
    SIGUSR1 and ready to be resumed, 6: unstable and halted.
    """
    if resume and out is None:
        raise typer.BadParameter("--resume needs --out, the directory of the run to go on with")
    with _loading(quiet or as_json):
        from mdxai.calculators import load_calculator
        from mdxai.monitoring.run import RunSettings, read_structure, simulate
        from mdxai.monitoring.run import refuse_other_run as refuse_other_settings
        from mdxai.record import refuse_other_run
        from mdxai.record.resume import is_finished, steps_done
        from mdxai.record.rollbacks import may_roll_back
        from mdxai.report import run_figure

    settings = RunSettings(
        temperature, timestep, steps, ensemble.value, friction, interval,
        10 * interval if attribute_every is None else attribute_every, gamma,
        seed, halt, None if thresholds is None else str(thresholds), tuple(expect or ()),
        blackbox, max_overhead, checkpoint_steps, checkpoint_seconds,
        None if early_warning is None else str(early_warning), alarms_per_ns, rollback,
        rollback_timestep,
    )  # fmt: skip
    out = out or _unused(Path("runs/run"))
    if not resume:
        refuse_other_run(out)
    atoms = read_structure(structure)
    potential = load_calculator(
        calculator, dtype=dtype, device=device, compile=compile, trust_pickle=trust_pickle,
        energy_unit=energy_unit, length_unit=length_unit,
    )  # fmt: skip
    if resume and is_finished(out) and not may_roll_back(out, rollback):
        done = steps_done(out)
        refuse_other_settings(out, potential, atoms, settings, done)
        ended = done is None or done >= steps or _halted(out)
        if ended and not may_roll_back(out, rollback):
            _print_finished(out, quiet, as_json)
    with _progress(quiet or as_json, steps, calculator) as progress, _signals_noted():
        monitor = simulate(
            potential, atoms, settings, out, resume=resume,
            progress=progress, context={"command": shlex.join(sys.argv), "structure": structure},
        )  # fmt: skip
    if monitor.stopped_by is not None:
        errors.print(
            f"stopped by {monitor.stopped_by} after step {monitor.last_step} of {steps}; the same "
            "command with --resume goes on from there", soft_wrap=True,
        )  # fmt: skip
        raise typer.Exit(EXIT_STOPPED)
    _save_figure(run_figure, out)
    _save_page(out)
    _print_run(monitor, out, quiet, as_json)
    if monitor.halted_by is not None:
        raise typer.Exit(EXIT_HALTED)
    raise typer.Exit(_exit_code(str(monitor.verdict.stability)))


@contextmanager
def _signals_noted() -> Iterator[None]:
    """Let the monitor end a run on SIGTERM and SIGUSR1 and this process live to say so."""
    from mdxai.monitoring.signals import handled

    with handled(lambda number, frame: None):
        yield


def _halted(out: Path) -> bool:
    from mdxai.record import open_run

    return open_run(out).verdict.get("halted_by") is not None


def _print_finished(out: Path, quiet: bool, as_json: bool) -> None:
    """Say that a run is finished, with its verdict, and exit with the code of that."""
    from mdxai.record import open_run

    verdict = open_run(out).verdict
    if as_json:
        print(_json(verdict | {"run": str(out)}))
    elif not quiet:
        reason = f" (halted by {verdict['halted_by']})" if verdict.get("halted_by") else ""
        Console(highlight=False).print(
            _escape(f"{out} is finished: {verdict['stability']}{reason}"), soft_wrap=True
        )
    raise typer.Exit(EXIT_HALTED if _halted(out) else _exit_code(verdict["stability"]))


def _save_figure(draw: Callable[..., Any], out: Path) -> None:
    from mdxai.record import open_run

    try:
        draw(open_run(out)).savefig(out / "figure.png", dpi=120)
    except OSError as error:
        errors.print(
            f"the record is complete, but {out}/figure.png cannot be written: "
            f"{error.strerror or error}", soft_wrap=True,
        )  # fmt: skip


def _save_page(out: Path) -> None:
    from mdxai.report import attempt_report

    complaint = attempt_report(out)
    if complaint is not None:
        errors.print(_escape(complaint), soft_wrap=True)


def _print_run(monitor: Monitor, out: Path, quiet: bool, as_json: bool) -> None:
    if as_json:
        print(_json(json.loads((out / "verdict.json").read_text()) | {"run": str(out)}))
    elif not quiet:
        console = Console(highlight=False)
        console.print(_escape(str(monitor.verdict)), soft_wrap=True)
        for warning in monitor.warnings:
            console.print(f"  {_escape(str(warning))}", soft_wrap=True)
        cost = monitor.cost
        console.print(
            f"monitoring took {cost.share:.0%} of the run, after {cost.start:.1f} s to set up; "
            f"record and page in {out}",
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
def replay(
    calculator: Annotated[
        str, typer.Argument(help="Name, folder or file of a network; or as for `mdxai check`.")
    ],
    trajectory: Annotated[
        str,
        typer.Argument(
            help="File that ASE reads, or MDAnalysis with --topology; a run directory; or "
            "imd://host:port of a running LAMMPS, GROMACS or NAMD."
        ),
    ],
    topology: Annotated[
        Path | None, typer.Option(help="File that MDAnalysis reads, with elements or masses.")
    ] = None,
    timestep: Annotated[
        float | None, typer.Option(help="Time between frames of the file, fs; default: its own.")
    ] = None,
    start: Annotated[int, typer.Option(help="First frame, from 0.")] = 0,
    stop: Annotated[int | None, typer.Option(help="Frame to stop before.")] = None,
    step: Annotated[int, typer.Option(help="Take one frame in so many.")] = 1,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Leave out velocities, forces or energy of the file. Repeatable."),
    ] = None,
    ensemble: Annotated[
        str | None, typer.Option(help="nve, nvt or langevin, where the file does not say.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of the thermostat, K, where the file does not say.")
    ] = None,
    recompute: Annotated[
        bool,
        typer.Option(
            "--recompute", help="Compute energies and forces even where the file has them."
        ),
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes that compute and explain.")] = 1,
    attribute_every: Annotated[
        int, typer.Option(min=0, help="Explain one frame in so many; 0 for none.")
    ] = 10,
    gamma: Annotated[float, typer.Option(help="γ of the attribution rule.")] = 0.1,
    out: Annotated[
        Path | None, typer.Option(help="Run directory to write. Default: runs/replay, replay-2, …")
    ] = None,
    thresholds: Annotated[Path | None, typer.Option(help="TOML that changes them.")] = None,
    expect: Annotated[
        list[str] | None, typer.Option(help="Bond that may break and form. Repeatable.")
    ] = None,
    halt: Annotated[bool, typer.Option("--halt", help="End where it is unstable.")] = False,
    early_warning: EarlyWarningFile = None,
    alarms_per_ns: AlarmsPerNs = None,
    arg: Annotated[
        list[str] | None, typer.Option(help="key=value for an imported calculator; repeatable.")
    ] = None,
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
    """Check a trajectory that exists, or a live stream.

    Exit code 0: stable, 2: bad input, 3: unstable, 4: nothing to judge, 6: unstable and halted.
    """
    with _loading(quiet or as_json):
        from mdxai.early_warning import load_calibration
        from mdxai.engines import Selection
        from mdxai.monitoring import replay as replaying
        from mdxai.monitoring.check import calculator_factory
        from mdxai.record import refuse_other_run
        from mdxai.report import run_figure
        from mdxai.stability.thresholds import THRESHOLDS, load_thresholds

    out = out or _unused(Path("runs/replay"))
    refuse_other_run(out)
    selection = Selection(start, stop, step, timestep, tuple(without or ()))
    made = replaying.conditions(ensemble, temperature)
    limits = load_thresholds(thresholds) if thresholds else THRESHOLDS
    make = calculator_factory(
        calculator, arg or (),
        {"dtype": dtype, "device": device, "trust_pickle": trust_pickle,
         "energy_unit": energy_unit, "length_unit": length_unit},
    )  # fmt: skip
    spinner = nullcontext() if quiet or as_json else errors.status("replaying")
    with spinner as status, _signals_noted():
        monitor = replaying.replay(
            make(), trajectory, out, topology=topology, selection=selection, made=made,
            recompute=recompute, workers=workers, attribute_every=attribute_every, gamma=gamma,
            thresholds=limits, expected=tuple(expect or ()), halt=halt,
            early_warning=early_warning and load_calibration(early_warning, alarms_per_ns),
            progress=None if status is None
            else lambda m: status.update(f"step {m.last_step}: {m.verdict.stability}"),
            context={"command": shlex.join(sys.argv)}, report=False,
        )  # fmt: skip
    if monitor.stopped_by is not None:
        errors.print(
            f"stopped by {monitor.stopped_by} after step {monitor.last_step}; {out} holds the "
            "frames up to there, and a replay starts anew in another directory", soft_wrap=True,
        )  # fmt: skip
        raise typer.Exit(EXIT_STOPPED)
    _save_figure(run_figure, out)
    _save_page(out)
    _print_run(monitor, out, quiet, as_json)
    if monitor.halted_by is not None:
        raise typer.Exit(EXIT_HALTED)
    raise typer.Exit(_exit_code(str(monitor.verdict.stability)))


@app.command()
@_clean_exit
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write, of a single run. Default: RUN/report.html")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write a run as one HTML page: verdict, figures, findings; also while the run goes on."""
    if out is not None and len(runs) > 1:
        raise typer.BadParameter(f"--out is the file of one run, got {len(runs)} runs")
    with nullcontext() if quiet else errors.status("reading"):
        from mdxai.report import write_report

        for run in runs:
            path = write_report(run, out)
            if not quiet:
                print(path)


@app.command()
@_clean_exit
def export(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    out: Annotated[
        Path, typer.Argument(help="File; its extension names the format: .xtc, .extxyz, .h5md, …")
    ],
    start: Annotated[int | None, typer.Option(help="First frame.")] = None,
    stop: Annotated[int | None, typer.Option(help="Frame to stop before.")] = None,
    step: Annotated[int | None, typer.Option(help="Take one frame in so many.")] = None,
    quiet: Quiet = False,
) -> None:
    """Write the frames of a run for other programs; .extxyz with energies, forces, deviations."""
    with _loading(quiet):
        from mdxai.record.export import export as write_frames

    n_frames = write_frames(run, out, start=start, stop=stop, step=step)
    if not quiet:
        print(f"{n_frames} frames in {out}")


@app.command()
@_clean_exit
def attribute(
    calculator: Annotated[str, typer.Argument(help="Name, folder or file of a calculator.")],
    structure: Annotated[
        str,
        typer.Argument(help="File that ASE reads (its last frame), or a G2 molecule's name."),
    ],
    gamma: Annotated[float, typer.Option(help="γ of the rule; 0 is LRP-0.")] = 0.1,
    max_bias: Annotated[
        bool, typer.Option("--max-bias", help="Hand the biases' relevance back to the inputs.")
    ] = False,
    body_order: Annotated[
        int, typer.Option(help="Highest order resolved: 1 to 3, expansion 2 or 3.")
    ] = 2,
    method: Annotated[str, typer.Option(help="auto, walks, flow, hessian or expansion.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Load a pickled model, which may run any code.")
    ] = False,
    energy_unit: Annotated[str | None, typer.Option(help="Of a pickled model.")] = None,
    length_unit: Annotated[str | None, typer.Option(help="Of a pickled model.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Picture of the molecule and its strongest pairs.")
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="File to write; - for the standard output.")
    ] = None,
    top: Annotated[int, typer.Option(min=0, help="Pairs to print.")] = 15,
) -> None:
    """Explain one structure: which interactions the model's energy comes from."""
    with _loading(json_out is not None):
        from mdxai.attribution import attributor
        from mdxai.calculators import load_calculator
        from mdxai.monitoring.run import SettingsError, read_structure

    atoms = read_structure(structure)
    potential = load_calculator(
        calculator, dtype=dtype, device=device, trust_pickle=trust_pickle,
        energy_unit=energy_unit, length_unit=length_unit,
    )  # fmt: skip
    explain = attributor(
        potential, method=method, gamma=gamma, max_bias=max_bias, body_order=body_order
    )
    attribution = explain.attribute(atoms)
    try:
        if picture is not None:
            from mdxai.report import draw_molecule

            draw_molecule(atoms, attribution).figure.savefig(picture, dpi=150)  # type: ignore[union-attr]
        if json_out is not None and str(json_out) != "-":
            json_out.write_text(_json(attribution.as_dict()) + "\n")
    except (OSError, ValueError) as error:  # matplotlib refuses unknown formats by ValueError
        raise SettingsError(f"the explanation cannot be written: {error}") from error
    if json_out is None:
        _print_attribution(attribution, atoms.get_chemical_symbols(), top)
    elif str(json_out) == "-":
        print(_json(attribution.as_dict()))


def _print_attribution(attribution: Attribution, symbols: list[str], top: int) -> None:
    from rich.table import Table

    hessian = attribution.method == "hessian"
    unit = "eV/Å²" if hessian else "eV"
    measure = {"flow": "flow", "hessian": "norm"}.get(attribution.method, "two-body")
    order = sorted(range(len(attribution.pairs)), key=lambda k: -abs(attribution.strengths[k]))
    table = Table(title=f"Strongest {min(top, len(order))} of {len(order)} pairs")
    for heading in ("pair", "distance / Å", f"{measure} / {unit}"):
        table.add_column(heading, justify="left" if heading == "pair" else "right")
    for k in order[:top]:
        i, j = int(attribution.pairs.i[k]), int(attribution.pairs.j[k])
        table.add_row(
            f"{symbols[i]}{i}–{symbols[j]}{j}", f"{attribution.pairs.distances[k]:.3f}",
            f"{attribution.strengths[k]:{'' if hessian else '+'}.4f}",
        )  # fmt: skip
    console = Console(highlight=False)
    console.print(table)
    if hessian:
        return
    names = ["one-body", "two-body", "three-body"][: len(attribution.by_body_order) - 1]
    names.append("all higher" if names else "all orders")
    sums = zip(names, attribution.by_body_order, strict=True)
    console.print(", ".join(f"{name} {value:+.3f}" for name, value in sums) + " eV")
    if attribution.method == "expansion":
        console.print(f"energy {attribution.output:.3f} eV; method expansion")
        return
    console.print(
        f"output {attribution.output:.3f} eV = relevance {attribution.relevance_total:.3f} "
        f"+ residual {attribution.residual:.3f} (absorbed by biases); method {attribution.method}",
        soft_wrap=True,
    )


@app.command()
@_clean_exit
def check(
    calculator: Annotated[
        str,
        typer.Argument(
            help="Name, folder or file of a network; emt or lj; or package.module:name of a class "
            "or function that makes an ASE calculator, which is imported and run."
        ),
    ],
    structure: Annotated[
        str | None,
        typer.Argument(
            help="File that ASE reads (its last frame), or a G2 molecule's name. Default: the "
            "molecule that a network of ours was trained on, where the G2 set has it."
        ),
    ] = None,
    arg: Annotated[
        list[str] | None, typer.Option(help="key=value for an imported calculator; repeatable.")
    ] = None,
    cutoff: Annotated[
        float, typer.Option(help="Cutoff of an imported calculator, Å, where known.")
    ] = float("nan"),
    seed: Annotated[int, typer.Option(help="Of the rattling of the structure.")] = 1,
    thresholds: Thresholds = None,
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
    """Probe a calculator for what physics demands. Exit code 3: something fails, 2: bad input."""
    with _loading(quiet or as_json):
        from mdxai.monitoring.check import calculator_factory, default_structure, worst_verdict
        from mdxai.monitoring.check import check as probe
        from mdxai.monitoring.run import read_structure
        from mdxai.stability.thresholds import PROBE_THRESHOLDS, load_thresholds

    make = calculator_factory(
        calculator, arg or (),
        {"dtype": dtype, "device": device, "trust_pickle": trust_pickle,
         "energy_unit": energy_unit, "length_unit": length_unit},
    )  # fmt: skip
    card = getattr(make(), "card", None)
    structure = structure or default_structure(card)
    atoms = read_structure(structure)
    with nullcontext() if quiet or as_json else errors.status("probing") as status:
        results = probe(
            make, atoms, seed=seed, cutoff=cutoff,
            thresholds=load_thresholds(thresholds) if thresholds else PROBE_THRESHOLDS,
            progress=None if status is None
            else lambda name, done, of: status.update(f"probing {name} ({done + 1} of {of})"),
        )  # fmt: skip
    verdict = worst_verdict(results)
    if as_json:
        print(_json({
            "calculator": calculator, "structure": structure, "verdict": verdict,
            "results": [result.as_dict() for result in results],
        }))  # fmt: skip
    elif not quiet:
        _print_check(results, f"{calculator}, {structure}: {verdict}", atoms.get_chemical_symbols())
    raise typer.Exit(EXIT_UNSTABLE if verdict in ("fail", "error") else EXIT_STABLE)


def _print_check(results: list[CheckResult], title: str, symbols: list[str]) -> None:
    from rich.table import Table

    colours = {"pass": "green", "warn": "yellow", "fail": "bold red", "error": "bold red",
               "not checked": "dim"}  # fmt: skip
    table = Table(title=title)
    for heading in ("principle", "value", "allowed", "unit", "verdict", "atoms", "remedy"):
        right = heading in ("value", "allowed")
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading != "remedy")
    for r in results:
        value, allowed = ("" if isnan(x) else f"{x:.2g}" for x in (r.value, r.allowed))
        if r.verdict == "fail" and isnan(r.value):
            value = "NaN"
        table.add_row(
            r.name, value, allowed, r.unit, f"[{colours[r.verdict]}]{r.verdict}[/]",
            "–".join(f"{symbols[a]}{a}" for a in r.atoms), _escape(r.remedy),
        )  # fmt: skip
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table)


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

    table = Table(title="Calculators (MAE: of forces on the test split, meV/Å; frames: trained on)")
    for heading in ("name", "network", "elements", "cutoff / Å", "MAE", "frames"):
        table.add_column(heading, no_wrap=True)
    for name, card in cards.items():
        row = _card_summary(card)
        error = row["force_mae_mev_per_ang"]
        table.add_row(
            name, row["network"], " ".join(card.elements), f"{card.cutoff:g}",
            "" if error is None else f"{error:.1f}",
            str(row["data"] or "").partition(": ")[2].partition(" ")[0],
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
def repair(
    run: Annotated[Path, typer.Argument(help="Run directory that nobody is writing to.")],
    out: Annotated[
        Path | None, typer.Option(help="Directory for what is whole. Default: RUN-repaired.")
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Check every file of a run and keep what is whole. Exit code 0: whole, 3: damaged, 2: no run.

    The run itself is never changed.
    """
    from mdxai.record import repair

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the table says it too
        report = repair(run, out)
    if as_json:
        print(_json(report.as_dict()))
    elif not quiet:
        _print_repair(report)
    raise typer.Exit(EXIT_STABLE if report.whole else EXIT_UNSTABLE)


def _print_repair(report: Repair) -> None:
    from rich.table import Table

    table = Table(title=f"{report.path}: {'whole' if report.whole else 'damaged'}")
    for heading in ("file", "state", "rows", "why"):
        table.add_column(heading, no_wrap=heading != "why")
    for file in report.files:
        bad = file.state in ("damaged", "missing")
        state = f"[bold red]{file.state}[/]" if bad else file.state
        rows = "" if file.rows is None else str(file.rows)
        table.add_row(_escape(file.name), state, rows, _escape(file.detail))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(table)
    if report.repaired is not None:
        console.print(f"what is whole is in {_escape(str(report.repaired))}", soft_wrap=True)


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
def label(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    out: Annotated[Path, typer.Option(help="Extended XYZ file to write.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Number of frames.")] = 20,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Pick frames for labelling: before the instability, where deviations rose, and diverse."""
    from mdxai.mending.active_learning import label as write_labels

    count = write_labels(run, out, n)
    if as_json:
        print(_json({"out": str(out), "frames": count}))
    elif not quiet:
        print(f"{count} frames in {out}")


@app.command(name="lead-times")
@_clean_exit
def lead_times(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for tables, figure and calibration.toml.")],
    alarms_per_ns: Annotated[
        list[float] | None,
        typer.Option(help="False alarms per ns; repeatable. Default: 5, 10, 20, 50."),
    ] = None,
    baseline: Annotated[
        float, typer.Option(help="Beginning of each run that teaches what is usual, fs.")
    ] = 500.0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare how early detectors warn of a break, held out, and calibrate the best of them."""
    with _loading(quiet or as_json):
        from mdxai.early_warning import ProfileSettings
        from mdxai.study.lead_time.alarms import Watching
        from mdxai.study.lead_time.comparison import compare_detectors
        from mdxai.study.lead_time.lead_time_figure import lead_time_figure
        from mdxai.study.lead_time.lead_times import RATES
        from mdxai.study.run_outcome import load_outcomes

    watching = Watching(baseline, profile=ProfileSettings(baseline, min(200.0, baseline)))
    with nullcontext() if quiet or as_json else errors.status("comparing detectors"):
        outcomes = load_outcomes(runs, bin_width=watching.profile.bin_ang)
        found = compare_detectors(outcomes, alarms_per_ns or RATES, watching)
    written = found.write(out)
    for split, table in found.tables.items():
        written.append(out / f"by_{split}.png")
        lead_time_figure(table, f"held out by {split}").savefig(written[-1], dpi=120)
    if as_json:
        headline = found.tables["model"].query("detector == 'as chosen'").to_dict("records")
        print(_json({"files": list(map(str, written)), "left_out": found.left_out,
                     "best": [_null(row) for row in headline]}))  # fmt: skip
    elif not quiet:
        _print_lead_times(found.tables["model"])
        for split, why in found.left_out.items():
            errors.print(_escape(f"not held out by {split}: {why}"), soft_wrap=True)
        print(f"tables, figures and calibration in {out}")


def _null(row: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and isnan(v) else v for k, v in row.items()}


def _print_lead_times(table: Any) -> None:
    from rich.table import Table

    shown = Table(title="Held out by model; mean lead time in fs, 0 where missed")
    for heading in ("alarms/ns", "series", "detector", "detected", "mean lead", "95 %", "by chance",
                    "false/ns"):  # fmt: skip
        shown.add_column(heading, no_wrap=True)
    single = ~table["series"].str.match("any |best ")
    simple = (
        single
        & (table["detector"] == "shewhart")
        & table["series"].isin(["bond", "temperature", "kinetic_temperature", "force_norm"])
    )
    for row in table[(table["detector"] == "as chosen") | simple].to_dict("records"):
        low, high = row["mean_lead_fs_low"], row["mean_lead_fs_high"]
        shown.add_row(
            f"{row['alarms_per_ns']:g}", row["series"], row["detector"], f"{row['detected']:.0%}",
            f"{row['mean_lead_fs']:.0f}", f"{low:.0f} to {high:.0f}",
            f"{row['chance_mean_lead_fs']:.0f}", f"{row['false_per_ns']:.3g}",
        )  # fmt: skip
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(shown)


@app.command()
@_clean_exit
def associate(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, or folders that hold such.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for tables, figures and the page.")
    ] = None,
    onset: Annotated[
        str, typer.Option(help="verdict, or a principle whose unstable threshold alone counts.")
    ] = "verdict",
    lag: Annotated[float, typer.Option(help="fs before the onset that deviations are from.")] = 100,
    landmark: Annotated[
        float | None,
        typer.Option(help="First fs of each run to predict from. Default: 500, or less."),
    ] = None,
    horizon: Annotated[
        float | None, typer.Option(help="fs up to which runs count as stable in an AUROC.")
    ] = None,
    bin_width: Annotated[float, typer.Option(help="Of distance bins of relevance, Å.")] = 0.25,
    resamples: Annotated[int, typer.Option(help="Bootstrap samples, and permutations.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of both.")] = 1,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure over many runs how deviations go with instability, with censoring."""
    with _loading(quiet or as_json):
        from mdxai.study.survival import associate, write_association

    with nullcontext() if quiet or as_json else errors.status("comparing runs"):
        found = associate(
            runs, onset=onset, lag=lag, landmark=landmark, horizon=horizon, bin_width=bin_width,
            resamples=resamples, seed=seed,
        )  # fmt: skip
        page = None if out is None else write_association(found, out)
    if as_json:
        print(_json(found.as_dict() | {"page": None if page is None else str(page)}))
    elif not quiet:
        _print_association(found, page)


def _print_association(found: Association, page: Path | None) -> None:
    from rich.table import Table

    from mdxai.study.survival.survival_page import added_headline, headline, summary_cells

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(_escape(headline(found)), soft_wrap=True)
    headings, rows = summary_cells(found)
    table = Table(title="Deviations and instability (intervals: 95 %, models resampled)")
    for heading in headings:
        table.add_column(heading, no_wrap=heading == "predictor")
    for row in rows:
        table.add_row(*map(_escape, row))
    console.print(table)
    if len(found.added):
        said = added_headline(found).replace("**", "")
        console.print(_escape(f"Beyond the plain predictors: {said}"), soft_wrap=True)
    for note in found.notes:
        console.print(_escape(note), soft_wrap=True)
    if page is not None:
        console.print(f"page: {_escape(str(page))}", soft_wrap=True)


@app.command()
@_clean_exit
def study(
    recipe: Annotated[Path, typer.Argument(help="Study recipe (TOML), such as runs/quick.toml.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the labelled data and model files it names.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study. Default: runs/NAME of the recipe.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Address of a Dask scheduler, or slurm. Default: this machine."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes, or jobs. Default: one per CPU.")
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train and run many models, and compare what broke. The same command again goes on.

    Exit code 7 when some models or runs failed; the page says which.
    """
    silent = quiet or as_json
    with _loading(silent):
        from mdxai.study.models import Places
        from mdxai.study.orchestration import run_study
        from mdxai.study.recipe import StudyRecipe
        from mdxai.study.scheduler import workers as dask_workers
        from mdxai.study.study_page import analyse

    plan = StudyRecipe.load(recipe)
    folder = (out or Path("runs") / plan.name).absolute()
    places = Places(folder, None if data is None else data.absolute())
    with dask_workers(scheduler, workers) as client, _study_progress(silent) as report:
        progress = run_study(client, plan, places, report)
    page = analyse(plan, places, progress.failed)
    if as_json:
        print(_json({"page": str(page), "done": progress.done, "failed": progress.failed}))
    elif not quiet:
        print(f"page: {page}")
    for name, reason in progress.failed.items():
        errors.print(f"[bold red]failed:[/] {_escape(f'{name}: {reason}')}", soft_wrap=True)
    if progress.failed:
        raise typer.Exit(EXIT_INCOMPLETE)


@contextmanager
def _study_progress(silent: bool) -> Iterator[Callable[[Any], None]]:
    """Show one bar for a whole study."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    with Progress(*columns, console=errors, disable=silent) as bar:
        task = bar.add_task("runs", total=None)

        def report(progress: Any) -> None:
            failed = f", {len(progress.failed)} failed" if progress.failed else ""
            bar.update(
                task, total=progress.total, completed=progress.done,
                description=f"{progress.last or 'runs'}{failed}",
            )  # fmt: skip

        yield report


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
        from mdxai.cli.demo import comparison, run_demo

    results = run_demo(
        out or _unused(Path("runs/demo")), steps, lambda label: _progress(silent, steps, label)
    )
    if as_json:
        print(_json({name: result.as_dict() for name, result in results.items()}))
    elif not quiet:
        Console().print(comparison(results))
        pages = [str(result.report) for result in results.values() if result.report]
        errors.print(f"pages: {', '.join(pages)}; a figure beside each", soft_wrap=True)


def main() -> None:
    """Entry point; restores the default broken-pipe behaviour of command-line tools."""
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
