"""Where a model's energy comes from: exact relevance, flow, and methods for any calculator."""

from mdxai.attribution.attribution import (
    Anticipating,
    Attribution,
    AttributionError,
    AttributionUnavailable,
    Attributor,
    Stateful,
)
from mdxai.attribution.attributor import attributor
from mdxai.attribution.difference import difference
from mdxai.attribution.enumeration import Walks, all_walks
from mdxai.attribution.model_agnostic import ExpansionAttributor, HessianAttributor, partial_forces
from mdxai.attribution.network_attributors import FlowAttributor, WalkAttributor
from mdxai.attribution.rules import Rule

__all__ = [
    "Anticipating",
    "Attribution",
    "AttributionError",
    "AttributionUnavailable",
    "Attributor",
    "ExpansionAttributor",
    "FlowAttributor",
    "HessianAttributor",
    "Rule",
    "Stateful",
    "WalkAttributor",
    "Walks",
    "all_walks",
    "attributor",
    "difference",
    "partial_forces",
]
