"""A finished trajectory or a live stream as an engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from mdxai.engines.engine import EngineDescription
from mdxai.engines.stated import DamagedTrajectory, TrajectoryError
from mdxai.engines.trajectories import LONGEST_STEP, Trajectory, held
from mdxai.frame import Frame, Thermostat


class TrajectoryEngine:
    """Returns the frames of a trajectory one after the other.

    `describe` lists what the trajectory lacks. Principles that need velocities, single steps or the
    kind of thermostat are then not checked, and the verdict gives the reason.

    Args:
        trajectory: the frames; two are read in advance. An error of its reader is raised where it
            is met, after the frames before it.
        calculator: to be explained.
        dynamics: what moved the atoms; default: what the trajectory says itself.
        recompute: compute energies and forces with the calculator even if frames have them.

    Attributes:
        evaluates: whether energies and forces are to be computed, on request or because frames
            lack one of them; energy and forces must come from the same model.

    Raises:
        TrajectoryError: when there are no frames.
    """

    def __init__(
        self,
        trajectory: Trajectory,
        calculator: Any,
        dynamics: EngineDescription | None = None,
        *,
        recompute: bool = False,
    ) -> None:
        head, failed = _head(trajectory.frames)
        if failed is not None and (not head or not isinstance(failed, DamagedTrajectory)):
            raise failed
        if not head:
            raise TrajectoryError(f"{trajectory.source} has no frames, or none was selected")
        self._trajectory = trajectory
        self._calculator = calculator
        stated = dynamics or trajectory.dynamics
        self._stated = stated or EngineDescription()
        self._interval = head[1].time - head[0].time if len(head) > 1 else 0.0
        self.evaluates = recompute or not held(head[0]) >= {"energy", "forces"}
        present = held(head[0]) | ({"energy", "forces"} if self.evaluates else set())
        self.missing = _missing(trajectory, head, present)
        if stated is None:
            self.missing["ensemble"] = (
                "the trajectory does not say which thermostat it was made with; give it "
                "(temperature= and ensemble=, --temperature and --ensemble)"
            )
        rest = trajectory.frames if failed is None else _raising(failed)
        self.frames: Iterator[Frame] = map(self._with_thermostat, chain(head, rest))
        self.first = self._now = self._with_thermostat(head[0])
        self.stopped = False

    @property
    def calculator(self) -> Any:
        return self._calculator

    def show(self, frame: Frame) -> None:
        """Make `frame` the current frame."""
        self._now = frame

    def frame(self) -> Frame:
        """Return the current frame."""
        return self._now

    def _with_thermostat(self, frame: Frame) -> Frame:
        """Return a frame with the stated thermostat, whose supplied heat is not known."""
        temperature = self._stated.temperature
        thermostat = None if temperature is None else Thermostat(temperature)
        return frame if thermostat == frame.thermostat else replace(frame, thermostat=thermostat)

    def stop(self) -> None:
        """End the replay after this frame."""
        self.stopped = True

    def describe(self) -> EngineDescription:
        """Return the source of the frames; its timestep is the time between two frames."""
        return replace(
            self._stated,
            name="trajectory",
            timestep=self._interval,
            parameters={
                **self._trajectory.parameters,
                "source": self._trajectory.source,
                "energies": "computed" if self.evaluates else "of the trajectory",
                **({"notes": list(self._trajectory.notes)} if self._trajectory.notes else {}),
            },
            missing=dict(self.missing),
        )


def _head(frames: Iterator[Frame]) -> tuple[list[Frame], TrajectoryError | None]:
    """Return the first two frames, or those before an error, and that error."""
    head: list[Frame] = []
    try:
        for frame in islice(frames, 2):
            head.append(frame)  # noqa: PERF402 (those before an error are kept)
    except TrajectoryError as error:
        return head, error
    return head, None


def _raising(error: TrajectoryError) -> Iterator[Frame]:
    raise error
    yield  # makes this a generator


def _missing(trajectory: Trajectory, head: list[Frame], present: frozenset[str]) -> dict[str, str]:
    missing = {
        name: f"the trajectory has no {name}"
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
