"""Attributors for any network that can be opened: flow, and exact relevance by body order."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mdxai.attribution.attribution import Attribution, AttributionError, as_frame
from mdxai.attribution.guard_share import halves, with_pair_energies
from mdxai.attribution.lrp_rule import Rule
from mdxai.attribution.message_terms import Terms, relevance_of_sets, terms_of
from mdxai.attribution.opened import Openable, Opened
from mdxai.attribution.set_relevance import checked_sets, lower_orders, relevance_of_both
from mdxai.attribution.subsets import triples_within_reach
from mdxai.frame import Floats, Frame, Ints, Pairs, merge_images

BODY_ORDERS = (1, 2, 3)


class _OpenedAttributor:
    """Explains a network that can be opened.

    Args:
        network: to explain.
        rule: γ and variant.
        atom: explain this atom's output only.
    """

    def __init__(self, network: Openable, rule: Rule, *, atom: int | None = None) -> None:
        self.rule, self.unit = rule, "eV"
        self.cutoff = network.cutoff
        self._network, self._atom = network, atom
        self._lock = threading.Lock()  # a network is opened by one thread at a time

    @property
    def gamma(self) -> float:
        """γ of the rule."""
        return self.rule.gamma

    def will_explain_next(self, explained: bool) -> None:
        """Nothing is prepared: the network is run anew for every explanation."""

    def state(self) -> dict[str, Any]:
        """Return, for a checkpoint, what the next explanation depends on: nothing."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state`, which holds nothing."""

    def _terms(self, frame: Frame) -> tuple[Terms, Floats | None]:
        """Return the frame's terms, and the pair potential on each directed edge, eV."""
        opened = self._network.opened_at(frame, self.rule)
        weights = None
        if self._atom is not None:
            weights = self._weights(frame, opened)
        energies = opened.pair_energies
        if energies is not None and weights is not None:
            energies = energies * weights[opened.receivers]
        terms = terms_of(opened, weights)
        return terms, None if energies is None else in_ev(energies, opened)

    def _weights(self, frame: Frame, opened: Opened) -> Tensor:
        if not isinstance(self._atom, int) or not 0 <= self._atom < frame.n_atoms:
            raise AttributionError(
                f"there is no atom {self._atom!r}: the structure has atoms 0 to {frame.n_atoms - 1}"
            )
        weights = torch.zeros_like(opened.features[:, 0])
        weights[self._atom] = 1
        return weights

    def _about(self, frame: Frame) -> dict[str, Any]:
        return {"gamma": self.rule.gamma, "max_bias": self.rule.max_bias, "numbers": frame.numbers}


class OpenedFlowAttributor(_OpenedAttributor):
    """Flow on every pair and image, from one pass forwards and one backwards; for any size."""

    method = "flow"

    def attribute(self, frame: Frame | Atoms) -> Attribution:
        """Explain one frame.

        Raises:
            AttributionUnavailable: for positions that are not finite, or a structure that the
                network cannot take.
        """
        frame = as_frame(frame)
        with self._lock:
            terms, energies = self._terms(frame)
        images = _Images(terms.network)
        by_layer = images.both_ways(in_ev(terms.flows, terms.network))
        strengths, atoms = by_layer.sum(0), in_ev(terms.atoms, terms.network)
        output = float(in_ev(terms.outputs, terms.network).sum())
        if energies is not None:
            repulsion = images.both_ways(energies[None])[0]
            strengths, output = strengths + repulsion, output + float(energies.sum())
            atoms = atoms + halves(images.pairs.i, images.pairs.j, repulsion, frame.n_atoms)
        return Attribution(
            method=self.method, output=output, atoms=atoms,
            one_body=np.full(frame.n_atoms, np.nan), pairs=images.pairs, strengths=strengths,
            by_body_order=np.array([atoms.sum()]), by_layer=by_layer, **self._about(frame),
        )  # fmt: skip

    def attribute_many(self, frames: Sequence[Frame | Atoms]) -> list[Attribution]:
        """Explain frames one after the other. Raises what `attribute` raises."""
        return [self.attribute(frame) for frame in frames]


class OpenedSetAttributor(_OpenedAttributor):
    """Exact relevance by body order, from passes restricted to sets of atoms.

    Args:
        network, rule, atom: to explain, γ and variant, whose output alone is explained.
        body_order: highest order resolved: 1, 2 or 3. Higher orders are given as one sum.

    Raises:
        AttributionError: for another order.
    """

    method = "walks"

    def __init__(
        self, network: Openable, rule: Rule, *, atom: int | None = None, body_order: int = 2
    ) -> None:
        if isinstance(body_order, float) or body_order not in BODY_ORDERS:
            raise AttributionError(f"body_order must be one of {BODY_ORDERS}, got {body_order!r}")
        super().__init__(network, rule, atom=atom)
        self.body_order = body_order

    def attribute(self, frame: Frame | Atoms) -> Attribution:
        """Explain one frame.

        Raises:
            AttributionUnavailable: for positions that are not finite, or a structure that the
                network cannot take.
        """
        frame = as_frame(frame)
        with self._lock:
            terms, energies = self._terms(frame)
            images = _Images(terms.network).pairs
            pairs, several = merge_images(images.i, images.j, images.vectors)
            one = self._inside(terms, np.arange(frame.n_atoms)[:, None])
            couples = np.stack([pairs.i, pairs.j], axis=1)
            two = self._inside(terms, couples) - one[pairs.i] - one[pairs.j]
            triples, three = np.empty((0, 3), dtype=np.int64), np.empty(0)
            if self.body_order == 3:
                triples = triples_within_reach(pairs.i, pairs.j)  # no term holds others
                three = self._inside(terms, triples) - lower_orders(triples, pairs, one, two)
        atoms = in_ev(terms.atoms, terms.network)
        orders = [one.sum(), two.sum(), three.sum()][: self.body_order]
        explained = Attribution(
            method=self.method, atoms=atoms, one_body=one, pairs=pairs, strengths=two,
            output=float(in_ev(terms.outputs, terms.network).sum()),
            by_body_order=np.array([*orders, atoms.sum() - sum(orders)]),
            triples=triples, three_body=three, several_images=several, **self._about(frame),
        )  # fmt: skip
        return explained if energies is None else self._with_pairs(explained, terms, energies)

    def attribute_many(self, frames: Sequence[Frame | Atoms]) -> list[Attribution]:
        """Explain frames one after the other. Raises what `attribute` raises."""
        return [self.attribute(frame) for frame in frames]

    def relevance_of_sets(self, frame: Frame | Atoms, sets: Ints) -> Floats:
        """Return R_S, eV, of sets of atoms (n_sets, k): the terms that stay inside each set.

        Terms are the network's own; a pair potential that is added to it has none.

        Raises:
            AttributionError: for an atom that does not exist, or one that a set names twice.
        """
        frame = as_frame(frame)
        chosen = checked_sets(sets, frame.n_atoms)
        with self._lock:
            return self._inside(self._terms(frame)[0], chosen)

    def inclusive_strength(self, frame: Frame | Atoms) -> Floats:
        """Return (n_atoms, n_atoms), eV: relevance of all terms that touch both i and j; on the
        diagonal of those that touch i.
        """
        frame = as_frame(frame)
        with self._lock:
            terms = self._terms(frame)[0]
            return relevance_of_both(lambda sets: self._inside(terms, sets), frame.n_atoms)

    def _inside(self, terms: Terms, sets: Ints) -> Floats:
        return in_ev(relevance_of_sets(terms, sets), terms.network)

    def _with_pairs(self, explained: Attribution, terms: Terms, energies: Floats) -> Attribution:
        images = _Images(terms.network)
        repulsion = images.both_ways(energies[None])[0]
        near = np.flatnonzero(repulsion)
        pairs = images.pairs.select(near)
        whole = replace(explained, output=explained.output + float(energies.sum()))
        return with_pair_energies(whole, pairs.i, pairs.j, pairs.vectors, repulsion[near])


class _Images:
    """The pairs of atoms, each image once, that a network's directed edges connect.

    pairs: of which i = j for an atom and its own image.
    """

    def __init__(self, network: Opened) -> None:
        first, second = network.senders.cpu().numpy(), network.receivers.cpu().numpy()
        shifts = network.shifts
        # Of two opposite edges, one is turned: the one from the higher atom, or against a cell.
        leading = np.take_along_axis(shifts, (shifts != 0).argmax(1)[:, None], 1)[:, 0]
        turned = (first > second) | ((first == second) & (leading < 0))
        sign = np.where(turned, -1, 1)[:, None]
        i, j = np.minimum(first, second), np.maximum(first, second)
        keys = (i, j, *(sign * shifts).T)
        order = np.lexsort(keys[::-1])
        new = np.ones(len(order), dtype=bool)
        new[1:] = np.any([np.diff(key[order]) != 0 for key in keys], axis=0)
        self._whose = np.empty(len(order), dtype=np.int64)
        self._whose[order] = np.cumsum(new) - 1
        some = order[new]
        vectors = (sign * network.vectors)[some]
        self.pairs = Pairs(i[some], j[some], vectors, np.linalg.norm(vectors, axis=1))

    def both_ways(self, per_edge: Floats) -> Floats:
        """Return sums over both directions (n, n_pairs) of values (n, n_edges)."""
        n = len(self.pairs)
        return np.stack([np.bincount(self._whose, row, minlength=n) for row in per_edge])


def in_ev(values: Tensor, network: Opened) -> Floats:
    """Return values in the network's unit as eV."""
    result: Floats = values.detach().cpu().numpy().astype(np.float64) * network.unit
    return result
