"""Which principles can be checked in a run, and why the others cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from mdxai.calculators import Card
from mdxai.frame import Frame
from mdxai.principles.allowed_reactions import AllowedBonds
from mdxai.principles.explanation.body_order import BodyOrderDrift, BodyOrders
from mdxai.principles.explanation.decay import (
    DecayExponent,
    DecayForm,
    DecayRise,
    DecayTail,
    StrengthProfile,
)
from mdxai.principles.explanation.health import Equivalence, Residual
from mdxai.principles.explanation.ranking import (
    BondClasses,
    BondOrderRanking,
    SpeciesDrift,
    SpeciesRanking,
)
from mdxai.principles.motion.connectivity import BrokenBonds, FormedBonds, Fragments, LoneHydrogen
from mdxai.principles.motion.distances import DistanceDrift
from mdxai.principles.motion.energy import (
    ConservedEnergy,
    EnergyConservation,
    EnergyDrift,
    EnergyJump,
    StepDefect,
)
from mdxai.principles.motion.equipartition import (
    ElementTemperature,
    FlyingIceCube,
    KineticSpread,
    ModeTemperature,
    Temperature,
)
from mdxai.principles.motion.forces import ForceBeyondTraining, ForceSpike, NonFinite
from mdxai.principles.motion.momentum import AngularMomentum, Momentum, NetForce, NetTorque
from mdxai.principles.motion.structure import BondIntegrity, ClosestContact, DistanceBeyondTraining
from mdxai.principles.principle import Principle, PrincipleUnavailable
from mdxai.principles.probes.probe_registry import PROBES

Makers = dict[str, Callable[[], Principle]]

# What a principle needs of frames; a trajectory may lack it, or not say.
_MOVES = ("velocities", "ensemble")
NEEDS: dict[str, tuple[str, ...]] = {
    Temperature.name: _MOVES,
    KineticSpread.name: _MOVES,
    FlyingIceCube.name: _MOVES,
    ModeTemperature.name: _MOVES,
    ElementTemperature.name: _MOVES,
    Momentum.name: _MOVES,
    AngularMomentum.name: _MOVES,
    NetForce.name: ("forces",),
    NetTorque.name: ("forces",),
    ForceSpike.name: ("forces",),
    ForceBeyondTraining.name: ("forces",),
}

EXPLANATION = tuple(
    principle.name
    for principle in (
        DecayRise, DecayExponent, DecayForm, DecayTail, BondOrderRanking, SpeciesRanking,
        SpeciesDrift, BodyOrders, BodyOrderDrift, Equivalence, Residual,
    )
)  # fmt: skip
MOTION = tuple(
    principle.name
    for principle in (
        NonFinite, BondIntegrity, BrokenBonds, FormedBonds, Fragments, LoneHydrogen, ClosestContact,
        DistanceBeyondTraining, DistanceDrift, ForceSpike, ForceBeyondTraining, EnergyConservation,
        EnergyDrift, EnergyJump, NetForce, NetTorque, Momentum, AngularMomentum, Temperature,
        KineticSpread, FlyingIceCube, ModeTemperature, ElementTemperature,
    )
)  # fmt: skip

Kind = Literal["motion", "explanation", "probe"]
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(MOTION, "motion"),
    **dict.fromkeys(EXPLANATION, "explanation"),
    **dict.fromkeys(PROBES, "probe"),
}


def kind_of(principle: str) -> Kind | None:
    """Return the kind of a principle by its name; None for a name that is no principle."""
    return _KINDS.get(principle)


def principles_for(  # noqa: PLR0913 (every choice of what can be checked)
    first: Frame,
    card: Card | None = None,
    *,
    bath: Callable[[], float | None] = lambda: None,
    conserves_energy: bool = False,
    bath_energy: Callable[[], float | None] = lambda: None,
    random_bath: bool = False,
    reference: Sequence[Frame] = (),
    allowed_reactions: Sequence[str] = (),
    missing: Mapping[str, str] | None = None,
) -> tuple[list[Principle], dict[str, str]]:
    """Return the principles that can be checked from `first` on, and why the others cannot.

    Args:
        first: first frame of the run.
        card: of the calculator, where it has one.
        bath: gives the temperature of the thermostat, K; None without one.
        conserves_energy: whether nothing but the forces changes the velocities.
        bath_energy: gives the energy that the thermostat holds, eV; None where it is not known.
        random_bath: whether the thermostat pushes each atom at random.
        reference: frames of a sound trajectory; bond lengths and distances are compared with these
            rather than with the start of the run.
        allowed_reactions: bonds that may break and form, such as "C1-O2" or "O-H".
        missing: what the frames cannot tell (see `EngineDescription`), with reasons.

    Raises:
        AllowedReactionError: for a pattern that makes no sense.
    """
    missing = missing or {}
    makers = {
        **_structure(first, card, reference, AllowedBonds(allowed_reactions, first)),
        **_forces(first, card, missing),
        **_momentum(first, conserves_energy),
        **_equipartition(first, bath, random_bath),
    }
    lacking = {
        principle: missing[what]
        for principle, needs in NEEDS.items()
        for what in reversed(needs)
        if what in missing
    }
    principles, unavailable = _made({k: v for k, v in makers.items() if k not in lacking})
    energy, reasons = _energy(first, conserves_energy, bath_energy, missing)
    principles += energy
    return principles, lacking | unavailable | reasons | _partly_unavailable(principles, card)


def explanation_principles(first: Frame, cutoff: float) -> tuple[list[Principle], dict[str, str]]:
    """Return the principles that an explanation is held against, and why the others cannot be.

    Args:
        first: first frame of the run; its bonds are those that the principles of chemistry rank.
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


def _structure(
    first: Frame, card: Card | None, reference: Sequence[Frame], allowed: AllowedBonds
) -> Makers:
    ranges = card.distances if card is not None else {}
    return {
        BondIntegrity.name: lambda: BondIntegrity(first, reference, allowed),
        BrokenBonds.name: lambda: BrokenBonds(first, allowed),
        FormedBonds.name: lambda: FormedBonds(first, allowed),
        Fragments.name: lambda: Fragments(first, allowed),
        LoneHydrogen.name: lambda: LoneHydrogen(first, allowed),
        ClosestContact.name: lambda: ClosestContact(ranges, first),
        DistanceBeyondTraining.name: lambda: DistanceBeyondTraining(ranges, first),
        DistanceDrift.name: lambda: DistanceDrift(first, reference),
    }


def _forces(first: Frame, card: Card | None, missing: Mapping[str, str]) -> Makers:
    without = not np.isfinite(first.energy) and np.isfinite(first.forces).all()
    has_energy = not (without or "energy" in missing)
    return {
        NonFinite.name: lambda: NonFinite(has_energy=has_energy, absent=tuple(missing)),
        ForceSpike.name: ForceSpike,
        ForceBeyondTraining.name: lambda: ForceBeyondTraining(card.forces_max if card else None),
    }


def _momentum(first: Frame, conserves_energy: bool) -> Makers:
    return {
        NetForce.name: NetForce,
        NetTorque.name: lambda: NetTorque(first),
        Momentum.name: lambda: Momentum(first, conserves_energy=conserves_energy),
        AngularMomentum.name: lambda: AngularMomentum(first, conserves_energy=conserves_energy),
    }


def _equipartition(first: Frame, bath: Callable[[], float | None], random_bath: bool) -> Makers:
    return {
        Temperature.name: lambda: Temperature(bath, first),
        KineticSpread.name: lambda: KineticSpread(bath, first),
        FlyingIceCube.name: lambda: FlyingIceCube(first, bath),
        ModeTemperature.name: lambda: ModeTemperature(first, random_bath=random_bath),
        ElementTemperature.name: lambda: ElementTemperature(first, random_bath=random_bath),
    }


def _energy(
    first: Frame,
    conserves_energy: bool,
    bath_energy: Callable[[], float | None],
    missing: Mapping[str, str],
) -> tuple[list[Principle], dict[str, str]]:
    """Return the principles of energy; the sum of what single steps create needs every step."""
    counts_heat = conserves_energy or bath_energy() is not None
    sums = ("energy", "velocities") if counts_heat else ("energy", "forces", "steps")
    lacking = {
        EnergyConservation.name: sums,
        EnergyDrift.name: sums,
        EnergyJump.name: ("energy", "forces", "steps"),
    }
    reasons = {
        principle: next(missing[what] for what in needs if what in missing)
        for principle, needs in lacking.items()
        if set(needs) & set(missing)
    }
    try:
        defect = StepDefect(first)
    except PrincipleUnavailable as reason:
        return [], dict.fromkeys(lacking, str(reason)) | reasons
    conserved = ConservedEnergy(
        defect, first, thermostatted=not conserves_energy, bath_energy=bath_energy
    )
    principles: list[Principle] = [
        EnergyConservation(conserved), EnergyDrift(conserved), EnergyJump(defect),
    ]  # fmt: skip
    return [principle for principle in principles if principle.name not in reasons], reasons


def _partly_unavailable(principles: list[Principle], card: Card | None) -> dict[str, str]:
    reasons = {}
    for principle in principles:
        if isinstance(principle, ClosestContact) and principle.unseen:
            pairs = ", ".join(principle.unseen)
            reasons[f"contact of {pairs}"] = "the calculator has not seen such pairs in training"
    if card is not None and not card.elements:
        reasons["elements"] = "the calculator does not state which elements it was trained on"
    return reasons
