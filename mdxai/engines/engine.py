"""What mdxai asks of an engine: frames, what they come from, and to be stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from mdxai.frame import Frame


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
