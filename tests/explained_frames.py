"""Shaken molecules whose explanations are chosen by hand."""

from __future__ import annotations

import numpy as np

from mdxai.attribution import Attribution
from mdxai.frame import Frame, find_pairs
from tests.conftest import ethanol_with


def explained(frame, strength, orders=(1.0, -2.0, 0.1), atoms=None):
    """Return an explanation whose pairs carry strength(i, j, distance)."""
    pairs = find_pairs(frame.positions, frame.cell, frame.pbc, 5.0)
    values = [strength(*pair) for pair in zip(pairs.i, pairs.j, pairs.distances, strict=True)]
    n = frame.n_atoms
    relevance = np.zeros(n) if atoms is None else atoms
    return Attribution("walks", 0.1, 0.0, relevance, np.zeros(n), pairs, np.array(values),
                       np.array(orders), numbers=frame.numbers)  # fmt: skip


def shaken(seed, atoms=None, amplitude=0.15):
    atoms = (atoms or ethanol_with(None)).copy()
    atoms.rattle(amplitude, seed=seed)
    return Frame.from_atoms(atoms, step=seed, time=float(seed))


def deviations(principle, strength, n=60, **options):
    found = [principle.deviate(f, explained(f, strength, **options)) for f in map(shaken, range(n))]
    return [d for d in found if d is not None]
