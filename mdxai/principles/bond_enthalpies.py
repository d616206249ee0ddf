"""Mean bond enthalpies: how strong bonds of two elements are in most molecules."""

from __future__ import annotations

from ase.data import chemical_symbols

KJ_PER_MOL = 0.010364269  # eV
# kJ/mol. Single bonds: L. Pauling, "The Nature of the Chemical Bond", as in the CRC Handbook; S-S
# as in T. L. Brown et al., "Chemistry: The Central Science". Others: P. Atkins and J. de Paula,
# "Physical Chemistry", data section; the aromatic C-C bond is that of benzene.
SINGLE = {
    "H-H": 436, "C-H": 413, "H-N": 391, "H-O": 463, "H-S": 339, "F-H": 567, "Cl-H": 431,
    "Br-H": 366, "H-I": 299, "H-Si": 318, "H-P": 322, "B-H": 389, "C-C": 348, "C-N": 305,
    "C-O": 358, "C-S": 272, "C-F": 485, "C-Cl": 328, "Br-C": 276, "C-I": 240, "C-Si": 301,
    "N-N": 163, "N-O": 201, "O-O": 146, "O-Si": 452, "O-P": 335, "O-S": 265, "S-S": 266,
    "Si-Si": 226, "P-P": 201, "F-F": 158, "Cl-Cl": 242, "Br-Br": 193, "I-I": 151,
}  # fmt: skip
MULTIPLE = {
    "aromatic": {"C-C": 518},
    "double": {"C-C": 612, "C-N": 613, "C-O": 743, "N-N": 409, "O-O": 497},
    "triple": {"C-C": 838, "C-N": 890, "N-N": 946},
}


def bond_enthalpy(pair: str, kind: str = "single") -> float | None:
    """Return the mean enthalpy of a bond, eV; None where none is listed.

    Args:
        pair: element symbols in alphabetical order, such as "C-H".
        kind: "single", "aromatic", "double" or "triple".
    """
    listed = SINGLE if kind == "single" else MULTIPLE.get(kind, {})
    return KJ_PER_MOL * listed[pair] if pair in listed else None


def symbols_of_pair(first: int, second: int) -> str:
    """Return the symbols of two elements, given by atomic number, in alphabetical order."""
    return "-".join(sorted((chemical_symbols[first], chemical_symbols[second])))
