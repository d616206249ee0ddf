"""Where a model's energy comes from: exact relevance by body order, and flow."""

from mdxai.attribution.attribution import Attribution, AttributionUnavailable, Attributor
from mdxai.attribution.attributor import attributor
from mdxai.attribution.network_attributors import FlowAttributor, WalkAttributor
from mdxai.attribution.rules import Rule

__all__ = [
    "Attribution",
    "AttributionUnavailable",
    "Attributor",
    "FlowAttributor",
    "Rule",
    "WalkAttributor",
    "attributor",
]
