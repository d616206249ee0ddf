"""How each engine yields frames and is stopped."""

from mdxai.engines.ase_engine import AseEngine
from mdxai.engines.engine import Engine, EngineDescription
from mdxai.engines.trajectories import Conditions, Selection, Trajectory, TrajectoryError
from mdxai.engines.trajectory_engine import TrajectoryEngine

__all__ = [
    "AseEngine",
    "Conditions",
    "Engine",
    "EngineDescription",
    "Selection",
    "Trajectory",
    "TrajectoryEngine",
    "TrajectoryError",
]
