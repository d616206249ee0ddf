"""What a model was trained on, from any data set that ASE reads.

Elements, distances, forces, and the volumes of periodic cells.
"""

from __future__ import annotations

import os
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.formula import Formula

from mdxai.calculators.bond_gaps import BondGaps
from mdxai.calculators.card import Card, pair_key, write_toml
from mdxai.errors import MdxaiError
from mdxai.frame import DENSE_LIMIT, Floats, Ints, find_pairs, iter_element_pairs, upper_triangle
from mdxai.serialization import StateError, as_json, from_plain

SCHEMA = "reference data 1"  # of a summary
REACH = 6.0  # Å, in cells and large systems
# Shorter than any bond, contact or metal under pressure: the closest are U=O and Mo–Mo (0.63), and
# Cr–Cr (0.62 of the sum of covalent radii); H2 is at 1.2, F2 at 1.2, N2 at 0.77, copper at 0.96.
OVERLAPPING = 0.55
VACUUM = 5.0  # Å
MARGIN = 0.15  # Å, what `contact` lets pass before it warns
_NUMBERS = ("z", "nuclear_charges", "numbers", "atomic_numbers")  # entries of npz files
_POSITIONS = ("R", "coords", "positions")
_FORCES = ("REF_forces", "forces")  # arrays of ASE atoms, beside those of their calculator


class ReferenceDataError(MdxaiError, ValueError):
    """Reference data that cannot be read or hold nothing to compare with."""


@dataclass(frozen=True, slots=True)
class ReferenceData:
    """What a trajectory is compared with.

    Attributes:
        source: what it is, in words.
        elements: symbols; empty where not known.
        distances: shortest and longest distance (Å) per element pair ("C-H"); the longest is
            infinite where there is none.
        forces_max: largest norm of a force on an atom, eV/Å; None where not known.
        n_frames: structures that it was taken from; 0 where not known.
        volumes: smallest and largest volume per atom (Å³) of cells that repeat in all directions
            and hold no vacuum, per composition ("Cu", "AuCu3").
        gaps: longest bond (0 without bonds) and closest contact of atoms that are not bonded (Å)
            per element pair for which the data tell the two apart.
    """

    source: str
    elements: tuple[str, ...] = ()
    distances: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    forces_max: float | None = None
    n_frames: int = 0
    volumes: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    gaps: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a data set: what ASE reads (extxyz, db, traj …), or an npz as those of MD17.

        Forces count where ASE finds some, or as the array `REF_forces`. An npz states no unit of
        its forces, so these are left out. A .toml is what `write` has written.

        Raises:
            ReferenceDataError: for a file that cannot be read, or without pairs of atoms.
        """
        file = Path(path).expanduser()
        if file.suffix == ".toml":
            return cls._stated(file)
        ranges, forces, n_frames = _Ranges(), 0.0, 0
        for numbers, positions, cell, pbc, force in structures_of(file):
            try:
                ranges.add(numbers, positions, cell, pbc)
            except Exception as error:  # of a cell that is none, say
                raise _unreadable(file, n_frames, error) from error
            forces = max(forces, force)
            n_frames += 1
        if not ranges.found:
            raise ReferenceDataError(f"{file} holds no structure with two atoms")
        unknown = "forces left out, as an npz states no unit"
        lacks = "" if forces else f", {unknown if file.suffix == '.npz' else 'without forces'}"
        source = f"{file} ({n_frames} structures{lacks})"
        return cls(
            source, ranges.elements, ranges.found, forces or None, n_frames, ranges.volumes,
            ranges.gaps.found,
        )  # fmt: skip

    @classmethod
    def _stated(cls, file: Path) -> Self:
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
            if content.pop("schema", None) != SCHEMA:
                raise ValueError("no such schema")
            for name in ("distances", "volumes", "gaps"):
                content[name] = {k: (float(a), float(b)) for k, (a, b) in content[name].items()}
            return from_plain(cls, content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, StateError) as error:
            raise ReferenceDataError(
                f"{file} is no summary of reference data as `mdxai card` writes: {error}"
            ) from error

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write what was found as TOML, which `load` reads in place of the data.

        Raises:
            ReferenceDataError: for a name that does not end in .toml, or a file that is there or
                cannot be written.
        """
        file = Path(path)
        if file.suffix != ".toml":
            raise ReferenceDataError(f"expected a name that ends in .toml, got {str(file)!r}")
        if file.exists():
            raise ReferenceDataError(f"{file} exists already; choose another name")
        stated = {k: v for k, v in asdict(self).items() if v is not None}
        try:
            write_toml(file, {"schema": SCHEMA, **stated})
        except OSError as error:
            raise ReferenceDataError(f"{file} cannot be written: {error.strerror}") from error

    @classmethod
    def of_card(cls, card: Card) -> Self:
        """Return what a card states; without distances where it states none."""
        source = f"the training data of {card.name}"
        return cls(source, card.elements, card.distances, card.forces_max, gaps=card.gaps)

    @classmethod
    def physical(cls, numbers: Ints) -> Self:
        """Return the distances within which two atoms of a system overlap, and nothing else."""
        shortest = {
            pair_key(chemical_symbols[a], chemical_symbols[b]): (
                round(float(OVERLAPPING * covalent_radii[[a, b]].sum()) + MARGIN, 4),
                np.inf,
            )
            for a, b in iter_element_pairs(numbers)
        }
        return cls(f"physical radii ({OVERLAPPING:g} of the covalent)", distances=shortest)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; what is not known or has no end is None."""
        plain: dict[str, Any] = as_json(asdict(self))
        return plain

    def summary(self) -> dict[str, Any]:
        """Return plain data that tells reference data apart."""
        return {
            "source": self.source,
            "distances": {pair: list(span) for pair, span in self.distances.items()},
            "forces_max": self.forces_max,
            **({"volumes": {k: list(v) for k, v in self.volumes.items()}} if self.volumes else {}),
        }


def composition(numbers: Ints) -> str:
    """Return the smallest formula with these proportions, elements in alphabetical order."""
    counts = Counter(chemical_symbols[z] for z in numbers)
    return str(Formula.from_dict(dict(sorted(counts.items()))).reduce()[0])


def has_vacuum(positions: Floats, cell: Floats) -> bool:
    """Return whether a layer of the periodic cell thicker than 5 Å holds no atom's centre.

    So it is around slabs, wires and molecules in a box; no crystal or liquid is that open along a
    vector of its cell, but for some frameworks, whose volume is then not compared.
    """
    if not abs(np.linalg.det(cell)) > 0:
        return True
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)  # of the cell, along each vector
    places = np.sort(np.linalg.solve(cell.T, positions.T).T % 1.0, axis=0)
    gaps = np.diff(places, axis=0, append=places[:1] + 1.0)
    return bool((gaps.max(axis=0) * heights > VACUUM).any())


class _Ranges:
    """Shortest and longest distance per element pair and volumes, structure by structure."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[float, float]] = {}
        self.volumes: dict[str, tuple[float, float]] = {}
        self.gaps = BondGaps()
        self._elements: set[str] = set()

    @property
    def elements(self) -> tuple[str, ...]:
        return tuple(sorted(self._elements))

    def add(self, numbers: Ints, positions: Floats, cell: Any, pbc: Any) -> None:
        """Take in one structure."""
        self._elements |= {chemical_symbols[z] for z in numbers}
        if np.all(pbc) and not has_vacuum(positions, cell):
            volume = float(abs(np.linalg.det(cell))) / len(numbers)
            least, most = self.volumes.get(key := composition(numbers), (np.inf, 0.0))
            self.volumes[key] = min(least, volume), max(most, volume)
        small = len(numbers) <= DENSE_LIMIT and not np.any(pbc)
        if small:
            i, j = upper_triangle(len(numbers))
            distances = np.linalg.norm(positions[j] - positions[i], axis=1)
        else:
            pairs = find_pairs(positions, cell, pbc, REACH)
            i, j, distances = pairs.i, pairs.j, pairs.distances
        self.gaps.add(numbers[i], numbers[j], distances)
        low, high = np.minimum(numbers[i], numbers[j]), np.maximum(numbers[i], numbers[j])
        keys = 1000 * low + high
        for key in np.unique(keys):
            here = distances[keys == key]
            name = pair_key(chemical_symbols[key // 1000], chemical_symbols[key % 1000])
            least, most = self.found.get(name, (np.inf, 0.0))
            longest = float(here.max()) if small else np.inf  # beyond REACH there are more
            self.found[name] = min(least, float(here.min())), max(most, longest)


System = tuple[Ints, Floats, Any, Any, float]  # numbers, positions, cell, pbc, largest force


def structures_of(file: Path) -> Iterator[System]:
    """Yield the structures of a data set: what ASE reads (extxyz, db, traj …), or an npz as MD17's.

    Raises:
        ReferenceDataError: for a file that cannot be read.
    """
    if not file.is_file():
        raise ReferenceDataError(f"there is no reference data {str(file)!r}")
    n_read = 0
    try:
        for system in _from_npz(file) if file.suffix == ".npz" else _from_ase(file):
            yield system
            n_read += 1
    except ReferenceDataError:
        raise
    except Exception as error:  # ASE's readers raise whatever their formats make them raise
        raise _unreadable(file, n_read, error) from error


def _unreadable(file: Path, k: int, error: Exception) -> ReferenceDataError:
    return ReferenceDataError(f"{file} cannot be read as reference data, structure {k}: {error}")


def _from_ase(file: Path) -> Iterator[System]:
    import ase.io

    images: Iterable[Atoms] = ase.io.iread(file, index=":", do_not_split_by_at_sign=True)
    for atoms in images:
        numbers = atoms.numbers.astype(np.int64)
        yield numbers, atoms.positions, atoms.cell.array, atoms.pbc, _largest_force(atoms)


def _largest_force(atoms: Atoms) -> float:
    """Return the largest norm, eV/Å; 0 where there are none."""
    held = getattr(atoms.calc, "results", None) or {}
    forces = held.get("forces")
    for name in _FORCES:
        forces = atoms.arrays.get(name) if forces is None else forces
    if forces is None or not np.isfinite(forces).all():
        return 0.0
    return float(np.linalg.norm(forces, axis=1).max(initial=0.0))


def _from_npz(file: Path) -> Iterator[System]:
    with np.load(file, allow_pickle=False) as data:
        numbers = next((data[name] for name in _NUMBERS if name in data), None)
        positions = next((data[name] for name in _POSITIONS if name in data), None)
    if numbers is None or positions is None or positions.shape[1:] != (len(numbers), 3):
        raise ReferenceDataError(
            f"{file} holds no positions (n_frames, n_atoms, 3) {' or '.join(_POSITIONS)} with "
            f"(n_atoms,) {' or '.join(_NUMBERS)}; write it as extxyz"
        )
    for frame in positions:
        yield numbers.astype(np.int64), frame, np.zeros((3, 3)), np.zeros(3, dtype=bool), 0.0
