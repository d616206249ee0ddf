"""Trained potentials as ASE calculators."""

from mdxai.calculators.card import CalculatorError, Card, card_of
from mdxai.calculators.loading import find_calculator, list_calculators, load_calculator
from mdxai.calculators.network_calculator import NetworkCalculator
from mdxai.calculators.network_property import NetworkProperty, load_property
from mdxai.calculators.potential import NetworkPotential, Potential
from mdxai.calculators.twin import AseTwin, twin_of

__all__ = [
    "AseTwin",
    "CalculatorError",
    "Card",
    "NetworkCalculator",
    "NetworkPotential",
    "NetworkProperty",
    "Potential",
    "card_of",
    "find_calculator",
    "list_calculators",
    "load_calculator",
    "load_property",
    "twin_of",
]
