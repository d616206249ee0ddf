"""What probes share: configurations made from a frame, paths through them, noise of energies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import factorial

import numpy as np
from ase.data import atomic_masses, covalent_radii

from mdxai.calculators import Potential
from mdxai.frame import Floats, Frame, Ints, Pairs, iter_element_pairs
from mdxai.principles.principle import Cost, Deviation

SEED = 20_261  # of every random choice; a frame's step is added, so that frames differ
HEIGHT = 5.0  # eV; what lies behind a wall of 29 k_B T at 2000 K no dynamics reaches
LONGEST_PAIR = 6.0  # Å, at which pairs of a periodic cell are still looked for


@dataclass(frozen=True, slots=True)
class Curve:
    """Energy along a path. distances: (n,) Å. energies: (n,) eV. forces: (n,) eV/Å, −dE/d(distance)
    as the calculator's forces state it.
    """

    distances: Floats
    energies: Floats
    forces: Floats


@dataclass(frozen=True, slots=True)
class Mismatch:
    """By how much two evaluations differ that a principle makes equal.

    energy: meV/atom. forces: (n_atoms,) eV/Å, length of each atom's difference.
    """

    energy: float
    forces: Floats

    def worse_of(self, other: Mismatch) -> Mismatch:
        """Return the larger of both in each number; NaN is larger than anything."""
        return Mismatch(
            float(np.maximum(self.energy, other.energy)), np.maximum(self.forces, other.forces)
        )


Comparison = Callable[[Frame], Mismatch]


class OncePerFrame[T]:
    """A function of a frame that remembers its last answer, for the principles that share it."""

    _not_state = ("_last",)  # the frame it was asked about does not come again

    def __init__(self, compute: Callable[[Frame], T]) -> None:
        self._compute = compute
        self._last: tuple[Frame, T] | None = None

    def __call__(self, frame: Frame) -> T:
        if self._last is None or self._last[0] is not frame:
            self._last = frame, self._compute(frame)
        return self._last[1]


class EnergyComparison:
    """|ΔE|/N, meV/atom, between two evaluations that a principle makes equal."""

    unit = "meV/atom"
    cost: Cost = "probe"

    def __init__(self, name: str, compare: Comparison) -> None:
        self.name, self._compare = name, compare

    def deviate(self, frame: Frame, attribution: object = None) -> Deviation:
        return Deviation(self.name, self.unit, self._compare(frame).energy)


class ForceComparison:
    """max |ΔF|, eV/Å, between two evaluations that a principle makes equal, and the atom it is on."""

    unit = "eV/Å"
    cost: Cost = "probe"

    def __init__(self, name: str, compare: Comparison) -> None:
        self.name, self._compare = f"{name}_forces", compare

    def deviate(self, frame: Frame, attribution: object = None) -> Deviation:
        forces = self._compare(frame).forces
        worst = int(np.argmax(forces))  # that of a NaN, if there is one
        atoms = () if forces[worst] == 0 else (worst,)
        return Deviation(self.name, self.unit, float(forces[worst]), atoms)


def energy_and_forces(name: str, compare: Comparison) -> tuple[EnergyComparison, ForceComparison]:
    """Return the principles of energy and forces that one comparison gives."""
    once = OncePerFrame(compare)
    return EnergyComparison(name, once), ForceComparison(name, once)


def mismatch(
    n_atoms: int, energies: tuple[float, float], forces: tuple[Floats, Floats]
) -> Mismatch:
    """Compare energies (eV) and forces (n_atoms, 3) (eV/Å) of two evaluations."""
    lengths = np.linalg.norm(forces[0] - forces[1], axis=1)
    return Mismatch(1e3 * abs(energies[0] - energies[1]) / n_atoms, lengths)


def generator(frame: Frame) -> np.random.Generator:
    """Return the generator of a frame's random choices: the same for the same step."""
    return np.random.default_rng([SEED, frame.step])


def moved(frame: Frame, positions: Floats) -> Frame:
    """Return the frame with other positions (n_atoms, 3), Å; its energy and forces are gone."""
    return replace(frame, positions=positions).without("energy", "forces")


def configuration(
    numbers: Ints, positions: Floats, cell: Floats | None = None, pbc: object = False
) -> Frame:
    """Return a frame at rest of atoms `numbers` at `positions` (n_atoms, 3), Å."""
    nothing = np.full((len(numbers), 3), np.nan)
    return Frame(
        0, 0.0, np.array(numbers, dtype=np.int64), atomic_masses[numbers],
        np.array(positions, dtype=np.float64), np.zeros_like(nothing), nothing, np.nan,
        np.zeros((3, 3)) if cell is None else np.array(cell, dtype=np.float64),
        np.array(np.broadcast_to(np.asarray(pbc, dtype=bool), 3)),
        absent=frozenset({"energy", "forces"}),
    )  # fmt: skip


def scan(twin: Potential, frame: Frame, direction: Floats, distances: Floats) -> Curve:
    """Evaluate x + (s − s₀) d for each s of `distances`, s₀ that of the frame, its first.

    Args:
        twin: what to evaluate.
        frame: configuration at distances[0].
        direction: (n_atoms, 3), displacement per Å of distance.
        distances: (n,) Å.

    Raises:
        CalculatorError: where the calculator refuses a configuration.
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
    """Return the closest pair of each two elements, nearest first."""
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
    """Return the largest fall, eV, of energies that ought to rise in this order; NaN for NaN."""
    return float(np.max(np.maximum.accumulate(energies) - energies))


def reachable(energies: Floats) -> Floats:
    """Return the energies up to the first that lies 5 eV above the first of all."""
    beyond = np.flatnonzero(~(energies - energies[0] <= HEIGHT))
    return energies[: beyond[0] + 1] if len(beyond) else energies


def noise(energies: Floats) -> float:
    """Return the rounding noise of energies (n,) at equally spaced, very close points, eV.

    Differences of order 4 leave nothing of a smooth function but its noise:
    σ² = (4!)²/8! ⟨(Δ⁴E)²⟩ (Moré and Wild, SIAM J. Sci. Comput. 33, 1292, 2011). Energies that are
    all single-precision numbers have at least the noise of their last digit.
    """
    order = 4
    scale = factorial(order) ** 2 / factorial(2 * order)
    sigma = np.sqrt(scale * np.mean(np.diff(energies, order) ** 2))
    single = energies.astype(np.float32)
    digit = np.spacing(np.abs(single if np.array_equal(single, energies) else energies).max())
    return float(np.maximum(sigma, digit))
