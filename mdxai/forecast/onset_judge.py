"""Whether a replica has broken: what a monitor would call an onset."""

from __future__ import annotations

from dataclasses import dataclass

from mdxai.calculators import Card
from mdxai.engines import EngineDescription
from mdxai.frame import Frame
from mdxai.principles import Deviation, principles_for
from mdxai.principles.motion.forces import NonFinite
from mdxai.principles.registry import is_measurable
from mdxai.stability.outcomes import PHYSICS, Stability
from mdxai.stability.thresholds import THRESHOLDS, Threshold
from mdxai.stability.verdict import VerdictBuilder

# A hot replica leaves what the model was trained on by its temperature alone, long before anything
# breaks; and these ask for more steps than are looked at, or for a longer time than one lives. What
# convicts the model rather than the run (outcome "broken") is not asked either: `check` does.
NOT_ASKED = frozenset(
    {
        "beyond_training", "unlike_training", "force_beyond_training", "force_spike",
        "distance_drift", "pair_distribution", "flying_ice_cube", "kinetic_spread",
        "mode_temperature", "element_temperature", "bond",
    }
)  # fmt: skip
NON_FINITE = NonFinite()


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a replica: "failed", "reacted" or "melted"; since when, fs; and why."""

    kind: str
    time: float
    cause: str
    atoms: tuple[int, ...]


class OnsetJudge:
    """Judges one replica by the principles and thresholds of a monitor.

    Args:
        first: its first frame: of the sound structure, in the replica's thermostat.
        start: the structure, from whose bonds and distances it is judged.
        card: of the calculator, where it has one.
        timestep: fs.
        thresholds: when deviations count.
    """

    def __init__(
        self,
        start: Frame,
        card: Card | None,
        timestep: float,
        thresholds: tuple[Threshold, ...] = THRESHOLDS,
    ) -> None:
        dynamics = EngineDescription(
            "Langevin", timestep, None if start.thermostat is None
            else start.thermostat.temperature, random_bath=True,
            missing={"steps": "replicas are not looked at in every step"},
        )  # fmt: skip
        judged = {
            t.principle: t for t in thresholds
            if t.principle not in NOT_ASKED and t.outcome != Stability.BROKEN
        }  # fmt: skip
        principles, _ = principles_for(start, card, dynamics)
        self._principles = [p for p in principles if p.name in judged and p.cost == "free"]
        self._physics = {
            name: t.unstable for name, t in judged.items() if Stability(t.outcome) in PHYSICS
        }
        self._builder = VerdictBuilder(tuple(judged.values()), symbols=start.symbols)

    def look(self, frame: Frame) -> Fate | None:
        """Take in a frame; return what became of the replica, None while it is sound."""
        found = self._deviations(frame)
        self._builder.add(frame.time, found, step=frame.step)
        if self._builder.failed:
            return self._fate("failed")
        for name, limit in self._physics.items():
            deviation = found.get(name)
            if deviation is not None and deviation.value > limit:
                stability = self._builder.verdict().stability
                return self._fate(str(stability)) if stability in PHYSICS else None
        return None

    def _deviations(self, frame: Frame) -> dict[str, Deviation | None]:
        lost = NON_FINITE.deviate(frame)
        if lost.value > 0:  # where numbers are not finite, nothing else means anything
            return {lost.principle: lost}
        return {
            p.name: p.deviate(frame, None) if is_measurable(p.name, frame) else None
            for p in self._principles
        }

    def _fate(self, kind: str) -> Fate:
        cause = self._builder.verdict().cause
        assert cause is not None  # nothing else ends a replica
        return Fate(kind, cause.time_fs, cause.principle, cause.atoms)
