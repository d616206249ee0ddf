"""Reactions that are allowed leave no finding."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from mdxai.frame import Frame
from mdxai.principles import (
    AllowedBonds,
    AllowedReactionError,
    BondIntegrity,
    BrokenBonds,
    FormedBonds,
    Fragments,
    LoneHydrogen,
)

from .conftest import ethanol_with


def ethanol(stretched=None):
    """Ethanol, with an atom moved 3 Å away from another."""
    atoms = ethanol_with(None)
    if stretched:
        moved, partner = stretched
        along = atoms.positions[moved] - atoms.positions[partner]
        atoms.positions[moved] += 3 * along / np.linalg.norm(along)
    return Frame.from_atoms(atoms, time=10.0 if stretched else 0.0)


@pytest.mark.parametrize("principle", [BondIntegrity, BrokenBonds, Fragments, LoneHydrogen])
@pytest.mark.parametrize("pattern", ["O2-H3", "H-O", "O2–H"])
def test_an_allowed_reaction_is_no_deviation_but_another_is(principle, pattern):
    first, hydroxyl = ethanol(), ethanol((3, 2))  # H3 leaves O2
    options = {"allowed": AllowedBonds([pattern], first)}
    assert principle(first).deviate(hydroxyl, None).value > 0.5
    assert principle(first, **options).deviate(hydroxyl, None).value == 0
    methyl = ethanol((6, 0))  # H6 leaves C0
    assert principle(first, **options).deviate(methyl, None).value > 0.5


def test_an_allowed_bond_may_form():
    atoms = ethanol_with(None) + Atoms("F", [[0, 0, 30]])
    first = Frame.from_atoms(atoms)
    atoms.positions[9] = atoms.positions[0] + (atoms.positions[0] - atoms.positions[1])
    closer = Frame.from_atoms(atoms, step=10, time=10.0)
    assert FormedBonds(first).deviate(closer, None).value == 1
    allowed = AllowedBonds(["C0-F"], first)
    assert FormedBonds(first, allowed).deviate(closer, None).value == 0


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("C1", "'C1' is not a pair of atoms"),
        ("C9-O2", "there is no atom C9 in C0 C1 O2"),
        ("C-N", "there is no atom N in"),
        ("C1-Qq", "there is no atom Qq"),
    ],
)
def test_patterns_without_such_atoms_are_refused(pattern, message):
    with pytest.raises(AllowedReactionError, match=message):
        AllowedBonds([pattern], ethanol())
