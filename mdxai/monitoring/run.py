"""One monitored ASE run from its settings, as `mdxai run` and `mdxai demo` start it."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.collections import g2
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.velocitydistribution import Stationary, ZeroRotation, thermalize_momenta
from ase.md.verlet import VelocityVerlet

from mdxai.calculators import card_of
from mdxai.calculators.card import check_structure
from mdxai.errors import MdxaiError
from mdxai.monitoring.description import describe_calculator, describe_options
from mdxai.monitoring.monitor import Monitor
from mdxai.monitoring.options import MonitorOptions, PathLike
from mdxai.record import RecordError, RecordWarning, differences
from mdxai.record.header import read_verdict
from mdxai.record.resume import is_finished, recorded_header, steps_done
from mdxai.record.rollbacks import Rollback, is_pending, may_roll_back, rollbacks_of

ENSEMBLES = ("nve", "nvt")
Progress = Callable[[Monitor], None]


class SettingsError(MdxaiError, ValueError):
    """Settings of a run that are out of range or contradict each other."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What to simulate, and what a monitor does meanwhile.

    Attributes:
        temperature: of the initial velocities and, in NVT, of the thermostat, K.
        timestep: fs.
        steps: MD steps.
        ensemble: "nve", or "nvt" by a Langevin thermostat.
        friction: of that thermostat, 1/fs.
        interval: MD steps from one monitored frame to the next.
        seed: of the velocities and the thermostat.
        rollback: how often a run that has become unstable goes back to a checkpoint before that,
            with another seed, before it is ended.
        rollback_timestep: factor on the timestep at each rollback.
        monitor: what is checked, explained, recorded and done. A rollback halts the run whatever
            its `on_unstable` says.

    Raises:
        SettingsError: naming the setting, what was given and what was expected.
    """

    temperature: float = 300.0
    timestep: float = 0.5
    steps: int = 10_000
    ensemble: str = "nvt"
    friction: float = 0.01
    interval: int = 1
    seed: int = 1
    rollback: int = 0
    rollback_timestep: float = 1.0
    monitor: MonitorOptions = field(default_factory=MonitorOptions)

    def __post_init__(self) -> None:
        for name in ("timestep", "steps", "interval"):
            if not (getattr(self, name) > 0 and np.isfinite(getattr(self, name))):
                raise SettingsError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("temperature", "friction", "seed"):
            if not (getattr(self, name) >= 0 and np.isfinite(getattr(self, name))):
                raise SettingsError(f"{name} must be 0 or positive, got {getattr(self, name)}")
        if self.interval > self.steps:
            raise SettingsError(
                f"interval ({self.interval}) must not exceed steps ({self.steps}): a run of one "
                "frame cannot be judged"
            )
        if self.ensemble not in ENSEMBLES:
            raise SettingsError(
                f"ensemble must be one of {', '.join(ENSEMBLES)}, got {self.ensemble!r}"
            )
        self._check_rollback()
        for name in ("attribute_every", "probe_every"):
            every = getattr(self.monitor, name)
            if every % self.interval:
                raise SettingsError(
                    f"{name} ({every}) must be a multiple of interval ({self.interval}): only "
                    "monitored frames can be explained or probed"
                )

    def _check_rollback(self) -> None:
        if not (self.rollback >= 0 and self.rollback == int(self.rollback)):
            raise SettingsError(f"rollback must be 0 or a whole number, got {self.rollback}")
        if not 0 < self.rollback_timestep <= 1:
            raise SettingsError(
                f"rollback_timestep must be above 0 and at most 1, got {self.rollback_timestep}"
            )
        if self.rollback and self.ensemble == "nve" and self.rollback_timestep == 1:
            raise SettingsError(
                "without a thermostat a rollback would repeat the same steps: give a "
                "rollback_timestep below 1"
            )
        reaction = self.monitor.on_unstable
        if self.rollback and reaction not in ("ignore", "warn", "halt"):
            raise SettingsError(
                "a rollback is what happens when the run becomes unstable, so on_unstable must be "
                f"'halt', 'warn' or 'ignore', got {reaction!r}"
            )

    @property
    def duration(self) -> float:
        """Time to be simulated, fs."""
        return self.steps * self.timestep

    def after(self, n_rollbacks: int) -> RunSettings:
        """Return the settings with which a run continues after `n_rollbacks` rollbacks."""
        if not n_rollbacks:
            return self
        return replace(
            self,
            seed=self.seed + n_rollbacks,
            timestep=self.timestep * self.rollback_timestep**n_rollbacks,
        )


def read_structure(source: str) -> Atoms:
    """Return a structure from a file that ASE reads (its last frame), or a G2 molecule by name.

    Raises:
        SettingsError: for a file that cannot be read, or a name that is neither.
    """
    path = Path(source)
    if path.is_file():
        try:
            atoms = ase.io.read(path, do_not_split_by_at_sign=True)
        except Exception as error:  # ASE's readers raise whatever their formats make them raise
            raise SettingsError(f"{path} cannot be read as a structure: {error}") from error
        return atoms
    if source in g2.names:
        return molecule(source)
    raise SettingsError(
        f"there is no structure file {source!r}, and no molecule of that name in ASE's G2 set "
        "(such as CH3CH2OH)"
    )


def make_dynamics(atoms: Atoms, settings: RunSettings) -> MolecularDynamics:
    """Draw velocities and return ASE dynamics; one generator, seeded, serves both."""
    rng = np.random.default_rng(settings.seed)
    thermalize_momenta(atoms, temperature_K=settings.temperature, rng=rng)
    if len(atoms) > 1:
        Stationary(atoms)
        if not atoms.pbc.any():
            with np.errstate(invalid="ignore"):  # ASE divides 0 by 0 about a linear molecule's axis
                ZeroRotation(atoms)
    timestep = settings.timestep * units.fs
    if settings.ensemble == "nve":
        return VelocityVerlet(atoms, timestep)
    return Langevin(
        atoms, timestep, temperature_K=settings.temperature,
        friction=settings.friction / units.fs, fixcm=False, rng=rng,
    )  # fmt: skip


def simulate(
    calculator: Any,
    atoms: Atoms,
    settings: RunSettings,
    out: PathLike | None,
    *,
    progress: Progress | None = None,
    resume: bool = False,
) -> Monitor:
    """Run monitored MD and return its finished monitor.

    On SIGTERM or SIGUSR1 it returns early, with a checkpoint; see `Monitor.stopped_by`.

    Args:
        calculator: any ASE calculator.
        atoms: start structure; a copy is simulated.
        settings: what to simulate and to monitor.
        out: run directory, or None for no record.
        progress: called with the monitor every 20 steps.
        resume: continue the run in `out`, up to the same number of steps or more; start it where
            it has no checkpoint yet.

    Raises:
        CalculatorError: for a structure that the calculator cannot take.
        RecordError: when `out` holds another run, or one with other settings is to be resumed.
        SettingsError: for a rollback without a run directory.
    """
    card = card_of(calculator)
    if card is not None:
        check_structure(card, atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    if settings.rollback and out is None:
        raise SettingsError("a rollback needs a record to go back to: give a run directory")
    wanted = _with_identity(settings, atoms)
    start = "new"
    if resume and out is not None:
        folder = Path(out)
        refuse_other_settings(folder, calculator, atoms, settings)
        start = "rollback" if is_pending(folder, rollbacks_of(folder)) else "resume"
    while True:
        system = atoms.copy()
        system.calc = calculator
        monitor = _stretch(system, wanted, out, start, progress)
        unstable = monitor.halted_by is not None and out is not None
        if not (unstable and len(monitor.rollbacks) < settings.rollback):
            break
        start = "rollback"
    if settings.monitor.report and out is not None and monitor.stopped_by is None:
        _write_page(Path(out))
    return monitor


def _write_page(folder: Path) -> None:
    from mdxai.report import attempt_report  # draws, so it takes a while to import

    complaint = attempt_report(folder)
    if complaint is not None:
        warnings.warn(complaint, RecordWarning, stacklevel=3)


def _stretch(
    system: Atoms,
    settings: RunSettings,
    out: PathLike | None,
    start: str,
    progress: Progress | None,
) -> Monitor:
    """Run from a start until the end, or the first instability that ends it."""
    done = [] if start == "new" or out is None else rollbacks_of(Path(out))
    is_next = start == "rollback" and out is not None and not is_pending(Path(out), done)
    present = settings.after(len(done) + is_next)
    dynamics = make_dynamics(system, present)
    monitor = _monitor(dynamics, out, present, start)
    with monitor:
        dynamics.attach(monitor, interval=settings.interval)
        if progress is not None:
            dynamics.attach(progress, 20, monitor)
        if monitor.halted_by is None:
            if settings.rollback and monitor.last_step is None:
                system.get_forces()  # which the first step needs anyway
                monitor()
                monitor.checkpoint()  # for a run that breaks before the first that comes due
            dynamics.run(_steps_left(settings, present, dynamics.nsteps, monitor.rollbacks))
        if progress is not None:
            progress(monitor)
    return monitor


def _steps_left(
    settings: RunSettings, present: RunSettings, step: int, rollbacks: Sequence[Rollback]
) -> int:
    """Return the steps until the simulated time is that of the settings."""
    if not rollbacks:
        return settings.steps - step
    last = rollbacks[-1]
    until = last.to_step + round((settings.duration - last.to_time_fs) / present.timestep)
    return max(0, until - step)


def _monitor(
    dynamics: MolecularDynamics, out: PathLike | None, settings: RunSettings, start: str
) -> Monitor:
    # The page is written when all stretches of the run are done.
    options = replace(settings.monitor, report=False)
    if settings.rollback:
        options = replace(options, on_unstable="halt")
    if start == "rollback" and out is not None:
        changes = {"timestep_fs": settings.timestep, "seed": settings.seed}
        return Monitor.rollback(dynamics, out, options, notes=changes)
    if start == "resume" and out is not None:
        return Monitor.resume(dynamics, out, options)
    return Monitor(dynamics, out, options)


def _fingerprint(atoms: Atoms) -> str:
    """Return a hash of what a structure is, as text for run.toml."""
    digest = hashlib.sha256()
    for array in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_masses()):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def has_ended(folder: Path, calculator: Any, atoms: Atoms, settings: RunSettings) -> bool:
    """Return whether a recorded run has nothing left to do: no steps and no rollbacks.

    Args:
        folder: run directory.
        calculator: of the run to resume.
        atoms: its start structure.
        settings: its settings.

    Raises:
        RecordError: when the run was made with other settings; the message lists them.
    """
    if not is_finished(folder) or may_roll_back(folder, settings.rollback):
        return False
    refuse_other_settings(folder, calculator, atoms, settings)
    done = steps_done(folder)
    halted = read_verdict(folder).get("halted_by") is not None
    return halted or done is None or done >= settings.steps


def refuse_other_settings(
    folder: Path, calculator: Any, atoms: Atoms, settings: RunSettings
) -> None:
    """Check that a recorded run was made with these settings; more steps are fine.

    Args:
        folder: run directory.
        calculator: of the run to resume.
        atoms: its start structure.
        settings: its settings.

    Raises:
        RecordError: listing the differences.
    """
    header = recorded_header(folder)
    if header is None:
        return
    given = _identity(atoms, settings)
    context = header.get("context", {})
    recorded = {key: context.get(key, {}) for key in given}
    recorded["options"] = header.get("parameters", {}) | recorded["options"]
    given["options"] = describe_options(settings.monitor) | given["options"]
    changed = differences(
        {"parameters": recorded, "calculator": header.get("calculator", {}),
         "thresholds": header.get("thresholds", {})},
        {"parameters": given, "calculator": describe_calculator(calculator),
         "thresholds": {t.principle: asdict(t) for t in settings.monitor.judged_by}},
    )  # fmt: skip
    changed = [
        line.removeprefix("parameters.") for line in changed if not line.startswith(_MAY_CHANGE)
    ]
    rolled_back = bool(rollbacks_of(folder))  # to a smaller timestep, which takes more steps
    done = steps_done(folder)
    if done is not None and settings.steps < done and not rolled_back:
        changed.append(f"settings.steps: {done} are done, now {settings.steps} are asked for")
    if changed:
        raise RecordError(
            f"{folder} cannot be continued with other settings:\n  " + "\n  ".join(changed)
            + "\nRepeat the command that started it, or choose another directory"
        )  # fmt: skip


def _with_identity(settings: RunSettings, atoms: Atoms) -> RunSettings:
    """Return the settings with themselves among what run.toml says."""
    monitor = settings.monitor
    context = _identity(atoms, settings) | dict(monitor.context)
    return replace(settings, monitor=replace(monitor, context=context))


def _identity(atoms: Atoms, settings: RunSettings) -> dict[str, Any]:
    """Return what tells a run from others and no other part of run.toml says."""
    simulated = {f.name: getattr(settings, f.name) for f in fields(settings)}
    monitor = simulated.pop("monitor")
    reaction = monitor.on_unstable
    return {
        "settings": simulated,
        "options": {
            "blackbox": monitor.blackbox,
            "on_unstable": "a function" if callable(reaction) else reaction,
        },
        "structure_sha256": _fingerprint(atoms),
    }


_MAY_CHANGE = ("parameters.settings.steps:",)
