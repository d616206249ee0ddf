"""Faults in what a network has learned: copies of a calculator with altered weights or filters.

Energy and forces of each still agree, so that only what the network has learned is wrong, and
explanations (`mdxai.attributor`) see it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from mdxai.calculators import NetworkCalculator, NetworkPotential
from mdxai.testing.faults import FaultError


class _Held(nn.Module):
    """A function of distance that stays at its value at `beyond` for all greater distances."""

    def __init__(self, function: nn.Module, beyond: float) -> None:
        super().__init__()
        self.function = function
        self.beyond = beyond  # the network's length unit

    def forward(self, distances: Tensor) -> Tensor:
        value: Tensor = self.function(distances.clamp(max=self.beyond))
        return value


def flat_decay(calculator: NetworkCalculator, beyond: float = 3.0) -> NetworkCalculator:
    """Return a copy whose messages do not fade beyond a distance.

    Radial basis and cutoff function keep their values at `beyond`, so all atoms up to the cutoff
    act as if they were there. Breaks: interactions decay with distance; and at the cutoff energies
    jump. With the default a run of ethanol looks sound while the relevance of its farthest pairs
    is several times what it was; from 1.6 Å on every neighbour acts as a bonded one, and a
    molecule falls apart.

    Args:
        calculator: sound; only read.
        beyond: Å, between 0 and the cutoff.

    Raises:
        FaultError: for anything but a NetworkCalculator, or a distance out of range.
    """
    twin, network = _copy(calculator)
    if not 0 < beyond < twin.cutoff:
        raise FaultError(f"beyond must lie between 0 and {twin.cutoff:g} Å, got {beyond}")
    net = network.representation
    beyond_own = beyond / twin.card.length_unit
    net.radial_basis = _Held(net.radial_basis, beyond_own)
    net.cutoff_fn = _Held(net.cutoff_fn, beyond_own)
    return _renamed(twin, f"decay held beyond {beyond:g} Å")


def shuffled_block(calculator: NetworkCalculator, seed: int = 0) -> NetworkCalculator:
    """Return a copy whose last interaction block has each of its weight matrices shuffled.

    The weights keep their size and mean nothing (a lottery). Breaks: the potential has learned its
    forces. Explanations must change with it (Adebayo et al., "Sanity checks for saliency maps",
    NeurIPS 2018).

    Raises:
        FaultError: for anything but a NetworkCalculator.
    """
    twin, network = _copy(calculator)
    net = network.representation
    blocks = [net.interactions[-1], *([net.mixing[-1]] if hasattr(net, "mixing") else [])]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in [p for block in blocks for p in block.parameters()]:
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return _renamed(twin, "a shuffled last block")


def swapped_elements(
    calculator: NetworkCalculator, elements: tuple[str, str] = ("C", "O")
) -> NetworkCalculator:
    """Return a copy that takes one element for another: their embeddings are exchanged.

    Breaks: chemistry; as after training on wrongly labelled atoms.

    Raises:
        FaultError: for anything but a NetworkCalculator, or an element it was not trained on.
    """
    twin, network = _copy(calculator)
    known = twin.elements or tuple(atomic_numbers)
    if not set(elements) <= set(known) or len(set(elements)) != 2:
        raise FaultError(f"elements must be two of {', '.join(known)}, got {elements!r}")
    rows = [atomic_numbers[symbol] for symbol in elements]
    weight = network.representation.embedding.weight
    with torch.no_grad():
        weight[rows] = weight[rows[::-1]]
    return _renamed(twin, f"{elements[0]} and {elements[1]} exchanged")


def _copy(calculator: Any) -> tuple[NetworkPotential, Any]:
    """Return an independent potential and its network, which may be altered."""
    if not isinstance(calculator, NetworkCalculator):
        raise FaultError(
            f"a fault in a network needs a SchNet or PaiNN from mdxai.load_calculator, got "
            f"{type(calculator).__name__}; for other calculators there is FaultyCalculator"
        )
    twin = calculator.potential
    return twin, twin.network


def _renamed(twin: NetworkPotential, fault: str) -> NetworkCalculator:
    card = replace(twin.card, name=f"{twin.name} with {fault}", weights_sha256="")
    return NetworkCalculator(
        NetworkPotential(twin.network, card, dtype=twin.dtype, device=twin.device)
    )
