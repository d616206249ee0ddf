"""Flow and relevance of sets of a network that is a polynomial in its messages (`opened`).

A term of degree ν is a product of ν factors, and each factor gets an equal share of it. That is the
gradient integrated along t·x, t from 0 to 1, where x holds an atom's own and received features:

    ∫₀¹ ∂P/∂x (t x) dt · x = P(x).

P has no constant term, so nothing is lost. Radau's n nodes, of which t = 1 is one, are exact up to
degree 2n − 1 of P, so that only n − 1 further evaluations of the update are needed.

A set S of atoms has the relevance of all terms whose factors are messages inside S: the output of
the same polynomial on the atoms of S alone. A product of messages from two neighbours touches three
atoms at once, so body orders follow from inclusion–exclusion over sets, not from lengths of walks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.special import roots_jacobi
from torch import Tensor

from mdxai.attribution.opened import Layer, Opened, Update
from mdxai.frame import Floats, Ints

ALL = slice(None)
MAX_NODES = 4000  # atoms of restricted passes that are computed together


@dataclass(frozen=True, slots=True)
class Terms:
    """A network at one configuration with what its restricted passes need.

    updates: of each layer, fixed. readouts: of each layer, (n_atoms, F'), or None. outputs:
    (n_atoms,) by each atom's readouts. flows: (n_layers, n_edges). atoms: (n_atoms,) relevance that
    arrives at each atom's first features. All in the network's unit.
    """

    network: Opened
    updates: list[Update]
    readouts: list[Tensor | None]
    outputs: Tensor
    flows: Tensor
    atoms: Tensor


@lru_cache
def radau_nodes(degree: int) -> tuple[Floats, Floats]:
    """Return nodes in (0, 1], the last of which is 1, and weights of a quadrature that is exact for
    the gradient of polynomials up to `degree`.
    """
    n = (degree + 2) // 2
    inner, weights = roots_jacobi(n - 1, 1, 0) if n > 1 else (np.empty(0), np.empty(0))
    nodes = np.append(inner, 1.0)
    weights = np.append(weights / (1 - inner), 2 / n**2)
    return (nodes + 1) / 2, weights / 2


@dataclass(frozen=True, slots=True)
class _Step:
    """What a layer's way back needs.

    sent: (n_edges, K). below: (n_atoms, F), the leaf that `sent` depends on. scaled: own and
    received features times each node, (n_nodes·n_atoms, …), leaves. after: the update of these.
    """

    sent: Tensor
    below: Tensor
    scaled: tuple[Tensor, Tensor]
    after: Tensor


def terms_of(network: Opened, weights: Tensor | None = None) -> Terms:
    """Return flow and readouts of a network at its configuration.

    Args:
        network: opened.
        weights: (n_atoms,) how much each atom's output counts; default: all the same.
    """
    features = network.features
    outputs = features.new_zeros(len(features))
    steps, updates, readouts = [], [], []
    for k, layer in enumerate(network.layers):
        step, update = _forth(layer, network, features, first=k == 0)
        features = step.after[-len(features) :].detach()
        with torch.no_grad():
            read = layer.read(features)
        if read is not None:
            outputs = outputs + (read[0] if weights is None else read[0] * weights)
            read = read if weights is None else (read[0], read[1] * weights[:, None])
        steps.append(step)
        updates.append(update)
        readouts.append(None if read is None else read[1])
    flows, atoms = _back(network, steps, readouts)
    return Terms(network, updates, readouts, outputs, flows, atoms)


def _forth(layer: Layer, network: Opened, features: Tensor, *, first: bool) -> tuple[_Step, Update]:
    n = len(features)
    below = features.requires_grad_(not first)
    with torch.set_grad_enabled(not first):  # nothing lies below the first features
        sent = layer.send(below, network.senders, ALL)
    received = _collected(sent.detach(), network.receivers, n)
    nodes = radau_nodes(layer.degree)[0]
    scales = torch.as_tensor(nodes, dtype=sent.dtype, device=sent.device)[:, None, None]
    with torch.no_grad():
        own = below.detach()
        update = layer.fixed(own, received)
        scaled = (scales * own).flatten(0, 1), (scales * received).flatten(0, 1)
        whose = torch.arange(n, device=sent.device).repeat(len(nodes))
    for leaf in scaled:
        leaf.requires_grad_()
    with torch.enable_grad():
        after = update(*scaled, whose if len(nodes) > 1 else ALL)
    return _Step(sent, below, scaled, after), update


def _back(
    network: Opened, steps: Sequence[_Step], readouts: Sequence[Tensor | None]
) -> tuple[Tensor, Tensor]:
    """Return flow on directed edges by layer, and each atom's relevance."""
    flows: list[Tensor] = []
    above: Tensor | None = None
    for layer, step, read in reversed(list(zip(network.layers, steps, readouts, strict=True))):
        c = step.after.new_zeros(len(network.features), step.after.shape[1])
        for part in (read, above):
            c = c if part is None else c + part
        weights = radau_nodes(layer.degree)[1]
        scales = torch.as_tensor(weights, dtype=c.dtype, device=c.device)[:, None, None]
        slopes = torch.autograd.grad(
            step.after, step.scaled, (scales * c).flatten(0, 1), allow_unused=True
        )
        kept, arrived = (
            torch.zeros_like(x[: len(c)])
            if slope is None
            else slope.view(len(weights), len(c), -1).sum(0)
            for slope, x in zip(slopes, step.scaled, strict=True)
        )
        per_edge = arrived[network.receivers]
        flows.append((step.sent.detach() * per_edge).sum(-1))
        if layer is not network.layers[0]:
            above = kept + torch.autograd.grad(step.sent, step.below, per_edge)[0]
    own = (kept * network.features).sum(-1)
    atoms = own.index_add(0, network.senders, flows[-1])
    return torch.stack(flows[::-1]), atoms.detach()


def _collected(sent: Tensor, receivers: Tensor, n: int) -> Tensor:
    return sent.new_zeros(n, sent.shape[1]).index_add_(0, receivers, sent)


def relevance_of_sets(terms: Terms, sets: Ints) -> Tensor:
    """Return R_S (n_sets,) of sets of atoms (n_sets, k), in the network's unit."""
    links = _Links(terms.network)
    step = max(MAX_NODES // max(sets.shape[1], 1), 1)
    chunks = [sets[start : start + step] for start in range(0, len(sets), step)]
    with torch.no_grad():
        parts = [_restricted(terms, links, some) for some in chunks]
    return torch.cat([terms.outputs.new_zeros(0), *parts])


def _restricted(terms: Terms, links: _Links, sets: Ints) -> Tensor:
    device = terms.outputs.device
    edges, senders, receivers = (torch.as_tensor(x, device=device) for x in links.inside(sets))
    atoms = torch.as_tensor(sets.reshape(-1), device=device)
    features = terms.network.features.detach()[atoms]
    total = features.new_zeros(len(atoms))
    for layer, update, read in zip(
        terms.network.layers, terms.updates, terms.readouts, strict=True
    ):
        sent = layer.send(features, senders, edges)
        features = update(features, _collected(sent, receivers, len(atoms)), atoms)
        if read is not None:
            total = total + (features * read[atoms]).sum(-1)
    return total.view(len(sets), -1).sum(1)


class _Links:
    """Directed edges by sender and receiver."""

    def __init__(self, network: Opened) -> None:
        self._n = len(network.features)
        keys = (network.senders * self._n + network.receivers).cpu().numpy()
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def inside(self, sets: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the edges inside each set, and the rows of their senders and receivers among the
        sets' atoms, one set after the other.
        """
        k = sets.shape[1]
        rows = np.arange(sets.size).reshape(sets.shape)
        wanted = (sets[:, :, None] * self._n + sets[:, None, :]).reshape(-1)
        starts, stops = (np.searchsorted(self._keys, wanted, side) for side in ("left", "right"))
        counts = stops - starts
        which = np.repeat(np.arange(len(wanted)), counts)
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        edges = self._order[starts[which] + offsets]
        return edges, np.repeat(rows, k)[which], np.tile(rows, k).reshape(-1)[which]
