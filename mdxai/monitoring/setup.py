"""What watches a run from its first frame on: principles, explanation, early warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mdxai.attribution import Attribution, AttributionUnavailable, Attributor, attributor
from mdxai.attribution.attribution import Reaching
from mdxai.calculators import CalculatorError, Card, card_of, guard_of, twin_of
from mdxai.calculators.reference_data import ReferenceData
from mdxai.early_warning import EarlyWarnings
from mdxai.engines import Engine, EngineDescription
from mdxai.frame import Frame
from mdxai.monitoring.live_forecast import weak_spot_principle
from mdxai.monitoring.options import MonitorOptions, OptionError
from mdxai.principles import (
    EXPLANATION,
    Deviation,
    Principle,
    PrincipleUnavailable,
    explanation_principles,
    principles_for,
    probe_principles,
)
from mdxai.principles.motion.followed_paths import FollowedPaths
from mdxai.principles.motion.forces import NonFinite
from mdxai.principles.registry import guard_principles, is_measurable, reference_of
from mdxai.stability.thresholds import THRESHOLDS, Threshold
from mdxai.statistics import BinnedMoments, profile_moments

NON_FINITE = NonFinite()  # keeps nothing of earlier frames


@dataclass(frozen=True, slots=True)
class MonitorSetup:
    """What watches a run.

    Attributes:
        first: the first frame, which principles compare with.
        principles: those that can be checked.
        thresholds: when their deviations count.
        unavailable: what cannot be checked, with reasons.
        explainer: explains frames, where that is possible.
        profile: empty moments of relevance against distance, where frames are explained and there
            are pairs.
        early: detectors of early warnings, where asked for.
        reference: what distances and forces are compared with, in words.
    """

    first: Frame
    principles: tuple[Principle, ...]
    thresholds: tuple[Threshold, ...]
    unavailable: Mapping[str, str]
    explainer: Attributor | None
    profile: BinnedMoments | None
    early: EarlyWarnings | None
    reference: str = ""

    def deviations(
        self, frame: Frame, attribution: Attribution | None, *, probe: bool
    ) -> dict[str, Deviation | None]:
        """Return the deviations of a frame by principle; None where one is not measured.

        Args:
            frame: the frame.
            attribution: its explanation, where it was explained.
            probe: whether probes are due.
        """
        lost = NON_FINITE.deviate(frame)
        if lost.value > 0:  # where numbers are not finite, nothing else means anything
            return {p.name: lost if p.name == lost.principle else None for p in self.principles}
        found: dict[str, Deviation | None] = {}
        for principle in self.principles:
            if frame.absent and not is_measurable(principle.name, frame):
                found[principle.name] = None
            elif principle.cost == "free" or (principle.cost == "attribution" and attribution):
                found[principle.name] = principle.deviate(frame, attribution)
            elif principle.cost == "probe" and probe:
                found[principle.name] = _probed(principle, frame, attribution)
            else:
                found[principle.name] = None
        return found


def set_up(
    engine: Engine, first: Frame, options: MonitorOptions, found: FollowedPaths | None = None
) -> MonitorSetup:
    """Return what watches a run of `engine` from its first frame on.

    Args:
        engine: of the run.
        first: its first frame.
        options: of the monitor.
        found: weak spots to follow.

    Raises:
        AllowedReactionError: for an allowed reaction that names no atoms of the system.
        FollowedPathError: for weak spots of another system.
    """
    calculator = engine.calculator
    card = card_of(calculator)
    training = _training(options, first, card, found)
    principles, unavailable = principles_for(
        first,
        card,
        _described(engine, first, options),
        allowed_reactions=options.allowed_reactions,
        training=training,
    )
    more, reasons = weak_spot_principle(found, first)
    principles, unavailable = principles + more, unavailable | reasons
    principles += guard_principles(first, guard_of(calculator))
    explainer, reasons = _explainer(calculator, first, options)
    unavailable |= reasons
    profile = None
    cutoff = explainer.cutoff if isinstance(explainer, Reaching) else None
    if cutoff is not None:
        more, reasons = explanation_principles(first, cutoff)
        profile = profile_moments(first.numbers, cutoff)
        principles, unavailable = principles + more, unavailable | reasons
    thresholds = options.judged_by
    if options.probe_every:
        more, reasons = probe_principles(twin_of(calculator), first)
        principles, unavailable = principles + more, unavailable | reasons
    unavailable |= _not_judged(principles, thresholds)
    early = None
    if options.calibration is not None:
        costs = {principle.name: principle.cost for principle in principles}
        reach = None if profile is None else cutoff
        early = EarlyWarnings(options.calibration, first, costs, reach)
        unavailable |= {f"early warning by {n}": why for n, why in early.unavailable.items()}
    return MonitorSetup(
        first, tuple(principles), thresholds, unavailable, explainer, profile, early,
        "" if "contact" in unavailable else training.source,
    )  # fmt: skip


def _described(engine: Engine, first: Frame, options: MonitorOptions) -> EngineDescription:
    """Return what the engine is, with what no frame of it will hold."""
    described = engine.describe()
    if described.timestep <= 0:  # false for NaN, where nobody knows
        raise OptionError(
            f"the timestep of the dynamics is {described.timestep:g} fs; expected a positive one, "
            "because a verdict says what happened first"
        )
    missing: dict[str, str] = {}
    if options.external_forces:
        missing["closed system"] = "the calculator acts on the system from outside, as stated"
    if first.absent >= {"energy", "forces"}:
        missing |= dict.fromkeys(
            ("energy", "forces"),
            "the calculator does not say what it has computed, and the monitor computes nothing: "
            "make it an ase.calculators.calculator.Calculator that keeps `results` and `atoms`",
        )
    return replace(described, missing=missing | described.missing) if missing else described


def _explainer(
    calculator: Any, first: Frame, options: MonitorOptions
) -> tuple[Attributor | None, dict[str, str]]:
    """Return what explains frames, or what cannot be checked without, with the reason."""
    reason = "switched off (attribute_every=0)"
    if options.attribute_every:
        try:
            explainer = attributor(calculator, gamma=options.gamma)
            explainer.attribute(first)  # a trial: what fails now is not tried again and again
        except AttributionUnavailable as unavailable:
            reason = str(unavailable)
        else:
            return explainer, {}
    return None, {"attribution": reason} | dict.fromkeys(EXPLANATION, reason)


def _training(
    options: MonitorOptions, first: Frame, card: Card | None, found: FollowedPaths | None
) -> ReferenceData:
    """Return what the model was trained on: as given, else as its card says, else physical radii.

    The card's largest force stays where the data that are given hold none.
    """
    given = options.reference_data
    if given is None:
        return reference_of(first, card, found)
    if given.forces_max is None and card is not None:
        return replace(given, forces_max=card.forces_max)
    return given


def _probed(
    principle: Principle, frame: Frame, attribution: Attribution | None
) -> Deviation | None:
    """Return the deviation, or None where the twin fails, as it may in a run that breaks."""
    if not np.isfinite(frame.positions).all():
        return None
    try:
        return principle.deviate(frame, attribution)
    except (CalculatorError, PrincipleUnavailable):
        return None


def _not_judged(principles: Sequence[Principle], thresholds: Sequence[Threshold]) -> dict[str, str]:
    """Return the principles that are measured although the user gave no threshold for them."""
    shipped = {t.principle for t in THRESHOLDS} - {t.principle for t in thresholds}
    reason = "measured, not judged: no threshold was given"
    return {p.name: reason for p in principles if p.name in shipped}
