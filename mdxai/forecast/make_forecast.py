"""Foretell how long a run will last: weak spots, then a life test, each kept when it is done."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ase import Atoms

from mdxai.calculators import Potential, twin_of
from mdxai.calculators.model_name import made_name
from mdxai.calculators.own_networks import network_potential
from mdxai.forecast.conformers import FlatPotentialError, Frames, WeakSpotError, positions_of
from mdxai.forecast.evaluations import evaluated
from mdxai.forecast.find_weak_spots import search_identity, weak_spots
from mdxai.forecast.forecast_result import ENOUGH, Forecast, ForecastError
from mdxai.forecast.kept_evaluations import KEPT, another_held
from mdxai.forecast.life_test_result import LifeTest, LifeTestOptions
from mdxai.forecast.path_explanation import explain_weak_spots
from mdxai.forecast.quantity_text import share_interval_text
from mdxai.forecast.run_life_test import life_test, refuse_question, start_of
from mdxai.forecast.scans import ScanOptions
from mdxai.forecast.weak_spot import WeakSpots
from mdxai.frame import Frame
from mdxai.principles.probes.configurations import moved
from mdxai.record.durable_files import make_folder, remove, write_file
from mdxai.record.layout import HEADER
from mdxai.serialization import StateError, as_plain, from_plain

WEAK_SPOTS, FORECAST = "weak-spots.json", "forecast.json"  # files of a forecast that is kept
PARTS = ("weak-spots", "life-test")
# ps of all replicas together, s: a short test does, as weak spots tell much of the hazard already.
SHORT, SECONDS = 8.0, 120.0
HEAT = 800.0  # K, of runs that look for other conformers: barriers of torsions are some k_B T then
Progress = Callable[[str], None]  # what is being done, in words


@dataclass(frozen=True, slots=True)
class ForecastOptions:
    """How a forecast is made.

    Attributes:
        at_least: survival that is good enough.
        parts: what is done of "weak-spots" and "life-test".
        scans: how weak spots are looked for; by default from conformers that short runs at 800 K
            visit, too.
        testing: how the life test is made; by default 8 ps of replicas, or two minutes.
        cutoff: of a calculator other than mdxai's, Å, if known.

    Raises:
        ForecastError: for values that cannot be.
    """

    at_least: float = ENOUGH
    parts: tuple[str, ...] = PARTS
    scans: ScanOptions = field(default_factory=lambda: ScanOptions(heat=HEAT))
    testing: LifeTestOptions = field(
        default_factory=lambda: LifeTestOptions(most=SHORT, seconds=SECONDS)
    )
    cutoff: float = math.nan

    def __post_init__(self) -> None:
        if not 0 < self.at_least < 1:
            raise ForecastError(f"at_least must be between 0 and 1, got {self.at_least!r}")
        if not self.parts or not set(self.parts) <= set(PARTS):
            raise ForecastError(f"parts must be of {', '.join(PARTS)}, got {self.parts!r}")


def foretell(  # noqa: PLR0913 (one argument per choice)
    calculator: Any,
    structure: Atoms,
    *,
    temperature: float,
    duration: float,
    frames: Frames | None = None,
    reference: Any = None,
    options: ForecastOptions | None = None,
    path: Path | str | None = None,
    client: Any = None,
    progress: Progress | None = None,
) -> Forecast:
    """Foretell how long a run will last, and where it will break, before it is made.

    Weak spots are looked for near the structure (`weak_spots`), then hot replicas are watched
    (`life_test`); the hazard follows from both (`CombinedLaw`). Twins of the calculator are
    evaluated. Where the structure itself relaxes into what physics forbids, the life test alone
    tells.

    Args:
        calculator: any ASE calculator, or a function that makes one.
        structure: that the run starts from; it is not changed.
        temperature: of the run, K.
        duration: of the run, ps.
        frames: of a trajectory or data set, or a file with one, to look for weak spots from other
            conformers too (`weak_spots`).
        reference: a trusted ASE calculator, or a function that makes one, to compare weak spots
            with: what it does too is a reaction.
        options: how the forecast is made.
        path: directory to keep it in. The search for weak spots is written there as it goes, the
            life test after each round, the whole as forecast.json; the same call continues it.
        client: `distributed.Client` whose workers move the replicas of the life test.
        progress: called with what is being done.

    Raises:
        ForecastError: for options that cannot be, and a directory with another forecast.
        LifeTestError: for a question or structure that cannot be tested.
        FlatPotentialError: for a structure between whose atoms there are no forces.
        WeakSpotError: for a structure of one atom, or frames of other atoms.
        ReferenceDataError: for a file of frames that cannot be read.
        CalculatorError: for a calculator that cannot be copied or does not take the structure.
        RecordError: where the directory cannot be written.
    """
    options = options or ForecastOptions()
    refuse_question(temperature, duration, options.testing)
    twin, start = twin_of(calculator, cutoff=options.cutoff), start_of(structure)
    start = evaluated(twin, start)
    name = made_name(calculator, twin)
    folder = None if path is None else Path(path)
    if folder is not None:
        _refuse_folder(folder)
    tell = progress or (lambda what: None)
    spots, without = None, "weak spots were not looked for"
    if PARTS[0] in options.parts:
        search = _Search(calculator, twin, start, frames, reference, options)
        spots, without = search.kept(folder, temperature, tell)
    tested = None
    if PARTS[1] in options.parts:
        tell("testing replicas")
        tested = life_test(
            calculator, structure, temperature=temperature, duration=duration,
            options=options.testing, path=folder, client=client,
            progress=lambda test: tell(_so_far(test)),
        )  # fmt: skip
    found = Forecast(
        temperature, duration, spots, tested, start, name, options.at_least,
        options.testing.confidence, without,
    )  # fmt: skip
    if folder is not None:
        found.write(folder / FORECAST)
    return found


def _refuse_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ForecastError(f"{folder} is a file; expected a directory to keep the forecast in")
    if (folder / HEADER).exists():
        raise ForecastError(f"{folder} holds a run; choose another directory for the forecast")
    try:
        make_folder(folder)
    except OSError as error:
        raise ForecastError(
            f"{folder} cannot be made: {error.strerror or error}; choose another directory"
        ) from error


def _so_far(test: LifeTest) -> str:
    return (
        f"{test.simulated:.1f} ps of replicas, {sum(test.causes.values())} broke: by these alone "
        f"survival {share_interval_text(test.survival)}"
    )


def _explained(spots: WeakSpots, twin: Potential) -> WeakSpots:
    """Return weak spots with explanations, where the twin is a network of mdxai."""
    network = network_potential(twin)
    if network is None:
        return spots
    from mdxai.calculators import NetworkCalculator

    return explain_weak_spots(spots, NetworkCalculator(network))


class _Search:
    """The search for weak spots of a forecast, kept as it goes and once it is done."""

    def __init__(
        self, calculator: Any, twin: Potential, start: Frame, frames: Frames | None, reference: Any,
        options: ForecastOptions,
    ) -> None:  # fmt: skip
        self._calculator, self._start, self._reference = calculator, start, reference
        self._twin = twin
        self._options = options
        starts = None if frames is None else positions_of(frames, start)
        self._frames = None if starts is None else [moved(start, x) for x in starts]
        rival = None if reference is None else twin_of(reference)
        energy = math.nan if start.energy is None else start.energy
        name = made_name(calculator, twin)
        self._identity = search_identity(name, energy, start, options.scans, rival, starts)

    def kept(
        self, folder: Path | None, temperature: float, tell: Progress
    ) -> tuple[WeakSpots | None, str]:
        """Return the weak spots, from a directory where they are, and why there are none."""
        file = None if folder is None else folder / WEAK_SPOTS
        if file is not None and file.exists():
            return self._read(file, temperature)
        spots, without = None, ""
        try:
            spots = weak_spots(
                self._calculator, self._start, temperature=temperature, frames=self._frames,
                reference=self._reference, cutoff=self._options.cutoff,
                options=self._options.scans, path=folder,
                progress=lambda what, done, of: tell(f"weak spots, {what}: {done} of {of}"),
            )  # fmt: skip
            spots = _explained(spots, self._twin)
        except FlatPotentialError:
            raise
        except WeakSpotError as error:
            if self._start.n_atoms < 2:
                raise
            without = f"weak spots not known: {error}"
        if file is not None:
            held = {
                "schema": 1, "identity": self._identity, "weak_spots": as_plain(spots),
                "without": without,
            }  # fmt: skip
            write_file(file, json.dumps(held, allow_nan=False).encode())
            remove(file.with_name(KEPT))
        return spots, without

    def _read(self, file: Path, temperature: float) -> tuple[WeakSpots | None, str]:
        try:
            held = json.loads(file.read_text(encoding="utf-8"))
            identity, plain, without = held["identity"], held["weak_spots"], str(held["without"])
            spots = None if plain is None else from_plain(WeakSpots, plain)
        except (OSError, ValueError, KeyError, TypeError, StateError) as error:
            raise ForecastError(
                f"{file} holds no weak spots to continue with: {error}; choose another directory"
            ) from error
        if identity != self._identity:
            raise ForecastError(another_held(file.parent, "forecast", identity, self._identity))
        return spots if spots is None else replace(spots, temperature=temperature), without
