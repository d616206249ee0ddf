"""mdxai watches molecular dynamics driven by machine-learned potentials and explains it.

    import mdxai

    atoms.calc = mdxai.load_calculator("painn-ethanol")
    with mdxai.Monitor(dyn, "runs/ethanol") as monitor:
        dyn.attach(monitor, interval=1)
        dyn.run(20_000)
    print(monitor.verdict)

Names are imported when first used: `import mdxai` alone loads neither torch nor numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdxai.first_use import names_at_first_use

if TYPE_CHECKING:
    from mdxai.analysis import Analysis, analyse
    from mdxai.attribution import Attribution, attributor
    from mdxai.calculators import CalculatorError, list_calculators, load_calculator, load_property
    from mdxai.early_warning import Calibration, EarlyWarning, EarlyWarningIssued
    from mdxai.engines.schnetpack_calculator import ReplicaCalculator
    from mdxai.errors import MdxaiError
    from mdxai.forecast import Forecast, LifeTest, WeakSpots, foretell, life_test, weak_spots
    from mdxai.frame import Frame, Pairs
    from mdxai.mending import guard
    from mdxai.monitoring.monitor import InstabilityWarning, Monitor, UnstableTrajectory
    from mdxai.monitoring.replicas import ReplicaMonitor, SimulationInterrupted, UnstableReplica
    from mdxai.record import RecordError, Run, open_run
    from mdxai.stability.thresholds import load_thresholds
    from mdxai.stability.verdict import Verdict, judge
    from mdxai.study.survival import Association, associate

_HOME = {
    "Analysis": "mdxai.analysis",
    "Association": "mdxai.study.survival",
    "Attribution": "mdxai.attribution",
    "CalculatorError": "mdxai.calculators",
    "Calibration": "mdxai.early_warning",
    "EarlyWarning": "mdxai.early_warning",
    "EarlyWarningIssued": "mdxai.early_warning",
    "Forecast": "mdxai.forecast",
    "Frame": "mdxai.frame",
    "InstabilityWarning": "mdxai.monitoring.monitor",
    "LifeTest": "mdxai.forecast",
    "MdxaiError": "mdxai.errors",
    "Monitor": "mdxai.monitoring.monitor",
    "Pairs": "mdxai.frame",
    "RecordError": "mdxai.record",
    "ReplicaCalculator": "mdxai.engines.schnetpack_calculator",
    "ReplicaMonitor": "mdxai.monitoring.replicas",
    "Run": "mdxai.record",
    "SimulationInterrupted": "mdxai.monitoring.replicas",
    "UnstableReplica": "mdxai.monitoring.replicas",
    "UnstableTrajectory": "mdxai.monitoring.monitor",
    "Verdict": "mdxai.stability.verdict",
    "WeakSpots": "mdxai.forecast",
    "analyse": "mdxai.analysis",
    "associate": "mdxai.study.survival",
    "attributor": "mdxai.attribution",
    "foretell": "mdxai.forecast",
    "guard": "mdxai.mending",
    "judge": "mdxai.stability.verdict",
    "life_test": "mdxai.forecast",
    "list_calculators": "mdxai.calculators",
    "load_calculator": "mdxai.calculators",
    "load_property": "mdxai.calculators",
    "load_thresholds": "mdxai.stability.thresholds",
    "open_run": "mdxai.record",
    "weak_spots": "mdxai.forecast",
}

__all__ = [
    "Analysis",
    "Association",
    "Attribution",
    "CalculatorError",
    "Calibration",
    "EarlyWarning",
    "EarlyWarningIssued",
    "Forecast",
    "Frame",
    "InstabilityWarning",
    "LifeTest",
    "MdxaiError",
    "Monitor",
    "Pairs",
    "RecordError",
    "ReplicaCalculator",
    "ReplicaMonitor",
    "Run",
    "SimulationInterrupted",
    "UnstableReplica",
    "UnstableTrajectory",
    "Verdict",
    "WeakSpots",
    "analyse",
    "associate",
    "attributor",
    "foretell",
    "guard",
    "judge",
    "life_test",
    "list_calculators",
    "load_calculator",
    "load_property",
    "load_thresholds",
    "open_run",
    "weak_spots",
]


__getattr__, __dir__ = names_at_first_use(__name__, _HOME)
