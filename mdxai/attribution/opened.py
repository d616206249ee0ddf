"""What an architecture declares to be explained: itself at one configuration, as a polynomial.

At a fixed configuration, with the rules of relevance propagation applied, a network is a chain of
layers. Each sends messages, linear in the sender's features, and updates an atom by a polynomial
in its own features and in the sum of what it receives; everything else is constant. Written out,
the output is a sum of terms, each a product of messages, and each touches a set of atoms. All
methods follow from that (`message_terms`).

An implementation is an `Openable`. `tests/test_explanation_contract.py` holds what it must fulfil.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from mdxai.attribution.lrp_rule import Rule
from mdxai.frame import Floats, Frame, Ints

if TYPE_CHECKING:  # asking whether a calculator can be opened does not import torch
    from torch import Tensor

Index = Any  # an index tensor, or a slice for all
Update = Callable[["Tensor", "Tensor", Index], "Tensor"]  # own, received, whose → new features


class Layer(Protocol):
    """One round of messages at a fixed configuration.

    degree: highest degree of the update, as a polynomial in own and received features together.
    """

    degree: int

    def send(self, features: Tensor, senders: Index, edges: Index) -> Tensor:
        """Return messages (n_sent, K), linear in features (n, F).

        senders: (n_sent,) rows of `features`. edges: (n_sent,) the directed edges that they take.
        """
        ...

    def fixed(self, own: Tensor, received: Tensor) -> Update:
        """Return the update with its gates and rules fixed where all atoms (n_atoms, …) have these
        features and received these sums.

        It takes rows of own (m, F) and received (m, K) features and the atoms (m,) that they
        belong to, and returns (m, F'): row by row, by a polynomial without a constant term.
        """
        ...

    def read(self, features: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return what the layer's readout gives to each atom's output (n_atoms,), and its
        coefficients ∂/∂features under its rule (n_atoms, F'); None where there is no readout.

        features: (n_atoms, F') of all atoms, after the update.
        """
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A network at one configuration.

    Attributes:
        layers: first to last.
        features: (n_atoms, F) what the first layer sees.
        senders: (n_edges,) of directed edges; both directions of each are there.
        receivers: (n_edges,).
        shifts: (n_edges, 3) cells by which the receiver's image is displaced.
        vectors: (n_edges, 3) from sender to receiver, Å.
        unit: eV per unit of the network's outputs.
        pair_energies: (n_edges,) half of the pair potential on each directed edge, in the same
            unit; None without one.
    """

    layers: Sequence[Layer]
    features: Tensor
    senders: Tensor
    receivers: Tensor
    shifts: Ints
    vectors: Floats
    unit: float = 1.0
    pair_energies: Tensor | None = None


@runtime_checkable
class Openable(Protocol):
    """A network, or a calculator, that can be opened.

    cutoff: of its interactions, Å. n_layers: rounds of messages.
    """

    cutoff: float
    n_layers: int

    def opened_at(self, frame: Frame, rule: Rule) -> Opened:
        """Return the network at a frame, under a rule.

        Raises:
            AttributionUnavailable: for a structure that the network cannot take.
        """
        ...
