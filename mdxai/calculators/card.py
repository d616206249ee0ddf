"""The card of a calculator: what its network is, what it was trained on, and how well it did."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from ase.data import chemical_symbols

from mdxai.calculators.guard_term import Guard
from mdxai.errors import MdxaiError
from mdxai.frame import Bools, Floats, Ints, find_pairs

SCHEMA = 1
OVERLAP = 0.1  # Å; no two nuclei come this close


class CalculatorError(MdxaiError, ValueError):
    """A calculator that cannot be loaded or used as asked."""


@dataclass(frozen=True, slots=True)
class Card:
    """Everything a calculator states about itself.

    `network` is what `build_network` takes. Network energies and lengths are multiplied by
    `energy_unit` (eV) and `length_unit` (Å). `offset_per_atom` and the energy of its element in
    `atom_energies` (eV) are added for each atom, in float64.
    `distances` maps an element pair such as "C-H" (alphabetical) to the shortest and the longest
    distance (Å) seen in training, `forces_max` is the largest norm of a force on an atom (eV/Å)
    there; None where it is not known. `gaps` maps an element pair to the longest bond (0 without
    bonds) and the closest contact of atoms that are not bonded (Å), where the data tell the two
    apart. `guard` is the guard that is added to the network, if any. `forecast` is what
    `mdxai.forecast.CardForecast` reads, empty where none was made. `errors` and `provenance` are
    free-form.
    """

    name: str
    network: Mapping[str, Any]
    elements: tuple[str, ...] = ()
    energy_unit: float = 1.0
    length_unit: float = 1.0
    offset_per_atom: float = 0.0
    atom_energies: Mapping[str, float] = field(default_factory=dict)
    distances: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    gaps: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    forces_max: float | None = None
    guard: Guard | None = None
    forecast: Mapping[str, Any] = field(default_factory=dict)
    errors: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""

    @property
    def cutoff(self) -> float:
        """Interaction cutoff in Å."""
        return float(self.network["cutoff"]) * self.length_unit

    @property
    def n_layers(self) -> int:
        """Number of interaction blocks."""
        return int(self.network["n_interactions"])

    def offsets(self, numbers: Ints) -> Floats | float:
        """Return what is added to the atoms' energies, eV: (n_atoms,), or one value for all.

        Args:
            numbers: (n_atoms,) atomic numbers.
        """
        if not self.atom_energies:
            return self.offset_per_atom
        own = [self.atom_energies.get(chemical_symbols[z], 0.0) for z in numbers]
        return self.offset_per_atom + np.array(own, dtype=np.float64)

    def dump(self, path: Path) -> None:
        """Write the card as TOML, at once or not at all."""
        stated = {key: value for key, value in asdict(self).items() if value is not None}
        if not self.forecast:
            del stated["forecast"]
        write_toml(path, {"schema": SCHEMA, **stated})

    @classmethod
    def load(cls, path: Path) -> Card:
        """Read a card.

        Raises:
            CalculatorError: when the file is not valid TOML, has another schema or lacks an entry.
        """
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise CalculatorError(f"{path} is not a valid card: {error}") from error
        schema = content.pop("schema", None)
        if schema != SCHEMA:
            raise CalculatorError(
                f"{path} has schema {schema!r}; this version of mdxai reads schema {SCHEMA}"
            )
        try:
            content["elements"] = tuple(content.get("elements", ()))
            for key in ("energy_unit", "length_unit", "offset_per_atom"):
                content[key] = float(content.get(key, 1.0 if key.endswith("unit") else 0.0))
            content["atom_energies"] = {
                symbol: float(energy) for symbol, energy in content.get("atom_energies", {}).items()
            }
            if "forces_max" in content:
                content["forces_max"] = float(content["forces_max"])
            for key in ("distances", "gaps"):
                content[key] = {
                    pair: (float(low), float(high))
                    for pair, (low, high) in content.get(key, {}).items()
                }
            if "guard" in content:
                content["guard"] = Guard.from_plain(content["guard"])
            card = cls(**content)
            if not (card.cutoff > 0 and card.energy_unit > 0 and card.length_unit > 0):
                raise ValueError("cutoff and units must be positive")
            return card
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise CalculatorError(f"{path} is not a complete card: {error}") from error


def write_toml(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file, at once or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(tomli_w.dumps(content), encoding="utf-8")
    part.replace(path)


def card_of(calculator: Any) -> Card | None:
    """Return the card of a calculator; None for one without a card, such as EMT."""
    # No Protocol: a calculator around another one has a card only if that one has.
    return getattr(calculator, "card", None)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pair_key(first: str, second: str) -> str:
    """Return the name of an element pair: symbols in alphabetical order, as in "C-H"."""
    return "-".join(sorted((first, second)))


def check_structure(card: Card, numbers: Ints, positions: Floats, cell: Floats, pbc: Bools) -> None:
    """Refuse structures for which a trained network gives no meaningful result.

    Raises:
        CalculatorError: for no atoms, an element not in `card.elements` (where the card names
            any), positions that are not finite, a periodic cell without volume, or two atoms
            closer than 0.1 Å.
    """
    if len(numbers) == 0:
        raise CalculatorError("the structure holds no atoms")
    symbols = [chemical_symbols[z] for z in numbers]
    unknown = sorted(set(symbols) - set(card.elements)) if card.elements else []
    if unknown:
        raise CalculatorError(
            f"{card.name} was trained on {', '.join(card.elements)} and has never seen "
            f"{', '.join(unknown)}; use a calculator that was trained on every element"
        )
    if not np.isfinite(positions).all():
        raise CalculatorError("the structure has positions that are not finite")
    if pbc.any() and not abs(np.linalg.det(cell)) > 0:
        raise CalculatorError("the structure is periodic but its cell has no volume")
    close = find_pairs(positions, cell, pbc, OVERLAP)
    if len(close):
        i, j = int(close.i[0]), int(close.j[0])
        raise CalculatorError(
            f"atoms {i} ({symbols[i]}) and {j} ({symbols[j]}) are {close.distances[0]:.3f} Å apart,"
            f" on top of each other; check the structure and its units (Å expected)"
        )
