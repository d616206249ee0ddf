"""How deviations go with instability, over many runs."""

from mdxai.association.outcome import Outcome
from mdxai.association.outcomes import (
    AssociationError,
    AssociationWarning,
    load_outcomes,
    read_outcomes,
)

__all__ = [
    "AssociationError",
    "AssociationWarning",
    "Outcome",
    "load_outcomes",
    "read_outcomes",
]
