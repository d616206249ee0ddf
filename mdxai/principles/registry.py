"""Which principles can be checked in a run, and why the others cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np

from mdxai.calculators import Card, Guard
from mdxai.calculators.reference_data import ReferenceData, composition
from mdxai.engines import EngineDescription
from mdxai.frame import QUANTITIES, Frame
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
from mdxai.principles.motion.bond_changes import BondChanges
from mdxai.principles.motion.connectivity import (
    BondIntegrity,
    BrokenBonds,
    FormedBonds,
    Fragments,
    LoneHydrogen,
    Reaction,
)
from mdxai.principles.motion.distances import (
    ClosestContact,
    DistanceBeyondTraining,
    DistanceDrift,
    PairDistribution,
    UnlikeTraining,
)
from mdxai.principles.motion.energy import (
    ConservedEnergy,
    EnergyConservation,
    EnergyDrift,
    EnergyJump,
    StepDefect,
    counts_all,
)
from mdxai.principles.motion.equipartition import (
    STRETCH,
    ElementTemperature,
    FlyingIceCube,
    KineticSpread,
    ModeTemperature,
    Temperature,
)
from mdxai.principles.motion.followed_paths import FollowedPaths, WeakSpotProgress, closest_allowed
from mdxai.principles.motion.forces import (
    ForceBeyondTraining,
    ForceSpike,
    NonFinite,
    RepeatedForces,
)
from mdxai.principles.motion.guard_work import GuardWork
from mdxai.principles.motion.kicks import Kicks, MomentumKicks
from mdxai.principles.motion.matter import (
    Crowding,
    Density,
    Detached,
    Lindemann,
    Void,
    matter_of,
)
from mdxai.principles.motion.momentum import AngularMomentum, Momentum, NetForce, NetTorque
from mdxai.principles.motion.work import FEWEST, Work, WorkBalance, WorkScatter, WorkSlope
from mdxai.principles.principle import Principle, PrincipleUnavailable
from mdxai.principles.probes.probe_registry import PROBES
from mdxai.principles.running_statistics import BlockMeans, RunningMedian

Makers = dict[str, Callable[[], Principle]]

# What a principle needs of a frame, which may lack it; "ensemble": the kind of thermostat is known;
# "closed system": the calculator neither pushes nor holds the atoms from outside.
_MOVES = ("velocities", "ensemble")
_CLOSED = "closed system"
NEEDS: dict[str, tuple[str, ...]] = {
    Temperature.name: _MOVES,
    KineticSpread.name: _MOVES,
    FlyingIceCube.name: _MOVES,
    ModeTemperature.name: _MOVES,
    ElementTemperature.name: _MOVES,
    Momentum.name: (*_MOVES, _CLOSED),
    AngularMomentum.name: (*_MOVES, _CLOSED),
    NetForce.name: ("forces", _CLOSED),
    NetTorque.name: ("forces", _CLOSED),
    MomentumKicks.name: (*_MOVES, "forces", "steps"),
    RepeatedForces.name: ("forces",),
    ForceSpike.name: ("forces",),
    ForceBeyondTraining.name: ("forces",),
}
_OF_STEPS = (EnergyJump.name, Work.name, WorkSlope.name, WorkScatter.name)  # single ones
# The same for those of energy: what else these need depends on how the run counts energy.
_NEEDS_OF_FRAME: dict[str, frozenset[str]] = {
    **{name: frozenset(needs) for name, needs in NEEDS.items()},
    EnergyConservation.name: frozenset({"energy"}),
    EnergyDrift.name: frozenset({"energy"}),
    **dict.fromkeys(_OF_STEPS, frozenset({"energy", "forces"})),
}


class Wait(NamedTuple):
    """What a principle needs before it has a value.

    time: of motion, fs. frames: number of them, of a `kind`. every_step: whether it also needs
    every step without a gap.
    """

    time: float = 0.0
    frames: int = 0
    kind: str = "frames"
    every_step: bool = False


_AVERAGED = Wait(BlockMeans.BATCHES * STRETCH)
WAITS: dict[str, Wait] = {
    DistanceDrift.name: Wait(DistanceDrift.SETTLED + 2 * DistanceDrift.STRETCH),
    PairDistribution.name: Wait(DistanceDrift.SETTLED + 2 * DistanceDrift.STRETCH),
    Lindemann.name: Wait(Lindemann.WINDOW),
    ForceSpike.name: Wait(frames=RunningMedian.WARM_UP),
    EnergyConservation.name: Wait(every_step=True),
    EnergyDrift.name: Wait(EnergyDrift.SHORTEST + EnergyDrift.STRETCH, every_step=True),
    EnergyJump.name: Wait(frames=RunningMedian.WARM_UP, every_step=True),
    WorkSlope.name: Wait(frames=FEWEST, every_step=True),
    WorkScatter.name: Wait(frames=FEWEST, every_step=True),
    KineticSpread.name: _AVERAGED,
    ModeTemperature.name: _AVERAGED,
    ElementTemperature.name: _AVERAGED,
    SpeciesDrift.name: Wait(frames=SpeciesDrift.FRAMES, kind="explained frames"),
    BodyOrderDrift.name: Wait(frames=BodyOrderDrift.FRAMES, kind="explained frames"),
}


def quantities_of(principle: str) -> tuple[str, ...]:
    """Return which of velocities, forces and energy a principle is measured from, by its name."""
    return tuple(sorted(_NEEDS_OF_FRAME.get(principle, frozenset()) & set(QUANTITIES)))


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
        NonFinite, BondIntegrity, BrokenBonds, Reaction, FormedBonds, Fragments, LoneHydrogen,
        Lindemann, Detached, Crowding, Void, Density, ClosestContact, DistanceBeyondTraining,
        UnlikeTraining, DistanceDrift, PairDistribution, WeakSpotProgress, ForceSpike,
        RepeatedForces, ForceBeyondTraining, GuardWork,
        EnergyConservation, EnergyDrift, EnergyJump, Work, WorkSlope, WorkScatter, NetForce,
        NetTorque, Momentum, AngularMomentum, MomentumKicks, Temperature, KineticSpread,
        FlyingIceCube, ModeTemperature, ElementTemperature,
    )
)  # fmt: skip

Kind = Literal["motion", "explanation", "probe"]
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(MOTION, "motion"),
    **dict.fromkeys(EXPLANATION, "explanation"),
    **dict.fromkeys(PROBES, "probe"),
    "weak_spots": "probe",  # of a check alone: it needs a search (`forecast/weakest_barrier.py`)
}


def kind_of(principle: str) -> Kind | None:
    """Return the kind of a principle by its name; None for a name that is no principle."""
    return _KINDS.get(principle)


NO_DYNAMICS = EngineDescription("", np.nan, None, conserves_energy=False)


def is_measurable(principle: str, frame: Frame) -> bool:
    """Return whether a frame holds what a principle, given by name, is measured from."""
    return not frame.absent or frame.absent.isdisjoint(_NEEDS_OF_FRAME.get(principle, ()))


def principles_for(
    first: Frame,
    card: Card | None = None,
    dynamics: EngineDescription = NO_DYNAMICS,
    *,
    reference: Sequence[Frame] = (),
    allowed_reactions: Sequence[str] = (),
    training: ReferenceData | None = None,
) -> tuple[list[Principle], dict[str, str]]:
    """Return the principles that can be checked from `first` on, and why the others cannot.

    Args:
        first: first frame of the run.
        card: of the calculator, where it has one.
        dynamics: what moves the atoms, and what its frames cannot tell.
        reference: frames of a sound trajectory; bond lengths and distances are compared with these
            rather than with the start of the run.
        allowed_reactions: bonds that may break and form, such as "C1-O2" or "O-H".
        training: what distances and forces are compared with; by default `reference_of`.

    Raises:
        AllowedReactionError: for an invalid pattern.
    """
    missing = dynamics.missing
    training = training or reference_of(first, card)
    allowed = AllowedBonds(allowed_reactions, first)
    changes = BondChanges(first, allowed)
    kicks = Kicks(first) if dynamics.conserves_energy else None
    makers = {
        **_structure(first, training, reference, allowed, changes),
        **_forces(training),
        **_momentum(first, kicks),
        **_equipartition(first, dynamics, changes),
    }
    lacking = {
        principle: missing[what]
        for principle, needs in NEEDS.items()
        for what in reversed(needs)
        if what in missing
    }
    principles, unavailable = _made({k: v for k, v in makers.items() if k not in lacking})
    energy, reasons = _energy(first, dynamics, kicks)
    principles += energy
    return principles, lacking | unavailable | reasons | _partly_unavailable(principles, card)


def reference_of(
    first: Frame, card: Card | None, paths: FollowedPaths | None = None
) -> ReferenceData:
    """Return what a card says of the training data; else physical radii, and weak spots if known.

    Args:
        first: a frame of the system.
        card: of the calculator, where it has one.
        paths: weak spots of the calculator, where they are known.
    """
    if card is not None and card.distances:
        return ReferenceData.of_card(card)
    radii = ReferenceData.physical(first.numbers)
    if paths is not None and (closest := closest_allowed(paths, first)):
        shortest = {
            pair: (max(least, closest.get(pair, 0.0)), most)
            for pair, (least, most) in radii.distances.items()
        }
        source = f"weak spots ({', '.join(closest)}) and {radii.source}"
        radii = replace(radii, source=source, distances=shortest)
    return radii if card is None else replace(radii, forces_max=card.forces_max)


def guard_principles(first: Frame, guard: Guard | None) -> list[Principle]:
    """Return what watches the guard of a calculator; nothing for one without."""
    return [] if guard is None else [GuardWork(guard, first)]


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
    first: Frame,
    training: ReferenceData,
    reference: Sequence[Frame],
    allowed: AllowedBonds,
    changes: BondChanges,
) -> Makers:
    ranges, volumes = training.distances, training.volumes.get(composition(first.numbers))
    return {
        BondIntegrity.name: lambda: BondIntegrity(first, reference, allowed, changes),
        BrokenBonds.name: lambda: BrokenBonds(first, allowed, changes),
        Reaction.name: lambda: Reaction(first, allowed, changes),
        FormedBonds.name: lambda: FormedBonds(first, allowed, changes),
        Fragments.name: lambda: Fragments(first, allowed, changes),
        LoneHydrogen.name: lambda: LoneHydrogen(first, allowed),
        ClosestContact.name: lambda: ClosestContact(ranges, first),
        DistanceBeyondTraining.name: lambda: DistanceBeyondTraining(ranges, first),
        UnlikeTraining.name: lambda: UnlikeTraining(ranges, first),
        DistanceDrift.name: lambda: _distance_drift(first, reference),
        PairDistribution.name: lambda: PairDistribution(first, reference),
        Lindemann.name: lambda: Lindemann(first),
        Detached.name: lambda: Detached(first),
        Crowding.name: lambda: Crowding(first),
        Void.name: lambda: Void(first),
        Density.name: lambda: Density(first, volumes),
    }


def _distance_drift(first: Frame, reference: Sequence[Frame]) -> DistanceDrift:
    """Return the principle for molecules; of other matter the whole structure may change."""
    try:
        matter_of(first)
    except PrincipleUnavailable:
        return DistanceDrift(first, reference)
    raise PrincipleUnavailable("crystals and melts are compared by pair_distribution")


def _forces(training: ReferenceData) -> Makers:
    return {
        NonFinite.name: NonFinite,
        ForceSpike.name: ForceSpike,
        RepeatedForces.name: RepeatedForces,
        ForceBeyondTraining.name: lambda: ForceBeyondTraining(training.forces_max),
    }


def _momentum(first: Frame, kicks: Kicks | None) -> Makers:
    return {
        NetForce.name: NetForce,
        NetTorque.name: lambda: NetTorque(first),
        Momentum.name: lambda: Momentum(first, kicks),
        AngularMomentum.name: lambda: AngularMomentum(first, kicks),
        MomentumKicks.name: lambda: MomentumKicks(kicks),
    }


def _equipartition(first: Frame, dynamics: EngineDescription, changes: BondChanges) -> Makers:
    random_bath, holds_centre = dynamics.random_bath, dynamics.holds_centre
    return {
        Temperature.name: lambda: Temperature(first, changes),
        KineticSpread.name: lambda: KineticSpread(first, holds_centre=holds_centre),
        FlyingIceCube.name: lambda: FlyingIceCube(first),
        ModeTemperature.name: lambda: ModeTemperature(
            first, random_bath=random_bath, holds_centre=holds_centre
        ),
        ElementTemperature.name: lambda: ElementTemperature(first, random_bath=random_bath),
    }


def _energy(
    first: Frame, dynamics: EngineDescription, kicks: Kicks | None
) -> tuple[list[Principle], dict[str, str]]:
    """Return the principles of energy; the sum of what single steps create needs every step."""
    missing = dynamics.missing
    thermostatted = kicks is None
    counts_heat = counts_all(first, thermostatted=thermostatted)
    single_steps = ("energy", "forces", "steps")
    sums = ("energy", "velocities") if counts_heat else single_steps
    lacking = {
        EnergyConservation.name: sums,
        EnergyDrift.name: sums,
        **dict.fromkeys(_OF_STEPS, single_steps),
    }
    reasons = {
        principle: next(missing[what] for what in needs if what in missing)
        for principle, needs in lacking.items()
        if set(needs) & set(missing)
    }
    defect = StepDefect(first)
    conserved = ConservedEnergy(defect, first, thermostatted=thermostatted, kicks=kicks)
    balance = WorkBalance(defect)
    principles: list[Principle] = [
        EnergyConservation(conserved), EnergyDrift(conserved), EnergyJump(defect),
        Work(balance), WorkSlope(balance), WorkScatter(balance),
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
