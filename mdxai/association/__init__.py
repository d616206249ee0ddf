"""How deviations go with instability, over many runs; how early detectors warn of it."""

from mdxai.association.alarms import Watching, with_profiles
from mdxai.association.association import Association, associate
from mdxai.association.calibrating import calibrate
from mdxai.association.comparison import Comparison, compare_detectors
from mdxai.association.lead_summary import advantage, summarise
from mdxai.association.lead_times import lead_times
from mdxai.association.outcome import Outcome
from mdxai.association.outcomes import (
    AssociationError,
    AssociationWarning,
    load_outcomes,
    read_outcomes,
)
from mdxai.association.settings import AssociationSettings

__all__ = [
    "Association",
    "AssociationError",
    "AssociationSettings",
    "AssociationWarning",
    "Comparison",
    "Outcome",
    "Watching",
    "advantage",
    "associate",
    "calibrate",
    "compare_detectors",
    "lead_times",
    "load_outcomes",
    "read_outcomes",
    "summarise",
    "with_profiles",
]
