"""Replicas moved by the workers of a Dask client; this process keeps them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mdxai.calculators import card_of, twin_of
from mdxai.calculators.own_networks import network_potential
from mdxai.forecast.evaluations import evaluations
from mdxai.forecast.hot_replicas import HotReplicas, Replica
from mdxai.forecast.life_test_result import LifeTestOptions
from mdxai.forecast.onset_judge import OnsetJudge
from mdxai.frame import Frame


@dataclass(frozen=True)
class ReplicaFactory:
    """Makes the replicas of a life test, in this process or on a worker.

    calculator: any ASE calculator, or a function that makes one. start: the structure, with energy
    and forces. options: of the test.
    """

    calculator: Any
    start: Frame
    options: LifeTestOptions

    def __call__(self) -> HotReplicas:
        twin, start, options = twin_of(self.calculator), self.start, self.options
        card = card_of(twin) or card_of(self.calculator)
        return HotReplicas(
            start, evaluations(twin, start),
            lambda first: OnsetJudge(
                replace(start, velocities=first.velocities, thermostat=first.thermostat),
                card, options.motion.timestep, options.thresholds,
            ),
            options.motion, options.seed, together=network_potential(twin) is not None,
        )  # fmt: skip


class SharedReplicas:
    """Moves replicas on the workers of a client, each worker some of the slots.

    Args:
        client: `distributed.Client`.
        make: makes the same replicas on a worker.
    """

    def __init__(self, client: Any, make: ReplicaFactory) -> None:
        self._client = client
        self._make = client.scatter(make, hash=False, broadcast=True)

    def run(self, replicas: HotReplicas, n_steps: int) -> None:
        """Move every slot on by a number of steps; a worker that dies is replaced by another."""
        shares = replicas.shares(len(self._client.scheduler_info()["workers"]))
        state = replicas.state()
        moving = [
            self._client.submit(_moved, self._make, state, slots, n_steps, pure=False)
            for slots in shares
        ]
        for slots, (state_there, ended) in zip(shares, self._client.gather(moving), strict=True):
            replicas.take(slots, state_there, ended)


def _moved(
    make: ReplicaFactory, state: Mapping[str, Any], slots: list[int], n_steps: int
) -> tuple[dict[str, Any], list[Replica]]:
    """Return the state after some slots were moved, and the replicas that ended there."""
    replicas = make()
    replicas.restore(state)
    replicas.run(n_steps, slots)
    return replicas.state(), replicas.ended
