"""Distant atoms do not interact, and two copies of a system have twice the energy."""

from __future__ import annotations

import numpy as np
from ase.data import atomic_numbers

from mdxai.calculators import CalculatorError, Potential
from mdxai.calculators.fragments import (
    inputs_of_copies,
    inputs_of_elements,
    inputs_with_atom,
    stated_charge,
)
from mdxai.frame import Floats, Frame
from mdxai.principles.principle import PrincipleUnavailable
from mdxai.principles.probes.configurations import configuration
from mdxai.principles.probes.mismatch import Comparison, Mismatch, mismatch

MARGIN = 1.0  # Å beyond the range of the network
FAR = 25.0  # Å, if the range is not known
SPECTATORS = ("He", "Ne", "Ar")  # closed shells, which take no electrons from the molecule


def reach_of(twin: Potential) -> float:
    """Return the distance, Å, beyond which atoms cannot interact."""
    return twin.cutoff * twin.n_layers + MARGIN if np.isfinite(twin.cutoff) else FAR


def spectator(twin: Potential, first: Frame) -> Comparison:
    """Compare a molecule alone with the molecule and a distant atom, less the atom alone.

    The atom is a noble gas if the calculator takes one, else one of the molecule's elements.

    Raises:
        PrincipleUnavailable: in a periodic cell, or if the calculator takes no single atom.
    """
    if first.pbc.any():
        raise PrincipleUnavailable(
            "in a periodic cell no place is far from every image; use a molecule or cluster"
        )
    number, alone = _spectator(twin, first)

    def compare(frame: Frame) -> Mismatch:
        energy, forces = twin.evaluate(frame)
        place = frame.positions.max(axis=0) * [1, 0, 0] + [reach_of(twin), 0, 0]
        numbers, positions = np.append(frame.numbers, number), np.vstack([frame.positions, place])
        inputs = inputs_with_atom(frame, number)
        both, pushed = twin.evaluate(configuration(numbers, positions, inputs=inputs))
        whole = np.vstack([forces, np.zeros(3)])
        found = mismatch(frame.n_atoms, (energy + alone, both), (whole, pushed))
        on_molecule = found.forces[:-1].copy()
        # The force on the distant atom counts too, for the atom nearest to it.
        nearest = int(np.argmin(np.linalg.norm(frame.positions - place, axis=1)))
        on_molecule[nearest] = np.maximum(on_molecule[nearest], found.forces[-1])
        return Mismatch(found.energy, on_molecule)

    return compare


def _spectator(twin: Potential, first: Frame) -> tuple[int, float]:
    """Return the atomic number of an atom that the calculator takes, and its energy, eV."""
    known = [s for s in SPECTATORS if not twin.elements or s in twin.elements]
    reason = ""
    for number in [*(atomic_numbers[s] for s in known), int(first.numbers.min())]:
        try:
            numbers = np.array([number])
            inputs = inputs_of_elements(first, numbers)
            energy = twin.evaluate(configuration(numbers, np.zeros((1, 3)), inputs=inputs))[0]
        except CalculatorError as refused:
            reason = str(refused)
            continue
        if np.isfinite(energy):
            return number, energy
    raise PrincipleUnavailable(f"the calculator takes no single atom: {reason}")


def doubling(twin: Potential, first: Frame) -> Comparison:
    """Compare two copies of a system with twice the result of one.

    The copies are far apart; those of a periodic cell lie side by side along its first periodic
    axis. Forces are compared atom by atom, for the worse copy.

    Raises:
        PrincipleUnavailable: for a molecular ion, as two of them repel at any distance.
    """
    if stated_charge(first) and not first.pbc.any():
        raise PrincipleUnavailable("two copies of an ion repel at any distance")

    def compare(frame: Frame) -> Mismatch:
        energy, forces = twin.evaluate(frame)
        both, pushed = twin.evaluate(_doubled(frame, reach_of(twin)))
        n = frame.n_atoms
        copies: list[Floats] = [pushed[:n], pushed[n:]]
        first, second = (mismatch(n, (2 * energy, both), (forces, f)) for f in copies)
        worse = first.worse_of(second)
        return Mismatch(worse.energy / 2, worse.forces)

    return compare


def _doubled(frame: Frame, reach: float) -> Frame:
    cell = frame.cell.copy()
    if frame.pbc.any():
        axis = int(np.argmax(frame.pbc))
        shift = cell[axis].copy()
        cell[axis] *= 2
    else:
        extent = frame.positions[:, 0].max() - frame.positions[:, 0].min()
        shift = np.array([extent + reach, 0.0, 0.0])
    positions = np.concatenate([frame.positions, frame.positions + shift])
    return configuration(
        np.tile(frame.numbers, 2), positions, cell, frame.pbc, inputs=inputs_of_copies(frame)
    )
