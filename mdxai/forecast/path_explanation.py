"""What a network's energy is made of along the way into a weak spot: exact relevances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mdxai.frame import Floats, Frame, named_atoms
from mdxai.principles.probes.configurations import moved

if TYPE_CHECKING:
    from mdxai.attribution import Attribution
    from mdxai.forecast.weak_spot import WeakSpot, WeakSpots

WORST = 4  # weak spots that are explained
NAMED = 6  # pairs whose changes are kept
# What a barrier is made of, and in words.
PARTS = {
    "pair": "this pair", "other_pairs": "other pairs", "three_body": "three atoms",
    "higher": "more atoms", "one_body": "single atoms", "residual": "biases",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PairChange:
    """A pair of atoms whose two-body relevance changes from the minimum to the top, eV."""

    i: int
    j: int
    label: str
    change: float


@dataclass(frozen=True, slots=True)
class PathExplanation:
    """Relevances along a path, each (n,) eV less its value at the lowest minimum.

    They add up to the energy above the minimum.

    Attributes:
        pair: exactly-two-body relevance of the two atoms whose distance was scanned; of all pairs
            between two molecules.
        other_pairs: that of all other pairs together.
        three_body: of walks that meet three atoms. higher: of walks that meet more.
        one_body: of walks that never leave an atom.
        residual: what the biases absorbed.
        top: index of the highest point.
        changes: the pairs whose relevance differs most between the minimum and the top.
        gamma: γ of the rule.
        pair_is: `pair` in words.
    """

    pair: Floats
    other_pairs: Floats
    three_body: Floats
    higher: Floats
    one_body: Floats
    residual: Floats
    top: int
    changes: tuple[PairChange, ...]
    gamma: float
    pair_is: str = PARTS["pair"]

    @property
    def in_words(self) -> dict[str, str]:
        """Names of what the barrier is made of."""
        return PARTS | {"pair": self.pair_is}

    @property
    def at_top(self) -> dict[str, float]:
        """What the barrier is made of, eV; they add up to it."""
        return {part: float(getattr(self, part)[self.top]) for part in PARTS}

    @property
    def sentence(self) -> str:
        """What the barrier is made of, in words."""
        names = self.in_words
        parts = [f"{names[part]} {_signed(value)}" for part, value in self.at_top.items()]
        pairs = [f"{c.label} {_signed(c.change)}" for c in self.changes[:3]]
        return f"{', '.join(parts)} eV; pairs that change most: {', '.join(pairs)} eV"

    def as_dict(self) -> dict[str, Any]:
        """Return what the barrier is made of as plain data, eV."""
        return {
            "gamma": self.gamma, "at_top_eV": self.at_top,
            "pairs": [{"atoms": [c.i, c.j], "change_eV": c.change} for c in self.changes],
        }  # fmt: skip


def _signed(value: float) -> str:
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}".replace("-", "−")


def explain_weak_spots(
    found: WeakSpots, calculator: Any, *, worst: int = WORST, gamma: float = 0.1
) -> WeakSpots:
    """Return the same weak spots, those of the highest rates with an `explanation`.

    Every point of their paths is explained by exact walks, up to three bodies, in one batch per
    path (Esders et al. 2025 explain single structures so).

    Args:
        found: by `mdxai.weak_spots` with this calculator.
        calculator: one of `mdxai.load_calculator`. It is not changed.
        worst: how many are explained.
        gamma: γ of the rule.

    Raises:
        AttributionUnavailable: for any other calculator.
    """
    from mdxai.attribution import attributor

    explainer: Any = attributor(calculator, method="walks", gamma=gamma, body_order=3)
    chosen = found.worst_first[:worst]
    spots = tuple(
        replace(s, explanation=path_explanation(s, found.minimum, explainer))
        if any(s is one for one in chosen) else s
        for s in found.spots
    )  # fmt: skip
    return replace(found, spots=spots)


def path_explanation(spot: WeakSpot, minimum: Frame, explainer: Any) -> PathExplanation:
    """Return the explanation of one path; `explainer` makes walks of up to three bodies."""
    frames = [minimum, *(moved(minimum, positions) for positions in spot.path.positions)]
    explained: Sequence[Attribution] = explainer.attribute_many(frames)
    orders = _from_minimum([a.by_body_order for a in explained])
    every = _pair_relevances(explained, minimum.n_atoms)
    first, second = map(list, spot.groups)
    pair = (every + every.transpose(0, 2, 1))[:, first][:, :, second].sum(axis=(1, 2))
    return PathExplanation(
        pair, orders[:, 1] - pair, orders[:, 2], orders[:, 3], orders[:, 0],
        _from_minimum([a.residual for a in explained]), spot.path.top,
        _largest(every[spot.path.top], minimum.symbols), explained[0].gamma,
        PARTS["pair"] if spot.kind != "encounter" else "pairs between the two",
    )  # fmt: skip


def _from_minimum(values: Sequence[Any]) -> Floats:
    found = np.array(values, dtype=np.float64)
    above: Floats = found[1:] - found[0]
    return above


def _pair_relevances(explained: Sequence[Attribution], n_atoms: int) -> Floats:
    """Return the relevance of pairs less that at the minimum, (n, n_atoms, n_atoms), i < j, eV."""
    relevances = np.zeros((len(explained), n_atoms, n_atoms))
    for k, a in enumerate(explained):
        np.add.at(relevances[k], (a.pairs.i, a.pairs.j), a.two_body)
    above: Floats = relevances[1:] - relevances[0]
    return above


def _largest(changes: Floats, symbols: Sequence[str]) -> tuple[PairChange, ...]:
    order = np.argsort(-np.abs(changes), axis=None)[:NAMED]
    pairs = [divmod(int(flat), len(changes)) for flat in order]
    return tuple(
        PairChange(i, j, named_atoms(symbols, (i, j)), float(changes[i, j]))
        for i, j in pairs
        if changes[i, j]
    )
