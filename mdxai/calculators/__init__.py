"""Trained potentials as ASE calculators.

Names are imported when first used: cards and twins of other calculators need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdxai.first_use import names_at_first_use

if TYPE_CHECKING:
    from mdxai.calculators.card import CalculatorError, Card, card_of
    from mdxai.calculators.guard_term import Guard, GuardError
    from mdxai.calculators.guarded_calculator import GuardedCalculator, guard_of, guarded
    from mdxai.calculators.library import find_calculator, list_calculators
    from mdxai.calculators.loading import load_calculator
    from mdxai.calculators.network_calculator import NetworkCalculator
    from mdxai.calculators.network_property import NetworkProperty, load_property
    from mdxai.calculators.own_networks import OwnNetwork
    from mdxai.calculators.potential import NetworkPotential
    from mdxai.calculators.twin import AseTwin, Potential, twin_of

_HOME = {
    "AseTwin": "mdxai.calculators.twin",
    "CalculatorError": "mdxai.calculators.card",
    "Card": "mdxai.calculators.card",
    "Guard": "mdxai.calculators.guard_term",
    "GuardError": "mdxai.calculators.guard_term",
    "GuardedCalculator": "mdxai.calculators.guarded_calculator",
    "NetworkCalculator": "mdxai.calculators.network_calculator",
    "NetworkPotential": "mdxai.calculators.potential",
    "NetworkProperty": "mdxai.calculators.network_property",
    "OwnNetwork": "mdxai.calculators.own_networks",
    "Potential": "mdxai.calculators.twin",
    "card_of": "mdxai.calculators.card",
    "find_calculator": "mdxai.calculators.library",
    "guard_of": "mdxai.calculators.guarded_calculator",
    "guarded": "mdxai.calculators.guarded_calculator",
    "list_calculators": "mdxai.calculators.library",
    "load_calculator": "mdxai.calculators.loading",
    "load_property": "mdxai.calculators.network_property",
    "twin_of": "mdxai.calculators.twin",
}

__all__ = [
    "AseTwin",
    "CalculatorError",
    "Card",
    "Guard",
    "GuardError",
    "GuardedCalculator",
    "NetworkCalculator",
    "NetworkPotential",
    "NetworkProperty",
    "OwnNetwork",
    "Potential",
    "card_of",
    "find_calculator",
    "guard_of",
    "guarded",
    "list_calculators",
    "load_calculator",
    "load_property",
    "twin_of",
]

__getattr__, __dir__ = names_at_first_use(__name__, _HOME)
