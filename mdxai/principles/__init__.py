"""Physical principles as measured deviations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mdxai.calculators import Card
from mdxai.frame import Frame
from mdxai.principles.motion import EnergyConservation, NetForce, NonFinite, Temperature
from mdxai.principles.principle import Deviation, Principle, PrincipleUnavailable
from mdxai.principles.probes import probes
from mdxai.principles.probing import Curve
from mdxai.principles.repulsion import dimer_curve, dimer_curves
from mdxai.principles.structure import BondIntegrity, ClosestContact, bonds_of

__all__ = [
    "BondIntegrity",
    "ClosestContact",
    "Curve",
    "Deviation",
    "EnergyConservation",
    "NetForce",
    "NonFinite",
    "Principle",
    "PrincipleUnavailable",
    "Temperature",
    "bonds_of",
    "dimer_curve",
    "dimer_curves",
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
    principles, unavailable = [], {}
    for name, make in makers.items():
        try:
            principles.append(make())
        except PrincipleUnavailable as reason:
            unavailable[name] = str(reason)
    return principles, unavailable | _partly_unavailable(principles, card)


def _partly_unavailable(principles: list[Principle], card: Card | None) -> dict[str, str]:
    reasons = {}
    for principle in principles:
        if isinstance(principle, ClosestContact) and principle.unseen:
            pairs = ", ".join(principle.unseen)
            reasons[f"contact of {pairs}"] = "the calculator has not seen such pairs in training"
    if card is not None and not card.elements:
        reasons["elements"] = "the calculator does not state which elements it was trained on"
    return reasons
