"""For test suites: assertions about runs, and calculators with a known fault to prove checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdxai.first_use import names_at_first_use

if TYPE_CHECKING:
    from mdxai.testing.assertions import assert_not_worse, assert_stable
    from mdxai.testing.baseline import Baseline, BaselineError
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
        Spike,
        Swirl,
    )
    from mdxai.testing.motion_faults import SeparateBath
    from mdxai.testing.network_faults import (
        flat_decay,
        large_biases,
        marked_atom,
        rising_decay,
        short_sight,
        shuffled_block,
        swapped_elements,
    )
    from mdxai.testing.transparency import assert_transparent

_HOME = {
    "Baseline": "mdxai.testing.baseline",
    "BaselineError": "mdxai.testing.baseline",
    "Curl": "mdxai.testing.faults",
    "CutoffJump": "mdxai.testing.faults",
    "EnergyDrift": "mdxai.testing.faults",
    "Fault": "mdxai.testing.faults",
    "FaultError": "mdxai.testing.faults",
    "FaultyCalculator": "mdxai.testing.faults",
    "HalfPrecision": "mdxai.testing.faults",
    "Heating": "mdxai.testing.faults",
    "Hole": "mdxai.testing.faults",
    "NanForces": "mdxai.testing.faults",
    "OrderDependence": "mdxai.testing.faults",
    "PreferredDirection": "mdxai.testing.faults",
    "Push": "mdxai.testing.faults",
    "ScaledForces": "mdxai.testing.faults",
    "SeparateBath": "mdxai.testing.motion_faults",
    "SlowDecay": "mdxai.testing.faults",
    "Spike": "mdxai.testing.faults",
    "Swirl": "mdxai.testing.faults",
    "assert_not_worse": "mdxai.testing.assertions",
    "assert_stable": "mdxai.testing.assertions",
    "assert_transparent": "mdxai.testing.transparency",
    "detection_table": "mdxai.testing.detection",
    "flat_decay": "mdxai.testing.network_faults",
    "large_biases": "mdxai.testing.network_faults",
    "marked_atom": "mdxai.testing.network_faults",
    "report_times": "mdxai.testing.detection",
    "rising_decay": "mdxai.testing.network_faults",
    "short_sight": "mdxai.testing.network_faults",
    "shuffled_block": "mdxai.testing.network_faults",
    "swapped_elements": "mdxai.testing.network_faults",
}

__all__ = [
    "Baseline",
    "BaselineError",
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
    "SeparateBath",
    "SlowDecay",
    "Spike",
    "Swirl",
    "assert_not_worse",
    "assert_stable",
    "assert_transparent",
    "detection_table",
    "flat_decay",
    "large_biases",
    "marked_atom",
    "report_times",
    "rising_decay",
    "short_sight",
    "shuffled_block",
    "swapped_elements",
]

__getattr__, __dir__ = names_at_first_use(__name__, _HOME)
