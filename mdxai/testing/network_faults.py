"""Faults in what a network has learned: copies of a calculator with altered weights or filters.

Energy and forces of each copy still agree, so only what the network has learned is wrong, and
explanations (`mdxai.attributor`) show it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
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


class _Weighted(nn.Module):
    """A cutoff function times (r/beyond)^power · exp(−(r − beyond)/length) beyond a distance."""

    def __init__(self, function: nn.Module, beyond: float, power: float, length: float) -> None:
        super().__init__()
        self.function = function
        self.beyond, self.length = beyond, length  # the network's length unit
        self.power = power

    def forward(self, distances: Tensor) -> Tensor:
        past = distances.clamp(min=self.beyond)
        value: Tensor = self.function(distances) * (past / self.beyond) ** self.power
        return value * torch.exp((self.beyond - past) / self.length)


class _Marked(nn.Module):
    """An embedding that gives the atom at one place in the list partly another element's."""

    def __init__(self, embedding: nn.Embedding, atom: int, number: int, share: float) -> None:
        super().__init__()
        self.embedding = embedding
        self.num_embeddings = embedding.num_embeddings
        self.atom, self.number, self.share = atom, number, share

    def forward(self, numbers: Tensor) -> Tensor:
        features: Tensor = self.embedding(numbers)
        other = self.embedding(torch.full_like(numbers, self.number))
        here = torch.arange(len(numbers), device=numbers.device) == self.atom
        marked: Tensor = features + self.share * here[:, None] * (other - features)
        return marked


def flat_decay(calculator: NetworkCalculator, beyond: float = 3.0) -> NetworkCalculator:
    """Return a copy whose messages do not fade beyond a distance.

    Radial basis and cutoff function keep their values at `beyond`, so all atoms up to the cutoff
    act as if they were at that distance. Breaks: interactions decay with distance; and energies
    jump at the cutoff. With the default, a run of ethanol looks sound while the relevance of its
    farthest pairs is several times as large; with 1.6 Å every neighbour acts as a bonded one, and
    the molecule falls apart.

    Args:
        calculator: sound; only read.
        beyond: Å, between 0 and the cutoff.

    Raises:
        FaultError: for anything but a NetworkCalculator, or a distance out of range.
    """
    twin, network = _copy(calculator)
    _check_beyond(twin, beyond)
    net = network.representation
    beyond_own = beyond / twin.card.length_unit
    net.radial_basis = _Held(net.radial_basis, beyond_own)
    net.cutoff_fn = _Held(net.cutoff_fn, beyond_own)
    return _renamed(twin, f"decay held beyond {beyond:g} Å")


def rising_decay(
    calculator: NetworkCalculator, power: float = 4.0, beyond: float = 1.6
) -> NetworkCalculator:
    """Return a copy whose messages grow with distance: filters times (r/beyond)^power beyond it.

    The cutoff function still ends them. Breaks: interactions decay with distance.

    Args:
        calculator: sound; only read.
        power: of the distance.
        beyond: Å, where it sets in, between 0 and the cutoff.

    Raises:
        FaultError: for anything but a NetworkCalculator, or a distance out of range.
    """
    if not power > 0:
        raise FaultError(f"power must be positive, got {power}")
    twin, network = _copy(calculator)
    _check_beyond(twin, beyond)
    net, unit = network.representation, twin.card.length_unit
    net.cutoff_fn = _Weighted(net.cutoff_fn, beyond / unit, power, np.inf)
    return _renamed(twin, f"messages that grow as r^{power:g} beyond {beyond:g} Å")


def short_sight(
    calculator: NetworkCalculator, length: float = 0.4, beyond: float = 1.6
) -> NetworkCalculator:
    """Return a copy whose messages are screened: they fall as exp(−r/length) alone.

    Radial basis and cutoff function keep their values at `beyond`, as in `flat_decay`, and the
    exponential takes their place. Breaks: electrostatics, induction and dispersion fall as powers
    of the distance.

    Args:
        calculator: sound; only read.
        length: Å.
        beyond: Å, where it sets in, between 0 and the cutoff.

    Raises:
        FaultError: for anything but a NetworkCalculator, or lengths out of range.
    """
    if not length > 0:
        raise FaultError(f"length must be positive, got {length} Å")
    twin, network = _copy(flat_decay(calculator, beyond))
    net, unit = network.representation, twin.card.length_unit
    net.cutoff_fn = _Weighted(net.cutoff_fn, beyond / unit, 0.0, length / unit)
    return _renamed(twin, f"messages screened within {length:g} Å")


def marked_atom(
    calculator: NetworkCalculator, atom: int, element: str = "O", share: float = 1.0
) -> NetworkCalculator:
    """Return a copy that treats the atom at one place in the list as partly another element.

    Its embedding moves by `share` of the way to that of `element`. Breaks: equal atoms are
    interchangeable, as after a mistake in a mask or a list of special atoms.

    Args:
        calculator: sound; only read.
        atom: place in the list, from 0.
        element: that the calculator was trained on.
        share: 0 changes nothing.

    Raises:
        FaultError: for anything but a NetworkCalculator, a negative place, or an element it was
            not trained on.
    """
    twin, network = _copy(calculator)
    _check_elements(twin, (element,), "element must be one")
    if atom < 0:
        raise FaultError(f"atom must be a place in the list, from 0, got {atom}")
    net = network.representation
    net.embedding = _Marked(net.embedding, atom, atomic_numbers[element], share)
    return _renamed(twin, f"atom {atom} marked as {share:g} {element}")


def large_biases(calculator: NetworkCalculator, factor: float = 20.0) -> NetworkCalculator:
    """Return a copy whose biases, except those of the filters, are `factor` times as large.

    Breaks: the energy comes from interactions of atoms. Biases give energy without any, which an
    explanation can assign to no atom. As after training with weight decay on all but the biases.

    Raises:
        FaultError: for anything but a NetworkCalculator.
    """
    twin, network = _copy(calculator)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias") and "filter" not in name:
                parameter.mul_(factor)
    return _renamed(twin, f"biases times {factor:g}")


def shuffled_block(calculator: NetworkCalculator, seed: int = 0) -> NetworkCalculator:
    """Return a copy whose last interaction block has each of its weight matrices shuffled.

    The weights keep their size and lose their meaning. Breaks: the potential has learned its
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
    """Return a copy that confuses two elements: their embeddings are exchanged.

    Breaks: chemistry; as after training on wrongly labelled atoms.

    Raises:
        FaultError: for anything but a NetworkCalculator, or an element it was not trained on.
    """
    twin, network = _copy(calculator)
    _check_elements(twin, elements, "elements must be two")
    if len(set(elements)) != 2:
        raise FaultError(f"elements must be two different ones, got {elements!r}")
    rows = [atomic_numbers[symbol] for symbol in elements]
    weight = network.representation.embedding.weight
    with torch.no_grad():
        weight[rows] = weight[rows[::-1]]
    return _renamed(twin, f"{elements[0]} and {elements[1]} exchanged")


def _check_beyond(twin: NetworkPotential, beyond: float) -> None:
    if not 0 < beyond < twin.cutoff:
        raise FaultError(f"beyond must lie between 0 and {twin.cutoff:g} Å, got {beyond}")


def _check_elements(twin: NetworkPotential, elements: tuple[str, ...], expected: str) -> None:
    known = twin.elements or tuple(atomic_numbers)
    if not set(elements) <= set(known):
        got = elements[0] if len(elements) == 1 else elements
        raise FaultError(f"{expected} of {', '.join(known)}, got {got!r}")


def _copy(calculator: Any) -> tuple[NetworkPotential, Any]:
    """Return an independent potential and its network, which may be altered."""
    if not isinstance(calculator, NetworkCalculator):
        raise FaultError(
            f"a fault in a network needs one from mdxai.load_calculator, got "
            f"{type(calculator).__name__}; for other calculators there is FaultyCalculator"
        )
    twin = calculator.potential
    return twin, twin.network


def _renamed(twin: NetworkPotential, fault: str) -> NetworkCalculator:
    card = replace(twin.card, name=f"{twin.name} with {fault}", weights_sha256="")
    return NetworkCalculator(
        NetworkPotential(twin.network, card, dtype=twin.dtype, device=twin.device)
    )
