"""What mdxai asks of an engine: frames, what they come from, and to be stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from mdxai.errors import MdxaiError
from mdxai.frame import Frame


class EngineError(MdxaiError, ValueError):
    """A simulation that mdxai cannot follow, with the reason."""


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """name: class of the dynamics. timestep: fs. temperature: of the thermostat, K, or None.
    conserves_energy: whether nothing but the forces changes the velocities. random_bath: whether a
    thermostat pushes each atom at random. parameters: what else the engine states about itself, in
    its own units. missing: what its frames cannot tell, with the reason: "velocities", "forces",
    "energy", "steps" (frames are further apart than one) or "ensemble" (nobody knows which
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
        """Return the present instant."""
        ...

    def temperature(self) -> float | None:
        """Return the thermostat's temperature at this moment, K, or None without a thermostat."""
        ...

    def bath_energy(self) -> float | None:
        """Return the energy that the thermostat holds, eV, less that at its start, if known."""
        ...

    def describe(self) -> EngineDescription:
        """Return what the engine is and what it simulates."""
        ...

    def stop(self) -> None:
        """Let the run end after this step."""
        ...


@runtime_checkable
class Restartable(Protocol):
    """An engine that can go on where another one of the same making was."""

    def state(self) -> dict[str, Any]:
        """Return what it needs to go on after this step: nested mappings with string keys, lists,
        plain values and NumPy arrays.
        """
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where the engine of this state was; a frame that was handed out is not repeated.

        Raises:
            StateError: when the state is that of another kind of engine or of other atoms.
        """
        ...

    def between_steps(self) -> bool:
        """Return whether it is between two steps, with forces that belong to the positions, and not
        in the middle of one that failed.
        """
        ...

    def restart_caveat(self) -> str | None:
        """Return why a resumed run may differ from an uninterrupted one; None: not in one bit."""
        ...
