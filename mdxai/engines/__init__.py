"""How each engine yields frames and is stopped."""

from mdxai.engines.ase_engine import AseEngine
from mdxai.engines.engine import Engine, EngineDescription

__all__ = ["AseEngine", "Engine", "EngineDescription"]
