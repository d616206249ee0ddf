"""For test suites: assertions about runs, and calculators with a known fault to prove checks on."""

from mdxai.testing.assertions import assert_stable, assert_transparent
from mdxai.testing.detection import detection_table, report_times
from mdxai.testing.faults import (
    Curl,
    CutoffJump,
    EnergyDrift,
    Fault,
    FaultError,
    FaultyCalculator,
    HalfPrecision,
    Heating,
    Hole,
    NanForces,
    OrderDependence,
    PreferredDirection,
    Push,
    ScaledForces,
    SlowDecay,
    Swirl,
)
from mdxai.testing.network_faults import flat_decay, shuffled_block, swapped_elements

__all__ = [
    "Curl",
    "CutoffJump",
    "EnergyDrift",
    "Fault",
    "FaultError",
    "FaultyCalculator",
    "HalfPrecision",
    "Heating",
    "Hole",
    "NanForces",
    "OrderDependence",
    "PreferredDirection",
    "Push",
    "ScaledForces",
    "SlowDecay",
    "Swirl",
    "assert_stable",
    "assert_transparent",
    "detection_table",
    "flat_decay",
    "report_times",
    "shuffled_block",
    "swapped_elements",
]
