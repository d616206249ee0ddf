"""How early detectors warn of an instability, at the same rate of false alarms."""

from mdxai.study.lead_time.alarms import Watching, with_profiles
from mdxai.study.lead_time.calibrate import calibrate
from mdxai.study.lead_time.comparison import Comparison, compare_detectors
from mdxai.study.lead_time.lead_summary import Bootstrap, advantage, summarise
from mdxai.study.lead_time.lead_times import lead_times

__all__ = [
    "Bootstrap",
    "Comparison",
    "Watching",
    "advantage",
    "calibrate",
    "compare_detectors",
    "lead_times",
    "summarise",
    "with_profiles",
]
