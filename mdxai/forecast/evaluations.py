"""Many configurations of one system, evaluated together where the potential can."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mdxai.calculators import CalculatorError, Potential
from mdxai.calculators.own_networks import network_potential
from mdxai.frame import Bools, Floats, Frame
from mdxai.principles.probes.configurations import moved

if TYPE_CHECKING:
    from mdxai.calculators import NetworkPotential
    from mdxai.calculators.batch import BatchPotential, Systems

# Pairs in one batch: the arrays of larger ones leave the caches, and are given back to the system
# and faulted in again at every evaluation, which made 192 aspirins twice as slow as 8 times 24.
LARGEST, NEIGHBOURS = 7000, 60
SIZES = sorted({base << k for base in (1, 3) for k in range(13)})  # systems in a batch


class Evaluations(Protocol):
    """Energies and forces of many configurations of one system."""

    frame: Frame  # numbers, cell and what else the potential reads
    at_once: int  # configurations that are evaluated as one

    def __call__(self, positions: Floats) -> tuple[Floats, Floats]:
        """Return energies (n,), eV, and forces (n, n_atoms, 3), eV/Å, of positions (n, n_atoms, 3).

        NaN for configurations that the potential refuses.
        """
        ...


def in_parts(
    evaluate: Callable[[Floats], tuple[Floats, Floats]], positions: Floats, at_once: int
) -> tuple[Floats, Floats]:
    """Return energies and forces as `Evaluations` do, so many configurations at a time."""
    parts = [evaluate(positions[k : k + at_once]) for k in range(0, len(positions), at_once)]
    return np.concatenate([e for e, _ in parts]), np.concatenate([f for _, f in parts])


class _OneByOne:
    """Evaluates one configuration after the other; NaN where the potential fails on one.

    It may do so where atoms overlap. A potential that from then on fails on the frame itself, too,
    has stopped working, of which it is not to be accused.

    Raises:
        CalculatorError: where it fails on the frame, or gives nothing finite there.
    """

    at_once = 1

    def __init__(self, potential: Potential, frame: Frame) -> None:
        self._potential, self.frame = potential, frame

    def __call__(self, positions: Floats) -> tuple[Floats, Floats]:
        energies, forces = np.full(len(positions), np.nan), np.full(positions.shape, np.nan)
        for k in np.flatnonzero(np.isfinite(positions).all(axis=(1, 2))):
            try:
                energies[k], forces[k] = self._potential.evaluate(moved(self.frame, positions[k]))
            except CalculatorError:
                energies[k] = np.nan
            if not finite(energies[k : k + 1], forces[k : k + 1])[0]:
                evaluated(self._potential, self.frame)
        return energies, forces


def evaluated(potential: Potential, frame: Frame) -> Frame:
    """Return a sound structure with its energy and forces.

    Raises:
        CalculatorError: where the potential fails on it, or gives something that is not finite.
    """
    energy, forces = potential.evaluate(frame)
    if not finite(np.array([energy]), forces[None])[0]:
        raise CalculatorError(
            f"{potential.name} gives nothing finite for the structure itself: energy {energy:g} "
            f"eV, largest force component {float(np.abs(forces).max(initial=0.0)):g} eV/Å; "
            "expected a structure that the calculator can evaluate"
        )
    return frame.with_results(energy, forces)


class _Batched:
    def __init__(self, potential: NetworkPotential, frame: Frame) -> None:
        self._potential, self.frame = potential, frame
        self._batches: dict[int, BatchPotential] = {}  # by number of systems: each is recorded once
        pairs = frame.n_atoms * min(frame.n_atoms - 1, NEIGHBOURS) / 2
        self.at_once = next(s for s in reversed(SIZES) if s == 1 or s * pairs <= LARGEST)

    def __call__(self, positions: Floats) -> tuple[Floats, Floats]:
        return in_parts(self._together, positions, self.at_once)

    def _together(self, positions: Floats) -> tuple[Floats, Floats]:
        n, n_atoms = positions.shape[:2]
        size = next(size for size in SIZES if size >= n)
        # Placeholders at the frame's positions fill the batch up, so that few sizes are prepared.
        whole = np.concatenate([positions, np.tile(self.frame.positions, (size - n, 1, 1))])
        energies, forces = self._batch(size).predict(self._systems(whole))
        return energies[:n], forces.reshape(size, n_atoms, 3)[:n]

    def _batch(self, size: int) -> BatchPotential:
        if size not in self._batches:
            from mdxai.calculators.batch import BatchPotential  # torch, only for a network

            self._batches[size] = batch = BatchPotential(self._potential, traces=False)
            # Prepared with sound structures: later ones may overlap, which is what is looked for.
            batch.predict(self._systems(np.tile(self.frame.positions, (size, 1, 1))))
        return self._batches[size]

    def _systems(self, positions: Floats) -> Systems:
        from mdxai.calculators.batch import Systems

        size, frame = len(positions), self.frame
        return Systems(
            np.tile(frame.numbers, size), np.arange(size + 1) * frame.n_atoms,
            positions.reshape(-1, 3), np.tile(frame.cell, (size, 1, 1)),
            np.tile(frame.pbc, (size, 1)),
        )  # fmt: skip


def evaluations(potential: Potential, frame: Frame) -> Evaluations:
    """Return what evaluates configurations of a frame: one batch for mdxai's networks.

    Args:
        potential: a twin that is evaluated here alone.
        frame: the system; its charge and spin go along with every evaluation.
    """
    network = network_potential(potential)
    return _OneByOne(potential, frame) if network is None else _Batched(network, frame)


def finite(energies: Floats, forces: Floats) -> Bools:
    """Return which results (n,) are finite throughout."""
    found: Bools = np.isfinite(energies) & np.isfinite(forces).all(axis=(1, 2))
    return found
