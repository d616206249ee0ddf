"""Where a model's energy comes from: exact relevance by body order."""

from mdxai.attribution.attribution import (
    Attribution,
    AttributionUnavailable,
    Attributor,
    WalkAttributor,
    attributor,
)

__all__ = ["Attribution", "AttributionUnavailable", "Attributor", "WalkAttributor", "attributor"]
