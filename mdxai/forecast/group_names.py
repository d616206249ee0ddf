"""The group of a molecule that atoms belong to, as a chemist names it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.formula import Formula

from mdxai.frame import Frame, Ints
from mdxai.principles.motion.structure import bonds_of

H, C, N, O = 1, 6, 7, 8  # noqa: E741 (the symbol of oxygen)


def group_of(frame: Frame, atoms: Sequence[int]) -> str:
    """Return the group that all the atoms belong to, such as "methyl group"; "" for none.

    Groups are an atom with its hydrogens: methyl, methylene, amino and hydroxyl; and carboxyl.

    Args:
        frame: a sound structure of the molecule.
        atoms: indices.
    """
    first, second = bonds_of(frame)
    numbers = frame.numbers
    partners = [
        np.concatenate([second[first == a], first[second == a]]) for a in range(len(numbers))
    ]
    centres = {_centre(numbers, partners[a], a) for a in atoms}
    if len(centres) != 1:
        return ""
    (centre,) = centres
    around = partners[centre]
    hydrogens = int((numbers[around] == H).sum())
    if len(around) == hydrogens:  # methane, water: the whole molecule
        return ""
    name = {(C, 3, 4): "methyl", (C, 2, 4): "methylene", (N, 2, 3): "amino"}.get(
        (int(numbers[centre]), hydrogens, len(around)), ""
    )
    if (int(numbers[centre]), hydrogens) == (O, 1) and len(around) == 2:
        name = "carboxyl" if _is_acid(numbers, partners, around) else "hydroxyl"
    return f"{name} group" if name else ""


def in_its_group(label: str, frame: Frame, atoms: Sequence[int]) -> str:
    """Return a label with the group that all the atoms belong to, such as "… of the methyl group".

    Arguments as for `group_of`; the label alone where there is none.
    """
    group = group_of(frame, atoms)
    return f"{label} of the {group}" if group else label


def named_molecule(symbols: Sequence[str], atoms: Sequence[int]) -> str:
    """Return a molecule by its formula and its first atom that is no hydrogen, such as
    "C2H6O(C9)"; a single atom as "Na5".
    """
    if len(atoms) == 1:
        return f"{symbols[atoms[0]]}{atoms[0]}"
    first = next((a for a in atoms if symbols[a] != "H"), atoms[0])
    formula = Formula.from_list([symbols[a] for a in atoms]).format("hill")
    return f"{formula}({symbols[first]}{first})"


def _centre(numbers: Ints, partners: Ints, atom: int) -> int:
    """Return the atom that an atom is counted with: of a hydrogen its only partner."""
    return int(partners[0]) if numbers[atom] == H and len(partners) == 1 else int(atom)


def _is_acid(numbers: Ints, partners: Sequence[Ints], around: Ints) -> bool:
    """Return whether the carbon beside a hydroxyl's oxygen has another oxygen without hydrogen."""
    carbons = [int(a) for a in around if numbers[a] == C]
    return any(
        numbers[b] == O and len(partners[b]) == 1 for carbon in carbons for b in partners[carbon]
    )
