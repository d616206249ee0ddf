"""How each engine yields frames, is stopped, and goes on after a restart."""

from mdxai.engines.ase_engine import AseEngine
from mdxai.engines.ase_state import RestartWarning
from mdxai.engines.engine import Engine, EngineDescription, Restartable

__all__ = ["AseEngine", "Engine", "EngineDescription", "RestartWarning", "Restartable"]
