"""What a search for weak spots finds: values, tables, files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mdxai.forecast.coordinates import Groups, Kind, groups_of
from mdxai.forecast.path_explanation import PathExplanation
from mdxai.forecast.saddle import rate
from mdxai.frame import BOLTZMANN, Floats, Frame
from mdxai.principles.probes.configurations import moved
from mdxai.serialization import as_json

NO_REFERENCE = np.empty(0)


@dataclass(frozen=True, slots=True)
class WeakPath:
    """The way from a minimum over the top into what physics forbids.

    Attributes:
        positions: (n, n_atoms, 3) Å.
        lengths: (n,) Å, of the distance that was scanned.
        energies: (n,) eV above the lowest minimum.
        top: index of the highest point: the saddle, where one was found.
        reference: (n,) eV, of the reference calculator above its energy at the minimum; empty
            without one, NaN where it refuses.
    """

    positions: Floats
    lengths: Floats
    energies: Floats
    top: int
    reference: Floats = field(default_factory=lambda: NO_REFERENCE)

    @property
    def way(self) -> Floats:
        """How far the atoms have moved together since the minimum, (n,) Å: √(Σ |Δx|²) summed."""
        steps = np.linalg.norm(np.diff(self.positions, axis=0), axis=(1, 2))
        way: Floats = np.concatenate([[0.0], np.cumsum(steps)])
        return way


@dataclass(frozen=True, slots=True)
class WeakSpot:
    """A coordinate along which a model leads to a structure that physics forbids.

    Attributes:
        kind: of the coordinate: "stretch", "compression", "angle", "approach" or "encounter".
        atoms: the two atoms whose distance was scanned; for an angle the one in the middle too; of
            an encounter all of both molecules.
        label: the same in words, such as "H6–C0–H8".
        forbidden: what is forbidden about the structure beyond the top.
        barrier: energy of the top above the minimum, eV.
        prefactor_per_ps: ν of the rate ν exp(−E/k_B T).
        depth: how far the energy falls beyond the top, eV; infinite where it is not finite.
        multiplicity: coordinates that are equal by symmetry, itself included.
        path: on which it was found.
        reference_barrier: highest energy of the reference along the path, eV; None without one.
        note: why the barrier is that of the scan and the prefactor a guess; empty for a saddle.
        equivalent: the atoms of all coordinates that are equal by symmetry, itself first.
        explanation: what the model's energy is made of along the path; None unless asked for with
            `explain_weak_spots`.
        n_first: of an encounter, how many of the atoms are those of the first molecule; else 0.
    """

    kind: Kind
    atoms: tuple[int, ...]
    label: str
    forbidden: str
    barrier: float
    prefactor_per_ps: float
    depth: float
    multiplicity: int
    path: WeakPath
    reference_barrier: float | None = None
    note: str = ""
    equivalent: tuple[tuple[int, ...], ...] = ()
    explanation: PathExplanation | None = None
    n_first: int = 0

    @property
    def groups(self) -> Groups:
        """The two atoms, or the atoms of the two molecules, whose distance was scanned."""
        return groups_of(self.atoms, self.n_first)

    def rate_per_ps(self, temperature: float) -> float:
        """Return the rate of one such coordinate at a temperature (K), per ps."""
        return rate(self.prefactor_per_ps, self.barrier, temperature)

    def rate_of_all_per_ps(self, temperature: float) -> float:
        """Return the rate of all equal coordinates together at a temperature (K), per ps."""
        return self.multiplicity * self.rate_per_ps(temperature)

    def as_dict(self, temperature: float) -> dict[str, Any]:
        """Return plain data for JSON, without the path."""
        plain: dict[str, Any] = as_json({
            "kind": self.kind, "atoms": list(self.atoms), "n_first": self.n_first,
            "label": self.label,
            "forbidden": self.forbidden, "barrier_eV": self.barrier,
            "barrier_kT": self.barrier / (BOLTZMANN * temperature),
            "prefactor_per_ps": self.prefactor_per_ps,
            "rate_per_ps": self.rate_per_ps(temperature), "depth_eV": self.depth,
            "multiplicity": self.multiplicity,
            "equivalent": [list(atoms) for atoms in self.equivalent],
            "reference_barrier_eV": self.reference_barrier, "note": self.note,
            "explanation": None if self.explanation is None else self.explanation.as_dict(),
        })  # fmt: skip
        return plain


@dataclass(frozen=True, slots=True)
class WeakSpots:
    """The weak spots of a model near a structure, lowest barrier first.

    Attributes:
        spots: lowest barrier first.
        temperature: K, for which rates are given.
        minimum: the lowest minimum that was met, in which barriers begin.
        n_scanned: coordinates that were scanned, each for all that are equal to it.
        ceiling: eV; higher barriers are not looked for.
        reference: name of the calculator that paths were compared with; empty without one.
        real: paths that the reference takes too: reactions, no weak spots.
    """

    spots: tuple[WeakSpot, ...]
    temperature: float
    minimum: Frame
    n_scanned: int
    ceiling: float
    reference: str = ""
    real: tuple[WeakSpot, ...] = ()

    def __len__(self) -> int:
        return len(self.spots)

    @property
    def worst(self) -> WeakSpot | None:
        """The weak spot with the highest rate, all equal ones together."""
        return next(iter(self.worst_first), None)

    @property
    def worst_first(self) -> list[WeakSpot]:
        """The weak spots by their rates, all equal ones together; the highest first."""
        return sorted(self.spots, key=lambda s: -s.rate_of_all_per_ps(self.temperature))

    @property
    def hazard_per_ps(self) -> float:
        """Rate of all weak spots together, per ps."""
        return self.hazard_at(self.temperature)

    def hazard_at(self, temperature: float) -> float:
        """Return the rate of all weak spots together at a temperature (K), per ps."""
        return float(sum(s.rate_of_all_per_ps(temperature) for s in self.spots))

    @property
    def headings(self) -> list[str]:
        """Headings of `rows`."""
        heads = ["coordinate", "kind", "×", "E‡/eV", "E‡/kT", "rate/ps⁻¹", "depth/eV"]
        heads += [f"{self.reference}/eV"] if self.reference else []
        return [*heads, "beyond the top"]

    @property
    def rows(self) -> list[list[str]]:
        """A row of text for each weak spot."""
        return [_row(spot, self.temperature, bool(self.reference)) for spot in self.spots]

    def table(self) -> str:
        """Return a table as text."""
        if not self.spots:
            return f"no weak spot below {self.ceiling:g} eV; coordinates scanned: {self.n_scanned}"
        rows = [self.headings, *self.rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, without the paths."""
        return {
            "temperature_K": self.temperature, "hazard_per_ps": self.hazard_per_ps,
            "n_scanned": self.n_scanned, "ceiling_eV": self.ceiling, "reference": self.reference,
            "minimum": {
                "symbols": self.minimum.symbols, "positions": self.minimum.positions.tolist(),
                "energy_eV": self.minimum.energy,
            },
            "weak_spots": [spot.as_dict(self.temperature) for spot in self.spots],
            "real_reactions": [spot.as_dict(self.temperature) for spot in self.real],
        }  # fmt: skip

    def write_paths(self, path: str | os.PathLike[str]) -> None:
        """Write all paths, one after the other, to a file whose format ASE tells by its name.

        Each structure holds its energy above the minimum (eV); `info` names the weak spot, the
        distance (Å) and, with a reference, `reference_eV`.
        """
        from ase.calculators.singlepoint import SinglePointCalculator
        from ase.io import write

        images = []
        for spot in self.spots:
            way = spot.path
            for k, positions in enumerate(way.positions):
                atoms = moved(self.minimum, positions).to_atoms(results=False)
                info = {"weak_spot": spot.label, "kind": spot.kind, "length_A": way.lengths[k]}
                if len(way.reference):
                    info["reference_eV"] = way.reference[k]
                atoms.info |= {key: getattr(v, "item", lambda v=v: v)() for key, v in info.items()}
                atoms.calc = SinglePointCalculator(atoms, energy=float(way.energies[k]))
                images.append(atoms)
        write(Path(path), images)


def _row(spot: WeakSpot, temperature: float, compared: bool) -> list[str]:
    kind, reference = spot.kind, spot.reference_barrier
    cells = [
        spot.label, kind, str(spot.multiplicity), f"{spot.barrier:.2f}",
        f"{spot.barrier / (BOLTZMANN * temperature):.1f}", f"{spot.rate_per_ps(temperature):.1e}",
        f"{spot.depth:.2f}",
    ]  # fmt: skip
    if compared:
        cells.append("–" if reference is None or np.isnan(reference) else f"{reference:.2f}")
    return [*cells, spot.forbidden + (f" ({spot.note})" if spot.note else "")]
