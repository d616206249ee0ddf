"""The lowest barrier into what physics forbids, as a check of a calculator judges it."""

from __future__ import annotations

from typing import Any

from mdxai.calculators import Potential, card_of
from mdxai.calculators.own_networks import network_potential
from mdxai.forecast.card_forecast import CardForecast
from mdxai.forecast.conformers import FlatPotentialError, WeakSpotError
from mdxai.forecast.find_weak_spots import weak_spots
from mdxai.forecast.scans import ScanOptions
from mdxai.frame import Frame
from mdxai.principles import Deviation, PrincipleUnavailable
from mdxai.principles.principle import Cost

ENOUGH = 1.0  # eV: at 10 per ps crossed once in 11 ns at 1000 K
LARGEST = 10  # atoms of a molecule that is searched: some five seconds


class WeakestBarrier:
    """What the lowest barrier into what physics forbids misses of 1 eV.

    It is that of the calculator's card, where this holds a forecast of the molecule, else what a
    search for weak spots finds. As a check is to be quick, only networks of mdxai and molecules of
    up to 10 atoms are searched unasked.

    Args:
        calculator: any, or a function that makes one.
        twin: of it.
        search: whether to search in every case, and not to look at the card.

    Attributes:
        note: what was found, in words.
    """

    name = "weak_spots"
    unit = "eV"
    cost: Cost = "probe"

    def __init__(self, calculator: Any, twin: Potential, search: bool = False) -> None:
        self._calculator, self._twin, self._search = calculator, twin, search
        self.note = ""

    def deviate(self, frame: Frame, attribution: object = None) -> Deviation | None:
        stated = None if self._search else self._stated(frame)
        barrier, atoms = stated or self._searched(frame)
        missing = max(ENOUGH - barrier, 0.0)
        return Deviation(self.name, self.unit, missing, atoms if missing else ())

    def _stated(self, frame: Frame) -> tuple[float, tuple[int, ...]] | None:
        # What is made of a network, such as one with a correction, has the card but other barriers.
        card = card_of(self._twin) if network_potential(self._twin) is not None else None
        found = CardForecast.for_frame(card, frame)
        if found is None:
            return None
        lowest = min(found.weak_spots, key=lambda s: s.barrier, default=None)
        if lowest is None:
            return (ENOUGH, ()) if found.ceiling >= ENOUGH else None
        self.note = f"barrier of {lowest.barrier:.2f} eV by its card"
        return lowest.barrier, lowest.indices

    def _searched(self, frame: Frame) -> tuple[float, tuple[int, ...]]:
        quick = frame.n_atoms <= LARGEST and not frame.pbc.any()
        if not self._search and (network_potential(self._twin) is None or not quick):
            raise PrincipleUnavailable("not searched, which may take minutes: give --weak-spots")
        if frame.n_atoms < 2:
            raise PrincipleUnavailable("a single atom has none")
        try:
            spots = weak_spots(self._calculator, frame, options=ScanOptions(ceiling=ENOUGH)).spots
        except FlatPotentialError as error:
            raise PrincipleUnavailable(str(error)) from error
        except WeakSpotError as error:  # the structure itself falls into a hole
            self.note = str(error)
            return 0.0, ()
        if not spots:
            return ENOUGH, ()
        lowest = spots[0]
        self.note = f"barrier of {lowest.barrier:.2f} eV: {lowest.forbidden}"
        return lowest.barrier, lowest.atoms
