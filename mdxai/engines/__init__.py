"""Engines: sources of frames that can be stopped and, if possible, restarted."""

from mdxai.engines.ase_engine import AseEngine
from mdxai.engines.ase_restart_state import RestartWarning
from mdxai.engines.engine import (
    Branchable,
    Engine,
    EngineDescription,
    EngineError,
    Evaluated,
    Observable,
    Planned,
    Restartable,
    Seeded,
)
from mdxai.engines.stated import (
    DamagedTrajectory,
    Selection,
    TrajectoryError,
    TrajectoryWarning,
)
from mdxai.engines.trajectories import Trajectory
from mdxai.engines.trajectory_engine import TrajectoryEngine

__all__ = [
    "AseEngine",
    "Branchable",
    "DamagedTrajectory",
    "Engine",
    "EngineDescription",
    "EngineError",
    "Evaluated",
    "Observable",
    "Planned",
    "RestartWarning",
    "Restartable",
    "Seeded",
    "Selection",
    "Trajectory",
    "TrajectoryEngine",
    "TrajectoryError",
    "TrajectoryWarning",
]
