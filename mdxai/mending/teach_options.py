"""When teaching ends, what it takes labels from, and which of them it uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mdxai.errors import MdxaiError
from mdxai.forecast import ForecastOptions, ScanOptions
from mdxai.forecast.make_forecast import PARTS

CEILING = 4.5  # eV, so that what is left of a taught model's weak spots tells how long it lasts


class TeachError(MdxaiError, ValueError):
    """A model that cannot be taught as asked."""


@dataclass(frozen=True, slots=True)
class TeachOptions:
    """When teaching ends, and which labels are used.

    Attributes:
        temperature: of the run that is to survive, K. duration: of that run, ps.
        at_least: survival that is good enough.
        frames: labels in all, at most.
        minutes: in all, after which no label and no round is begun.
        per_round: frames to label in a round, at most.
        height: eV above the lowest energy of the data, up to which labels are used.
        force: eV/Å on an atom, up to which labels are used.
        tolerance: share by which the test error of forces may grow.
        observed: ps of replicas to watch at the temperature in each round; 0 for none.
        forecast: how forecasts are made, by default of weak spots up to 4.5 eV; `at_least` is
            taken from here.

    Raises:
        TeachError: for values that cannot be.
    """

    temperature: float = 300.0
    duration: float = 1000.0
    at_least: float = 0.95
    frames: int = 300
    minutes: float = np.inf
    per_round: int = 80
    height: float = 4.5
    force: float = 30.0
    tolerance: float = 0.1
    observed: float = 0.0
    forecast: ForecastOptions = field(
        default_factory=lambda: ForecastOptions(scans=ScanOptions(ceiling=CEILING))
    )

    def __post_init__(self) -> None:
        names = ("temperature", "duration", "frames", "minutes", "per_round", "height", "force")
        for name in names:
            if not getattr(self, name) > 0:
                raise TeachError(f"{name} must be above 0, got {getattr(self, name)!r}")
        for name in ("tolerance", "observed"):
            if not 0 <= getattr(self, name) < np.inf:
                raise TeachError(f"{name} must be 0 or more, got {getattr(self, name)!r}")
        if PARTS[0] not in self.forecast.parts:
            raise TeachError("teaching needs forecasts that look for weak spots")


@dataclass(frozen=True, slots=True)
class LabelSource:
    """Where labels come from, and where frames do beside weak spots.

    Attributes:
        reference: an ASE calculator, or a function that makes one; None for labels that are made
            elsewhere: frames are written out, and teaching waits until they come back.
        labelled: files of labelled frames of the molecule, energies in eV and forces in eV/Å.
        runs: run directories, whose frames before an instability are labelled too.
    """

    reference: Any = None
    labelled: tuple[Path, ...] = ()
    runs: tuple[Path, ...] = ()
