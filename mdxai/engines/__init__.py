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
    Restartable,
    Seeded,
)
from mdxai.engines.trajectories import Selection, Trajectory, TrajectoryError
from mdxai.engines.trajectory_engine import TrajectoryEngine

__all__ = [
    "AseEngine",
    "Branchable",
    "Engine",
    "EngineDescription",
    "EngineError",
    "Evaluated",
    "Observable",
    "RestartWarning",
    "Restartable",
    "Seeded",
    "Selection",
    "Trajectory",
    "TrajectoryEngine",
    "TrajectoryError",
]
