"""A network that is to be analysed: a potential, or one of another property."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mdxai.analysis.data_entries import AnalyseError
from mdxai.attribution import Together, WalkAttributor, attributor
from mdxai.calculators import CalculatorError, load_calculator, load_property
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

    Raises:
        AnalyseError: for anything else.
        CalculatorError: where it cannot be loaded.
    """

    def __init__(self, given: Any, gamma: float = 0.1, device: str = "cpu") -> None:
        if isinstance(given, str | os.PathLike):
            given = _loaded(given, device)
        self._given, self._gamma = given, gamma
        calculator, prop = network_calculator(given), network_property(given)
        if calculator is None and prop is None:
            raise AnalyseError(
                "expected a SchNet, PaiNN or SO3net from load_calculator or load_property, got "
                f"{given!r}"
            )
        self.name = str(given.name)
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
        """Explain molecules in one batch."""
        return self._walks.attribute_together(frames)

    def refuses(self, frame: Frame) -> str:
        """Return why the network cannot take a structure; "" if it can."""
        elements = self._potential.elements
        unknown = sorted(set(frame.symbols) - set(elements)) if elements else []
        if unknown:
            return f"an element that {self.name} was not trained on ({', '.join(unknown)})"
        embedding: Any = self._potential.network.representation.embedding  # type: ignore[union-attr]
        if frame.numbers.max() >= embedding.num_embeddings:
            return f"an element beyond those of {self.name}"
        return ""

    def as_dict(self) -> dict[str, Any]:
        """Return what identifies the model, as plain data."""
        card = self._potential.card
        return {
            "name": self.name, "kind": self.kind, "output": self.output, "pooling": self.pooling,
            "unit": self.unit, "cutoff": self.cutoff, "n_layers": self.n_layers,
            "weights_sha256": card.weights_sha256 or "", "gamma": self._gamma,
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
