"""Whether, when and why a trajectory became unstable."""

from mdxai.stability.outcomes import Stability
from mdxai.stability.thresholds import (
    PROBE_THRESHOLDS,
    THRESHOLDS,
    Threshold,
    ThresholdError,
    load_thresholds,
)
from mdxai.stability.verdict import Finding, Verdict, judge

__all__ = [
    "PROBE_THRESHOLDS",
    "THRESHOLDS",
    "Finding",
    "Stability",
    "Threshold",
    "ThresholdError",
    "Verdict",
    "judge",
    "load_thresholds",
]
