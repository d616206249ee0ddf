"""How deviations go with instability, over many runs. `mdxai.associate(runs)`."""

from mdxai.association.association import Association, associate
from mdxai.association.outcome import Outcome
from mdxai.association.outcomes import (
    AssociationError,
    AssociationWarning,
    load_outcomes,
    read_outcomes,
)
from mdxai.association.settings import AssociationSettings

__all__ = [
    "Association",
    "AssociationError",
    "AssociationSettings",
    "AssociationWarning",
    "Outcome",
    "associate",
    "load_outcomes",
    "read_outcomes",
]
