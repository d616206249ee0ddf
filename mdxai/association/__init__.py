"""How deviations go with instability, over many runs."""

from mdxai.association.outcome import Outcome

__all__ = ["Outcome"]
