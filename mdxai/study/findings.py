"""What the analysis of a study gave."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from mdxai.study.lead_time.comparison import Comparison
    from mdxai.study.run_outcome import Outcome
    from mdxai.study.survival.association import Association

BEST = ("best everything", "as chosen")
RIVALS = ("bond", "force_norm", "kinetic_temperature")  # under a plain threshold


@dataclass(slots=True)
class Findings:
    """What the analysis of a study gave; a note instead of a part that was not possible.

    Attributes:
        outcomes: the runs.
        runs, models: tables of both.
        association: of all runs.
        primary: of those that the main question is about.
        second: of all runs, with another definition of the onset.
        comparison: of detectors.
        focus: by how much the best detector leads plain thresholds, in some runs alone.
        notes: what was not possible, and why.
    """

    outcomes: list[Outcome]
    runs: pd.DataFrame
    models: pd.DataFrame
    association: Association | None = None
    primary: Association | None = None
    second: Association | None = None
    comparison: Comparison | None = None
    focus: pd.DataFrame | None = None
    notes: list[str] = field(default_factory=list)
