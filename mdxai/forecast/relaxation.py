"""Many configurations of one system relaxed at once, with or without a distance held."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mdxai.forecast.evaluations import Evaluations, finite
from mdxai.frame import Bools, Floats, Ints

LONGEST_STEP = 0.1  # Å, of one atom
MEMORY = 12  # steps that L-BFGS remembers
STIFFNESS = 70.0  # eV/Å², before it remembers any; as in ASE


@dataclass(frozen=True, slots=True)
class Distances:
    """One distance of each of n configurations: the length of Σ_a w_a x_a + shift.

    Of two atoms the weights are −1 and 1, of the centres of two groups minus and plus one over the
    number of atoms.

    weights: (n, n_atoms), which add up to 0. shift: (n, 3) Å, to the image that is meant.
    """

    weights: Floats
    shift: Floats

    @classmethod
    def between(
        cls, groups: Sequence[tuple[Sequence[int], Sequence[int]]], shift: Floats, n_atoms: int
    ) -> Distances:
        """Return the distances between the centres of two groups of atoms in each configuration.

        shift: (n, 3) Å, added to the vector from the first centre to the second.
        """
        weights = np.zeros((len(groups), n_atoms))
        for k, (first, second) in enumerate(groups):
            weights[k, list(first)], weights[k, list(second)] = -1 / len(first), 1 / len(second)
        return cls(weights, shift)

    def __len__(self) -> int:
        return len(self.weights)

    def select(self, keep: Bools | Ints) -> Distances:
        """Return those that a mask or an index array picks."""
        return Distances(self.weights[keep], self.shift[keep])

    def vectors(self, positions: Floats) -> Floats:
        """(n, n_atoms, 3) → (n, 3) Å, from the first to the second."""
        return self._sums(positions) + self.shift

    def lengths(self, positions: Floats) -> Floats:
        """(n, n_atoms, 3) → (n,) Å."""
        lengths: Floats = np.linalg.norm(self.vectors(positions), axis=1)
        return lengths

    def set(self, positions: Floats, lengths: Floats) -> Floats:
        """Return positions with these lengths (n,): both groups move rigidly along their axis."""
        vectors = self.vectors(positions)
        now = np.linalg.norm(vectors, axis=1)
        change = ((lengths - now) / now)[:, None] * vectors / self._squares[:, None]
        moved: Floats = positions + self.weights[:, :, None] * change[:, None, :]
        return moved

    def project(self, vectors: Floats, positions: Floats) -> Floats:
        """Return vectors (n, n_atoms, 3) without the part that changes the distance."""
        axis = self._axes(positions)
        along = np.sum(self._sums(vectors) * axis, axis=1) / self._squares
        left: Floats = vectors - self.weights[:, :, None] * (along[:, None] * axis)[:, None, :]
        return left

    def shares(self, vectors: Floats, positions: Floats) -> Floats:
        """Return how much (n,) of unit vectors (n, n_atoms, 3) changes the distance, up to 1."""
        along = np.sum(self._sums(vectors) * self._axes(positions), axis=1)
        shares: Floats = np.abs(along) / np.sqrt(self._squares)
        return shares

    @property
    def _squares(self) -> Floats:
        squares: Floats = np.sum(self.weights**2, axis=1)
        return squares

    def _sums(self, vectors: Floats) -> Floats:
        sums: Floats = np.einsum("na,nax->nx", self.weights, vectors)
        return sums

    def _axes(self, positions: Floats) -> Floats:
        axes = self.vectors(positions)
        unit: Floats = axes / np.linalg.norm(axes, axis=1)[:, None]
        return unit


@dataclass(frozen=True, slots=True)
class Relaxed:
    """positions: (n, n_atoms, 3) Å. energies: (n,) eV. converged: (n,) whether no force is left."""

    positions: Floats
    energies: Floats
    converged: Bools


class _Lbfgs:
    """L-BFGS for n configurations at once, with capped steps instead of a line search, as ASE's.

    Nocedal, Math. Comput. 35, 773 (1980). Pairs of steps and forces with negative curvature are
    left out, so that steps always lead downhill.
    """

    def __init__(self, like: Floats) -> None:
        self._x, self._forces = np.full_like(like, np.nan), np.full_like(like, np.nan)
        self._history: deque[tuple[Floats, Floats, Floats]] = deque(maxlen=MEMORY)

    def step(self, x: Floats, forces: Floats, active: Ints) -> Floats:
        """Return displacements (n_active, n_atoms, 3) of the active configurations, Å."""
        self._remember(x, forces, active)
        downhill, shares = forces.copy(), []
        for s, y, inverse in reversed(self._history):
            share = inverse[active] * _dot(s[active], downhill)
            downhill -= share[_WIDE] * y[active]
            shares.append(share)
        step = downhill / STIFFNESS
        for (s, y, inverse), share in zip(self._history, reversed(shares), strict=True):
            step += (share - inverse[active] * _dot(y[active], step))[_WIDE] * s[active]
        longest = np.sqrt(np.sum(step**2, axis=2)).max(axis=1)
        capped: Floats = step * np.minimum(1.0, LONGEST_STEP / np.maximum(longest, 1e-12))[_WIDE]
        return capped

    def _remember(self, x: Floats, forces: Floats, active: Ints) -> None:
        """Add the last step and the change of forces; 1/(s·y) is 0 where they are not used."""
        s, y = x - self._x[active], self._forces[active] - forces
        curvature = _dot(s, y)
        used = curvature > 1e-8  # NaN at the first step
        pair = np.zeros_like(self._x), np.zeros_like(self._x), np.zeros(len(self._x))
        pair[0][active[used]], pair[1][active[used]] = s[used], y[used]
        pair[2][active[used]] = 1 / curvature[used]
        self._history.append(pair)
        self._x[active], self._forces[active] = x, forces


_WIDE = (slice(None), None, None)


def _dot(a: Floats, b: Floats) -> Floats:
    """(n, n_atoms, 3), (n, n_atoms, 3) → (n,)."""
    product: Floats = np.einsum("nij,nij->n", a, b)
    return product


def relax(
    evaluate: Evaluations,
    positions: Floats,
    *,
    held: Distances | None = None,
    fmax: float = 0.05,
    steps: int = 60,
    floor: float = -np.inf,
) -> Relaxed:
    """Relax configurations by L-BFGS until no atom has a force above `fmax`.

    A configuration that the potential refuses, or below the `floor`, stays where that was seen.

    Args:
        evaluate: of the system.
        positions: (n, n_atoms, 3) Å.
        held: a distance of each configuration to keep as it is.
        fmax: eV/Å.
        steps: at most.
        floor: eV; an energy that is lower than any sound structure's.
    """
    positions = positions.copy()
    lengths = None if held is None else held.lengths(positions)
    optimizer, energies = _Lbfgs(positions), np.full(len(positions), np.nan)
    converged, active = np.zeros(len(positions), dtype=bool), np.arange(len(positions))
    for step in range(steps + 1):
        here = positions[active]
        energies[active], forces = evaluate(here)
        going = finite(energies[active], forces) & ~(energies[active] < floor)
        if held is not None:
            forces = held.select(active).project(forces, here)
        small = np.sqrt(np.sum(forces**2, axis=2)).max(axis=1) < fmax
        converged[active[going & small]] = True
        going &= ~small
        active, here, forces = active[going], here[going], forces[going]
        if not len(active) or step == steps:
            break
        positions[active] += optimizer.step(here, forces, active)
        if held is not None and lengths is not None:
            positions[active] = held.select(active).set(positions[active], lengths[active])
    return Relaxed(positions, energies, converged)
