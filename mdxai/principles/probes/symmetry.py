"""Rotation, translation, reflection and the order of the atoms do not change the energy.

Forces rotate with the frame, F(x Q) = F(x) Q, and are permuted with the atoms. A periodic cell is
rotated with its atoms; a translated frame is wrapped into its cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from mdxai.calculators import Potential
from mdxai.calculators.fragments import reordered
from mdxai.frame import Floats, Frame, Ints
from mdxai.principles.probes.configurations import generator, moved
from mdxai.principles.probes.mismatch import (
    Comparison,
    EnergyComparison,
    ForceComparison,
    Mismatch,
    energy_and_forces,
    mismatch,
)

Undo = Callable[[Floats], Floats]  # forces of the changed frame → those of the original one
Changes = Callable[[Frame], Iterator[tuple[Frame, Undo]]]

REPEATS = 3  # random changes of each kind
FARTHEST = 10.0  # Å, along each axis of a translation


def rotations(frame: Frame) -> Iterator[tuple[Frame, Undo]]:
    """Yield the frame rotated at random about its centre, together with its cell."""
    rng = generator(frame)
    for _ in range(REPEATS):
        yield _turned(frame, _rotation(rng))


def reflections(frame: Frame) -> Iterator[tuple[Frame, Undo]]:
    """Yield the frame mirrored at random planes through its centre, together with its cell."""
    rng = generator(frame)
    for _ in range(REPEATS):
        normal = rng.normal(size=3)
        normal /= np.linalg.norm(normal)
        yield _turned(frame, np.eye(3) - 2 * np.outer(normal, normal))


def translations(frame: Frame) -> Iterator[tuple[Frame, Undo]]:
    """Yield the frame shifted by up to 10 Å along each axis, and wrapped if it is periodic."""
    rng = generator(frame)
    for _ in range(REPEATS):
        positions = frame.positions + rng.uniform(-FARTHEST, FARTHEST, size=3)
        if frame.pbc.any():
            cells = np.floor(positions @ np.linalg.pinv(frame.cell)) * frame.pbc
            positions = positions - cells @ frame.cell
        yield moved(frame, positions), lambda forces: forces


def permutations(frame: Frame) -> Iterator[tuple[Frame, Undo]]:
    """Yield the atoms in reverse and in random order; this also exchanges equal atoms."""
    rng = generator(frame)
    orders = [np.arange(frame.n_atoms)[::-1]]
    orders += [rng.permutation(frame.n_atoms) for _ in range(REPEATS - 1)]
    for order in orders:
        shuffled = replace(
            moved(frame, frame.positions[order]), numbers=frame.numbers[order],
            masses=frame.masses[order], velocities=frame.velocities[order],
            inputs=reordered(frame.inputs, order),
        )  # fmt: skip
        yield shuffled, _taking(np.argsort(order))


CHANGES: dict[str, Changes] = {
    "translation": translations,
    "rotation": rotations,
    "reflection": reflections,
    "permutation": permutations,
}


def comparison(twin: Potential, changes: Changes) -> Comparison:
    """Compare a frame with its changed versions; the largest differences count."""

    def compare(frame: Frame) -> Mismatch:
        energy, forces = twin.evaluate(frame)
        worst = Mismatch(0.0, np.zeros(frame.n_atoms))
        for changed, undo in changes(frame):
            other, pushed = twin.evaluate(changed)
            found = mismatch(frame.n_atoms, (energy, other), (forces, undo(pushed)))
            worst = worst.worse_of(found)
        return worst

    return compare


def invariances(twin: Potential) -> list[EnergyComparison | ForceComparison]:
    """Return the invariance of the energy and the equivariance of the forces for each change."""
    principles = (
        energy_and_forces(name, comparison(twin, changes)) for name, changes in CHANGES.items()
    )
    return [principle for two in principles for principle in two]


def _taking(back: Ints) -> Undo:
    return lambda forces: forces[back]


def _turned(frame: Frame, matrix: Floats) -> tuple[Frame, Undo]:
    centre = frame.positions.mean(axis=0)
    turned = moved(frame, (frame.positions - centre) @ matrix + centre)
    return replace(turned, cell=frame.cell @ matrix), lambda forces: forces @ matrix.T


def _rotation(rng: np.random.Generator) -> Floats:
    """Return a rotation drawn uniformly: Q of a Gaussian matrix, signs fixed by R, det +1."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    matrix: Floats = q * np.array([np.sign(np.linalg.det(q)), 1.0, 1.0])
    return matrix
