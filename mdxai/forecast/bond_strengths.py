"""How strong real bonds are: above which temperature a broken bond may be right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from scipy.optimize import brentq

from mdxai.frame import BOLTZMANN, Frame
from mdxai.principles.bond_enthalpies import KJ_PER_MOL, bond_enthalpy, symbols_of_pair
from mdxai.principles.motion.structure import Bonds
from mdxai.principles.principle import PrincipleUnavailable

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
    """Return how strong a single bond of two elements, given by atomic number, is, eV.

    Multiple bonds are stronger, so that taking them as single errs to the safe side.
    """
    listed = bond_enthalpy(symbols_of_pair(first, second))
    return KJ_PER_MOL * WEAK if listed is None else listed


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
