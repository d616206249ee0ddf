"""Forces are the gradient of the energy, in single precision as in double."""

from __future__ import annotations

import numpy as np

from mdxai.calculators import Potential
from mdxai.calculators.own_networks import network_potential
from mdxai.frame import Floats, Frame
from mdxai.principles.principle import Cost, Deviation, PrincipleUnavailable
from mdxai.principles.probes.configurations import generator, moved, noise
from mdxai.principles.probes.mismatch import Comparison, Mismatch, mismatch

NOISE_SPACING = 1e-4  # Å, between the points that the noise is estimated from
THIRD_DERIVATIVE = 100.0  # eV/Å³, typical of a covalent bond; sets the step, not the error
STEPS = (1e-3, 3e-2)  # Å, shortest and longest step
CERTAINTY = 4.0  # standard deviations of the noise that do not count


class Gradient:
    """Deviation of the forces from −∂E/∂x, eV/Å, beyond the error of the finite differences.

    Along unit vectors u, F·u against −[E(x + hu) − E(x − hu)]/2h, extrapolated from h and 2h
    (Richardson). The step h balances the energy's noise against the third derivative. Subtracted
    are |D(h) − D(2h)|/3 for the truncation and 4 σ/h for the noise. One direction moves each atom
    alone (up to `n_atoms`), so that a faulty atom can be named; `n_collective` move all atoms.

    Args:
        twin: potential to probe.
        n_atoms: how many atoms to move alone.
        n_collective: directions that move all atoms.
    """

    name = "gradient"
    unit = "eV/Å"
    cost: Cost = "probe"

    def __init__(self, twin: Potential, *, n_atoms: int = 24, n_collective: int = 4) -> None:
        self._twin = twin
        self._n_atoms, self._n_collective = n_atoms, n_collective

    def deviate(self, frame: Frame, attribution: object = None) -> Deviation:
        forces = self._twin.evaluate(frame)[1]
        rng = generator(frame)
        movers = rng.permutation(frame.n_atoms)[: self._n_atoms]
        directions = []
        for atom in movers:
            directions.append(np.zeros((frame.n_atoms, 3)))
            directions[-1][atom] = rng.normal(size=3)
        directions += list(rng.normal(size=(self._n_collective, frame.n_atoms, 3)))
        directions = [u / np.linalg.norm(u) for u in directions]
        sigma = self._noise(frame, directions[-1])
        step = float(np.clip(np.cbrt(3 * sigma / THIRD_DERIVATIVE), *STEPS))
        errors = np.array([self._error(frame, forces, u, step, sigma) for u in directions])
        worst = int(np.argmax(errors))
        named = worst < len(movers) and not errors[worst] <= 0
        atoms = (int(movers[worst]),) if named else ()
        return Deviation(self.name, self.unit, float(errors[worst]), atoms)

    def _noise(self, frame: Frame, direction: Floats) -> float:
        points = NOISE_SPACING * np.arange(-4, 5)
        return noise(np.array([self._energy(frame, direction, s) for s in points]))

    def _energy(self, frame: Frame, direction: Floats, s: float) -> float:
        return self._twin.evaluate(moved(frame, frame.positions + s * direction))[0]

    def _error(
        self, frame: Frame, forces: Floats, direction: Floats, step: float, sigma: float
    ) -> float:
        near, far = (
            (self._energy(frame, direction, -s) - self._energy(frame, direction, s)) / (2 * s)
            for s in (step, 2 * step)
        )
        unsure = abs(near - far) / 3 + CERTAINTY * sigma / step
        error = abs(np.sum(forces * direction) - (4 * near - far) / 3)
        return float(np.maximum(error - unsure, 0.0))


def precision_of(twin: Potential) -> Comparison:
    """Compare a network in its own precision with itself in float64.

    Raises:
        PrincipleUnavailable: for a calculator other than mdxai's, or one in float64.
    """
    network = network_potential(twin)
    if network is None:
        raise PrincipleUnavailable("the calculator has no other precision")
    import torch

    if network.dtype == torch.float64:
        raise PrincipleUnavailable("the calculator already computes in float64")
    exact = network.twin(torch.float64)

    def compare(frame: Frame) -> Mismatch:
        (energy, forces), (energy64, forces64) = twin.evaluate(frame), exact.evaluate(frame)
        return mismatch(frame.n_atoms, (energy, energy64), (forces, forces64))

    return compare
