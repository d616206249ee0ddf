"""A network that is to be analysed: a potential, or one of another property."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mdxai.analysis.data_entries import AnalyseError
from mdxai.attribution import Together, WalkAttributor, attributor
from mdxai.calculators import CalculatorError, GuardError, guard_of, load_calculator, load_property
from mdxai.calculators.guard_term import GuardAction, GuardTerm
from mdxai.calculators.guarded_calculator import without_guard
from mdxai.calculators.own_networks import network_calculator, network_property
from mdxai.calculators.potential import NetworkPotential
from mdxai.frame import Frame

BATCH_ATOMS = 250  # of molecules explained together: what they take fits into a processor's cache


class ExplainedModel:
    """A SchNet, PaiNN or SO3net with the attributors that an analysis needs.

    Args:
        given: a calculator's name, folder or file, or the file of a property network; or an object
            from `load_calculator` or `load_property`.
        gamma: γ of the rule.
        device: a torch device, where the model is loaded here.

    Attributes:
        name, unit, pooling ("sum", "mean", "dipole"), cutoff (Å), n_layers.
        guard: pair potentials that are added to the network's energy; None without.

    Raises:
        AnalyseError: for anything else.
        CalculatorError: where it cannot be loaded.
    """

    def __init__(self, given: Any, gamma: float = 0.1, device: str = "cpu") -> None:
        if isinstance(given, str | os.PathLike):
            given = _loaded(given, device)
        calculator, prop = network_calculator(given), network_property(given)
        if calculator is None and prop is None:
            raise AnalyseError(
                "expected a SchNet, PaiNN or SO3net from load_calculator or load_property, got "
                f"{given!r}"
            )
        self.name = str(given.name)
        self.guard = guard_of(given) if prop is None else None
        self._given, self._gamma = (given if self.guard is None else without_guard(given)), gamma
        self._guard_terms: dict[bytes, GuardTerm] = {}
        self.unit = "eV" if prop is None else prop.unit
        self.output = "energy" if prop is None else prop.output
        self.pooling = "sum" if prop is None else _pooling_name(prop.pooling)
        potential = calculator.running_potential if calculator is not None else given.potential
        self._potential: NetworkPotential = potential
        self.cutoff, self.n_layers = float(potential.cutoff), int(potential.n_layers)
        self._walks = self.attributor(2)

    @property
    def kind(self) -> str:
        """The architecture: "SchNet", "PaiNN" or "SO3net"."""
        return type(self._potential.network.representation).__name__

    @property
    def reach(self) -> float:
        """How far an atom's output can depend on others, Å: the cutoff times the blocks."""
        return self.cutoff * self.n_layers

    def attributor(self, body_order: int, dtype: str | None = None) -> WalkAttributor:
        """Return an attributor for a body order, in a precision of its own if one is given."""
        found: Any = attributor(
            self._given, method="walks", gamma=self._gamma, body_order=body_order, dtype=dtype
        )
        return found  # type: ignore[no-any-return]

    def explain(self, frames: Sequence[Frame]) -> Together:
        """Explain the network, without its guard, for molecules in one batch."""
        return self._walks.attribute_together(frames)

    def guard_action(self, frame: Frame) -> GuardAction | None:
        """Return what the guard adds to the network's energy; None where it does nothing."""
        term = self._guard_term(frame)
        return None if term is None else term.act(frame.positions, frame.cell, frame.pbc)

    def _guard_term(self, frame: Frame) -> GuardTerm | None:
        if self.guard is None:
            return None
        key = frame.numbers.tobytes()
        if key not in self._guard_terms:
            self._guard_terms = {key: GuardTerm(self.guard, frame.numbers)}  # of the last molecule
        return self._guard_terms[key]

    def refuses(self, frame: Frame) -> str:
        """Return why the network cannot take a structure; "" if it can."""
        elements = self._potential.elements
        unknown = sorted(set(frame.symbols) - set(elements)) if elements else []
        if unknown:
            return f"an element that {self.name} was not trained on ({', '.join(unknown)})"
        embedding: Any = self._potential.network.representation.embedding  # type: ignore[union-attr]
        if frame.numbers.max() >= embedding.num_embeddings:
            return f"an element beyond those of {self.name}"
        return self._unguarded(frame)

    def _unguarded(self, frame: Frame) -> str:
        term = self._guard_term(frame)
        try:
            if term is not None:
                term.check(frame.positions, frame.cell, frame.pbc)
        except GuardError:
            return (
                f"atoms in another order, or bonded otherwise, than the guard of {self.name} is for"
            )
        return ""

    def as_dict(self) -> dict[str, Any]:
        """Return what identifies the model, as plain data."""
        card = self._potential.card
        return {
            "name": self.name, "kind": self.kind, "output": self.output, "pooling": self.pooling,
            "unit": self.unit, "cutoff": self.cutoff, "n_layers": self.n_layers,
            "weights_sha256": card.weights_sha256 or "", "gamma": self._gamma,
            "guard": "" if self.guard is None else str(self.guard),
        }  # fmt: skip


def batches(frames: Sequence[Frame]) -> list[slice]:
    """Return which frames, in order, are explained together: up to 250 atoms."""
    ends = np.cumsum([frame.n_atoms for frame in frames])
    found, start = [], 0
    while start < len(frames):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + BATCH_ATOMS, side="right")), start + 1)
        found.append(slice(start, stop))
        start = stop
    return found


def _loaded(name: str | os.PathLike[str], device: str) -> Any:
    if not Path(name).expanduser().is_file():
        return load_calculator(name, device=device)
    try:
        return load_property(name, device=device)
    except CalculatorError as error:
        if "so it is a potential" not in str(error):
            raise
        return load_calculator(name, device=device)


def _pooling_name(pooling: Any) -> str:
    names = {"SumOfAtoms": "sum", "MeanOfAtoms": "mean", "DipoleMagnitude": "dipole"}
    return names.get(type(pooling).__name__, type(pooling).__name__)
