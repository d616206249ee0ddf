"""The choice of a method to explain a calculator."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ase import Atoms

from mdxai.attribution.attribution import (
    Attribution,
    AttributionError,
    AttributionUnavailable,
    Attributor,
    as_frame,
)
from mdxai.attribution.model_agnostic import ExpansionAttributor, HessianAttributor
from mdxai.attribution.network_attributors import FlowAttributor, WalkAttributor
from mdxai.attribution.rules import Rule
from mdxai.calculators.card import Card
from mdxai.calculators.network_calculator import NetworkCalculator
from mdxai.calculators.network_property import NetworkProperty
from mdxai.calculators.pooling import SUM, DipoleMagnitude, OneAtom, Pooling
from mdxai.calculators.potential import NetworkPotential
from mdxai.frame import Frame

METHODS = ("auto", "walks", "flow", "hessian", "expansion")
WALKS_LIMIT = 200  # atoms up to which "auto" takes exact walks


class AutomaticAttributor:
    """Exact walks for up to 200 atoms, flow beyond; the attribution names the method used.

    Args:
        walks, flow: the attributors to choose from.
    """

    method = "auto"

    def __init__(self, walks: WalkAttributor, flow: FlowAttributor) -> None:
        self._walks, self._flow = walks, flow

    def attribute(self, frame: Frame | Atoms) -> Attribution:
        """Explain one frame. Raises what the chosen method raises."""
        frame = as_frame(frame)
        chosen = self._walks if frame.n_atoms <= WALKS_LIMIT else self._flow
        return chosen.attribute(frame)

    def attribute_many(self, frames: Sequence[Frame | Atoms]) -> list[Attribution]:
        """Explain frames, in one batch where all are small enough for exact walks."""
        checked = [as_frame(frame) for frame in frames]
        if all(frame.n_atoms <= WALKS_LIMIT for frame in checked):
            return self._walks.attribute_many(checked)
        return [self.attribute(frame) for frame in checked]

    def will_explain_next(self, explained: bool) -> None:
        """State whether the next frame will be explained; both methods read the same force call."""
        self._walks.will_explain_next(explained)

    def state(self) -> dict[str, Any]:
        """Return, for a checkpoint, what the rounding of the next explanation depends on."""
        return {"walks": self._walks.state(), "flow": self._flow.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state` with the same bits as the attributor that returned it."""
        self._walks.restore(state["walks"])
        self._flow.restore(state["flow"])


def attributor(  # noqa: PLR0913 (one argument per choice)
    calculator: Any,
    *,
    method: str = "auto",
    gamma: float = 0.1,
    max_bias: bool = False,
    body_order: int = 2,
    dtype: str | None = None,
    atom: int | None = None,
) -> Attributor:
    """Return an attributor for a calculator's energy, or for another property of a network.

    Args:
        calculator: from `mdxai.load_calculator`, or a property from `mdxai.load_property`. It is
            never changed; methods that must evaluate it use a copy.
        method: "walks": exact relevance by body order. "flow": relevance passing between pairs,
            for large systems. "auto": walks for up to 200 atoms, flow beyond. For any ASE
            calculator: "hessian", norms of its blocks, and "expansion", the n-body expansion over
            fragments (outside the training domain); both evaluate it many times.
        gamma: γ of the rule; 0 is LRP-0.
        max_bias: whether the rule returns the bias's share to the inputs.
        body_order: highest order that "walks" (1 to 3) or "expansion" (2 or 3) resolves.
        dtype: "float32" or "float64". By default that of the calculator, whose activations are
            then reused if it has just computed the forces of the frame.
        atom: explain only what this atom contributes to a sum or mean, such as its energy E_i.

    Raises:
        AttributionUnavailable: for a calculator that is not a SchNet or PaiNN of schnetpack.
        AttributionError: for an unknown method or dtype, a negative γ, another body order, or an
            atom where the method or output has no contributions of atoms.
    """
    if method not in METHODS:
        raise AttributionError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    rule = Rule(gamma, max_bias)
    if atom is not None and method in ("hessian", "expansion"):
        raise AttributionError(f"method {method!r} explains the whole energy, not that of an atom")
    if dtype not in (None, "float32", "float64"):
        raise AttributionError(f"dtype must be float32 or float64, got {dtype!r}")
    if method == "hessian":
        return HessianAttributor(_twin(calculator, dtype))
    if method == "expansion":
        ours = isinstance(calculator, NetworkCalculator)
        card = calculator.card if ours else Card("", {})
        return ExpansionAttributor(
            _twin(calculator, dtype), body_order=body_order, offset_per_atom=card.offset_per_atom,
            atom_energies=card.atom_energies,
        )  # fmt: skip
    potential, pooling = _potential_of(calculator, dtype), _pooling_of(calculator, atom)
    unit = calculator.unit if isinstance(calculator, NetworkProperty) else "eV"
    walks = WalkAttributor(potential, rule, pooling=pooling, unit=unit, body_order=body_order)
    if method == "walks":
        return walks
    flow = FlowAttributor(potential, rule, pooling=pooling, unit=unit)
    return flow if method == "flow" else AutomaticAttributor(walks, flow)


def _twin(calculator: Any, dtype: str | None) -> Any:
    """Return an independent calculator to evaluate, so that a running one is not disturbed."""
    if isinstance(calculator, NetworkCalculator):
        return NetworkCalculator(
            calculator.potential.twin(getattr(torch, dtype) if dtype else None)
        )
    if not callable(getattr(calculator, "get_potential_energy", None)) or isinstance(
        calculator, type
    ):
        raise AttributionError(f"expected an ASE calculator, got {calculator!r}")
    try:
        return copy.deepcopy(calculator)
    except Exception as error:  # foreign calculators may raise any exception
        raise AttributionUnavailable(
            f"{type(calculator).__name__} cannot be copied ({error}), and explaining it evaluates "
            "it many times; pass a separate instance to HessianAttributor or ExpansionAttributor"
        ) from error


def _pooling_of(explained: Any, atom: int | None) -> Pooling:
    pooling: Pooling = explained.pooling if isinstance(explained, NetworkProperty) else SUM
    if atom is None:
        return pooling
    if isinstance(pooling, DipoleMagnitude):
        raise AttributionError("a dipole is not a sum of contributions of atoms; omit `atom`")
    return OneAtom(atom)


def _potential_of(calculator: Any, dtype: str | None) -> NetworkPotential:
    wanted = None if dtype is None else getattr(torch, dtype)
    if isinstance(calculator, NetworkProperty):
        return calculator.potential if wanted is None else calculator.potential.twin(wanted)
    if not isinstance(calculator, NetworkCalculator):
        kind = calculator if isinstance(calculator, type) else type(calculator)
        name = getattr(calculator, "name", None)
        name = name if isinstance(name, str) and name else kind.__name__
        raise AttributionUnavailable(
            f"relevance needs access to the network, and {name!r} is not a SchNet or PaiNN "
            'loaded with mdxai.load_calculator; method="hessian" needs only forces, '
            'method="expansion" only energies'
        )
    return calculator.share_activations(wanted)
