"""What mdxai asks of an engine: frames, where they come from, and a way to stop it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from mdxai.errors import MdxaiError
from mdxai.frame import Frame


class EngineError(MdxaiError, ValueError):
    """A simulation that mdxai cannot follow, with the reason."""


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """What an engine is and what it simulates.

    Attributes:
        name: class of the dynamics.
        timestep: fs.
        temperature: of the thermostat, K; None without one.
        conserves_energy: whether nothing but the forces changes the velocities.
        random_bath: whether a thermostat pushes each atom at random.
        parameters: what else the engine states about itself, in its own units.
        missing: what its frames cannot tell, with the reason: "velocities", "forces", "energy",
            "steps" (frames are more than one step apart) or "ensemble" (it is not known which
            thermostat there was).
    """

    name: str
    timestep: float
    temperature: float | None
    conserves_energy: bool
    random_bath: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


@runtime_checkable
class Engine(Protocol):
    """A source of frames. Reading it never starts an evaluation and never changes it."""

    @property
    def calculator(self) -> Any:
        """The ASE calculator whose energies these are; explained on a twin of it."""
        ...

    def frame(self) -> Frame:
        """Return the present instant, with the thermostat as it is now."""
        ...

    def describe(self) -> EngineDescription:
        """Return what the engine is and what it simulates."""
        ...

    def stop(self) -> None:
        """Let the run end after this step."""
        ...


@runtime_checkable
class Restartable(Protocol):
    """An engine that can go on where another one, made in the same way, was stopped."""

    def state(self) -> dict[str, Any]:
        """Return what it needs to go on after this step, in a form that `encode` of
        `mdxai.serialization` can store.
        """
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where the engine of this state was; a frame that was handed out is not repeated.

        Raises:
            StateError: when the state is that of another kind of engine or of other atoms.
        """
        ...

    def between_steps(self) -> bool:
        """Return whether it is between two steps, with forces that belong to the positions, rather
        than in the middle of a step that failed.
        """
        ...

    def restart_caveat(self) -> str | None:
        """Return why a resumed run may differ from an uninterrupted one; None if no bit does."""
        ...


@runtime_checkable
class Branchable(Restartable, Protocol):
    """An engine that can start anew, with its own timestep and random numbers, from where another
    one was: what a rollback needs.
    """

    def restart_from(self, state: Mapping[str, Any]) -> None:
        """Take atoms, step and time from a state, and nothing else.

        Raises:
            StateError: for other atoms.
        """
        ...


@runtime_checkable
class Observable(Protocol):
    """An engine that can also show the steps between monitored frames."""

    def every_step(self, look: Callable[[], None]) -> None:
        """Call `look` after every step from now on."""
        ...


@runtime_checkable
class Seeded(Protocol):
    """An engine whose random numbers come from a seed."""

    def seed(self) -> int | None:
        """Return the seed; None where it is not known."""
        ...
