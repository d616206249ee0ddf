"""How the outputs of a network's atoms combine to its prediction: y = Σ_a s_a · o_a.

Attribution passes the relevance of y to the atoms' outputs o_a; all it needs are the weights s_a.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mdxai.calculators.card import CalculatorError
from mdxai.frame import Floats, Frame, Ints


class Pooling(Protocol):
    """Weights of the atoms' outputs."""

    def check(self, frame: Frame) -> None:
        """Raise CalculatorError for a structure that has no such output."""
        ...

    def weights(self, outputs: Floats, positions: Floats, starts: Ints) -> Floats:
        """Return s, (n_atoms,).

        Args:
            outputs: (n_atoms,) of the network.
            positions: (n_atoms, 3) in the network's length unit.
            starts: (n_systems + 1,) first atom of each system, and the number of all atoms.
        """
        ...


@dataclass(frozen=True, slots=True)
class SumOfAtoms:
    """An extensive output, y = Σ o_a."""

    def check(self, frame: Frame) -> None: ...

    def weights(self, outputs: Floats, positions: Floats, starts: Ints) -> Floats:
        return np.ones(len(outputs))


@dataclass(frozen=True, slots=True)
class MeanOfAtoms:
    """An intensive output, y = Σ o_a / n."""

    def check(self, frame: Frame) -> None: ...

    def weights(self, outputs: Floats, positions: Floats, starts: Ints) -> Floats:
        counts = np.diff(starts)
        return np.repeat(1.0 / counts, counts)


@dataclass(frozen=True, slots=True)
class OneAtom:
    """The output of one atom of each system, y = o_a."""

    atom: int

    def check(self, frame: Frame) -> None:
        if not 0 <= self.atom < frame.n_atoms:
            raise CalculatorError(
                f"there is no atom {self.atom}: the structure has atoms 0 to {frame.n_atoms - 1}"
            )

    def weights(self, outputs: Floats, positions: Floats, starts: Ints) -> Floats:
        weights = np.zeros(len(outputs))
        weights[starts[:-1] + self.atom] = 1.0
        return weights


@dataclass(frozen=True, slots=True)
class DipoleMagnitude:
    """y = |μ| with μ = Σ o_a r_a, o_a latent charges. The direction of μ is taken as constant, so
    that s_a = r_a · μ/|μ|. With `neutral` the charges are shifted to sum to zero, which moves the
    origin to the mean position. Source: Esders et al. 2025, section on the dipole moment.
    """

    neutral: bool = True

    def check(self, frame: Frame) -> None:
        if frame.pbc.any():
            raise CalculatorError(
                "the dipole of a periodic structure depends on the choice of cell; got "
                f"pbc={frame.pbc}"
            )

    def weights(self, outputs: Floats, positions: Floats, starts: Ints) -> Floats:
        parts = zip(np.split(outputs, starts[1:-1]), np.split(positions, starts[1:-1]), strict=True)
        return np.concatenate([self._of_one(charges, r) for charges, r in parts])

    def _of_one(self, charges: Floats, positions: Floats) -> Floats:
        if self.neutral:
            positions = positions - positions.mean(0)
        moment = charges @ positions
        size = np.linalg.norm(moment)
        along: Floats = positions @ (moment / size if size > 0 else moment)
        return along


SUM, MEAN = SumOfAtoms(), MeanOfAtoms()
