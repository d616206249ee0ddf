"""Where a model's energy comes from: exact relevance, flow, and methods for any calculator.

Names are imported when first used: what an attribution is needs no torch, what makes one does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdxai.first_use import names_at_first_use

if TYPE_CHECKING:
    from mdxai.attribution.attribution import (
        Anticipating,
        Attribution,
        AttributionError,
        AttributionUnavailable,
        Attributor,
        Stateful,
        Together,
    )
    from mdxai.attribution.choice import attributor
    from mdxai.attribution.differences import difference
    from mdxai.attribution.enumeration import Walks, all_walks
    from mdxai.attribution.lrp_rule import Rule
    from mdxai.attribution.model_agnostic import (
        ExpansionAttributor,
        HessianAttributor,
        partial_forces,
    )
    from mdxai.attribution.network_attributors import FlowAttributor, WalkAttributor
    from mdxai.attribution.opened import Openable, Opened

_HOME = {
    "Anticipating": "mdxai.attribution.attribution",
    "Attribution": "mdxai.attribution.attribution",
    "AttributionError": "mdxai.attribution.attribution",
    "AttributionUnavailable": "mdxai.attribution.attribution",
    "Attributor": "mdxai.attribution.attribution",
    "ExpansionAttributor": "mdxai.attribution.model_agnostic",
    "FlowAttributor": "mdxai.attribution.network_attributors",
    "HessianAttributor": "mdxai.attribution.model_agnostic",
    "Openable": "mdxai.attribution.opened",
    "Opened": "mdxai.attribution.opened",
    "Rule": "mdxai.attribution.lrp_rule",
    "Stateful": "mdxai.attribution.attribution",
    "Together": "mdxai.attribution.attribution",
    "WalkAttributor": "mdxai.attribution.network_attributors",
    "Walks": "mdxai.attribution.enumeration",
    "all_walks": "mdxai.attribution.enumeration",
    "attributor": "mdxai.attribution.choice",
    "difference": "mdxai.attribution.differences",
    "partial_forces": "mdxai.attribution.model_agnostic",
}

__all__ = [
    "Anticipating",
    "Attribution",
    "AttributionError",
    "AttributionUnavailable",
    "Attributor",
    "ExpansionAttributor",
    "FlowAttributor",
    "HessianAttributor",
    "Openable",
    "Opened",
    "Rule",
    "Stateful",
    "Together",
    "WalkAttributor",
    "Walks",
    "all_walks",
    "attributor",
    "difference",
    "partial_forces",
]

__getattr__, __dir__ = names_at_first_use(__name__, _HOME)
