"""Replicas at several temperatures, moved together, each replaced by a fresh one when it breaks.

schnetpack's thermostat holds all replicas of a batch at one temperature and keeps those that broke.
Here each has its own, so that one batch serves every temperature and no evaluation is wasted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mdxai.errors import MdxaiError
from mdxai.forecast.onset_judge import Fate, OnsetJudge
from mdxai.frame import AMU_ANG2_PER_FS2, BOLTZMANN, Floats, Frame, Thermostat

Evaluate = Callable[[Floats], tuple[Floats, Floats]]  # (n, n_atoms, 3) Å → eV; eV/Å alike
ARRAYS = (  # a row for each slot
    "positions", "velocities", "forces", "energies", "ages", "generations", "temperatures",
)  # fmt: skip
LOOK = 2.0  # fs between frames that are judged: no bond breaks faster


class LifeTestError(MdxaiError, ValueError):
    """A life test that cannot be made, or continued, as asked."""


@dataclass(frozen=True, slots=True)
class Motion:
    """How replicas move: Langevin dynamics.

    timestep: fs. friction: 1/fs. warm_up: fs before a replica counts as watched. warming: friction
    in that time, 1/fs, in which the structure takes up its potential energy.
    """

    timestep: float = 0.5
    friction: float = 0.01
    warm_up: float = 100.0
    warming: float = 0.05

    def __post_init__(self) -> None:
        for name in ("timestep", "friction", "warm_up", "warming"):
            value = getattr(self, name)
            if not 0 < value < np.inf:
                raise LifeTestError(f"{name} must be positive and finite, got {value!r}")


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica that has come to its end.

    Attributes:
        slot, generation: its place in the batch, and how many were there before; with the seed of
            the test they give its random numbers.
        temperature: K.
        time: fs that it was watched after its warm-up, up to its onset where it has one; negative
            where it ended before.
        fate: "failed", "reacted", "melted", or "sound" where it was ended by the test.
        cause: principle that called it so; "" where sound.
        atoms: that the principle named.
    """

    slot: int
    generation: int
    temperature: float
    time: float
    fate: str
    cause: str = ""
    atoms: tuple[int, ...] = ()


class HotReplicas:
    """Replicas of one structure; each slot holds one after another at the slot's temperature.

    Langevin dynamics by the splitting BAOAB (Leimkuhler and Matthews, Appl. Math. Res. Express
    2013, 34). A replica starts from the structure with thermal velocities, and is watched after its
    warm-up. When it has broken or reacted, a fresh one takes its slot.

    Args:
        start: structure, with its energy and forces.
        evaluate: energies and forces of replicas.
        judge: makes what judges a replica from its first frame on; without it none ends.
        motion: how they move.
        seed: of all random numbers.
        together: whether all slots are evaluated in one batch, or one slot after the other.

    Attributes:
        ended: the replicas that have come to their end.
    """

    def __init__(
        self,
        start: Frame,
        evaluate: Evaluate,
        judge: Callable[[Frame], OnsetJudge] | None,
        motion: Motion,
        seed: int,
        *,
        together: bool,
    ) -> None:
        self._start, self._evaluate, self._judge = start, evaluate, judge
        self._motion, self._seed, self._together = motion, seed, together
        self._masses: Floats = start.masses[:, None]
        self._look = max(round(LOOK / motion.timestep), 1)
        self.ended: list[Replica] = []
        self._allocate(0)

    def _allocate(self, n_slots: int) -> None:
        n = self._start.n_atoms
        self._positions = np.zeros((n_slots, n, 3))
        self._velocities, self._forces = np.zeros((n_slots, n, 3)), np.zeros((n_slots, n, 3))
        self._energies = np.zeros(n_slots)
        self._ages = np.zeros(n_slots, dtype=np.int64)  # steps
        self._generations = np.full(n_slots, -1)
        self._temperatures = np.zeros(n_slots)
        self._random = [np.random.default_rng(0)] * n_slots

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperature of each slot, K."""
        return tuple(self._temperatures.tolist())

    @property
    def positions(self) -> Floats:
        """Positions of the replicas in the slots, (n_slots, n_atoms, 3), Å."""
        return self._positions

    def assign(self, temperatures: Sequence[float]) -> None:
        """Give each slot a temperature, K; where it changes, the replica there ends as sound."""
        if not len(self._temperatures):
            self._allocate(len(temperatures))
        for k, temperature in enumerate(temperatures):
            if temperature != self._temperatures[k]:
                if self._generations[k] >= 0:
                    self.ended.append(self._as_seen(k))
                self._temperatures[k] = temperature
                self._begin(k)

    def running(self) -> list[Replica]:
        """Return the replicas in the slots as they have been seen so far, all of them sound."""
        return [self._as_seen(k) for k in range(len(self._temperatures))]

    def _as_seen(self, k: int) -> Replica:
        return self._replica(k, self._ages[k] * self._motion.timestep, "sound")

    def _replica(self, k: int, age: float, fate: str, *why: Any) -> Replica:
        return Replica(
            k, int(self._generations[k]), float(self._temperatures[k]),
            float(age - self._motion.warm_up), fate, *why,
        )  # fmt: skip

    def _begin(self, k: int) -> None:
        self._generations[k] += 1
        generation = int(self._generations[k])
        self._random[k] = np.random.default_rng([self._seed, k, generation])
        spread = self._spread(self._temperatures[k])
        self._positions[k] = self._start.positions
        self._velocities[k] = spread * self._random[k].standard_normal(self._positions[k].shape)
        self._forces[k], self._energies[k] = self._start.forces, self._start.energy
        self._ages[k] = 0

    def _spread(self, temperature: Any) -> Floats:
        """Return the standard deviation of thermal velocities of each atom, Å/fs."""
        spread: Floats = np.sqrt(BOLTZMANN * temperature / AMU_ANG2_PER_FS2 / self._masses)
        return spread

    def run(self, n_steps: int, slots: Sequence[int] | None = None) -> None:
        """Move every slot, or some, on by a number of steps.

        What judges a replica starts anew each time, so that a test which is continued between two
        calls gives the same as one that was never ended; its patience is a few fs.
        """
        moved = np.arange(len(self._temperatures)) if slots is None else np.array(slots)
        for group in [moved] if self._together else moved[:, None]:
            judges = self._judges(group)
            for step in range(n_steps):
                self._advance(group)
                if judges and (step + 1) % self._look == 0:
                    self._inspect(group, judges)

    def _judges(self, group: Any) -> dict[int, OnsetJudge]:
        if self._judge is None:
            return {}
        return {k: self._judge(self._frame(k)) for k in group.tolist()}

    def shares(self, n: int) -> list[list[int]]:
        """Return the slots as up to n parts that may be moved apart; one by one unless together."""
        slots = np.arange(len(self._temperatures))
        parts = np.array_split(slots, min(n, len(slots))) if self._together else slots[:, None]
        return [part.tolist() for part in parts]

    def take(self, slots: Sequence[int], state: Mapping[str, Any], ended: list[Replica]) -> None:
        """Take over some slots from the state of the same replicas that were moved elsewhere."""
        for name in ARRAYS:
            getattr(self, f"_{name}")[slots] = state[name][slots]
        for k in slots:
            self._random[k].bit_generator.state = state["random"][k]
        self.ended += ended

    def _advance(self, group: Any) -> None:
        dt = self._motion.timestep
        kick = 0.5 * dt / AMU_ANG2_PER_FS2 / self._masses
        warms = self._ages[group] * dt < self._motion.warm_up
        friction = np.where(warms, self._motion.warming, self._motion.friction)
        keep = np.exp(-friction * dt)[:, None, None]
        positions, velocities = self._positions[group], self._velocities[group]
        velocities += kick * self._forces[group]
        positions += 0.5 * dt * velocities
        noise = np.stack([self._random[k].standard_normal(positions.shape[1:]) for k in group])
        spread = self._spread(self._temperatures[group][:, None, None])
        velocities = keep * velocities + np.sqrt(1 - keep**2) * spread * noise
        positions += 0.5 * dt * velocities
        energies, forces = self._evaluate(positions)
        velocities += kick * forces
        self._positions[group], self._velocities[group] = positions, velocities
        self._energies[group], self._forces[group] = energies, forces
        self._ages[group] += 1

    def _inspect(self, group: Any, judges: dict[int, OnsetJudge]) -> None:
        for k in group.tolist():
            fate = judges[k].look(self._frame(k))
            if fate is not None:
                self.ended.append(self._at_end(k, fate))
                self._begin(k)
                judges |= self._judges(np.array([k]))

    def _at_end(self, k: int, fate: Fate) -> Replica:
        return self._replica(k, fate.time, fate.kind, fate.cause, fate.atoms)

    def _frame(self, k: int) -> Frame:
        age = int(self._ages[k])
        return replace(
            self._start, step=age, time=age * self._motion.timestep,
            positions=self._positions[k].copy(), velocities=self._velocities[k].copy(),
            forces=self._forces[k].copy(), energy=float(self._energies[k]),
            thermostat=Thermostat(float(self._temperatures[k])),
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Return all that the replicas in the slots need to go on, as plain data."""
        held: dict[str, Any] = {name: getattr(self, f"_{name}") for name in ARRAYS}
        return held | {"random": [random.bit_generator.state for random in self._random]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._allocate(len(state["temperatures"]))
        for name in ARRAYS:
            getattr(self, f"_{name}")[:] = state[name]
        self._random = [np.random.default_rng(0) for _ in state["random"]]
        for random, held in zip(self._random, state["random"], strict=True):
            random.bit_generator.state = held
