"""The forecast that the card of a calculator holds: written, read, and asked about a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
from ase import Atoms

from mdxai.calculators import Card
from mdxai.forecast.combined_law import (
    CombinedLaw,
    foretold_hazard,
    law_of_all,
    log_hazard_of,
)
from mdxai.forecast.coordinates import named_coordinate
from mdxai.forecast.forecast_result import Forecast, ForecastError
from mdxai.forecast.group_names import in_its_group
from mdxai.forecast.kept_paths import cubic, paths_of
from mdxai.forecast.quantity_text import run_text
from mdxai.forecast.same_molecule import bond_graph, graph_of, list_bonds, renumbering
from mdxai.forecast.scans import ScanOptions
from mdxai.forecast.survival_model import (
    Interval,
    Watched,
    mean_time_of,
    survival_of,
)
from mdxai.frame import BOLTZMANN, Frame, formula_in_order, named_atoms
from mdxai.principles.motion.followed_paths import FollowedPath, FollowedPaths
from mdxai.serialization import StateError, from_plain

COUNTING = (300.0, 500.0, 1000.0, 2000.0)  # K, at one of which a weak spot in a card counts
SHARE = 0.01  # of all weak spots' rate there


@dataclass(frozen=True, slots=True)
class CardSpot:
    """A weak spot as `mdxai.forecast.WeakSpot` describes it, its atoms as text such as "6-1-8", of
    an encounter of two molecules "0-1-2+3-4-5".
    """

    kind: str
    atoms: str
    barrier: float
    prefactor_per_ps: float
    multiplicity: int

    @property
    def indices(self) -> tuple[int, ...]:
        """The same atoms as numbers."""
        return _indices(self.atoms.replace("+", "-"))

    @property
    def n_first(self) -> int:
        """How many of them are those of the first molecule of an encounter; else 0."""
        return len(_indices(self.atoms.partition("+")[0])) if "+" in self.atoms else 0

    def label(self, symbols: list[str]) -> str:
        """Return its name, such as "H6–C1–H8"."""
        return named_coordinate(symbols, self.indices, self.n_first)


@dataclass(frozen=True, slots=True)
class CardPath:
    """A path that a run can follow (`FollowedPath`), told by its distances alone.

    atoms: of all equal distances, as text such as "7-0-8 6-0-7". start, top, end: that distance at
    the minimum, at the top and beyond it, Å. height: energy of the top above the start, eV.
    barrier: above the lowest minimum, eV. prefactor_per_ps: of all weak spots that it leads to.
    """

    kind: str
    label: str
    atoms: str
    start: float
    top: float
    end: float
    height: float
    barrier: float
    prefactor_per_ps: float
    forbidden: str

    @classmethod
    def of(cls, path: FollowedPath) -> CardPath:
        """Return what a card holds of a path."""
        start, top, end = (round(float(path.lengths[k]), 4) for k in (0, path.top, -1))
        barrier, rate = round(path.barrier, 4), path.rate_per_ps
        return cls(
            path.kind, path.label, " ".join(map(_text, path.atoms)), start, top, end,
            round(path.height, 4), barrier,
            float(f"{rate * math.exp(barrier / (BOLTZMANN * path.temperature)):.3g}"),
            path.forbidden,
        )  # fmt: skip

    def followed(self, temperature: float) -> FollowedPath:
        """Return the path for a run at a temperature, K."""
        lengths = np.concatenate([np.linspace(self.start, self.top, 33), [self.end]])
        return FollowedPath(
            self.kind, self.label, tuple(map(_indices, self.atoms.split())), lengths,
            cubic(lengths, 32, self.height), 32, self.barrier,
            self.prefactor_per_ps * math.exp(-self.barrier / (BOLTZMANN * temperature)),
            temperature, self.forbidden,
        )  # fmt: skip


@dataclass(frozen=True)
class CardForecast:
    """The forecast of a card: what a law of the hazard needs, and of which molecule and weights.

    Attributes:
        says: for readers, what it foretells of the run that was asked about.
        symbols: of the molecule, its atoms in order, such as "C2OH6".
        bonds: indices of bonded atoms, such as "0-1 1-2".
        ceiling: up to which barriers were looked for, eV.
        weights_sha256: of the network that was foretold.
        mdxai: version that made it.
        watched: what replicas did.
        weak_spots: those that count at some temperature; empty where none was found.
        paths: into these, for runs that follow them.

    Raises:
        ForecastError: for entries that cannot be.
    """

    says: str
    symbols: str
    bonds: str
    ceiling: float
    weights_sha256: str
    mdxai: str
    watched: tuple[Watched, ...] = ()
    weak_spots: tuple[CardSpot, ...] = ()
    paths: tuple[CardPath, ...] = ()

    def __post_init__(self) -> None:
        if not all(
            0 < x < math.inf
            for spot in self.weak_spots
            for x in (spot.barrier, spot.prefactor_per_ps, float(spot.multiplicity))
        ):
            raise ForecastError("weak spots need a barrier, prefactor and multiplicity above 0")
        if not all(0 < w.temperature < math.inf and w.time >= 0 <= w.onsets for w in self.watched):
            raise ForecastError("replicas need a temperature above 0, time and onsets of 0 or more")
        parts = [*self._bonded, *(spot.indices for spot in self.weak_spots)]
        if not {atom for part in parts for atom in part} <= set(range(self._n_atoms)):
            raise ForecastError(f"bonds and weak spots need atoms of {self.symbols}")

    @classmethod
    def of(cls, found: Forecast, weights_sha256: str) -> CardForecast:
        """Return what a card holds of a forecast.

        Args:
            found: of a molecule.
            weights_sha256: of the network that was foretold.

        Raises:
            ForecastError: for a periodic structure, or without a search for weak spots.
        """
        spots, test, frame = found.weak_spots, found.life_test, found.structure
        if spots is None:
            raise ForecastError("a card holds forecasts that know weak spots; look for them, too")
        refuse_for_card(frame, spots.ceiling)
        counting = [
            s for s in spots.worst_first
            if any(s.rate_of_all_per_ps(t) > SHARE * spots.hazard_at(t) for t in COUNTING)
        ]  # fmt: skip
        held = cls(
            "", formula_in_order(frame.numbers),
            _bonds_text(frame), spots.ceiling, weights_sha256, version("mdxai"),
            () if test is None else tuple(
                Watched(round(w.temperature, 3), round(w.time, 4), w.onsets)
                for w in test.law.watched
            ),
            tuple(CardSpot(
                s.kind, _split_text(s.atoms, s.n_first), round(s.barrier, 4),
                float(f"{s.prefactor_per_ps:.3g}"), s.multiplicity,
            ) for s in counting),
            tuple(map(CardPath.of, paths_of(replace(spots, spots=tuple(counting))).paths)),
        )  # fmt: skip
        return replace(held, says=held.sentence(frame, found.temperature, found.duration))

    @classmethod
    def read(cls, card: Card) -> CardForecast | None:
        """Return the forecast of a card; None where it holds none.

        Raises:
            ForecastError: for entries that cannot be, or a forecast of other weights.
        """
        if not card.forecast:
            return None
        mend = "make it anew with `mdxai forecast --write-card`, or remove [forecast]"
        try:
            found = from_plain(cls, card.forecast)
        except (StateError, ForecastError) as error:
            raise ForecastError(
                f"the card of {card.name} holds no complete forecast: {error}; {mend}"
            ) from error
        if found.weights_sha256 != card.weights_sha256:
            raise ForecastError(
                f"the card of {card.name} holds the forecast of other weights "
                f"({found.weights_sha256[:12]}…, expected {card.weights_sha256[:12]}…); {mend}"
            )
        return found

    @classmethod
    def for_frame(cls, card: Any, frame: Frame) -> CardForecast | None:
        """Return what a card foretells of a frame, atoms numbered alike; None where it does not.

        Args:
            card: what `card_of` returned, which may be None or another's.
            frame: of the system.

        Raises:
            ForecastError: as `read`.
        """
        found = cls.read(card) if isinstance(card, Card) else None
        return None if found is None else found.about(frame)

    def as_dict(self) -> dict[str, Any]:
        """Return what a card holds."""
        return asdict(self)

    @cached_property
    def _n_atoms(self) -> int:
        return len(Atoms(self.symbols))

    @property
    def _bonded(self) -> list[tuple[int, ...]]:
        return [_indices(bond) for bond in self.bonds.split()]

    def about(self, frame: Frame) -> CardForecast | None:
        """Return the forecast with the atoms numbered as in a frame; None for another molecule."""
        if frame.pbc.any() or frame.n_atoms != self._n_atoms:
            return None
        numbered = formula_in_order(frame.numbers), _bonds_text(frame)
        if (self.symbols, self.bonds) == numbered:
            return self
        graph = bond_graph(Atoms(self.symbols).numbers.tolist(), self._bonded)
        mapping = renumbering(graph, graph_of(frame))
        if mapping is None:
            return None
        if all(a == b for a, b in mapping.items()):
            return self
        return replace(
            self, symbols=formula_in_order(frame.numbers),
            bonds=_bonds_text(frame),
            weak_spots=tuple(
                replace(spot, atoms=_split_text([mapping[a] for a in spot.indices], spot.n_first))
                for spot in self.weak_spots
            ),
            paths=tuple(self._renumbered(path, mapping, frame) for path in self.paths),
        )  # fmt: skip

    def _renumbered(self, path: CardPath, mapping: Mapping[int, int], frame: Frame) -> CardPath:
        atoms = [tuple(mapping[a] for a in _indices(one)) for one in path.atoms.split()]
        label = named_atoms(frame.symbols, atoms[0])
        return replace(path, atoms=" ".join(map(_text, atoms)), label=label)

    def followed(self, frame: Frame, temperature: float) -> FollowedPaths:
        """Return the paths that a run follows from a frame that `about` was asked about.

        temperature: of the run, K.
        """
        return FollowedPaths(
            tuple(path.followed(temperature) for path in self.paths),
            "" if self.paths else f"its card says: no weak spot below {self.ceiling:g} eV",
            tuple(frame.numbers.tolist()),
        )

    def hazard(self, temperature: float) -> Interval:
        """Return onsets per ps at a temperature, K; 0 for neither weak spots nor onsets.

        Raises:
            LifeDataError: for a temperature that is not positive and finite.
        """
        return foretold_hazard(self._law, temperature)

    @cached_property
    def _law(self) -> CombinedLaw | None:
        return law_of_all(self.watched, self.weak_spots)

    def sentence(self, frame: Frame, temperature: float, duration: float) -> str:
        """Return in words what the forecast says about a run.

        Args:
            frame: that `about` was asked about.
            temperature: of the run, K.
            duration: of the run, ps.
        """
        hazard = self.hazard(temperature)
        says = run_text(temperature, duration, survival_of(hazard, duration), mean_time_of(hazard))
        if not self.weak_spots:
            return f"{says}; no weak spot below {self.ceiling:g} eV"
        spot = max(self.weak_spots, key=lambda s: log_hazard_of([s], temperature))
        named = in_its_group(spot.label(frame.symbols), frame, spot.indices)
        return f"{says}; weakest: {named}, barrier {spot.barrier:.2f} eV"


def refuse_for_card(frame: Frame, ceiling: float) -> None:
    """Raise ForecastError unless a card may hold a forecast of this structure.

    Cards are asked about runs at any temperature, so their weak spots are looked for as high as
    usual; and they know molecules by their bonds.

    Args:
        frame: the structure.
        ceiling: eV, up to which weak spots are looked for.
    """
    if frame.pbc.any():
        raise ForecastError(
            "a card holds the forecast of a molecule, and the structure is periodic; give the "
            "molecule without a cell"
        )
    usual = ScanOptions().ceiling
    if ceiling < usual:
        raise ForecastError(
            f"a card is asked about runs at any temperature, so its weak spots need a ceiling of "
            f"{usual:g} eV or more, got {ceiling:g} eV"
        )


def _indices(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("-")))


def _text(indices: Iterable[int]) -> str:
    return "-".join(map(str, indices))


def _split_text(indices: Sequence[int], n_first: int) -> str:
    """Return atoms as text, the first few parted from the others by a plus."""
    both = (indices[:n_first], indices[n_first:]) if n_first else (indices,)
    return "+".join(map(_text, both))


def _bonds_text(frame: Frame) -> str:
    return " ".join(map(_text, list_bonds(frame)))
