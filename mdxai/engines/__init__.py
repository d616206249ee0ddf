"""How each engine yields frames and is stopped."""

from mdxai.engines.ase_engine import AseEngine, EngineDescription

__all__ = ["AseEngine", "EngineDescription"]
