"""A finished trajectory, or a live stream, as a source of frames for the monitor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from mdxai.engines.engine import EngineDescription
from mdxai.engines.trajectories import LONGEST_STEP, Conditions, Trajectory, TrajectoryError, held
from mdxai.frame import Frame, Thermostat


class TrajectoryEngine:
    """Hands out the frames of a trajectory one after the other.

    It says what the trajectory cannot tell: principles that need velocities, single steps or the
    kind of thermostat are then not checked, with that as the reason.

    Args:
        trajectory: what to follow; two frames are read ahead.
        calculator: whose energies are explained.
        conditions: under which it was made; default: what the trajectory itself says.
        recompute: compute energies and forces with the calculator even where frames hold them.

    Attributes:
        evaluates: whether they are to be computed, because asked for or because frames lack one of
            them: an energy of one model and forces of another would not fit.

    Raises:
        TrajectoryError: when there is no frame.
    """

    def __init__(
        self,
        trajectory: Trajectory,
        calculator: Any,
        conditions: Conditions | None = None,
        *,
        recompute: bool = False,
    ) -> None:
        head = list(islice(trajectory.frames, 2))
        if not head:
            raise TrajectoryError(f"{trajectory.source} holds no frames, or none was selected")
        self._trajectory = trajectory
        self._calculator = calculator
        stated = conditions or trajectory.conditions
        self._conditions = stated or Conditions()
        self._interval = head[1].time - head[0].time if len(head) > 1 else 0.0
        self.evaluates = recompute or not held(head[0]) >= {"energy", "forces"}
        present = held(head[0]) | ({"energy", "forces"} if self.evaluates else set())
        self.missing = _missing(trajectory, head, present)
        if stated is None:
            self.missing["ensemble"] = (
                "the trajectory does not say which thermostat it was made with; state it "
                "(temperature= and ensemble=, --temperature and --ensemble)"
            )
        self.frames: Iterator[Frame] = map(self._with_thermostat, chain(head, trajectory.frames))
        self.first = self._now = self._with_thermostat(head[0])
        self.stopped = False

    @property
    def calculator(self) -> Any:
        return self._calculator

    def show(self, frame: Frame) -> None:
        """Make `frame` the present instant."""
        self._now = frame

    def frame(self) -> Frame:
        """Return the present instant."""
        return self._now

    def _with_thermostat(self, frame: Frame) -> Frame:
        """Return a frame with the thermostat that is stated; how much heat it gave, nobody says."""
        temperature = self._conditions.temperature
        thermostat = None if temperature is None else Thermostat(temperature)
        return frame if thermostat == frame.thermostat else replace(frame, thermostat=thermostat)

    def stop(self) -> None:
        """End the replay after this frame."""
        self.stopped = True

    def describe(self) -> EngineDescription:
        """Return where the frames come from. The timestep is the time between two of them."""
        return EngineDescription(
            name="trajectory",
            timestep=self._interval,
            temperature=self._conditions.temperature,
            conserves_energy=self._conditions.conserves_energy,
            random_bath=self._conditions.random_bath,
            parameters={
                **self._trajectory.parameters,
                "source": self._trajectory.source,
                "energies": "computed" if self.evaluates else "of the trajectory",
            },
            missing=dict(self.missing),
        )


def _missing(trajectory: Trajectory, head: list[Frame], present: frozenset[str]) -> dict[str, str]:
    missing = {
        name: f"the trajectory holds no {name}"
        for name in ("velocities", "forces", "energy")
        if name not in present
    }
    if len(head) < 2:
        return missing
    steps, interval = head[1].step - head[0].step, head[1].time - head[0].time
    if steps > 1 or not (trajectory.counts_steps or interval <= LONGEST_STEP):
        missing["steps"] = (
            f"frames are {interval:g} fs apart, so the work of the forces from one to the next "
            "is not known"
        )
    return missing
