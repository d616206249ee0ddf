"""Motions that nothing resists: of the whole system, and of parts of it that nothing holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from mdxai.forecast.bonded_parts import BondedPart, bonded_parts, joined_parts
from mdxai.forecast.evaluations import Evaluations
from mdxai.frame import Floats, Frame
from mdxai.principles.probes.configurations import moved

FREE = 0.002  # eV/Å²: a mode that is softer swings by more than 3.6 Å at 300 K
STEP = 0.02  # Å, of the atom that moves most
WALL = 1e3  # eV/Å, where the potential refuses
PARALLEL = 1e-3  # of directions in which a chain repeats


def whole_motions(positions: Floats, periodic: bool, weights: Floats | None = None) -> Floats:
    """Return an orthonormal basis (3n, n_motions) of motions of the whole, which are always free:
    translations, and turns of what does not repeat.

    Args:
        positions: (n_atoms, 3) Å.
        periodic: whether the system repeats in any direction.
        weights: (n_atoms,) square roots of masses, for mass-weighted coordinates.
    """
    w = np.ones(len(positions)) if weights is None else weights
    moves = [w[:, None] * axis * np.ones_like(positions) for axis in np.eye(3)]
    if not periodic:
        centred = positions - np.average(positions, axis=0, weights=w**2)
        moves += [w[:, None] * np.cross(axis, centred) for axis in np.eye(3)]
    left, size, _ = np.linalg.svd(np.array([m.ravel() for m in moves]).T, full_matrices=False)
    whole: Floats = left[:, size > 1e-4 * size[0]]  # a linear molecule has one turn less
    return whole


def free_parts(evaluate: Evaluations, positions: Floats, hessian: Floats) -> Floats:
    """Return an orthonormal basis (3n, n_motions) of free motions besides those of the whole.

    Bonds, and forces between what they connect, make parts that do not see each other. Such a part
    moves freely. It turns freely about an axis if that changes no force but its direction: a
    molecule that sees no image of itself in a periodic cell, a chain about itself. Finite turns
    tell, exactly where nothing resists.

    Args:
        evaluate: of the system.
        positions: (n_atoms, 3) Å.
        hessian: (3n, 3n) eV/Å², there.
    """
    frame = moved(evaluate.frame, positions)
    parts, periodic = _parts(frame, hessian), bool(frame.pbc.any())
    if len(parts) == 1 and not periodic:
        return np.empty((positions.size, 0))
    turns = [turn for part in parts for turn in _turns(part, positions)]
    shifts = _translations(parts if len(parts) > 1 else [], len(positions))
    moves = np.array([*(turn.direction(positions) for turn in turns), *shifts])
    if not len(moves):
        return np.empty((positions.size, 0))
    resisted = np.array([*_resistance(evaluate, positions, turns), *(shifts @ hessian)])
    left, size, right = np.linalg.svd(moves.T, full_matrices=False)
    kept = size > 1e-4 * size[0]
    rest = _normal(whole_motions(positions, periodic).T @ left[:, kept])
    combined = (resisted.T @ right[kept].T / size[kept]) @ rest
    _, curvatures, shares = np.linalg.svd(combined, full_matrices=False)
    free: Floats = left[:, kept] @ rest @ shares[curvatures < FREE].T
    return free


def _normal(cosines: Floats) -> Floats:
    """Return an orthonormal basis (n, m) of what is normal to rows of cosines (k, n)."""
    _, size, right = np.linalg.svd(cosines, full_matrices=True)
    normal: Floats = right[int(np.count_nonzero(size > 1e-4)) :].T
    return normal


def _parts(frame: Frame, hessian: Floats) -> list[BondedPart]:
    """Return the parts that resist a motion of one against the other, or bonds connect."""
    bonded = bonded_parts(frame)
    along = _translations(bonded, frame.n_atoms)
    coupling = (along @ hessian @ along.T).reshape(len(bonded), 3, len(bonded), 3)
    return joined_parts(frame, bonded, np.sqrt((coupling**2).sum(axis=(1, 3))) > FREE)


def _translations(parts: list[BondedPart], n_atoms: int) -> Floats:
    """Return unit displacements (3 n_parts, 3 n_atoms) of each part along each axis."""
    along = np.zeros((len(parts), 3, n_atoms, 3))
    for p, part in enumerate(parts):
        for axis in range(3):
            along[p, axis, part.atoms, axis] = 1 / np.sqrt(len(part.atoms))
    rows: Floats = along.reshape(3 * len(parts), 3 * n_atoms)
    return rows


@dataclass(frozen=True, slots=True)
class _Turn:
    """A part that turns about an axis by an angle, radians."""

    part: BondedPart
    axis: Floats
    angle: float

    def places(self, positions: Floats, sign: int) -> Floats:
        placed, centred = positions.copy(), _centred(self.part, positions)
        placed[self.part.atoms] += self._by(sign).apply(centred) - centred
        return placed

    def turned_back(self, forces: Floats, sign: int) -> Floats:
        back = forces.copy()
        back[self.part.atoms] = self._by(-sign).apply(forces[self.part.atoms])
        return back

    def direction(self, positions: Floats) -> Floats:
        """Return the displacement (3n,) per radian."""
        along = np.zeros_like(positions)
        along[self.part.atoms] = np.cross(self.axis, _centred(self.part, positions))
        return along.ravel()

    def _by(self, sign: int) -> Rotation:
        return Rotation.from_rotvec(sign * self.angle * self.axis)


def _centred(part: BondedPart, positions: Floats) -> Floats:
    whole = part.whole(positions)
    centred: Floats = whole - whole.mean(axis=0)
    return centred


def _turns(part: BondedPart, positions: Floats) -> list[_Turn]:
    centred, turns = _centred(part, positions), list[_Turn]()
    for axis in _axes(part):
        farthest = float(np.linalg.norm(np.cross(axis, centred), axis=1).max())
        if farthest > 1e-4:
            turns.append(_Turn(part, axis, STEP / farthest))
    return turns


def _axes(part: BondedPart) -> Floats:
    """Return the axes (n, 3) about which a part may turn: any, that of a chain, or none."""
    if part.is_molecule:
        return np.eye(3)
    _, size, right = np.linalg.svd(part.repeats)
    chain = len(size) == 1 or size[1] < PARALLEL * size[0]
    axes: Floats = right[:1] if chain else np.empty((0, 3))
    return axes


def _resistance(evaluate: Evaluations, positions: Floats, turns: list[_Turn]) -> list[Floats]:
    """Return the change of the gradient (3n,) per radian, but for its direction, of each turn."""
    if not turns:
        return []
    places = [turn.places(positions, sign) for turn in turns for sign in (1, -1)]
    forces = evaluate(np.array(places))[1].reshape(len(turns), 2, *positions.shape)
    changes = list[Floats]()
    for turn, (after, before) in zip(turns, forces, strict=True):
        change = turn.turned_back(before, -1) - turn.turned_back(after, 1)
        changes.append(np.where(np.isfinite(change), change, WALL).ravel() / (2 * turn.angle))
    return changes
