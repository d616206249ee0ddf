"""How strong real bonds are: above which temperature a broken bond may be right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from scipy.optimize import brentq

from mdxai.frame import BOLTZMANN, Frame
from mdxai.principles.motion.structure import Bonds
from mdxai.principles.principle import PrincipleUnavailable

KJ_PER_MOL = 0.010364269  # eV
# Mean enthalpies of single bonds, kJ/mol (L. Pauling, "The Nature of the Chemical Bond"; as in the
# CRC Handbook). Multiple bonds are stronger, so that taking them as single errs to the safe side.
MEAN_ENTHALPIES = {
    "H-H": 436, "C-H": 413, "N-H": 391, "O-H": 463, "S-H": 339, "F-H": 567, "Cl-H": 431,
    "Br-H": 366, "I-H": 299, "Si-H": 318, "P-H": 322, "B-H": 389, "C-C": 348, "C-N": 305,
    "C-O": 358, "C-S": 272, "C-F": 485, "C-Cl": 328, "C-Br": 276, "C-I": 240, "C-Si": 301,
    "N-N": 163, "N-O": 201, "O-O": 146, "O-Si": 452, "O-P": 335, "O-S": 265, "S-S": 226,
    "Si-Si": 226, "P-P": 201, "F-F": 158, "Cl-Cl": 242, "Br-Br": 193, "I-I": 151,
}  # fmt: skip
WEAK = 146  # kJ/mol, of bonds that are not listed: as of a peroxide
ATTEMPTS = 1e4  # per ps; simple bond fissions have prefactors of 1e15 to 1e17 per s
RARE = 1e-3  # per ps: one real fission in a ns of replicas
HEATED = 3.0  # times the target, for matter without covalent bonds


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The highest temperature, K, at which hardly a real bond breaks, and why."""

    temperature: float
    reason: str


def bond_strength(first: int, second: int) -> float:
    """Return how strong a single bond of two elements, given by atomic number, is, eV."""
    pair = "-".join(sorted((chemical_symbols[first], chemical_symbols[second]), key=_rank))
    return KJ_PER_MOL * _BY_ATOMS.get(pair, WEAK)


def _rank(symbol: str) -> int:
    return int(chemical_symbols.index(symbol))


_BY_ATOMS = {
    "-".join(sorted(pair.split("-"), key=_rank)): value for pair, value in MEAN_ENTHALPIES.items()
}


def ceiling_of(frame: Frame, target: float) -> Ceiling:
    """Return the highest temperature for replicas of a structure.

    At it, Σ A exp(−D/k_B T) over the covalent bonds is 1e-3 per ps, with A = 1e16 per s, as of
    simple fissions. Matter without covalent bonds may be heated to three times the target.

    Args:
        frame: of the structure.
        target: temperature that the test is about, K.
    """
    try:
        bonds = Bonds(frame)
    except PrincipleUnavailable:
        return Ceiling(HEATED * target, f"{HEATED:g} times the target, as it has no covalent bonds")
    ends = [(int(frame.numbers[i]), int(frame.numbers[j]))
            for i, j in zip(bonds.i, bonds.j, strict=True)]  # fmt: skip
    strengths = np.array([bond_strength(*pair) for pair in ends])

    def too_many(cold: float) -> float:
        return float(np.log(ATTEMPTS * np.exp(-cold * (strengths - strengths.min())).sum() / RARE)
                     - cold * strengths.min())  # fmt: skip

    temperature = 1 / (BOLTZMANN * brentq(too_many, 0.1, 1e3))
    weakest = "–".join(chemical_symbols[z] for z in ends[int(np.argmin(strengths))])
    return Ceiling(
        float(temperature),
        f"real bonds, the weakest {weakest} of {strengths.min():.1f} eV, break less than once in "
        f"{1 / RARE / 1e3:g} ns up to there",
    )
