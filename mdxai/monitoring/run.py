"""One monitored ASE run from plain settings, as the command line and the demo start it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
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

from mdxai.calculators.potential import check_structure
from mdxai.early_warning import load_calibration
from mdxai.errors import MdxaiError
from mdxai.monitoring.description import describe_calculator
from mdxai.monitoring.monitor import Monitor
from mdxai.record import RecordError, RecordSettings, differences
from mdxai.record.resume import recorded_header, steps_done
from mdxai.record.rollbacks import Rollback, is_pending, rollbacks_of
from mdxai.stability.thresholds import THRESHOLDS, load_thresholds

ENSEMBLES = ("nve", "nvt")


class SettingsError(MdxaiError, ValueError):
    """Settings that describe no possible run."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What to simulate and how closely to watch.

    temperature: K, of the initial velocities and, in NVT, of the thermostat. timestep: fs.
    friction: 1/fs, of the Langevin thermostat. interval: steps between monitored frames.
    attribute_every: steps between explained frames, 0 for none. halt: end a run that is unstable.
    thresholds: file that changes the shipped ones. expected: bonds that may break and form.
    blackbox: steps held in full for the moment of a violation. max_overhead: the monitor's share of
    the wall time, or None. checkpoint_steps, checkpoint_seconds: between checkpoints; None leaves
    it to the writing of parts. early_warning: file of a calibration of early warnings.
    alarms_per_ns: rate of false alarms of these; None for the lowest that it has. rollback: how
    often a run that is unstable goes back to a good checkpoint, with another seed and, each time,
    rollback_timestep times the timestep, before it is ended.
    """

    temperature: float = 300.0
    timestep: float = 0.5
    steps: int = 10_000
    ensemble: str = "nvt"
    friction: float = 0.01
    interval: int = 1
    attribute_every: int = 10
    gamma: float = 0.1
    seed: int = 1
    halt: bool = False
    thresholds: str | None = None
    expected: tuple[str, ...] = ()
    blackbox: int = 50
    max_overhead: float | None = None
    checkpoint_steps: int | None = None
    checkpoint_seconds: float | None = None
    early_warning: str | None = None
    alarms_per_ns: float | None = None
    rollback: int = 0
    rollback_timestep: float = 1.0

    def __post_init__(self) -> None:
        """Check every setting.

        Raises:
            SettingsError: naming the setting, what was given and what was expected.
        """
        for name in ("timestep", "steps", "interval"):
            if not (getattr(self, name) > 0 and np.isfinite(getattr(self, name))):
                raise SettingsError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("temperature", "friction", "attribute_every", "gamma", "seed"):
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
        if self.alarms_per_ns is not None and self.early_warning is None:
            raise SettingsError(
                "alarms_per_ns is a rate of early warnings, which need early_warning: a file of "
                "their calibration"
            )
        self._check_rollback()
        if self.attribute_every % self.interval:
            raise SettingsError(
                f"attribute_every ({self.attribute_every}) must be a multiple of interval "
                f"({self.interval}): only monitored frames can be explained"
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

    @property
    def duration(self) -> float:
        """Time to be simulated, fs."""
        return self.steps * self.timestep

    def after(self, n_rollbacks: int) -> RunSettings:
        """Return the settings that a run goes on with after so many rollbacks."""
        if not n_rollbacks:
            return self
        return replace(
            self,
            seed=self.seed + n_rollbacks,
            timestep=self.timestep * self.rollback_timestep**n_rollbacks,
        )


def read_structure(source: str) -> Atoms:
    """Return a structure from a file that ASE reads, or a molecule of the G2 set by name.

    Of a file with several frames it is the last.

    Raises:
        SettingsError: for neither.
    """
    path = Path(source)
    if path.is_file():
        try:
            atoms = ase.io.read(path)
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
            ZeroRotation(atoms)
    timestep = settings.timestep * units.fs
    if settings.ensemble == "nve":
        return VelocityVerlet(atoms, timestep)
    return Langevin(
        atoms, timestep, temperature_K=settings.temperature,
        friction=settings.friction / units.fs, fixcm=False, rng=rng,
    )  # fmt: skip


def simulate(  # noqa: PLR0913 (one argument per part of a run)
    calculator: Any,
    atoms: Atoms,
    settings: RunSettings,
    out: str | os.PathLike[str] | None,
    *,
    progress: Callable[[Monitor], None] | None = None,
    context: dict[str, Any] | None = None,
    resume: bool = False,
) -> Monitor:
    """Run monitored MD and return its finished monitor.

    Asked to stop by SIGTERM or SIGUSR1, it returns early, with a checkpoint; see
    `Monitor.stopped_by`.

    Args:
        calculator: any ASE calculator.
        atoms: start structure; a copy is simulated.
        settings: what to simulate.
        out: run directory, or None for no record.
        progress: called with the monitor every 20 steps.
        context: further entries for run.toml.
        resume: go on with the run in `out`, up to the same number of steps or more; where it has
            no checkpoint yet, start it.

    Raises:
        CalculatorError: for a structure the calculator cannot take.
        RecordError: when `out` holds another run, or, to be resumed, one with other settings.
    """
    card = getattr(calculator, "card", None)
    if card is not None:
        check_structure(card, atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    if settings.rollback and out is None:
        raise SettingsError("a rollback needs a record to go back to: give a run directory")
    context = _identity(atoms, settings) | (context or {})
    start = "new"
    if resume and out is not None:
        folder = Path(out)
        refuse_other_run(folder, calculator, atoms, settings, steps_done(folder))
        start = "rollback" if is_pending(folder, rollbacks_of(folder)) else "resume"
    while True:
        system = atoms.copy()
        system.calc = calculator
        monitor = _stretch(system, settings, out, context, start, progress)
        unstable = monitor.halted_by is not None and out is not None
        if not (unstable and len(monitor.rollbacks) < settings.rollback):
            return monitor
        start = "rollback"


def _stretch(
    system: Atoms,
    settings: RunSettings,
    out: str | os.PathLike[str] | None,
    context: dict[str, Any],
    start: str,
    progress: Callable[[Monitor], None] | None,
) -> Monitor:
    """Run from a start until the end, or the first instability that ends it."""
    done = [] if start == "new" or out is None else rollbacks_of(Path(out))
    is_next = start == "rollback" and out is not None and not is_pending(Path(out), done)
    present = settings.after(len(done) + is_next)
    dynamics = make_dynamics(system, present)
    monitor = _monitor(dynamics, out, present, context, start)
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
    dynamics: MolecularDynamics,
    out: str | os.PathLike[str] | None,
    settings: RunSettings,
    context: dict[str, Any],
    start: str,
) -> Monitor:
    arguments: dict[str, Any] = {
        "attribute_every": settings.attribute_every,
        "gamma": settings.gamma,
        "thresholds": load_thresholds(settings.thresholds) if settings.thresholds else THRESHOLDS,
        "allowed_reactions": settings.expected,
        "on_unstable": "halt" if settings.halt or settings.rollback else "ignore",
        "blackbox": settings.blackbox,
        "max_overhead": settings.max_overhead,
        "early_warning": None
        if settings.early_warning is None
        else load_calibration(settings.early_warning, settings.alarms_per_ns),
        "on_warning": "ignore",
        "record": RecordSettings(
            checkpoint_steps=settings.checkpoint_steps,
            checkpoint_seconds=settings.checkpoint_seconds,
        ),
        "context": context,
        "report": False,  # whoever asked for the run writes it, when all stretches are done
    }
    if start == "rollback" and out is not None:
        changes = {"timestep_fs": settings.timestep, "seed": settings.seed}
        return Monitor.rollback(dynamics, out, notes=changes, **arguments)
    if start == "resume" and out is not None:
        return Monitor.resume(dynamics, out, **arguments)
    return Monitor(dynamics, out, **arguments)


def _fingerprint(atoms: Atoms) -> str:
    """Return a hash of what a structure is, as text for run.toml."""
    digest = hashlib.sha256()
    for array in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_masses()):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def refuse_other_run(
    folder: Path, calculator: Any, atoms: Atoms, settings: RunSettings, steps: int | None
) -> None:
    """Check that a recorded run is the one that is to be resumed; more steps are fine.

    Args:
        folder: run directory.
        calculator: of the run to resume.
        atoms: its start structure.
        settings: its settings.
        steps: MD steps done; None where there is no checkpoint.

    Raises:
        RecordError: with what is different.
    """
    header = recorded_header(folder)
    if header is None:
        return
    given = _identity(atoms, settings)
    recorded = header.get("context", {})
    changed = differences(
        {"parameters": {key: recorded.get(key, {}) for key in given},
         "calculator": header.get("calculator", {})},
        {"parameters": given, "calculator": describe_calculator(calculator)},
    )  # fmt: skip
    changed = [
        line.removeprefix("parameters.") for line in changed if not line.startswith(_MAY_CHANGE)
    ]
    rolled_back = bool(rollbacks_of(folder))  # to a smaller timestep, which takes more steps
    if steps is not None and settings.steps < steps and not rolled_back:
        changed.append(f"settings.steps: {steps} are done, now {settings.steps} are asked for")
    if changed:
        raise RecordError(
            f"{folder} cannot be continued with other settings:\n  " + "\n  ".join(changed)
            + "\nRepeat the command of its first start, or choose another directory"
        )  # fmt: skip


def _identity(atoms: Atoms, settings: RunSettings) -> dict[str, Any]:
    return {"settings": asdict(settings), "structure_sha256": _fingerprint(atoms)}


_MAY_CHANGE = tuple(
    f"parameters.settings.{name}:" for name in ("steps", "checkpoint_steps", "checkpoint_seconds")
)
