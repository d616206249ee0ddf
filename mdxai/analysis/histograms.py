"""Counts per channel in fixed bins, and the worst molecules by a principle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mdxai.frame import Floats, Ints

State = dict[str, NDArray[Any]]


class Histograms:
    """Counts of values per named channel in bins between the same edges.

    Args:
        edges: (n_bins + 1,) ascending. Values outside are counted in the first or last bin.
    """

    def __init__(self, edges: Floats) -> None:
        self.edges = edges
        self._counts: dict[str, Ints] = {}

    def add(self, name: str, values: Floats) -> None:
        """Count values (n,) of a channel; those that are not finite are left out."""
        known = values[np.isfinite(values)]
        bins = np.searchsorted(self.edges, known, side="right") - 1
        n = len(self.edges) - 1
        counts = np.bincount(bins.clip(0, n - 1), minlength=n)
        self._counts[name] = self._counts.get(name, 0) + counts

    def merge(self, other: Histograms) -> None:
        """Add the counts of another one with the same edges."""
        for name, counts in other._counts.items():
            self._counts[name] = self._counts.get(name, 0) + counts

    @property
    def counts(self) -> dict[str, Ints]:
        """Counts, (n_bins,) per channel."""
        return dict(self._counts)

    def quantile(self, name: str, q: float) -> float:
        """Return a quantile, interpolated within its bin; NaN for an unknown channel."""
        counts = self._counts.get(name)
        if counts is None or not counts.sum():
            return float("nan")
        below = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
        k = int(np.searchsorted(below, q, side="left").clip(1, len(counts)))
        inside = (q - below[k - 1]) / max(below[k] - below[k - 1], 1e-300)
        return float(self.edges[k - 1] + inside * (self.edges[k] - self.edges[k - 1]))

    def state(self) -> State:
        """Return arrays from which `from_state` continues."""
        n = len(self.edges) - 1
        rows = [*self._counts.values()]
        return {
            "edges": self.edges, "names": np.array([*self._counts], dtype=str),
            "counts": np.stack(rows) if rows else np.zeros((0, n), dtype=np.int64),
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """Return the histograms whose `state` this is."""
        self = cls(state["edges"])
        names = [str(name) for name in state["names"]]
        self._counts = dict(zip(names, state["counts"].copy(), strict=True))
        return self


@dataclass(frozen=True, slots=True)
class Offender:
    """A molecule that breaks a principle. index: its entry of the data set. atoms: to point at."""

    value: float
    index: int
    formula: str
    numbers: tuple[int, ...]
    positions: tuple[tuple[float, ...], ...]
    atoms: tuple[int, ...] = ()


class WorstMolecules:
    """The molecules that break each principle most, a fixed number of each."""

    def __init__(self, most: int = 10) -> None:
        self._most = most
        self._found: dict[str, list[Offender]] = {}

    def wanted(self, name: str, value: float) -> bool:
        """Whether a value is among the worst so far; one of 0 breaks nothing."""
        held = self._found.get(name, [])
        return value > 0 and (len(held) < self._most or value > held[-1].value)

    def add(self, name: str, offender: Offender) -> None:
        """Take in a molecule."""
        held = [*self._found.get(name, []), offender]
        self._found[name] = sorted(held, key=lambda o: (-o.value, o.index))[: self._most]

    def merge(self, other: WorstMolecules) -> None:
        """Take in those of another one."""
        for name, held in other._found.items():
            for offender in held:
                self.add(name, offender)

    @property
    def found(self) -> dict[str, list[Offender]]:
        """The worst first, by principle."""
        return {name: list(held) for name, held in self._found.items()}

    def state(self) -> State:
        """Return arrays from which `from_state` continues."""
        plain = {name: [asdict(o) for o in held] for name, held in self._found.items()}
        return {"json": np.array(json.dumps(plain)), "most": np.array(self._most)}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """Return the molecules whose `state` this is."""
        self = cls(int(state["most"]))
        for name, held in json.loads(str(state["json"])).items():
            for one in held:
                positions = tuple(tuple(point) for point in one["positions"])
                fixed = {"numbers": tuple(one["numbers"]), "atoms": tuple(one["atoms"])}
                self.add(name, Offender(**one | fixed | {"positions": positions}))
        return self
