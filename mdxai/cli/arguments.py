"""What the commands take from the command line. Each argument and option is written once.

A command is a function of few parameters, some of them dataclasses of this module. `spread` turns
the fields of these into options. Heavy imports wait until a command runs, so `--help` is fast.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from typer import Argument, BadParameter, Option

if TYPE_CHECKING:
    from mdxai.engines import Selection
    from mdxai.monitoring.options import MonitorOptions
    from mdxai.monitoring.run import RunSettings

# Options by their panel of a command's help.
_simulated = partial(Option, rich_help_panel="Simulation")
_read = partial(Option, rich_help_panel="Trajectory")
_explained = partial(Option, rich_help_panel="Explanation")
_judged = partial(Option, rich_help_panel="Judgement")
_recorded = partial(Option, rich_help_panel="Record")
_network = partial(Option, rich_help_panel="Network")
_sought = partial(Option, rich_help_panel="Weak spots")
_tested = partial(Option, rich_help_panel="Life test")

Calculator = Annotated[
    str,
    Argument(
        help="Name, folder or file of a network; emt, lj or pyscf; or package.module:name of a "
        "class or function that makes an ASE calculator, which is imported and run (--arg)."
    ),
]
Structure = Annotated[
    str,
    Argument(help="File that ASE reads (its last frame), or a G2 molecule such as CH3CH2OH."),
]
RunFolder = Annotated[Path, Argument(help="Run directory.")]
RunFolders = Annotated[
    list[Path], Argument(help="Run directories, or folders that contain run directories.")
]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Print nothing but errors.")]
AsJson = Annotated[bool, Option("--json", help="Print the result as JSON.")]
Gamma = Annotated[float, _explained(help="γ of the attribution rule; 0 is LRP-0.")]
Thresholds = Annotated[
    Path | None, _judged(help="TOML file with other thresholds: \\[bond] unstable = 0.7.")
]
Reference = Annotated[
    Path | None,
    _judged(
        help="Data that the model was trained on (extxyz, db, traj, npz): distances and forces are "
        "compared with these. Default: what the calculator states, else physical radii."
    ),
]


class Ensemble(StrEnum):
    """What `mdxai run` simulates."""

    NVE = "nve"
    NVT = "nvt"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What is printed."""

    quiet: Quiet = False
    as_json: AsJson = False

    @property
    def silent(self) -> bool:
        """Whether no progress is shown."""
        return self.quiet or self.as_json


@dataclass(frozen=True, kw_only=True)
class _Written:
    out: Annotated[
        Path | None, Option(help="Run directory to write. Default: a new one in runs/.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class _Resumed(_Written):
    resume: Annotated[
        bool,
        Option("--resume", help="Continue the run in --out; start it if there is none."),
    ] = False


@dataclass(frozen=True, kw_only=True)
class RunOutput(Shown, _Written):
    """Where a run is written to, and what is printed."""


@dataclass(frozen=True, kw_only=True)
class ResumableOutput(Shown, _Resumed):
    """The same of a run that can be continued."""


@dataclass(frozen=True, kw_only=True)
class NetworkArguments:
    """How a network is loaded; the keyword arguments of `load_calculator`."""

    dtype: Annotated[str, _network(help="float32 or float64.")] = "float32"
    device: Annotated[str, _network(help="Torch device.")] = "cpu"
    trust_pickle: Annotated[
        bool,
        _network("--trust-pickle", help="Load a pickled model, which may run any code."),
    ] = False
    energy_unit: Annotated[str | None, _network(help="Energy unit of a pickled model.")] = None
    length_unit: Annotated[str | None, _network(help="Length unit of a pickled model.")] = None


@dataclass(frozen=True, kw_only=True)
class AnyNetwork(NetworkArguments):
    """A network, or any other calculator with its arguments."""

    arg: Annotated[
        list[str] | None,
        _network(help="key=value for an imported calculator. Repeatable."),
    ] = None

    def factory(self, calculator: str) -> Callable[[], Any]:
        """Return what makes the calculator; CalculatorError for one that is none."""
        from mdxai.calculators.by_name import calculator_factory

        keywords = asdict(self)
        arguments = keywords.pop("arg") or ()
        return calculator_factory(calculator, arguments, keywords)


@dataclass(frozen=True, kw_only=True)
class CompiledNetwork(AnyNetwork):
    """A network that may be compiled for a long run."""

    compile: Annotated[bool, _network("--compile", help="Compile the network.")] = False


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What is simulated; the fields of `RunSettings`, with its defaults."""

    temperature: Annotated[float, _simulated(help="K.")] = 300.0
    timestep: Annotated[float, _simulated(help="fs.")] = 0.5
    steps: Annotated[int, _simulated(help="MD steps.")] = 10_000
    ensemble: Annotated[Ensemble, _simulated(help="NVE, or NVT by Langevin.")] = Ensemble.NVT
    friction: Annotated[float, _simulated(help="Langevin friction, 1/fs.")] = 0.01
    interval: Annotated[int, _simulated(help="Steps between monitored frames.")] = 1
    seed: Annotated[int, _simulated(help="Seed of velocities and thermostat.")] = 1
    rollback: Annotated[
        int,
        _simulated(
            min=0,
            help="When unstable, return to a good checkpoint with another seed, at most this "
            "many times.",
        ),
    ] = 0
    rollback_timestep: Annotated[
        float,
        _simulated(help="Factor on the timestep at each rollback, such as 0.5."),
    ] = 1.0

    def settings(self, monitor: MonitorOptions) -> RunSettings:
        """Return the settings of the run; SettingsError for unusable ones."""
        from mdxai.monitoring.run import RunSettings

        return RunSettings(**asdict(self) | {"ensemble": self.ensemble.value, "monitor": monitor})


@dataclass(frozen=True, kw_only=True)
class Monitored:
    """What a monitor checks and explains, live or afterwards."""

    attribute_every: Annotated[
        int | None,
        _explained(
            min=0,
            help="Explain every N-th step (of a trajectory: frame); 0 for none. Default: every "
            "10th monitored frame.",
            metavar="N",
        ),
    ] = None
    gamma: Gamma = 0.1
    thresholds: Thresholds = None
    reference_data: Reference = None
    allow_reaction: Annotated[
        list[str] | None,
        _judged(
            help="Bond that may break and form: C1-O2 (atoms numbered from 0) or O-H. Repeatable."
        ),
    ] = None
    no_reactions: Annotated[
        bool,
        _judged("--no-reactions", help="Call a run that reacts or melts unstable."),
    ] = False
    external_forces: Annotated[
        bool,
        _judged(
            "--external-forces",
            help="The calculator pushes or holds the atoms from outside: a field, a wall.",
        ),
    ] = False
    halt: Annotated[bool, _judged("--halt", help="End the run when it becomes unstable.")] = False
    forecast: Annotated[
        bool,
        _judged(
            "--forecast",
            help="Look for the model's weak spots first (seconds to minutes), and follow them.",
        ),
    ] = False
    early_warning: Annotated[
        Path | None,
        _judged(help="Calibration of early warnings: shipped, or a TOML file of `lead-times`."),
    ] = None
    alarms_per_ns: Annotated[
        float | None,
        _judged(help="Their rate of false alarms. Default: the lowest of the calibration."),
    ] = None

    def options(self, interval: int = 1, **more: Any) -> MonitorOptions:
        """Return the options of the monitor.

        Args:
            interval: steps between monitored frames.
            more: further options.

        Raises:
            MdxaiError: for unusable options and files that cannot be read.
        """
        from mdxai.monitoring.options import MonitorOptions

        if self.thresholds is not None:
            more["thresholds"] = self.thresholds
        every = self.attribute_every
        return MonitorOptions(
            reference=self.reference_data,
            attribute_every=10 * interval if every is None else every,
            gamma=self.gamma,
            allowed_reactions=self.allow_reaction or (),
            reactions=not self.no_reactions,
            external_forces=self.external_forces,
            forecast=self.forecast,
            on_unstable="halt" if self.halt else "ignore",
            early_warning=self.early_warning,
            alarms_per_ns=self.alarms_per_ns,
            on_warning="ignore",  # the command prints them at the end
            report=False,  # the command writes the page, and says why where it cannot
            **more,
        )


@dataclass(frozen=True, kw_only=True)
class MonitoredLive(Monitored):
    """What a monitor also does while the simulation runs."""

    blackbox: Annotated[
        int,
        _recorded(help="Last steps to keep in full for the moment of an instability."),
    ] = 50
    max_overhead: Annotated[
        float | None,
        _explained(help="Share of the wall time for the monitor, which then explains more rarely."),
    ] = None
    checkpoint_steps: Annotated[
        int | None,
        _recorded(help="Steps between checkpoints. Default: every 30 s."),
    ] = None
    checkpoint_seconds: Annotated[
        float | None,
        _recorded(help="Wall time between checkpoints, s."),
    ] = None

    def options(self, interval: int = 1, **more: Any) -> MonitorOptions:
        """Return the options of the monitor; see `Monitored`."""
        from mdxai.record import RecordSettings

        record = RecordSettings(
            checkpoint_steps=self.checkpoint_steps, checkpoint_seconds=self.checkpoint_seconds
        )
        return super().options(
            interval,
            blackbox=self.blackbox,
            max_overhead=self.max_overhead,
            record=record,
            **more,
        )


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What a file of frames does not say."""

    topology: Annotated[
        Path | None,
        _read(help="File that MDAnalysis reads, with elements or masses."),
    ] = None
    without: Annotated[
        list[str] | None,
        _read(help="Ignore velocities, forces, energy or cell of the file. Repeatable."),
    ] = None
    format: Annotated[
        str | None,
        _read(help="Format of ASE, of MDAnalysis with --topology, or schnetpack-md."),
    ] = None
    units: Annotated[
        str | None,
        _read(
            help="real, metal, electron, si, atomic, gromacs, akma or ase; or single ones: "
            "positions=bohr,velocities=Å/ps,forces=kcal/mol/Å,time=ps."
        ),
    ] = None
    elements: Annotated[
        str | None,
        _read(help="Elements of the atom types 1, 2, … or of all atoms in order: C,H,O."),
    ] = None
    select: Annotated[
        str | None,
        _read(
            help="Atoms to read: 0-8,12 or C,H,O; with --topology also as MDAnalysis selects them."
        ),
    ] = None

    def selection(self) -> Selection:
        """Return which frames and atoms to read, and what is stated about them.

        Raises:
            TrajectoryError: for what cannot be.
        """
        from mdxai.engines import Selection

        elements = () if self.elements is None else tuple(self.elements.replace(",", " ").split())
        return Selection(
            without=tuple(self.without or ()), format=self.format, units=self.units,
            elements=elements, atoms=self.select,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reading(Stated):
    """How a trajectory is read."""

    timestep: Annotated[
        float | None,
        _read(help="Time between frames of the file, fs. Default: what the file says."),
    ] = None
    start: Annotated[int, _read(help="First frame, from 0.")] = 0
    stop: Annotated[int | None, _read(help="Frame to stop before.")] = None
    step: Annotated[int, _read(help="Keep every N-th frame.")] = 1
    ensemble: Annotated[
        str | None,
        _read(help="nve, nvt or langevin, where the file does not say."),
    ] = None
    temperature: Annotated[
        float | None,
        _read(help="Temperature of the thermostat, K, where the file does not say."),
    ] = None
    recompute: Annotated[
        bool,
        _read("--recompute", help="Compute energies and forces even where the file has them."),
    ] = False
    workers: Annotated[int, _read(help="Processes that compute and explain.")] = 1

    def selection(self) -> Selection:
        """Return which frames and atoms to read, and what is stated about them; see `Stated`."""
        return replace(
            super().selection(), start=self.start, stop=self.stop, step=self.step,
            timestep=self.timestep,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a structure is explained; the keyword arguments of `attributor`."""

    gamma: Gamma = 0.1
    max_bias: Annotated[
        bool, _explained("--max-bias", help="Give the relevance of the biases back to the inputs.")
    ] = False
    body_order: Annotated[
        int, _explained(help="Highest order to resolve: 1 to 3; of an expansion 2 or 3.")
    ] = 2
    method: Annotated[str, _explained(help="auto, walks, flow, hessian or expansion.")] = "auto"


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Where an explanation is written to."""

    picture: Annotated[
        Path | None, Option(help="Picture of the molecule and its strongest pairs.")
    ] = None
    json_out: Annotated[
        Path | None, Option("--json", help="File to write; - for the standard output.")
    ] = None
    top: Annotated[int, Option(min=0, help="Pairs to print.")] = 15


@dataclass(frozen=True, kw_only=True)
class Probing:
    """How a calculator is probed."""

    cutoff: Annotated[float, Option(help="Cutoff of an imported calculator, Å, where known.")] = (
        float("nan")
    )
    seed: Annotated[int, Option(help="Seed of the displacements of the structure.")] = 1
    thresholds: Thresholds = None
    reference_data: Reference = None
    weak_spots: Annotated[
        bool,
        Option(
            "--weak-spots",
            help="Search for weak spots with every calculator and structure: seconds to hours.",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class ForecastQuestion:
    """What is to be foretold, and how well."""

    temperature: Annotated[float, Option(help="Of the run, K.")] = 300.0
    duration: Annotated[str, Option(help="Of the run, with its unit: 500ps, 1ns, 2us.")] = "1ns"
    at_least: Annotated[
        float, Option(help="Survival that is good enough; exit code 3 where it is less.")
    ] = 0.95
    out: Annotated[
        Path | None,
        Option(
            help="Directory to keep the forecast in, with its page, report.html; the same command "
            "continues it."
        ),
    ] = None
    write_card: Annotated[
        bool,
        Option("--write-card", help="Write the forecast into the calculator's card.toml too."),
    ] = False


class Part(StrEnum):
    """One half of a forecast."""

    WEAK_SPOTS = "weak-spots"
    LIFE_TEST = "life-test"


@dataclass(frozen=True, kw_only=True)
class WeakSpotSearch:
    """How weak spots are looked for."""

    only: Annotated[Part | None, _sought(help="Only the one: weak-spots or life-test.")] = None
    frames: Annotated[
        Path | None,
        _sought(
            help="Trajectory or data set of the molecule (ASE's formats, npz of MD17), to look for "
            "weak spots from its other conformers too."
        ),
    ] = None
    reference: Annotated[
        str | None,
        _sought(
            help="Calculator to compare weak spots with, given like CALCULATOR: "
            "tblite.ase:TBLite. What it does too is a reaction."
        ),
    ] = None
    reference_arg: Annotated[
        list[str] | None, _sought(help="key=value for an imported reference. Repeatable.")
    ] = None
    ceiling: Annotated[float, _sought(min=0.1, help="Highest barrier that is looked for, eV.")] = (
        3.0
    )
    cutoff: Annotated[float, _sought(help="Cutoff of an imported calculator, Å, where known.")] = (
        float("nan")
    )

    def calculator(self) -> Callable[[], Any] | None:
        """Return what makes the reference; CalculatorError for one that is none."""
        from mdxai.calculators.by_name import calculator_factory

        if self.reference is None:
            if self.reference_arg:
                raise BadParameter("--reference-arg needs --reference, the calculator it is for")
            return None
        return calculator_factory(self.reference, self.reference_arg or ())


@dataclass(frozen=True, kw_only=True)
class LifeTesting:
    """How replicas are tested."""

    most: Annotated[
        float | None,
        _tested(
            help="Largest simulated time of all replicas together, ps, but for the last round of "
            "0.25 ps each. Default: 8, and 1000 without weak spots."
        ),
    ] = None
    seconds: Annotated[
        float, _tested(help="Wall time for the test, s, on top of that to set up.")
    ] = 120.0
    width: Annotated[
        float, _tested(help="Width of the interval of the survival at which the test ends.")
    ] = 0.1
    replicas: Annotated[
        int | None,
        _tested(
            min=1, help="Replicas at a time. Default: 16, one batch; 4 of an imported calculator."
        ),
    ] = None
    hottest: Annotated[
        float | None, _tested(help="Highest temperature, K. Default: what real bonds withstand.")
    ] = None
    seed: Annotated[int, _tested(help="Seed of all replicas.")] = 1
    workers: Annotated[
        int | None, _tested(min=1, help="Processes that move them. Default: this one.")
    ] = None
    scheduler: Annotated[
        str | None, _tested(help="Address of a Dask scheduler whose workers do, or slurm.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class AssociationArguments:
    """What is compared over many runs; the keyword arguments of `mdxai.associate`."""

    onset: Annotated[
        str, Option(help="verdict, or the principle whose unstable threshold alone counts.")
    ] = "verdict"
    lag: Annotated[float, Option(help="Deviations are taken this long before the onset, fs.")] = 100
    landmark: Annotated[
        float | None,
        Option(help="Beginning of each run to predict from, fs. Default: 500, or less."),
    ] = None
    horizon: Annotated[
        float | None, Option(help="Time up to which runs count as stable in an AUROC, fs.")
    ] = None
    bin_width: Annotated[float, Option(help="Width of distance bins of relevance, Å.")] = 0.25
    resamples: Annotated[int, Option(help="Bootstrap samples, and permutations.")] = 1000
    seed: Annotated[int, Option(help="Seed of both.")] = 1


@dataclass(frozen=True, kw_only=True)
class StudyPlaces:
    """Where a study reads, writes and runs."""

    data: Annotated[
        Path | None, Option(help="Folder of the labelled data and model files it names.")
    ] = None
    out: Annotated[
        Path | None, Option(help="Folder of the study. Default: runs/NAME of the recipe.")
    ] = None
    scheduler: Annotated[
        str | None,
        Option(help="Address of a Dask scheduler, or slurm. Default: this machine."),
    ] = None
    workers: Annotated[
        int | None, Option(min=1, help="Worker processes, or jobs. Default: one per CPU.")
    ] = None


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with an option per field where `command` takes a dataclass."""
    hints = get_type_hints(command, include_extras=True)
    hints.pop("return")
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters = []
    for name, given in inspect.signature(command).parameters.items():
        if name in groups:
            parameters += _parameters(groups[name])
        else:
            parameters.append(
                given.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
            )

    def flat(**values: Any) -> None:
        made = {
            name: group(**{f.name: values.pop(f.name) for f in fields(group)})
            for name, group in groups.items()
        }
        command(**values, **made)

    flat.__name__, flat.__doc__ = command.__name__, command.__doc__
    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {p.name: p.annotation for p in parameters}
    return flat


def _parameters(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            f.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if f.default is MISSING else f.default,
            annotation=hints[f.name],
        )
        for f in fields(group)
    ]
