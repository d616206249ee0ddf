"""How each engine yields frames, is stopped, and goes on after a restart."""

from mdxai.engines.ase_engine import AseEngine
from mdxai.engines.ase_state import RestartWarning
from mdxai.engines.engine import Engine, EngineDescription, EngineError, Restartable
from mdxai.engines.trajectories import Conditions, Selection, Trajectory, TrajectoryError
from mdxai.engines.trajectory_engine import TrajectoryEngine

__all__ = [
    "AseEngine",
    "Conditions",
    "Engine",
    "EngineDescription",
    "EngineError",
    "RestartWarning",
    "Restartable",
    "Selection",
    "Trajectory",
    "TrajectoryEngine",
    "TrajectoryError",
]
