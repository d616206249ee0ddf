"""ASE's molecular dynamics as an engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ase import units
from ase.md.andersen import Andersen
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import NoseHooverChainNVT
from ase.md.nvtberendsen import NVTBerendsen
from ase.md.verlet import VelocityVerlet

from mdxai.engines.ase_restart_state import put_atoms, put_state, restart_caveat_of, state_of
from mdxai.engines.engine import EngineDescription
from mdxai.engines.images import Unwrapping
from mdxai.frame import Frame, Thermostat
from mdxai.held_results import SAME_PLACE, held_results, off_lattice, staleness

NO_END = 100_000_000  # steps, of ASE's `run` without a number
LONGEST_TEXT = 200_000  # characters in the description of a constraint: of 25,000 atoms


class AseEngine:
    """Reads an ASE dynamics object without starting an evaluation.

    Raises:
        TypeError: for anything that is not an ASE MolecularDynamics.
    """

    def __init__(self, dynamics: MolecularDynamics) -> None:
        if not isinstance(dynamics, MolecularDynamics):
            raise TypeError(
                f"expected ASE molecular dynamics such as Langevin or VelocityVerlet, got "
                f"{type(dynamics).__name__}"
            )
        self._dynamics = dynamics
        self._thermometer = _thermometer(dynamics)
        self._temperature_at_start = self._thermometer()
        self._origin: tuple[int, float] | None = None  # step and time (fs) of the start
        self._made_at = int(dynamics.nsteps)
        self._unwrapping = Unwrapping()
        self._last: Frame | None = None  # as the atoms were, wrapped or not

    @property
    def calculator(self) -> Any:
        return self._dynamics.atoms.calc

    def frame(self) -> Frame:
        """Return the current frame; atoms wrapped into the cell are put back in their way."""
        dynamics = self._dynamics
        frame = self._last = Frame.from_atoms(
            dynamics.atoms, step=dynamics.nsteps, time=self._time(), thermostat=self._thermostat()
        )
        return self._unwrapping.of(frame)

    def _time(self) -> float:
        dynamics = self._dynamics
        if self._origin is None:
            return float(dynamics.get_time() / units.fs)
        step, time = self._origin
        return float(time + (dynamics.nsteps - step) * dynamics.dt / units.fs)

    def _thermostat(self) -> Thermostat | None:
        """Return the thermostat as it is now.

        Its energy is None if it does not count the heat it supplies, and for a Nosé–Hoover chain
        whose temperature was changed, because its conserved sum is defined for one temperature.
        """
        temperature = self._thermometer()
        if temperature is None:
            return None
        dynamics = self._dynamics
        if isinstance(dynamics, Bussi):
            return Thermostat(temperature, -float(dynamics.transferred_energy))
        if type(dynamics) is NoseHooverChainNVT and temperature == self._temperature_at_start:
            return Thermostat(temperature, float(dynamics._thermostat.get_thermostat_energy()))
        return Thermostat(temperature)

    def seed(self) -> int | None:
        """Return the seed of the thermostat's random generator, if it has its own."""
        bits = getattr(getattr(self._dynamics, "rng", None), "bit_generator", None)
        entropy = getattr(getattr(bits, "seed_seq", None), "entropy", None)
        return entropy if isinstance(entropy, int) else None

    def stop(self) -> None:
        """End the run after this step; its `run()` then returns False."""
        self._dynamics.max_steps = 0

    def time_left(self) -> float | None:
        """Return the time until the end of `run(steps)`, fs; None for `run()` without an end."""
        until = getattr(self._dynamics, "max_steps", NO_END)
        if until >= NO_END:
            return None
        return float(max(0, until - self._dynamics.nsteps) * self._dynamics.dt / units.fs)

    def every_step(self, look: Callable[[], None]) -> None:
        """Call `look` after every step from now on."""
        self._dynamics.attach(look, interval=1)

    def state(self) -> dict[str, Any]:
        """Return what the dynamics, atoms and calculator need to continue after this step.

        Raises:
            StateError: when a part of them cannot be stored.
        """
        origin = None if self._origin is None else list(self._origin)
        return state_of(self._dynamics) | {
            "time": self._time(),
            "temperature_at_start": self._temperature_at_start,
            "origin": origin,
            "images": self._unwrapping.images,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state. The next step recomputes the forces.

        Raises:
            StateError: when the state is of another kind of dynamics or of other atoms.
        """
        put_state(self._dynamics, state)
        self._temperature_at_start = state["temperature_at_start"]
        origin = state["origin"]
        self._origin = None if origin is None else (origin[0], origin[1])
        self._unwrapping = Unwrapping(state["images"])

    def restart_from(self, state: Mapping[str, Any]) -> None:
        """Take only atoms, step and time from a state.

        Timestep, thermostat and random numbers remain those of these dynamics.

        Raises:
            StateError: for other atoms.
        """
        put_atoms(self._dynamics, state)
        self._origin = int(state["step"]), float(state["time"])
        self._unwrapping = Unwrapping(state["images"])

    def between_steps(self) -> bool:
        """Return whether the calculator's forces belong to the current positions or, where it holds
        none, whether the atoms are as the last frame showed them.
        """
        atoms = self._dynamics.atoms
        return held_results(atoms)[1] is not None or self._is_last(atoms)

    def _is_last(self, atoms: Any) -> bool:
        last = self._last
        if last is None or last.step != self._dynamics.nsteps or last.n_atoms != len(atoms):
            return False
        off = off_lattice(atoms.positions - last.positions, atoms)
        moving = Frame.from_atoms(atoms).velocities
        return bool((np.abs(off) <= SAME_PLACE).all() and np.array_equal(moving, last.velocities))

    def steps_taken(self) -> int:
        """Return how many steps the dynamics have taken since the engine was made."""
        return int(self._dynamics.nsteps) - self._made_at

    def staleness(self) -> str | None:
        """Return why the calculator holds no results of the present atoms, where one can tell."""
        return staleness(self._dynamics.atoms)

    def restart_caveat(self) -> str | None:
        """Return why a resumed run may differ from an uninterrupted one; None if it cannot."""
        return restart_caveat_of(self._dynamics)

    def describe(self) -> EngineDescription:
        """Return what the engine is and what it simulates."""
        stated = dict(self._dynamics.todict())
        stated.pop("type", None)
        name = stated.pop("md-type", type(self._dynamics).__name__)
        timestep = float(stated.pop("timestep", self._dynamics.dt)) / units.fs
        plain = (bool, int, float, str)
        parameters = {key: v for key, v in stated.items() if isinstance(v, plain)}
        held = [_constraint(constraint) for constraint in self._dynamics.atoms.constraints]
        return EngineDescription(
            name=name,
            timestep=timestep,
            temperature=self._thermometer(),
            # Thermostats are subclasses of VelocityVerlet, hence no isinstance.
            conserves_energy=type(self._dynamics) is VelocityVerlet,
            random_bath=isinstance(self._dynamics, Andersen | Langevin | LangevinBAOAB)
            and self._thermometer() is not None,
            holds_centre=bool(getattr(self._dynamics, "fix_com", False)),
            parameters=parameters | ({"constraints": held} if held else {}),
        )


def _constraint(constraint: Any) -> str:
    """Return a constraint as text; a hash if the text is very long."""
    try:
        stated = dict(constraint.todict())
    except Exception:  # foreign classes state nothing, or raise any exception
        stated = {}
    text = json.dumps(stated.get("kwargs", {}), default=_plain, sort_keys=True)
    if len(text) > LONGEST_TEXT:
        text = hashlib.sha256(text.encode()).hexdigest()
    return f"{type(constraint).__name__} {text}"


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def _common(temperature: Any) -> float | None:
    """Return the temperature of all atoms, K; None where they are given different ones."""
    values = np.unique(temperature)
    return float(values[0]) if len(values) == 1 else None


def _thermometer(dynamics: Any) -> Callable[[], float | None]:
    """Return a function that reads the thermostat's temperature, K.

    ASE's classes store it in different places; it is read at every step, so the place is looked up
    only once.
    """
    if isinstance(dynamics, NVTBerendsen):  # and its subclasses
        return lambda: float(dynamics.temperature)
    if getattr(dynamics, "temperature_K", None) is not None:  # LangevinBAOAB
        return lambda: float(dynamics.temperature_K)
    if hasattr(dynamics, "_temperature_K"):  # barostats of Martyna, Tobias and Klein
        return lambda: float(dynamics._temperature_K)
    if hasattr(dynamics, "_thermostat"):  # Nosé–Hoover chain
        return lambda: float(dynamics._thermostat._kT / units.kB)
    for name in ("temp", "temperature"):  # Langevin, Bussi, Andersen; NPT
        if getattr(dynamics, name, None) is not None:
            return lambda: _common(getattr(dynamics, name) / units.kB)
    return lambda: None
