"""What mdxai requires of an engine: frames, a description, and a way to stop it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from mdxai.errors import MdxaiError
from mdxai.frame import Frame


class EngineError(MdxaiError, ValueError):
    """A simulation that mdxai cannot follow."""


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """What an engine is and what it simulates.

    Attributes:
        name: class of the dynamics.
        timestep: fs.
        temperature: of the thermostat, K; None without one.
        conserves_energy: whether only the forces change the velocities.
        random_bath: whether the thermostat applies random kicks to each atom.
        holds_centre: whether it leaves the motion of the centre of mass alone, or only damps it.
        parameters: further parameters of the engine, in its own units.
        missing: information that its frames lack, with the reason: "velocities", "forces",
            "energy", "steps" (frames are more than one step apart), "ensemble" (the thermostat is
            not known) or "closed system" (the calculator acts on the atoms from outside).
    """

    name: str = "trajectory"
    timestep: float = math.nan
    temperature: float | None = None
    conserves_energy: bool = False
    random_bath: bool = False
    holds_centre: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


@runtime_checkable
class Engine(Protocol):
    """A source of frames. Reading it never starts an evaluation nor changes the run."""

    @property
    def calculator(self) -> Any:
        """The ASE calculator that gives the energies; a twin of it is explained."""
        ...

    def frame(self) -> Frame:
        """Return the current frame, including the state of the thermostat."""
        ...

    def describe(self) -> EngineDescription:
        """Return what the engine is and what it simulates."""
        ...

    def stop(self) -> None:
        """End the run after this step."""
        ...


@runtime_checkable
class Restartable(Protocol):
    """An engine that can continue from the state of an identically made one."""

    def state(self) -> dict[str, Any]:
        """Return what the engine needs to continue after this step, in a form that
        `mdxai.serialization.encode` accepts.
        """
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state, without repeating frames that were already returned.

        Raises:
            StateError: when the state is of another kind of engine or of other atoms.
        """
        ...

    def between_steps(self) -> bool:
        """Return whether the engine is between two steps, with forces that match the positions, and
        not in the middle of a step that failed.
        """
        ...

    def restart_caveat(self) -> str | None:
        """Return why a resumed run may differ from an uninterrupted one; None if it cannot."""
        ...


@runtime_checkable
class Branchable(Restartable, Protocol):
    """An engine that can start from the frame of another with its own timestep and random numbers,
    as a rollback requires.
    """

    def restart_from(self, state: Mapping[str, Any]) -> None:
        """Take only atoms, step and time from a state.

        Raises:
            StateError: for other atoms.
        """
        ...


@runtime_checkable
class Evaluated(Protocol):
    """An engine that moves on whether it is watched or not, and whose calculator may hold results
    of other atoms than the present ones.
    """

    def steps_taken(self) -> int:
        """Return how many steps were taken since the engine was made."""
        ...

    def staleness(self) -> str | None:
        """Return why the calculator holds no results of the present atoms; None where it does, or
        where nobody can tell.
        """
        ...


@runtime_checkable
class Observable(Protocol):
    """An engine that can also show the steps between monitored frames."""

    def every_step(self, look: Callable[[], None]) -> None:
        """Call `look` after every step from now on."""
        ...


@runtime_checkable
class Planned(Protocol):
    """An engine that may know how long it is to run."""

    def time_left(self) -> float | None:
        """Return the time until the planned end, fs; None where nobody has said."""
        ...


@runtime_checkable
class Seeded(Protocol):
    """An engine whose random numbers come from a seed."""

    def seed(self) -> int | None:
        """Return the seed; None if it is not known."""
        ...
