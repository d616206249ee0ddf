"""The architectures whose energies mdxai computes itself, by the name of the representation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from mdxai.calculators.edges import Edges
from mdxai.calculators.forward import AtomEnergies, Tape, painn_energies, schnet_energies
from mdxai.calculators.harmonics import Harmonics
from mdxai.calculators.so3net import so3net_energies
from mdxai.calculators.zbl import zbl_energies, zbl_of


def _so3net(representation: Any) -> AtomEnergies:
    return partial(so3net_energies, Harmonics.of(representation))


# Each makes the energy function of a representation in its present dtype.
_MAKERS: dict[str, Callable[[Any], AtomEnergies]] = {
    "SchNet": lambda _: schnet_energies,
    "PaiNN": lambda _: painn_energies,
    "SO3net": _so3net,
}


def with_zbl(
    plain: AtomEnergies, network: nn.Module, numbers: Tensor, edges: Edges, vectors: Tensor
) -> tuple[Tensor, Tape]:
    """Return per-atom energies and the tape, half of each pair's repulsion on both of its atoms."""
    energies, tape = plain(network, numbers, edges, vectors)
    pairs = zbl_energies(zbl_of(network), numbers, edges, vectors)
    halves = edges.collect(edges.spread(0.5 * pairs[:, None]))
    return energies + halves.squeeze(-1), tape._replace(pair_energies=(pairs,))


def atom_energies_of(network: nn.Module) -> AtomEnergies:
    """Return the energy function for a network's architecture, in the network's dtype.

    Raises:
        ValueError: for a representation of another architecture.
    """
    representation = network.representation
    kind = type(representation).__name__
    if kind not in _MAKERS:
        raise ValueError(
            f"representation {kind} is not supported; expected {', '.join(_MAKERS)}. Any ASE "
            'calculator can be monitored, and explained by method="hessian" or "expansion": '
            "for this one schnetpack has SpkCalculator"
        )
    # Partials of named functions, so that potentials can be copied and pickled.
    plain = _MAKERS[kind](representation)
    return plain if zbl_of(network) is None else partial(with_zbl, plain)
