"""What a monitor sets up when it sees the first frame: principles, explanation, header of the record."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from mdxai.attribution import Attribution, AttributionUnavailable, Attributor, attributor
from mdxai.calculators import CalculatorError, twin_of
from mdxai.early_warning import Calibration, EarlyWarnings
from mdxai.engines import Engine
from mdxai.errors import MdxaiError
from mdxai.frame import Frame
from mdxai.principles import (
    EXPLANATION,
    Deviation,
    Principle,
    PrincipleUnavailable,
    explanation_principles,
    principles_for,
    probe_principles,
)
from mdxai.stability.thresholds import PROBE_THRESHOLDS, THRESHOLDS, Threshold
from mdxai.statistics import BinnedMoments, profile_moments

# Of every number in a run directory whose name does not say it.
UNITS = {
    "length": "Å", "time": "fs", "energy": "eV", "force": "eV/Å", "velocity": "Å/fs", "mass": "amu",
    "temperature": "K", "engine.parameters": "those of the engine itself",
}  # fmt: skip


class OptionError(MdxaiError, ValueError):
    """Arguments of a monitor that make no sense."""


@dataclass(frozen=True, slots=True)
class MonitorOptions:
    """What a monitor is to check and explain; see `Monitor`.

    Raises:
        OptionError: naming the choice, what was given and what was expected.
    """

    attribute_every: int = 10
    probe_every: int = 0
    gamma: float = 0.1
    thresholds: Sequence[Threshold] = THRESHOLDS
    expected: Sequence[str] = ()
    blackbox: int = 50
    max_overhead: float | None = None
    early_warning: Calibration | None = None

    def __post_init__(self) -> None:
        for name in ("attribute_every", "probe_every", "blackbox"):
            steps = getattr(self, name)
            if not (isinstance(steps, int | np.integer) and steps >= 0):
                raise OptionError(f"{name} must be 0 or a positive whole number, got {steps!r}")
        most = self.max_overhead
        if most is not None and not (isinstance(most, Real) and 0 < most < 1):
            raise OptionError(f"max_overhead must be between 0 and 1, or None, got {most!r}")


@dataclass(slots=True)
class Bath:
    """The thermostat as the principles see it: as it was at the instant that they judge.

    temperature: K, None without one. energy: eV, less that at its start; None where not known.
    """

    temperature: float | None
    energy: float | None


@dataclass(slots=True)
class MonitorSetup:
    """What watches a run from its first frame on.

    Attributes:
        first: that frame, the reference of the principles.
        bath: kept up to date by whoever asks the principles.
        principles: principles that can be checked.
        thresholds: what deviations count.
        unavailable: principles that cannot be checked, with reasons.
        explain: explains frames, where that is possible.
        profile: moments of strength against distance, where there are pairs.
        early: detectors of early warnings, where asked for.
    """

    first: Frame
    bath: Bath
    principles: list[Principle] = field(default_factory=list)
    thresholds: tuple[Threshold, ...] = ()
    unavailable: dict[str, str] = field(default_factory=dict)
    explain: Attributor | None = None
    profile: BinnedMoments | None = None
    early: EarlyWarnings | None = None


def prepare(engine: Engine, first: Frame, choices: MonitorOptions) -> MonitorSetup:
    """Return what watches a run of `engine` from its first frame on.

    Raises:
        AllowedReactionError: for an allowed reaction that makes no sense.
    """
    calculator, described = engine.calculator, engine.describe()
    bath = Bath(engine.temperature(), engine.bath_energy())
    ready = MonitorSetup(first, bath, thresholds=tuple(choices.thresholds))
    ready.principles, ready.unavailable = principles_for(
        first,
        getattr(calculator, "card", None),
        bath=lambda: bath.temperature,
        conserves_energy=described.conserves_energy,
        bath_energy=lambda: bath.energy,
        random_bath=described.random_bath,
        allowed_reactions=choices.expected,
        missing=described.missing,
    )
    ready.unavailable |= _explanation(ready, calculator, choices)
    if ready.explain is not None:
        _add(ready, *explanation_principles(first, calculator.card.cutoff))
    else:
        ready.unavailable |= dict.fromkeys(EXPLANATION, ready.unavailable["attribution"])
    if choices.probe_every:
        _add(ready, *probe_principles(twin_of(calculator), first))
        given = {t.principle for t in ready.thresholds}
        ready.thresholds += tuple(t for t in PROBE_THRESHOLDS if t.principle not in given)
    ready.unavailable |= _not_judged(ready.principles, ready.thresholds)
    if choices.early_warning is not None:
        cutoff = None if ready.profile is None else calculator.card.cutoff
        costs = {p.name: p.cost for p in ready.principles}
        ready.early = EarlyWarnings(choices.early_warning, first, costs, cutoff)
        ready.unavailable |= {
            f"early warning by {name}": why for name, why in ready.early.unavailable.items()
        }
    return ready


def deviations_of(
    principles: Sequence[Principle], frame: Frame, attribution: Attribution | None, *, probe: bool
) -> dict[str, Deviation | None]:
    """Return the deviations of a frame by principle; None where one is not measured.

    Args:
        principles: the principles.
        frame: the frame.
        attribution: its explanation, where it was explained.
        probe: whether probes are due.
    """
    found: dict[str, Deviation | None] = {}
    for principle in principles:
        if principle.cost == "free" or (principle.cost == "attribution" and attribution):
            found[principle.name] = principle.deviate(frame, attribution)
        elif principle.cost == "probe" and probe:
            found[principle.name] = _probed(principle, frame, attribution)
        else:
            found[principle.name] = None
    return found


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


def _add(ready: MonitorSetup, principles: list[Principle], reasons: Mapping[str, str]) -> None:
    ready.principles += principles
    ready.unavailable |= reasons


def _explanation(ready: MonitorSetup, calculator: Any, choices: MonitorOptions) -> dict[str, str]:
    """Set up the explanation of frames; return why not, where that is so."""
    if choices.attribute_every == 0:
        return {"attribution": "switched off (attribute_every=0)"}
    try:
        explain = attributor(calculator, gamma=choices.gamma)
        explain.attribute(ready.first)  # a trial: what fails now is not tried again and again
    except AttributionUnavailable as reason:
        return {"attribution": str(reason)}
    ready.explain = explain
    ready.profile = profile_moments(ready.first.numbers, calculator.card.cutoff)
    return {}


def header_of(
    engine: Engine, ready: MonitorSetup, choices: MonitorOptions, context: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what run.toml says of a run."""
    first, early = ready.first, choices.early_warning
    doubt = getattr(engine, "restart_caveat", lambda: None)()
    card = getattr(engine.calculator, "card", None)
    seed = getattr(engine, "seed", lambda: None)()
    return {
        "units": UNITS,
        "calculator": describe_calculator(engine.calculator),
        "card": None if card is None else asdict(card),
        "seed": None if seed is None else str(seed),  # of up to 128 bits
        "engine": asdict(engine.describe()),
        "system": system_of(first) | {"cell_ang": first.cell.tolist()},
        "parameters": {"attribute_every": choices.attribute_every, "gamma": choices.gamma,
                       "probe_every": choices.probe_every, "expected": list(choices.expected),
                       "max_overhead": choices.max_overhead,
                       "early_warning": None if early is None else early.summary()},
        "thresholds": {t.principle: asdict(t) for t in ready.thresholds},
        "unavailable": ready.unavailable,
        "restart": "exact" if doubt is None else doubt,
        "context": {"command": shlex.join(sys.argv), **context},
    }  # fmt: skip


def system_of(frame: Frame) -> dict[str, Any]:
    """Return what run.toml says of a system and no run changes."""
    return {
        "numbers": frame.numbers.tolist(),
        "masses_amu": frame.masses.tolist(),
        "pbc": frame.pbc.tolist(),
        "n_constrained": frame.n_constrained,
    }


def describe_calculator(calculator: Any) -> dict[str, Any]:
    """Return what run.toml says of a calculator: what a resumed run must have the same."""
    card = getattr(calculator, "card", None)
    if card is None:
        stated = dict(getattr(calculator, "parameters", None) or {})
        plain = {k: v for k, v in stated.items() if isinstance(v, bool | int | float | str)}
        name = str(getattr(calculator, "name", type(calculator).__name__))
        return {"name": name} | ({"parameters": plain} if plain else {})
    return {
        "name": card.name,
        "weights_sha256": card.weights_sha256,
        **_evaluation(calculator),
        "network": dict(card.network),
        "distances": {pair: list(span) for pair, span in card.distances.items()},
    }


def _evaluation(calculator: Any) -> dict[str, Any]:
    """Return what the rounding of a network's sums depends on."""
    potential = getattr(calculator, "potential", None)
    if potential is None:
        return {}
    return {
        "dtype": str(potential.dtype).removeprefix("torch."),
        "device": str(potential.device.type),
        "compiled": bool(potential.compile),
    }
