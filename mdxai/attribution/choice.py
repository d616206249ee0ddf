"""The choice of a method to explain a calculator."""

from __future__ import annotations

import copy
import importlib
from typing import Any

from mdxai.attribution.attribution import AttributionError, AttributionUnavailable, Attributor
from mdxai.attribution.lrp_rule import Rule
from mdxai.attribution.model_agnostic import ExpansionAttributor, HessianAttributor
from mdxai.attribution.opened import Openable
from mdxai.calculators.card import Card
from mdxai.calculators.own_networks import network_calculator, network_property

METHODS = ("auto", "walks", "flow", "hessian", "expansion")

# What opens calculators of others. By name, because few users have installed them.
OPENERS = {"mace.calculators.mace.MACECalculator": ("mdxai.attribution.mace_layers", "OpenedMACE")}


def attributor(  # noqa: PLR0913 (one argument per choice)
    calculator: Any,
    *,
    method: str = "auto",
    gamma: float = 0.1,
    max_bias: bool = False,
    scalars_only: bool = False,
    body_order: int = 2,
    dtype: str | None = None,
    atom: int | None = None,
) -> Attributor:
    """Return an attributor for a calculator's energy, or for another property of a network.

    Args:
        calculator: from `mdxai.load_calculator`, or a property from `mdxai.load_property`; mace's
            `MACECalculator`; or what you have made `mdxai.attribution.Openable`. It is never
            changed; methods that must evaluate it use a copy.
        method: "walks": exact relevance by body order. "flow": relevance passing between pairs,
            for large systems. "auto": walks for up to 200 atoms, flow beyond. For any ASE
            calculator: "hessian", norms of its blocks, and "expansion", the n-body expansion over
            fragments (outside the training domain); both evaluate it many times.
        gamma: γ of the rule; 0 is LRP-0.
        max_bias: whether the rule returns the bias's share to the inputs.
        scalars_only: of an SO3net, whether relevance passes through l = 0 alone.
        body_order: highest order that "walks" (1 to 3) or "expansion" (2 or 3) resolves.
        dtype: "float32" or "float64". By default that of the calculator, whose activations are
            then reused if it has just computed the forces of the frame.
        atom: explain only what this atom contributes to a sum or mean, such as its energy E_i.

    Raises:
        AttributionUnavailable: for a calculator that is no SchNet, PaiNN or SO3net of schnetpack,
            no MACE and not `Openable`.
        AttributionError: for an unknown method or dtype, a negative γ, another body order, or an
            atom where the method or output has no contributions of atoms.
    """
    if method not in METHODS:
        raise AttributionError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    rule = Rule(gamma, max_bias, scalars_only)
    if atom is not None and method in ("hessian", "expansion"):
        raise AttributionError(f"method {method!r} explains the whole energy, not that of an atom")
    if dtype not in (None, "float32", "float64"):
        raise AttributionError(f"dtype must be float32 or float64, got {dtype!r}")
    if method == "hessian":
        return HessianAttributor(_twin(calculator, dtype))
    if method == "expansion":
        ours = network_calculator(calculator)
        card = Card("", {}) if ours is None else ours.card
        return ExpansionAttributor(
            _twin(calculator, dtype), body_order=body_order, offset_per_atom=card.offset_per_atom,
            atom_energies=card.atom_energies,
        )  # fmt: skip
    explained = network_calculator(calculator) or network_property(calculator)
    network = opened(calculator, dtype) if explained is None else None
    if network is not None:
        from mdxai.attribution.network_choice import opened_attributor

        return opened_attributor(network, method, rule, body_order=body_order, atom=atom)
    if explained is None:
        raise AttributionUnavailable(_no_network(calculator))
    from mdxai.attribution.network_choice import network_attributor

    return network_attributor(
        explained, method, rule, body_order=body_order, dtype=dtype, atom=atom
    )


def opened(calculator: Any, dtype: str | None = None) -> Openable | None:
    """Return what opens a calculator's network for explanations; None where nothing does.

    Args:
        calculator: any.
        dtype: in which to explain; default: the calculator's own.

    Raises:
        AttributionUnavailable: for a model of a known calculator that cannot be opened.
        AttributionError: for a dtype where the calculator itself is `Openable`, and sets its own.
    """
    if isinstance(calculator, type):
        return None
    if isinstance(calculator, Openable):
        if dtype is not None:
            raise AttributionError(f"{type(calculator).__name__} is explained in its own dtype")
        return calculator
    for kind in type(calculator).__mro__:
        home = OPENERS.get(f"{kind.__module__}.{kind.__qualname__}")
        if home is not None:
            opener: Openable = getattr(importlib.import_module(home[0]), home[1])(calculator, dtype)
            return opener
    return None


def _no_network(calculator: Any) -> str:
    kind = calculator if isinstance(calculator, type) else type(calculator)
    name = getattr(calculator, "name", None)
    name = name if isinstance(name, str) and name else kind.__name__
    return (
        f"relevance needs access to the network, and {name!r} is not a SchNet, PaiNN or "
        "SO3net loaded with mdxai.load_calculator, nor a MACE; "
        'method="hessian" needs only forces, method="expansion" only energies'
    )


def _twin(calculator: Any, dtype: str | None) -> Any:
    """Return an independent calculator to evaluate, so that a running one is not disturbed."""
    ours = network_calculator(calculator)
    if ours is not None:
        from mdxai.attribution.network_choice import twin_calculator

        return twin_calculator(ours, dtype)
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
