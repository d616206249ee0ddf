"""What a monitor checks, explains, records and does: one value from the command line to the run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np

from mdxai.attribution.lrp_rule import LARGEST_GAMMA
from mdxai.calculators.reference_data import ReferenceData
from mdxai.early_warning import Calibration, EarlyWarning, load_calibration
from mdxai.errors import MdxaiError
from mdxai.principles.motion.followed_paths import FollowedPaths
from mdxai.record import RecordError, RecordSettings
from mdxai.record.header import refuse_unstorable
from mdxai.stability.thresholds import (
    PROBE_THRESHOLDS,
    THRESHOLDS,
    Threshold,
    load_thresholds,
    require_known,
    without_physics,
)
from mdxai.stability.verdict import Verdict

if TYPE_CHECKING:
    from mdxai.forecast import Forecast, WeakSpots

OnUnstable = Literal["ignore", "warn", "halt", "raise", "drop"] | Callable[[Verdict], None]
OnWarning = Literal["ignore", "warn"] | Callable[[EarlyWarning], None]
REACTIONS = ("ignore", "warn", "halt", "raise", "drop")

PathLike = str | os.PathLike[str]


class OptionError(MdxaiError, ValueError):
    """Options of a monitor that are out of range or contradict each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorOptions:
    """What a monitor checks, explains, records and does.

    Files are read when the options are made, so a file that is missing or wrong is an error before
    the run begins.

    Attributes:
        attribute_every: explain frames whose MD step is a multiple of this; 0 explains none.
        probe_every: probe a twin of the calculator, as `mdxai check` does, at frames whose MD step
            is a multiple of this; 0 never. One round takes as long as thousands of steps.
        gamma: γ of the attribution rule.
        thresholds: when a deviation counts: thresholds, or the file that changes the shipped ones.
        allowed_reactions: bonds that may break and form, such as "C1-O2" (atoms numbered from 0) or
            "O-H" (elements).
        reactions: whether a run may react or melt; False makes it unstable when it does.
        external_forces: whether the calculator itself pushes or holds the atoms from outside, as a
            field, a wall or a substrate does; then momentum need not be conserved.
        on_unstable: what to do, once, when the run becomes unstable, or its model turns out to be
            broken. "warn" (default), "ignore",
            "halt" (end the run after this step; a further `run()` stops at its next frame), "raise"
            (UnstableTrajectory), or a function that is given the verdict. Of replicas also "drop":
            hold the unstable one still and let the others go on.
        blackbox: number of last steps kept in full detail, and written, explained, when the run
            becomes unstable; 0 for none. A monitor attached at a larger interval keeps the steps
            in between as well, from its second frame on.
        max_overhead: share of the wall time that the monitor may take: explanations and probes
            become rarer to keep to it. Which frames are explained then depends on the clock.
        early_warning: calibration of early warnings, or its file: which series are watched, and at
            which rate of false alarms.
        alarms_per_ns: that rate; None takes the lowest that the calibration has.
        on_warning: "warn" (default): EarlyWarningIssued, "ignore", or a function that is given each
            early warning.
        reference: data that the model was trained on, or their file (what ASE reads, or an npz as
            those of MD17): distances and forces are compared with these. None takes the card of one
            of mdxai's networks, else physical radii.
        forecast: follow the model's weak spots at every frame: True looks for them at the first
            frame (`mdxai.weak_spots` on a twin: seconds for ten atoms with one of mdxai's networks,
            minutes for twenty, hours for a slow calculator) and keeps them in the run directory;
            or those found before (`WeakSpots`, a `Forecast` that knows them, or their
            `FollowedPaths`). False follows none.
        record: what is kept, in which precision, and how often it is written.
        context: entries for run.toml, such as seeds and the command line.
        report: write report.html, the page of the run, when it has come to its end: not after a
            signal or an exception, when time is short.

    Raises:
        OptionError: naming the option, what was given and what was expected.
        ThresholdError, CalibrationError, ReferenceDataError: for a file that cannot be read or
            used.
        RecordError: for a context that TOML cannot hold, or a `record` of another kind.
    """

    attribute_every: int = 10
    probe_every: int = 0
    gamma: float = 0.1
    thresholds: Sequence[Threshold] | PathLike = THRESHOLDS
    allowed_reactions: Sequence[str] = ()
    reactions: bool = True
    external_forces: bool = False
    on_unstable: OnUnstable = "warn"
    blackbox: int = 50
    max_overhead: float | None = None
    early_warning: Calibration | PathLike | None = None
    alarms_per_ns: float | None = None
    on_warning: OnWarning = "warn"
    reference: ReferenceData | PathLike | None = None
    forecast: bool | WeakSpots | Forecast | FollowedPaths = False
    record: RecordSettings = field(default_factory=RecordSettings)
    context: Mapping[str, Any] = field(default_factory=dict)
    report: bool = True

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_reactions()
        if not isinstance(self.record, RecordSettings):
            raise RecordError(f"record must be RecordSettings(...), got {self.record!r}")
        refuse_unstorable(self.context)
        self._set("allowed_reactions", _patterns(self.allowed_reactions))
        self._set("context", dict(self.context))
        self._load_thresholds()
        self._load_calibration()
        if isinstance(self.reference, str | os.PathLike):
            self._set("reference", ReferenceData.load(self.reference))
        elif not isinstance(self.reference, ReferenceData | None):
            raise OptionError(f"reference must be data or their file, got {self.reference!r}")
        self._set_forecast()

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check_numbers(self) -> None:
        for name in ("attribute_every", "probe_every", "blackbox"):
            steps = getattr(self, name)
            whole = isinstance(steps, int | np.integer) and not isinstance(steps, bool)
            if not (whole and steps >= 0):
                raise OptionError(f"{name} must be 0 or a positive whole number, got {steps!r}")
        if not (isinstance(self.gamma, Real) and 0 <= self.gamma <= LARGEST_GAMMA):
            raise OptionError(f"gamma must be from 0 to {LARGEST_GAMMA:g}, got {self.gamma!r}")
        for name in ("reactions", "external_forces", "report"):
            given = getattr(self, name)
            if not isinstance(given, bool | np.bool_):
                raise OptionError(f"{name} must be True or False, got {given!r}")
            self._set(name, bool(given))
        most = self.max_overhead
        if most is not None and not (isinstance(most, Real) and 0 < most < 1):
            raise OptionError(f"max_overhead must be between 0 and 1, or None, got {most!r}")

    def _set_forecast(self) -> None:
        """Take the paths of weak spots; what finds them is imported only where some are given."""
        given = self.forecast
        if isinstance(given, bool | np.bool_):
            self._set("forecast", bool(given))
            return
        if isinstance(given, FollowedPaths):
            return
        from mdxai.forecast import Forecast, WeakSpots
        from mdxai.forecast.kept_paths import paths_of

        found = given.weak_spots if isinstance(given, Forecast) else given
        if found is None:
            raise OptionError("this forecast knows no weak spots to follow; look for them, too")
        if not isinstance(found, WeakSpots):
            raise OptionError(
                f"forecast must be True, False, weak spots or a forecast, got {given!r:.200}"
            )
        self._set("forecast", paths_of(found))

    def _check_reactions(self) -> None:
        if not (callable(self.on_unstable) or self.on_unstable in REACTIONS):
            raise OptionError(
                f"on_unstable must be one of {', '.join(map(repr, REACTIONS))} or a function, got "
                f"{self.on_unstable!r}"
            )
        if not (callable(self.on_warning) or self.on_warning in ("ignore", "warn")):
            raise OptionError(
                f"on_warning must be 'ignore', 'warn' or a function, got {self.on_warning!r}"
            )

    def _load_thresholds(self) -> None:
        given = self.thresholds
        if isinstance(given, str | os.PathLike):
            self._set("thresholds", load_thresholds(given))
        elif not isinstance(given, Iterable):
            raise OptionError(f"thresholds must be thresholds or a file of them, got {given!r}")
        else:
            self._set("thresholds", tuple(require_known(given)))

    def _load_calibration(self) -> None:
        if self.early_warning is None:
            if self.alarms_per_ns is not None:
                raise OptionError(
                    "alarms_per_ns is a rate of early warnings, which need early_warning: a file "
                    "of their calibration"
                )
            return
        given = self.early_warning
        whole = given if isinstance(given, Calibration) else Calibration.load(given)
        load_calibration(whole, self.alarms_per_ns)  # an unsupported rate is an error now
        self._set("early_warning", whole)

    @property
    def judged_by(self) -> tuple[Threshold, ...]:
        """The given thresholds and, of a run that is probed, the shipped ones of other probes."""
        given = cast(tuple[Threshold, ...], self.thresholds)  # read when the options were made
        if not self.reactions:
            given = without_physics(given)
        if not self.probe_every:
            return given
        names = {t.principle for t in given}
        return given + tuple(t for t in PROBE_THRESHOLDS if t.principle not in names)

    @property
    def calibration(self) -> Calibration | None:
        """The calibration of early warnings at their rate of false alarms."""
        whole = cast(Calibration | None, self.early_warning)  # read when the options were made
        return None if whole is None else load_calibration(whole, self.alarms_per_ns)

    @property
    def reference_data(self) -> ReferenceData | None:
        """The reference data that were given."""
        return cast(ReferenceData | None, self.reference)  # read when the options were made

    @property
    def followed_paths(self) -> FollowedPaths | None:
        """The weak spots that were given; None where none were."""
        given = self.forecast
        return None if isinstance(given, bool) else cast(FollowedPaths, given)

    @property
    def acts(self) -> bool:
        """Whether something is to happen at the moment of an instability or an early warning."""
        silent = ("ignore", "warn")
        return self.on_unstable not in silent or self.on_warning not in silent

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """Return these options with some changed.

        Raises:
            OptionError: for an option that does not exist, with the nearest that does.
        """
        names = [f.name for f in fields(self)]
        for name in changes:
            if name not in names:
                near = get_close_matches(name, names, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"
                if name == "interval":  # a word of ASE's
                    hint = "; write dyn.attach(monitor, interval=...)"
                raise OptionError(f"a monitor has no option {name!r}{hint}")
        return replace(self, **changes) if changes else self


def _patterns(given: Any) -> tuple[str, ...]:
    """Return patterns of reactions as a tuple; whether their atoms exist, the first frame tells."""
    patterns = (given,) if isinstance(given, str) else given
    if not (isinstance(patterns, Iterable) and all(isinstance(p, str) for p in patterns)):
        raise OptionError(
            f'allowed_reactions must be patterns such as ["C1-O2", "O-H"], got {given!r}'
        )
    return tuple(patterns)
