"""How a run ended and what was measured until then: what survival analysis and detectors read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run: until when it was followed, whether it broke then, and the series before.

    Attributes:
        run: name, unique among the runs that are compared.
        model: name of the potential; runs of one model are not independent of each other.
        molecule: chemical formula in Hill order, such as "C2H6O".
        temperature: target temperature, K.
        end: time followed, fs, from the first frame on: until the onset of instability, or until
            the run ended (censored).
        unstable: whether it ended by instability.
        times: (n_frames,) fs from the first frame on, all before `end` where it is unstable.
        series: (n_frames,) values per name, NaN where not measured at that frame: deviations by
            principle; relevance by element pair and distance bin, such as "C-H 1.125 Å", the bin's
            centre; plain predictors such as "kinetic_temperature" and "force_norm".
        traits: numbers that belong to the whole run, such as the model's test errors.
        network: type of the model's network, such as "PaiNN"; empty where not known.
    """

    run: str
    model: str
    molecule: str
    temperature: float
    end: float
    unstable: bool
    times: NDArray[np.float64]
    series: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    traits: Mapping[str, float] = field(default_factory=dict)
    network: str = ""
