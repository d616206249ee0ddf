"""What no molecule looks like: atoms that overlap or are crowded, bonds that break for little."""

from __future__ import annotations

import numpy as np
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from ase.data.vdw_alvarez import vdw_radii
from ase.geometry import find_mic

from mdxai.calculators.reference_data import OVERLAPPING
from mdxai.frame import Floats, Frame, named_atoms
from mdxai.principles.motion.bond_changes import BROKEN, FORMED
from mdxai.principles.motion.networks import METALS, covalent_network_of
from mdxai.principles.motion.structure import BONDED, bonds_of
from mdxai.principles.probes.configurations import moved

# Partners that an atom can have at most, as in hydronium, ammonium and phosphorus pentachloride.
MOST_PARTNERS = {
    atomic_numbers[symbol]: most
    for symbol, most in {
        "H": 1, "He": 0, "B": 4, "C": 4, "N": 4, "O": 3, "F": 1, "Ne": 0, "Ar": 0, "Cl": 4,
    }.items()
}  # fmt: skip
# Two hydrogens that keep their bonds: 1.32 Å; the closest known are at 1.56 Å, in an
# in,in-bis(hydrosilane) (Zong, Mague and Pascal, J. Am. Chem. Soc. 135, 13235, 2013).
HYDROGENS = 0.55  # of the sum of van der Waals radii
WEAK = 0.5  # of a single bond's energy: less than any substituent or concerted reaction saves
# Single bonds between equal atoms, eV, and electronegativities (Pauling, "The Nature of the
# Chemical Bond", 3rd ed., chapter 3).
EQUAL_ATOMS = {
    "H": 4.52, "C": 3.60, "N": 1.67, "O": 1.44, "F": 1.59, "Si": 1.83, "P": 2.22, "S": 2.20,
    "Cl": 2.52, "Br": 2.00, "I": 1.57,
}  # fmt: skip
NEGATIVITY = {
    "H": 2.1, "C": 2.5, "N": 3.0, "O": 3.5, "F": 4.0, "Si": 1.8, "P": 2.1, "S": 2.5, "Cl": 3.0,
    "Br": 2.8, "I": 2.5,
}  # fmt: skip
UNKNOWN_BOND = 1.5  # eV, of elements without an entry


def single_bond(a: int, b: int) -> float:
    """Return the energy of a single bond of two elements, eV, by Pauling's geometric mean.

    D(AB) = √(D(AA) D(BB)) + 1.3 eV (χ_A − χ_B)².
    """
    s, t = chemical_symbols[a], chemical_symbols[b]
    if not {s, t} <= EQUAL_ATOMS.keys():
        return UNKNOWN_BOND
    mean = np.sqrt(EQUAL_ATOMS[s] * EQUAL_ATOMS[t])
    return float(mean + 1.3 * (NEGATIVITY[s] - NEGATIVITY[t]) ** 2)


class Physics:
    """Tells structures that physics forbids from those that a molecule may have.

    Forbidden is, whatever the energy: two atoms within 0.55 of their covalent distance; a new
    contact of an atom that keeps its bonds and can have no further partner (hydrogens 1.32 Å,
    hydrogen and another atom 1.15, others 1.25 covalent distances). By its energy: a bond that is
    broken (1.6 covalent distances) without another in its place, at less than half of a single
    bond's energy. All else may be a conformation or the product of a reaction. Metals and networks
    have no bonds here, so that only overlap counts for them.

    Args:
        first: a sound structure, whose bonds count.
    """

    def __init__(self, first: Frame) -> None:
        self._first = first
        loose = np.isin(first.numbers, list(METALS)) | covalent_network_of(first)
        i, j = bonds_of(first)
        keep = ~(loose[i] | loose[j])
        self._i, self._j = i[keep], j[keep]
        self._bonded = np.zeros((first.n_atoms, first.n_atoms), dtype=bool)
        self._bonded[i, j] = self._bonded[j, i] = True
        self._most = np.array(
            [99 if free else MOST_PARTNERS.get(int(z), 99)
             for z, free in zip(first.numbers, loose, strict=True)]
        )  # fmt: skip
        self._limits = _contact_limits(first)

    def forbids(self, positions: Floats, barrier: float) -> str:
        """Return why a structure is forbidden; empty if it is not.

        Args:
            positions: (n_atoms, 3) Å.
            barrier: eV, on the way there from the minimum.
        """
        if not np.isfinite(positions).all():
            return "positions that are not finite"
        frame = moved(self._first, positions)
        return self._overlap(frame) or self._crowded(frame) or self._broken(frame, barrier)

    def keeps_bonds(self, positions: Floats) -> bool:
        """Return whether a structure has the bonds of the first one and no others."""
        i, j = bonds_of(moved(self._first, positions))
        mine, theirs = np.flatnonzero(np.triu(self._bonded)), i * self._first.n_atoms + j
        return bool(np.array_equal(mine, np.sort(theirs)))

    def distortion(self, positions: Floats, other: Floats) -> float:
        """Return the largest change of a bond, or of the distance of two partners of one atom, as a
        share of it. Conformers of a molecule change theirs by some 4 %, as torsions leave them.

        Args:
            positions: (n_atoms, 3) Å, of a structure.
            other: alike, of another with the same bonds.
        """
        one, two = (self._lengths(x) for x in (positions, other))
        return float(np.abs(two / one - 1).max(initial=0.0))

    def _lengths(self, positions: Floats) -> Floats:
        bonded = np.zeros_like(self._bonded)
        bonded[self._i, self._j] = bonded[self._j, self._i] = True
        i, j = np.nonzero(np.triu(bonded | (bonded @ bonded), k=1))
        vectors = positions[j] - positions[i]
        if self._first.pbc.any() and len(vectors):
            vectors = find_mic(vectors, self._first.cell, self._first.pbc)[0]
        lengths: Floats = np.linalg.norm(vectors, axis=1)
        return lengths

    def _overlap(self, frame: Frame) -> str:
        pairs = frame.pairs(2 * OVERLAPPING * float(covalent_radii[frame.numbers].max()))
        sums = covalent_radii[frame.numbers[pairs.i]] + covalent_radii[frame.numbers[pairs.j]]
        if not len(pairs) or not (closest := pairs.distances / sums).min() < OVERLAPPING:
            return ""
        k = int(np.argmin(closest))
        return f"{_named(frame, pairs.i[k], pairs.j[k])} overlap, {pairs.distances[k]:.2f} Å apart"

    def _crowded(self, frame: Frame) -> str:
        pairs = frame.pairs(float(self._limits.max()))
        new = ~self._bonded[pairs.i, pairs.j]
        new &= pairs.distances < self._limits[pairs.i, pairs.j]
        partners = self._partners(frame)
        for k in np.flatnonzero(new):
            for a in (int(pairs.i[k]), int(pairs.j[k])):
                if partners[a] + 1 > self._most[a]:
                    who = _named(frame, pairs.i[k], pairs.j[k])
                    return (
                        f"{who} {pairs.distances[k]:.2f} Å apart though {frame.symbols[a]}{a} "
                        "keeps its bonds"
                    )
        return ""

    def _partners(self, frame: Frame) -> Floats:
        """Return how many of its bonds each atom has kept."""
        partners = np.zeros(frame.n_atoms)
        kept = self._stretches(frame) < BONDED
        np.add.at(partners, self._i[kept], 1)
        np.add.at(partners, self._j[kept], 1)
        return partners

    def _stretches(self, frame: Frame) -> Floats:
        vectors = frame.positions[self._j] - frame.positions[self._i]
        if frame.pbc.any() and len(vectors):
            vectors = find_mic(vectors, frame.cell, frame.pbc)[0]
        radii = covalent_radii[frame.numbers]
        stretches: Floats = np.linalg.norm(vectors, axis=1) / (radii[self._i] + radii[self._j])
        return stretches

    def _broken(self, frame: Frame, barrier: float) -> str:
        stretches = self._stretches(frame)
        i, j = bonds_of(frame)
        now = np.bincount(np.concatenate([i, j]), minlength=frame.n_atoms)
        before = self._bonded.sum(axis=1)
        for k in np.flatnonzero(stretches > BROKEN):
            a, b = int(self._i[k]), int(self._j[k])
            strength = single_bond(int(frame.numbers[a]), int(frame.numbers[b]))
            lost = now[a] < before[a] or now[b] < before[b]
            if lost and not barrier >= WEAK * strength:
                return f"{_named(frame, a, b)} breaks; such a bond takes some {strength:.1f} eV"
        return ""


def _contact_limits(first: Frame) -> Floats:
    """Return below which distance (n_atoms, n_atoms), Å, atoms are partners."""
    numbers = first.numbers
    covalent = covalent_radii[numbers][:, None] + covalent_radii[numbers][None, :]
    light = numbers == 1
    n_light = light[:, None].astype(int) + light[None, :]
    contact = HYDROGENS * 2 * vdw_radii[1]
    limits: Floats = np.select(
        [n_light == 2, n_light == 1], [np.full_like(covalent, contact), FORMED * covalent],
        BONDED * covalent,
    )  # fmt: skip
    return limits


def _named(frame: Frame, i: int, j: int) -> str:
    return named_atoms(frame.symbols, (i, j))
