"""Minima and saddles by partitioned rational functions, their frequencies, and rates from these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mdxai.forecast.evaluations import Evaluations
from mdxai.forecast.free_motions import free_parts, whole_motions
from mdxai.frame import BOLTZMANN, Floats

SPACING = 0.01  # Å, of the finite differences of forces
REFRESHED = 4  # steps, after which the Hessian is computed anew
TRUST = 0.15  # Å, longest step of all atoms together
# √(eV / (amu Å²)) as a frequency: 15.633 per ps
PER_PS = float(np.sqrt(1.602176634e-19 / 1.66053906660e-27) * 1e10 / (2 * np.pi) * 1e-12)


@dataclass(frozen=True, slots=True)
class StationaryPoint:
    """A minimum or a saddle.

    Attributes:
        positions: (n_atoms, 3) Å.
        energy: eV.
        frequencies: (n_modes,) per ps, ascending, of all motions that something resists
            (`free_parts`); imaginary ones are negative.
        mode: (n_atoms, 3) unit vector of the lowest frequency's motion.
        fmax: largest force on an atom that is left, eV/Å.
    """

    positions: Floats
    energy: float
    frequencies: Floats
    mode: Floats
    fmax: float

    @property
    def order(self) -> int:
        """Number of imaginary frequencies: 0 for a minimum, 1 for a saddle."""
        return int(np.count_nonzero(self.frequencies < 0))


def stationary_point(
    evaluate: Evaluations,
    positions: Floats,
    uphill: Floats | None = None,
    *,
    fmax: float = 0.005,
    steps: int = 40,
) -> StationaryPoint | None:
    """Find a minimum, or the saddle that lies uphill along a direction.

    Each step uses the whole Hessian, which is computed at every fourth and updated in between
    (Bofill, J. Comput. Chem. 15, 1, 1994). Along the mode that resembles `uphill` most, later the
    one that was followed, the energy is maximised; along all others it is minimised (Banerjee et
    al., J. Phys. Chem. 89, 52, 1985).

    Args:
        evaluate: of the system.
        positions: (n_atoms, 3) Å, to start from.
        uphill: (n_atoms, 3), for a saddle.
        fmax: eV/Å, largest force that may be left.
        steps: at most.

    Returns:
        None where it is not found.
    """
    x, follow = positions.copy(), None if uphill is None else uphill.ravel()
    periodic = bool(evaluate.frame.pbc.any())
    hessian, free, last = np.empty((0, 0)), np.empty((0, 0)), (x, x)
    for k in range(steps):
        energies, forces = evaluate(x[None])
        left = float(np.linalg.norm(forces[0], axis=1).max())
        anew = k % REFRESHED == 0 or left < fmax
        if anew:
            hessian = force_constants(evaluate, x)
        else:
            hessian = hessian + _bofill(hessian, x - last[0], last[1] - forces[0])
        last = x, forces[0]
        if not (np.isfinite(energies[0]) and np.isfinite(hessian).all()):
            return None
        if anew:
            free = free_parts(evaluate, x, hessian)
        if left < fmax:
            frequencies, mode = _vibrations(evaluate, x, hessian, free)
            return StationaryPoint(x, float(energies[0]), frequencies, mode, left)
        internal = internal_space(x, periodic, free)
        if not internal.shape[1]:
            return None
        curvatures, modes = np.linalg.eigh(internal.T @ hessian @ internal)
        modes = internal @ modes
        slopes = -modes.T @ forces[0].ravel()
        chosen = None
        if follow is not None:
            chosen = int(np.argmax(np.abs(modes.T @ follow)))
            follow = modes[:, chosen]
        step = modes @ _rational_step(curvatures, slopes, chosen)
        x = x + (step * min(1.0, TRUST / np.linalg.norm(step))).reshape(x.shape)
    return None


def _bofill(hessian: Floats, step: Floats, change: Floats) -> Floats:
    """Return what a step (n_atoms, 3) and the change of the gradient tell of the Hessian."""
    s = step.ravel()
    missed, square = change.ravel() - hessian @ s, float(s @ s)
    along = float(missed @ s)
    if not along**2 > 1e-12 * square * float(missed @ missed):
        return np.zeros_like(hessian)
    share = along**2 / (square * float(missed @ missed))
    symmetric = np.outer(missed, missed) / along
    mixed = (np.outer(missed, s) + np.outer(s, missed)) / square
    update: Floats = share * symmetric + (1 - share) * (mixed - along * np.outer(s, s) / square**2)
    return update


def _rational_step(curvatures: Floats, slopes: Floats, uphill: int | None) -> Floats:
    """Return the step along each mode: down, but up along one of them."""
    step = np.zeros_like(slopes)
    down = np.arange(len(slopes)) != (-1 if uphill is None else uphill)
    if down.any():
        n = int(down.sum())
        bordered = np.zeros((n + 1, n + 1))
        bordered[:n, :n] = np.diag(curvatures[down])
        bordered[n, :n] = bordered[:n, n] = slopes[down]
        shift = np.linalg.eigvalsh(bordered)[0]
        step[down] = -slopes[down] / np.maximum(curvatures[down] - shift, 1e-8)
    if uphill is not None:
        b, g = curvatures[uphill], slopes[uphill]
        step[uphill] = -g / (b - (b + np.sqrt(b**2 + 4 * g**2)) / 2) if g else 0.0
    return step


def force_constants(evaluate: Evaluations, positions: Floats) -> Floats:
    """Return the Hessian (3n, 3n), eV/Å², by central differences of the forces, as one batch."""
    n = positions.size
    shifts = SPACING * np.concatenate([np.eye(n), -np.eye(n)]).reshape(2 * n, *positions.shape)
    forces = evaluate(positions + shifts)[1].reshape(2, n, n)
    hessian = (forces[1] - forces[0]) / (2 * SPACING)
    symmetric: Floats = (hessian + hessian.T) / 2
    return symmetric


def internal_space(
    positions: Floats, periodic: bool, free: Floats, weights: Floats | None = None
) -> Floats:
    """Return an orthonormal basis (3n, n_modes) of all motions that something resists.

    Args:
        positions: (n_atoms, 3) Å.
        periodic: whether the system repeats in any direction.
        free: (3n, n_free) orthonormal, motions that nothing resists besides those of the whole.
        weights: (n_atoms,) square roots of masses, for mass-weighted coordinates.
    """
    whole = whole_motions(positions, periodic, weights)
    internal: Floats = np.linalg.svd(whole, full_matrices=True)[0][:, whole.shape[1] :]
    if not free.shape[1]:
        return internal
    w = np.ones(len(positions)) if weights is None else weights
    besides = internal.T @ (np.repeat(w, 3)[:, None] * free)
    held: Floats = internal @ np.linalg.svd(besides, full_matrices=True)[0][:, free.shape[1] :]
    return held


def _vibrations(
    evaluate: Evaluations, positions: Floats, hessian: Floats, free: Floats
) -> tuple[Floats, Floats]:
    """Return frequencies (n_modes,), per ps, and the lowest mode (n_atoms, 3)."""
    root = np.sqrt(evaluate.frame.masses)
    inverse = np.repeat(1 / root, 3)
    internal = internal_space(positions, bool(evaluate.frame.pbc.any()), free, root)
    weighted = internal.T @ (inverse[:, None] * hessian * inverse) @ internal
    squares, modes = np.linalg.eigh(weighted)
    frequencies = np.sign(squares) * np.sqrt(np.abs(squares)) * PER_PS
    if not len(squares):
        return frequencies, np.zeros_like(positions)
    lowest = inverse * (internal @ modes[:, 0])
    return frequencies, (lowest / np.linalg.norm(lowest)).reshape(positions.shape)


def prefactor(minimum: StationaryPoint, saddle: StationaryPoint) -> float:
    """Return Π ν_min / Π' ν_saddle, per ps (Vineyard, J. Phys. Chem. Solids 3, 121, 1957)."""
    down = saddle.frequencies[saddle.frequencies > 0]
    return float(np.exp(np.log(minimum.frequencies).sum() - np.log(down).sum()))


def rate(prefactor_per_ps: float, barrier: float, temperature: float) -> float:
    """Return ν exp(−E/k_B T), per ps; eV, K."""
    return float(prefactor_per_ps * np.exp(-barrier / (BOLTZMANN * temperature)))
