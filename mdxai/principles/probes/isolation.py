"""Isolated atoms and pairs for calculators that know periodic cells only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase.data import covalent_radii

from mdxai.calculators import CalculatorError, Potential
from mdxai.calculators.fragments import inputs_of_elements
from mdxai.frame import Floats, Frame
from mdxai.principles.probes.configurations import configuration

SPREAD = 1.2  # of the covalent length, of the pair that is tried
VACUUM = 15.0  # Å between images; more than the range of any network's single layer


class Boxed:
    """A potential that sees what is isolated in a periodic box, 15 Å from its images.

    Args:
        twin: potential that takes periodic cells only.
    """

    note = f"isolated pairs in a periodic box, {VACUUM:g} Å from their images"

    def __init__(self, twin: Potential) -> None:
        self._twin = twin
        self.name, self.elements = twin.name, twin.elements
        self.cutoff, self.n_layers = twin.cutoff, twin.n_layers

    def evaluate(self, frame: Frame) -> tuple[float, Floats]:
        """Return energy (eV) and forces (n_atoms, 3) (eV/Å); CalculatorError as the potential."""
        return self._twin.evaluate(boxed(frame))


def boxed(frame: Frame) -> Frame:
    """Return an isolated frame in the middle of a box; a periodic one unchanged."""
    if frame.pbc.any():
        return frame
    low, high = frame.positions.min(axis=0), frame.positions.max(axis=0)
    lengths = high - low + VACUUM
    middle = frame.positions - (low + high) / 2 + lengths / 2
    pbc = np.ones(3, dtype=bool)
    return replace(frame, positions=middle, cell=np.diag(lengths), pbc=pbc)


def isolating(twin: Potential, first: Frame) -> Potential:
    """Return what evaluates isolated pairs of atoms of a system.

    The potential itself where it takes a pair without a cell; else in a box, where it takes that.
    Only calculators of periodic systems are tried.

    Args:
        twin: potential to probe.
        first: a frame of the system.
    """
    if not first.pbc.any():
        return twin
    numbers = first.numbers[[0, -1]]
    length = SPREAD * float(covalent_radii[numbers].sum())
    positions = np.array([[0.0, 0.0, 0.0], [length, 0.0, 0.0]])
    pair = configuration(numbers, positions, inputs=inputs_of_elements(first, numbers))
    for potential in (twin, Boxed(twin)):
        try:
            potential.evaluate(pair)
        except CalculatorError:
            continue
        return potential
    return twin
