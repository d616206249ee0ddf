"""Configurations made from a frame, energies along paths through them, noise of energies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import factorial

import numpy as np
from ase.data import atomic_masses, covalent_radii

from mdxai.calculators import Potential
from mdxai.frame import (
    NO_INPUTS,
    CalculatorInputs,
    Floats,
    Frame,
    Ints,
    Pairs,
    iter_element_pairs,
)

SEED = 20_261  # of every random choice, together with the frame's step
HEIGHT = 5.0  # eV, 29 k_B T at 2000 K: no simulation climbs this high
LONGEST_PAIR = 6.0  # Å, of pairs in a periodic cell


@dataclass(frozen=True, slots=True)
class Curve:
    """Energy along a path. distances: (n,) Å. energies: (n,) eV. forces: (n,) eV/Å, −dE/d(distance)
    from the calculator's forces.
    """

    distances: Floats
    energies: Floats
    forces: Floats


class OncePerFrame[T]:
    """A function of a frame that caches its last result, for the principles that share it."""

    _not_state = ("_last",)  # a restart never asks for the same frame again

    def __init__(self, compute: Callable[[Frame], T]) -> None:
        self._compute = compute
        self._last: tuple[Frame, T] | None = None

    def __call__(self, frame: Frame) -> T:
        if self._last is None or self._last[0] is not frame:
            self._last = frame, self._compute(frame)
        return self._last[1]


def generator(frame: Frame) -> np.random.Generator:
    """Return the generator of a frame's random choices, the same for the same step."""
    return np.random.default_rng([SEED, frame.step])


def moved(frame: Frame, positions: Floats) -> Frame:
    """Return the frame with other positions (n_atoms, 3), Å, and without energy and forces."""
    return replace(frame, positions=positions).without("energy", "forces")


def configuration(
    numbers: Ints,
    positions: Floats,
    cell: Floats | None = None,
    pbc: object = False,
    *,
    inputs: CalculatorInputs = NO_INPUTS,
) -> Frame:
    """Return a frame at rest of atoms `numbers` at `positions` (n_atoms, 3), Å.

    Charge and spin of parts and copies of a system: see `mdxai.calculators.fragments`.
    """
    nothing = np.full((len(numbers), 3), np.nan)
    return Frame(
        0, 0.0, np.array(numbers, dtype=np.int64), atomic_masses[numbers],
        np.array(positions, dtype=np.float64), np.zeros_like(nothing), nothing, np.nan,
        np.zeros((3, 3)) if cell is None else np.array(cell, dtype=np.float64),
        np.array(np.broadcast_to(np.asarray(pbc, dtype=bool), 3)),
        inputs=inputs, absent=frozenset({"energy", "forces"}),
    )  # fmt: skip


def scan(twin: Potential, frame: Frame, direction: Floats, distances: Floats) -> Curve:
    """Evaluate x + (s − s₀) d for each s of `distances`; s₀ is the first of them.

    Args:
        twin: what to evaluate.
        frame: configuration at distances[0].
        direction: (n_atoms, 3), displacement per Å of distance.
        distances: (n,) Å.

    Raises:
        CalculatorError: if the calculator refuses a configuration.
    """
    results = [
        twin.evaluate(moved(frame, frame.positions + (s - distances[0]) * direction))
        for s in distances
    ]
    energies = np.array([energy for energy, _ in results])
    along = np.array([np.sum(forces * direction) for _, forces in results])
    return Curve(np.asarray(distances, dtype=np.float64), energies, along)


def all_pairs(frame: Frame) -> Pairs:
    """Return every pair of a molecule, or those of a periodic cell closer than 6 Å."""
    return frame.pairs(LONGEST_PAIR if frame.pbc.any() else np.inf)


def closest_pairs(frame: Frame) -> Pairs:
    """Return the closest pair of every two elements, nearest first."""
    pairs = all_pairs(frame)
    z = np.sort(np.stack([frame.numbers[pairs.i], frame.numbers[pairs.j]], axis=1), axis=1)
    chosen = []
    for low, high in iter_element_pairs(frame.numbers):
        here = np.flatnonzero((z[:, 0] == low) & (z[:, 1] == high))
        if len(here):
            chosen.append(here[np.argmin(pairs.distances[here])])
    chosen.sort(key=lambda k: pairs.distances[k])
    return pairs.select(np.array(chosen, dtype=np.int64))


def covalent_length(frame: Frame, i: int, j: int) -> float:
    """Return the sum of two atoms' covalent radii (ASE's), Å."""
    return float(covalent_radii[frame.numbers[i]] + covalent_radii[frame.numbers[j]])


def deepest_fall(energies: Floats) -> float:
    """Return the largest fall, eV, of energies that should rise in this order; NaN for NaN."""
    return float(np.max(np.maximum.accumulate(energies) - energies))


def reachable(energies: Floats) -> Floats:
    """Return the energies up to the first that is more than 5 eV above the initial one."""
    beyond = np.flatnonzero(~(energies - energies[0] <= HEIGHT))
    return energies[: beyond[0] + 1] if len(beyond) else energies


def noise(energies: Floats) -> float:
    """Return the rounding noise of energies (n,) at equally spaced, very close points, eV.

    Differences of order 4 of a smooth function contain only its noise:
    σ² = (4!)²/8! ⟨(Δ⁴E)²⟩ (Moré and Wild, SIAM J. Sci. Comput. 33, 1292, 2011). Energies that are
    all single-precision numbers have at least the noise of their last digit.
    """
    order = 4
    scale = factorial(order) ** 2 / factorial(2 * order)
    sigma = np.sqrt(scale * np.mean(np.diff(energies, order) ** 2))
    single = energies.astype(np.float32)
    digit = np.spacing(np.abs(single if np.array_equal(single, energies) else energies).max())
    return float(np.maximum(sigma, digit))
