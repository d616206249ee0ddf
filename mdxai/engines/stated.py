"""What the user states about a trajectory: format, units, elements, atoms, and which frames."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from ase import units as ase_units
from ase.calculators.lammps import convert
from ase.data import chemical_symbols

from mdxai.errors import MdxaiError
from mdxai.frame import ASE_TIME_PER_FS, QUANTITIES, Ints


class TrajectoryError(MdxaiError, ValueError):
    """A trajectory that cannot be read as requested."""


class DamagedTrajectory(TrajectoryError):
    """A trajectory that cannot be read to its end: a half written frame, a lost connection."""


class TrajectoryWarning(UserWarning):
    """Something in a trajectory that was left aside, or that is hardly what it says."""


KJ_PER_MOL = ase_units.kJ / ase_units.mol  # eV
FS_PER_PS = 1000.0
AKMA_TIME = 1 / ((ase_units.kcal / ase_units.mol) ** 0.5 * ASE_TIME_PER_FS)  # fs, 48.888

# Units by name, each with its dimension as (length, time, energy), in Å, fs and eV.
_LENGTH, _TIME, _ENERGY, _NONE = (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)
_UNITS: dict[str, tuple[float, tuple[int, int, int]]] = {
    **dict.fromkeys(("å", "a", "ang", "angstrom"), (1.0, _LENGTH)),
    "nm": (10.0, _LENGTH),
    "pm": (0.01, _LENGTH),
    "m": (1e10, _LENGTH),
    **dict.fromkeys(("bohr", "a0"), (ase_units.Bohr, _LENGTH)),
    "fs": (1.0, _TIME),
    "ps": (FS_PER_PS, _TIME),
    "ns": (1e6, _TIME),
    "s": (1e15, _TIME),
    "au_time": (ase_units._aut * 1e15, _TIME),
    "akma": (AKMA_TIME, _TIME),
    "ase_time": (1 / ASE_TIME_PER_FS, _TIME),
    "ev": (1.0, _ENERGY),
    "mev": (1e-3, _ENERGY),
    **dict.fromkeys(("hartree", "ha"), (ase_units.Hartree, _ENERGY)),
    **dict.fromkeys(("rydberg", "ry"), (ase_units.Rydberg, _ENERGY)),
    "kcal": (ase_units.kcal, _ENERGY),
    "kj": (ase_units.kJ, _ENERGY),
    "j": (ase_units.J, _ENERGY),
    "mol": (ase_units.mol, _NONE),
}
_DIMENSIONS = {
    "positions": _LENGTH,
    "velocities": (1, -1, 0),
    "forces": (-1, 0, 1),
    "energy": _ENERGY,
    "time": _TIME,
}


@dataclass(frozen=True, slots=True)
class Units:
    """The units of a trajectory, each as its value in ours; None where nothing states it.

    positions: Å, of the cell too. velocities: Å/fs. forces: eV/Å. energy: eV. time: fs.
    """

    positions: float | None = None
    velocities: float | None = None
    forces: float | None = None
    energy: float | None = None
    time: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the units that a name or a list such as "positions=bohr,velocities=Å/ps" states.

        Raises:
            TrajectoryError: for an unknown name, quantity or unit, or one of another dimension.
        """
        values: dict[str, float | None] = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            quantity, equals, unit = (part.strip() for part in item.partition("="))
            if not equals:
                values |= _of_system(quantity)
            elif quantity in _DIMENSIONS:
                values[quantity] = _value(quantity, unit)
            else:
                raise TrajectoryError(
                    f"units are stated of {', '.join(_DIMENSIONS)}, got {quantity!r}"
                )
        return cls(**values)

    def over(self, others: Units) -> Units:
        """Return these units, and `others` where these state none."""
        both = ((getattr(self, f.name), getattr(others, f.name)) for f in fields(self))
        return Units(*(theirs if ours is None else ours for ours, theirs in both))


def _of_lammps(style: str) -> Units:
    """Return the units of a LAMMPS style, by ASE's table."""
    length, time = convert(1.0, "distance", style, "ASE"), convert(1.0, "time", style, "ASE")
    speed = convert(1.0, "velocity", style, "ASE")
    return Units(
        float(length), float(speed) * ASE_TIME_PER_FS, float(convert(1.0, "force", style, "ASE")),
        float(convert(1.0, "energy", style, "ASE")), float(time) / ASE_TIME_PER_FS,
    )  # fmt: skip


OURS = Units(1.0, 1.0, 1.0, 1.0, 1.0)
OF_ASE = Units(1.0, ASE_TIME_PER_FS, 1.0, 1.0, None)  # its files state times in no one unit
OF_MDANALYSIS = Units(1.0, 1 / FS_PER_PS, KJ_PER_MOL, KJ_PER_MOL, FS_PER_PS)
ATOMIC = Units(
    ase_units.Bohr,
    ase_units.Bohr / _UNITS["au_time"][0],
    ase_units.Hartree / ase_units.Bohr,
    ase_units.Hartree,
    _UNITS["au_time"][0],
)
GROMACS = Units(10.0, 10.0 / FS_PER_PS, KJ_PER_MOL / 10.0, KJ_PER_MOL, FS_PER_PS)
KCAL = ase_units.kcal / ase_units.mol
LAMMPS_STYLES = ("real", "metal", "si", "electron")
SYSTEMS: Mapping[str, Units] = {
    "ase": OF_ASE,
    "atomic": ATOMIC,
    "gromacs": GROMACS,
    "mdanalysis": OF_MDANALYSIS,
    "akma": Units(1.0, 1 / AKMA_TIME, KCAL, KCAL, AKMA_TIME),
    **{style: _of_lammps(style) for style in LAMMPS_STYLES},
}


def _of_system(name: str) -> dict[str, float | None]:
    if name.lower() not in SYSTEMS:
        why = "; units lj have no scale, so give distances in Å first" if name == "lj" else ""
        raise TrajectoryError(
            f"units {name!r} are not known; state one of {', '.join(SYSTEMS)}, or single ones such "
            f"as positions=bohr,velocities=Å/ps,forces=kcal/mol/Å,time=ps{why}"
        )
    found = SYSTEMS[name.lower()]
    return {f.name: value for f in fields(found) if (value := getattr(found, f.name)) is not None}


def _value(quantity: str, text: str) -> float:
    """Return the value in our units of a product such as "kcal/mol/Å".

    Raises:
        TrajectoryError: for an unknown unit or one of another dimension.
    """
    value, dimension = 1.0, np.zeros(3, dtype=int)
    for sign, name in re.findall(r"([*/]?)([^*/]+)", text):
        unit = _UNITS.get(name.strip().lower())
        if unit is None:
            raise TrajectoryError(
                f"the unit {name.strip()!r} of {quantity} is not known; known are "
                f"{', '.join(_UNITS)}, and their products such as kcal/mol/Å"
            )
        power = -1 if sign == "/" else 1
        value *= unit[0] ** power
        dimension += power * np.array(unit[1])
    if tuple(dimension) != _DIMENSIONS[quantity]:
        raise TrajectoryError(f"{text!r} is no unit of {quantity}")
    return float(value)


SYMBOLS = tuple(chemical_symbols)
ISOTOPES = {"D": 2.01410177812, "T": 3.01604928199}  # hydrogen by other names; amu, AME2020
_NUMBERS = re.compile(r"\d+(-\d+)?")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which frames and atoms to read, and what the file does not say or says wrongly.

    What is stated here wins over the file.

    Attributes:
        start, stop, step: frame numbers in the file, as in a slice.
        timestep: time between frames of the file, fs; None uses the times of the file.
        without: what to ignore even if the file has it: velocities, forces, energy, or the cell.
        format: of ASE, of MDAnalysis where a topology is given, or "schnetpack-md".
        units: a name ("real", "metal", "atomic", "gromacs", …), or single units such as
            "positions=bohr,velocities=Å/ps,forces=kcal/mol/Å,time=ps"; see `SYSTEMS`.
        elements: of the atom types 1, 2, …, or of every atom in order; "D" and "T" are isotopes of
            hydrogen, "X" a site without mass.
        atoms: which atoms to read: numbers from 0 ("0-8,12") or elements ("C,H,O"); with a
            topology also a selection of MDAnalysis ("not name MW").

    Raises:
        TrajectoryError: for a negative start or stop, a step or timestep that is not > 0, and
            unknown quantities, units or elements.
    """

    start: int = 0
    stop: int | None = None
    step: int = 1
    timestep: float | None = None
    without: tuple[str, ...] = ()
    format: str | None = None
    units: str | None = None
    elements: tuple[str, ...] = ()
    atoms: str | None = None

    def __post_init__(self) -> None:
        whole = {"start": self.start, "stop": 0 if self.stop is None else self.stop}
        for name, value in whole.items():
            if value < 0:
                raise TrajectoryError(f"{name} must be 0 or positive, got {value}")
        if self.step < 1:
            raise TrajectoryError(f"step must be positive, got {self.step}")
        if self.timestep is not None and not (0 < self.timestep < np.inf):
            raise TrajectoryError(f"timestep must be positive, in fs, got {self.timestep}")
        if set(self.without) - {*QUANTITIES, "cell"}:
            raise TrajectoryError(
                f"without takes {', '.join(QUANTITIES)} and cell, got {', '.join(self.without)}"
            )
        self._check_words()

    def _check_words(self) -> None:
        self.stated_units  # noqa: B018 (an unknown unit is an error now)
        unknown = [name for name in self.elements if name not in {*ISOTOPES, *SYMBOLS}]
        if unknown:
            raise TrajectoryError(
                f"elements are symbols such as H or O (and D or T), got {', '.join(unknown)}"
            )
        if self.atoms is not None and not self.atoms.strip(" ,"):
            raise TrajectoryError("atoms must be numbers (0-8,12) or elements (C,H,O), got nothing")

    def wants(self, number: int) -> bool:
        """Whether a frame of the file is to be read, by its number."""
        return (
            number >= self.start
            and (self.stop is None or number < self.stop + 1)  # one may be left out before it
            and (number - self.start) % self.step == 0
        )

    @property
    def stated_units(self) -> Units:
        """The units that are stated here."""
        return Units() if self.units is None else Units.parse(self.units)

    @property
    def is_plain(self) -> bool:
        """Whether `atoms` are numbers or elements, rather than a selection of MDAnalysis."""
        items = [] if self.atoms is None else _items(self.atoms)
        return all(_NUMBERS.fullmatch(item) or item in SYMBOLS for item in items)

    def pick(self, numbers: Ints) -> Ints:
        """Return the indices of the stated atoms; all where none are stated.

        Args:
            numbers: (n_atoms,) atomic numbers.

        Raises:
            TrajectoryError: for a selection of MDAnalysis, and where no such atom exists.
        """
        everything = np.arange(len(numbers))
        if self.atoms is None:
            return everything
        if not self.is_plain:
            raise TrajectoryError(
                f"atoms are numbers from 0 (0-8,12) or elements (C,H,O), got {self.atoms!r}; other "
                "selections need a topology (topology=, --topology)"
            )
        wanted = np.zeros(len(numbers), dtype=bool)
        for item in _items(self.atoms):
            if item in SYMBOLS:
                wanted |= numbers == SYMBOLS.index(item)
                continue
            first, _, last = item.partition("-")
            wanted |= (everything >= int(first)) & (everything <= int(last or first))
        if not wanted.any():
            raise TrajectoryError(f"none of the {len(numbers)} atoms is one of {self.atoms!r}")
        return np.flatnonzero(wanted)


def _items(atoms: str) -> list[str]:
    return [item.strip() for item in atoms.split(",") if item.strip()]


def as_number(value: Any) -> float | None:
    """Return a single finite number; None for anything else, such as text or a vector."""
    try:
        number = float(np.asarray(value, dtype=np.float64).reshape(()))
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and not isinstance(value, str | bool) else None
