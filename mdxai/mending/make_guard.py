"""Make a guard: where it begins, from the training data, from reference data, or from radii."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii

from mdxai.calculators.card import Card, card_of, pair_key
from mdxai.calculators.guard_term import Guard, GuardError, GuardTerm
from mdxai.calculators.guarded_calculator import GUARDED, guarded
from mdxai.calculators.reference_data import ReferenceData
from mdxai.forecast.forbidden import HYDROGENS
from mdxai.frame import Frame, Ints, iter_element_pairs
from mdxai.principles.motion.bond_changes import FORMED
from mdxai.principles.motion.networks import METALS, covalent_network_of
from mdxai.principles.motion.structure import BONDED, bonds_of

REPULSION, WALL = 10.0, 60.0  # eV
ROUNDING = 1e-4  # Å: cards state distances in four decimals
# Of the sum of covalent radii, where nothing is known of training: hot C–H bonds reach 1.3.
LONGEST_BOND = 1.4
VDW_HYDROGEN = 1.2  # Å, as in `HYDROGENS`
OUTSIDE = 1.0  # eV, of the guard on the structure itself
PHYSICAL = "physical radii"


def guard(
    calculator: Any,
    structure: Atoms | Frame | None = None,
    *,
    reference: ReferenceData | str | os.PathLike[str] | None = None,
    repulsion: float = REPULSION,
    wall: float = WALL,
) -> Any:
    """Return a calculator with a guard that keeps atoms within what the model was trained on.

    A guard is a potential of pairs that is exactly zero inside: two atoms repel below the shortest
    distance of their elements in training. With a molecule that is not meant to react, bonds are
    pulled back beyond the longest in training, and atoms that are not bonded repel below their own
    shortest distance. Distances come from `reference`, else from the calculator's card, else from
    physical radii; `guard_of(calculator).source` says which.

    Args:
        calculator: any ASE calculator. A network of mdxai gives a network, which evaluates batches
            and can be explained; others are wrapped. A guard that is there is replaced.
        structure: the molecule, whose bonds are to stay; without it no walls.
        reference: data that the model was trained on, or a file of them that ASE reads.
        repulsion: eV; A of atoms that are too close, in A x³ / (x + 0.05), x = r₀/r − 1.
        wall: eV; A of bonds that are too long, x = r/r₁ − 1.

    Raises:
        GuardError: for what is no calculator, strengths below 0, reference data that lack elements
            of the structure, or a structure that lies far outside the domain.
        ReferenceDataError: for a file that cannot be read.
    """
    if not callable(getattr(calculator, "get_potential_energy", None)):
        raise GuardError(f"expected an ASE calculator to guard, got {calculator!r}")
    frame = Frame.from_atoms(structure) if isinstance(structure, Atoms) else structure
    data = _domain(calculator, reference)
    if data is not None and frame is not None:
        _refuse_other_elements(data, frame)
    made = Guard(repulsion=repulsion, wall=wall, source=PHYSICAL if data is None else data.source)
    if data is not None:
        shortest = {pair: low - ROUNDING for pair, (low, _) in data.distances.items()}
        made = replace(made, shortest=shortest)
    if frame is not None:
        gaps = _physical_gaps(frame.numbers) if data is None else data.gaps
        made = _with_molecule(made, frame, gaps)
        _refuse_outside(made, frame)
    return guarded(calculator, made)


def _domain(calculator: Any, reference: Any) -> ReferenceData | None:
    """Return what the model was trained on, None where nothing tells."""
    if isinstance(reference, ReferenceData):
        return reference
    if reference is not None:
        return ReferenceData.load(reference)
    card = card_of(calculator)
    stated = isinstance(card, Card) and card.distances
    if card is None or not stated:
        return None
    return ReferenceData.of_card(replace(card, name=card.name.removesuffix(GUARDED)))


def _refuse_other_elements(data: ReferenceData, frame: Frame) -> None:
    known = {symbol for pair in data.distances for symbol in pair.split("-")}
    lacking = sorted(set(frame.symbols) - known)
    if lacking:
        raise GuardError(
            f"{data.source} holds no {', '.join(lacking)}, but the structure does; expected the "
            "data that the model was trained on"
        )


def _physical_gaps(numbers: Ints) -> dict[str, tuple[float, float]]:
    """Return the longest bond and the closest contact (Å) of any molecule with these elements.

    Contacts are those that no atom with all its bonds can have (`Physics`).
    """
    gaps = {}
    for a, b in iter_element_pairs(numbers):
        covalent = float(covalent_radii[[a, b]].sum())
        contact = (FORMED if a == 1 else BONDED) * covalent
        contact = 2 * HYDROGENS * VDW_HYDROGEN if a == b == 1 else contact
        gaps[pair_key(chemical_symbols[a], chemical_symbols[b])] = LONGEST_BOND * covalent, contact
    return gaps


def _with_molecule(guard: Guard, frame: Frame, gaps: Mapping[str, tuple[float, float]]) -> Guard:
    """Return the guard with walls on a molecule's bonds and its own distances of contacts.

    Bonds of metals and of networks that repeat through the cell change, and have neither.
    """
    loose = np.isin(frame.numbers, list(METALS)) | covalent_network_of(frame)
    i, j = bonds_of(frame)
    bonds = list(zip(i.tolist(), j.tolist(), strict=True))
    symbols = frame.symbols
    longest = {pair: long + ROUNDING for pair, (long, _) in gaps.items() if long > 0}
    contacts = {pair: near - ROUNDING for pair, (_, near) in gaps.items() if np.isfinite(near)}
    walled = [
        (a, b)
        for a, b in bonds
        if not (loose[a] or loose[b]) and pair_key(symbols[a], symbols[b]) in longest
    ]
    return replace(
        guard, contacts={} if loose.any() else contacts, longest=longest,
        numbers=tuple(frame.numbers.tolist()), bonds=tuple(walled), bonded=tuple(bonds),
    )  # fmt: skip


def _refuse_outside(guard: Guard, frame: Frame) -> None:
    action = GuardTerm(guard, frame.numbers).act(frame.positions, frame.cell, frame.pbc)
    if action is None or not action.energy > OUTSIDE:
        return
    k = int(np.argmax(action.energies))
    a, b = int(action.i[k]), int(action.j[k])
    length = float(np.linalg.norm(action.vectors[k]))
    raise GuardError(
        f"a guard from {guard.source} holds {action.energy:.2g} eV in the structure itself, where "
        f"{frame.symbols[a]}{a} and {frame.symbols[b]}{b} are {length:.2f} Å apart; expected a "
        f"structure like those of training, below {OUTSIDE:g} eV: relax it, or give the data that "
        "the model was trained on"
    )
