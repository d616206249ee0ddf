"""Why a principle was not measured in a run, or in part of it: what it waits for, or what lacks."""

from __future__ import annotations

from dataclasses import dataclass, field

from mdxai.principles.registry import WAITS, Wait, quantities_of

REMEDIES = {
    "energy": "have it asked for at every step by an observer attached before the monitor, such as "
    "dyn.attach(atoms.get_potential_energy)",
    "forces": "attach the monitor before observers that ask for other results or change the atoms",
    "velocities": "give the atoms momenta",
}


@dataclass(slots=True)
class Coverage:
    """What the frames of a run held.

    Attributes:
        n_frames: number of them.
        start: time of the first, fs.
        end: time of the last whose numbers are all finite, fs.
        spacing: largest number of steps from one frame to the next.
        lacking: number of frames that lacked a quantity, by its name.
    """

    n_frames: int = 0
    start: float = 0.0
    end: float = 0.0
    spacing: int = 1
    lacking: dict[str, int] = field(default_factory=dict)
    _last: int | None = None

    def add(
        self, time: float, step: int | None, absent: frozenset[str], *, is_finite: bool
    ) -> None:
        """Take in a frame at a time (fs) and an MD step, where that is known."""
        if not self.n_frames:
            self.start = self.end = time
        self.n_frames += 1
        if is_finite:
            self.end = time
        if step is not None:
            if self._last is not None and step - self._last > self.spacing:
                self.spacing = step - self._last
            self._last = step
        for quantity in absent:
            self.lacking[quantity] = self.lacking.get(quantity, 0) + 1

    def partly(self) -> dict[str, str]:
        """Return quantities that some frames lacked, and what to do."""
        return {
            f"{quantity} in {count} of {self.n_frames} frames":
                f"the calculator held none there; {REMEDIES[quantity]}"
            for quantity, count in sorted(self.lacking.items())
            if count < self.n_frames
        }  # fmt: skip

    def reason(self, principle: str) -> str | None:
        """Return why a principle has no value; None where nothing tells."""
        for quantity in quantities_of(principle):
            if count := self.lacking.get(quantity, 0):
                return f"the calculator held no {quantity} in {count} of {self.n_frames} frames"
        wait = WAITS.get(principle)
        if wait is None:
            return None
        return self._still_waits(wait)

    def _still_waits(self, wait: Wait) -> str | None:
        lasts = self.end - self.start
        if wait.time and lasts < wait.time:
            return f"needs {wait.time / 1000:g} ps of motion; the run has {lasts / 1000:.3g} ps"
        if wait.every_step and self.spacing > 1:
            return (
                f"every step is needed, and frames are up to {self.spacing} steps apart: attach "
                "the monitor with interval=1"
            )
        if wait.frames and self.n_frames <= wait.frames:
            return f"needs more than {wait.frames} {wait.kind}; the run has {self.n_frames} frames"
        return None
