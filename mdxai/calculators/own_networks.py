"""Whether something holds a network of mdxai, asked without importing torch for the answer no."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdxai.calculators.network_calculator import NetworkCalculator
    from mdxai.calculators.network_property import NetworkProperty
    from mdxai.calculators.potential import NetworkPotential


class OwnNetwork:
    """Base class of the calculators, properties and potentials whose network mdxai can open."""


def network_calculator(given: Any) -> NetworkCalculator | None:
    """Return what is given if it is an ASE calculator of a network of mdxai, else None."""
    if not isinstance(given, OwnNetwork):
        return None
    from mdxai.calculators.network_calculator import NetworkCalculator

    return given if isinstance(given, NetworkCalculator) else None


def network_property(given: Any) -> NetworkProperty | None:
    """Return what is given if it is another property of a network of mdxai, else None."""
    if not isinstance(given, OwnNetwork):
        return None
    from mdxai.calculators.network_property import NetworkProperty

    return given if isinstance(given, NetworkProperty) else None


def network_potential(given: Any) -> NetworkPotential | None:
    """Return what is given if it is the potential of a network of mdxai, else None."""
    if not isinstance(given, OwnNetwork):
        return None
    from mdxai.calculators.potential import NetworkPotential

    return given if isinstance(given, NetworkPotential) else None
