"""Physical principles as measured deviations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mdxai.calculators import Card
from mdxai.frame import Frame
from mdxai.principles.decay import (
    Decay,
    DecayExponent,
    DecayForm,
    DecayRise,
    DecayTail,
    StrengthProfile,
    fit_decay,
)
from mdxai.principles.explanation import (
    BodyOrderDrift,
    BodyOrders,
    Equivalence,
    ExplanationPrecision,
    Residual,
    ThreeBodyReach,
)
from mdxai.principles.motion import EnergyConservation, NetForce, NonFinite, Temperature
from mdxai.principles.principle import Deviation, Principle, PrincipleUnavailable
from mdxai.principles.probes import probes
from mdxai.principles.probing import Curve
from mdxai.principles.ranking import (
    BondClasses,
    BondOrderRanking,
    SpeciesDrift,
    SpeciesRanking,
)
from mdxai.principles.repulsion import dimer_curve, dimer_curves
from mdxai.principles.structure import BondIntegrity, ClosestContact, bonds_of

__all__ = [
    "BodyOrderDrift",
    "BodyOrders",
    "BondClasses",
    "BondIntegrity",
    "BondOrderRanking",
    "ClosestContact",
    "Curve",
    "Decay",
    "DecayExponent",
    "DecayForm",
    "DecayRise",
    "DecayTail",
    "Deviation",
    "EnergyConservation",
    "Equivalence",
    "ExplanationPrecision",
    "NetForce",
    "NonFinite",
    "Principle",
    "PrincipleUnavailable",
    "Residual",
    "SpeciesDrift",
    "SpeciesRanking",
    "StrengthProfile",
    "Temperature",
    "ThreeBodyReach",
    "bonds_of",
    "dimer_curve",
    "dimer_curves",
    "fit_decay",
    "learned_principles",
    "principles_for",
    "probes",
]


def principles_for(
    first: Frame,
    card: Card | None = None,
    *,
    bath: Callable[[], float | None] = lambda: None,
    conserves_energy: bool = False,
) -> tuple[list[Principle], dict[str, str]]:
    """Return the principles that can be checked from `first` on, and why the others cannot.

    Args:
        first: first frame of the run.
        card: of the calculator, where it has one.
        bath: gives the temperature of the thermostat, K; None without one.
        conserves_energy: whether nothing but the forces changes the velocities.
    """
    ranges = card.distances if card is not None else {}
    missing_energy = not np.isfinite(first.energy) and np.isfinite(first.forces).all()
    makers: dict[str, Callable[[], Principle]] = {
        NonFinite.name: lambda: NonFinite(has_energy=not missing_energy),
        BondIntegrity.name: lambda: BondIntegrity(first),
        ClosestContact.name: lambda: ClosestContact(ranges, first),
        Temperature.name: lambda: Temperature(bath, first),
        EnergyConservation.name: lambda: EnergyConservation(
            first, thermostatted=not conserves_energy
        ),
        NetForce.name: NetForce,
    }
    principles, unavailable = _made(makers)
    return principles, unavailable | _partly_unavailable(principles, card)


def learned_principles(first: Frame, cutoff: float) -> tuple[list[Principle], dict[str, str]]:
    """Return the laws that an explanation is held against, and why the others cannot be.

    Args:
        first: first frame of the run; its bonds are those that the laws of chemistry rank.
        cutoff: of the calculator, Å.
    """
    shared: dict[str, Any] = {}

    def classes() -> BondClasses:
        shared.setdefault("classes", BondClasses(first))
        return shared["classes"]  # type: ignore[no-any-return]

    def profile() -> StrengthProfile:
        shared.setdefault("profile", StrengthProfile(first, cutoff))
        return shared["profile"]  # type: ignore[no-any-return]

    return _made(
        {
            DecayRise.name: lambda: DecayRise(profile()),
            DecayExponent.name: lambda: DecayExponent(profile()),
            DecayForm.name: lambda: DecayForm(profile()),
            DecayTail.name: lambda: DecayTail(profile()),
            BondOrderRanking.name: lambda: BondOrderRanking(classes()),
            SpeciesRanking.name: lambda: SpeciesRanking(classes(), first),
            SpeciesDrift.name: lambda: SpeciesDrift(classes()),
            BodyOrders.name: BodyOrders,
            BodyOrderDrift.name: BodyOrderDrift,
            Equivalence.name: lambda: Equivalence(first),
            Residual.name: Residual,
        }
    )


def _made(
    makers: Mapping[str, Callable[[], Principle]],
) -> tuple[list[Principle], dict[str, str]]:
    principles: list[Principle] = []
    unavailable = {}
    for name, make in makers.items():
        try:
            principles.append(make())
        except PrincipleUnavailable as reason:
            unavailable[name] = str(reason)
    return principles, unavailable


def _partly_unavailable(principles: list[Principle], card: Card | None) -> dict[str, str]:
    reasons = {}
    for principle in principles:
        if isinstance(principle, ClosestContact) and principle.unseen:
            pairs = ", ".join(principle.unseen)
            reasons[f"contact of {pairs}"] = "the calculator has not seen such pairs in training"
    if card is not None and not card.elements:
        reasons["elements"] = "the calculator does not state which elements it was trained on"
    return reasons
