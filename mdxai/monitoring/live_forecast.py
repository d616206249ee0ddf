"""Which weak spots a run follows, and what it has told of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mdxai.calculators import CalculatorError, card_of
from mdxai.engines import Engine, Planned
from mdxai.frame import Frame
from mdxai.monitoring.options import MonitorOptions
from mdxai.principles import Principle, PrincipleUnavailable
from mdxai.principles.frame_quantities import frame_quantities
from mdxai.principles.motion.followed_paths import FollowedPaths, WeakSpotProgress
from mdxai.record import RecordError
from mdxai.serialization import as_plain

if TYPE_CHECKING:
    from mdxai.forecast.run_hazard import RunHazard

USUAL = 300.0  # K, where nothing tells the temperature
NOT_ASKED = "weak spots are not followed; forecast=True, or --forecast, does"
EVERY = 500  # frames, after which the hazard is computed anew while a run goes on


def paths_to_follow(
    engine: Engine, first: Frame, options: MonitorOptions, resumed: Path | None = None
) -> FollowedPaths | None:
    """Return the paths that a run follows; None where it is to follow none.

    They are those given, else those that a resumed run has followed, else those of the card of the
    calculator, else what a search finds now.

    Args:
        engine: of the run.
        first: its first frame.
        options: of the monitor.
        resumed: directory of a run that is resumed.

    Raises:
        RecordError: for weak spots other than those that the run has followed so far.
        ForecastError: for a card that holds the forecast of other weights.
    """
    if options.forecast is False:
        return None
    from mdxai.forecast.kept_paths import read_paths

    known = None if resumed is None else read_paths(resumed)
    given = options.followed_paths
    if given is None or known is None:
        return known or given or _found(engine, first)
    if as_plain(known) != as_plain(given):
        raise RecordError(f"{resumed} has followed other weak spots than those given now")
    return given


def _found(engine: Engine, first: Frame) -> FollowedPaths:
    from mdxai.forecast import CardForecast, WeakSpotError, weak_spots
    from mdxai.forecast.kept_paths import paths_of

    moving = 0.0 if "velocities" in first.absent else frame_quantities(first).temperature
    temperature = engine.describe().temperature or moving
    temperature = temperature if temperature > 0 else USUAL
    stated = CardForecast.for_frame(card_of(engine.calculator), first)
    if stated is not None and (stated.paths or not stated.weak_spots):
        return stated.followed(first, temperature)
    try:
        found = weak_spots(engine.calculator, first, temperature=temperature)
    except (CalculatorError, WeakSpotError) as error:
        return FollowedPaths((), f"no weak spots could be looked for: {error}")
    return paths_of(found)


def weak_spot_principle(
    found: FollowedPaths | None, first: Frame
) -> tuple[list[Principle], dict[str, str]]:
    """Return the principle that follows weak spots, or why it cannot be checked.

    Raises:
        FollowedPathError: for weak spots of another system.
    """
    if found is None:
        return [], {WeakSpotProgress.name: NOT_ASKED}
    from mdxai.forecast.forbidden import Physics

    try:
        return [WeakSpotProgress(found, first, Physics(first).forbids)], {}
    except PrincipleUnavailable as reason:
        return [], {WeakSpotProgress.name: str(reason)}


class LiveForecast:
    """What a run has told of its weak spots; the hazard is computed anew every 500 frames.

    Args:
        principles: of the run.
        engine: that may know when the run ends.
        symbols: of the system.
    """

    def __init__(
        self, principles: Sequence[Principle], engine: Engine, symbols: Sequence[str]
    ) -> None:
        self._followed = next((p for p in principles if isinstance(p, WeakSpotProgress)), None)
        self._planned = engine if isinstance(engine, Planned) else None
        self._symbols = tuple(symbols)
        self._last: tuple[int, RunHazard] | None = None

    def now(self, n_frames: int) -> RunHazard | None:
        """Return what is known after a number of frames; None where nothing is followed."""
        if self._followed is None:
            return None
        if self._last is None or n_frames - self._last[0] >= EVERY:
            return self.latest(n_frames)
        return self._last[1]

    def latest(self, n_frames: int) -> RunHazard | None:
        """Return what is known now, after a number of frames."""
        if self._followed is None:
            return None
        from mdxai.forecast.run_hazard import run_hazard

        left = None if self._planned is None else self._planned.time_left()
        found = run_hazard(self._followed, self._symbols, left)
        self._last = n_frames, found
        return found
