"""Attributors for networks: exact walks, and flow."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from mdxai.attribution.attribution import (
    Attribution,
    AttributionError,
    AttributionUnavailable,
    Together,
    as_frame,
    side_by_side,
)
from mdxai.attribution.blocks import Filters, LinearNetwork, PaiNNRules, Rules, SchNetRules
from mdxai.attribution.flow import pair_flow
from mdxai.attribution.guard_share import halves, with_guard, with_pair_energies
from mdxai.attribution.lrp_rule import Rule
from mdxai.attribution.set_relevance import checked_sets, lower_orders, relevance_of_both
from mdxai.attribution.so3_blocks import SO3Rules
from mdxai.attribution.subsets import (
    DENSE_LIMIT,
    DensePairs,
    EdgePairs,
    LinkedPairs,
    Links,
    Tuples,
    each_pair_once,
    in_chunks,
    pair_layout,
    restricted_relevance,
    triples_within_reach,
)
from mdxai.attribution.walk_sums import DEPTHS, WalkSums, walk_relevance
from mdxai.calculators.compiled import Function, compiled_or_eager
from mdxai.calculators.edges import AllPairs, Edges, NeighbourEdges
from mdxai.calculators.forward import Tape
from mdxai.calculators.pooling import SUM, Pooling
from mdxai.calculators.potential import Activations, NetworkPotential
from mdxai.frame import Bools, Floats, Frame, Ints, Pairs, merge_images

MAX_ROWS = 4_000_000  # ordered pairs · features · 4 B · several temporaries: about 10 GB
BODY_ORDERS = (1, 2, 3)
DEFAULT_RULE = Rule()
_NO_TRIPLES = np.empty((0, 3), dtype=np.int64)
_NONE = np.empty(0)

# How each architecture that mdxai can open is explained.
RULES: dict[str, Callable[[nn.Module, Rule], Rules]] = {
    "SchNet": SchNetRules,
    "PaiNN": PaiNNRules,
    "SO3net": SO3Rules,
}


class NetworkRules:
    """The rules of a whole network, rebuilt when its weights change."""

    def __init__(self, network: nn.Module, rule: Rule) -> None:
        self._network, self._rule = network, rule
        self._parameters = list(network.parameters())
        self._versions: list[int] = []

    def at(self, tape: Tape) -> LinearNetwork:
        """Return the network linearised at a forward pass."""
        versions = [parameter._version for parameter in self._parameters]
        if versions != self._versions:
            self._prepare()
            self._versions = versions
        return self._architecture.at(tape)

    def _prepare(self) -> None:
        kind = type(self._network.representation).__name__
        self._architecture: Rules = RULES[kind](self._network, self._rule)


class _NetworkAttributor:
    """Explains a network from the activations of a force call, or from a forward pass of its own.

    Args:
        potential: the network to explain; it is not changed. If it was last evaluated for the same
            frame and kept its activations, these are used.
        rule: γ and variant.
        pooling: how the atoms' outputs combine to the property explained; an energy is their sum.
        unit: of the property explained.
    """

    def __init__(
        self,
        potential: NetworkPotential,
        rule: Rule = DEFAULT_RULE,
        *,
        pooling: Pooling = SUM,
        unit: str = "eV",
    ) -> None:
        self.rule, self.unit = rule, unit
        self._pooling = pooling
        self._running = potential
        # Shares the weights but not the neighbour lists, so that neither disturbs the other.
        self._own = NetworkPotential(
            potential.network, potential.card, dtype=potential.dtype, device=potential.device
        )

        self._rules = NetworkRules(potential.network, rule)
        self._laid_out: tuple[Edges, DensePairs | LinkedPairs | EdgePairs] | None = None
        self._lock = threading.Lock()  # the layout belongs to one frame at a time

    @property
    def gamma(self) -> float:
        """γ of the rule."""
        return self.rule.gamma

    @property
    def cutoff(self) -> float:
        """Cutoff of the network, Å."""
        return self._own.cutoff

    @property
    def _unit(self) -> float:
        return self._own.card.energy_unit

    def state(self) -> dict[str, Any]:
        """Return, for a checkpoint, what the rounding of the next explanation depends on."""
        return dict(self._own.state())

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state` with the same bits as the attributor that returned it."""
        self._own.restore(state)

    def will_explain_next(self, explained: bool) -> None:
        """State whether the next frame will be explained, so that its force call keeps activations.

        A frame that is explained unannounced costs one more pass through the network.
        """
        self._running.keep_activations(explained)

    def _activations(self, frame: Frame) -> Activations:
        self._pooling.check(frame)
        activations = self._running.last_activations
        if (
            activations is not None
            and activations.belong_to(frame)
            and activations.weights == self._own.weights
        ):
            return activations
        return self._own.activations(frame)

    def _layout(self, edges: Edges) -> DensePairs | LinkedPairs | EdgePairs:
        """Return all pairs of edges; those of the last edges are cached."""
        if self._laid_out is None or self._laid_out[0] is not edges:
            self._laid_out = edges, self._new_layout(edges)
        return self._laid_out[1]

    def _new_layout(self, edges: Edges) -> DensePairs | LinkedPairs | EdgePairs:
        if isinstance(edges, NeighbourEdges) and each_pair_once(edges):
            return EdgePairs(edges)
        return pair_layout(Links(edges), self._own.device)

    def _at(
        self, activations: Activations, starts: Ints | None = None
    ) -> tuple[LinearNetwork, Floats]:
        """Return the network linearised at its activations, and each atom's output, eV.

        starts: for several systems, the index of each one's first atom, then n_atoms.
        """
        linear, outputs = self._rules.at(activations.tape), self.in_ev(activations.energies)
        if self._pooling is SUM:
            return linear, outputs
        weights = self._weights(activations, starts)
        scale = torch.as_tensor(weights, dtype=linear.top.dtype, device=linear.top.device)
        return replace(linear, top=linear.top * scale[:, None]), outputs * weights

    def _weights(self, activations: Activations, starts: Ints | None = None) -> Floats:
        """Return how much each atom's output counts, (n_atoms,)."""
        outputs = self.in_ev(activations.energies)
        starts = np.array([0, len(outputs)]) if starts is None else starts
        positions = activations.positions / self._own.card.length_unit
        return self._pooling.weights(outputs, positions, starts)

    def _pair_energies(self, activations: Activations, starts: Ints | None = None) -> Floats | None:
        """Return what the network's pair potentials give to each half edge, eV; None without."""
        terms = activations.tape.pair_energies
        if not terms:
            return None
        weights, edges = self._weights(activations, starts), activations.edges
        shares = 0.5 * (weights[edges.first] + weights[edges.second])
        total: Floats = sum(map(self.in_ev, terms)) * shares
        return total

    def _with_pairs(
        self, explained: Attribution, activations: Activations, starts: Ints | None = None
    ) -> Attribution:
        """Return the explanation of the network proper with its pair potentials' energies."""
        energies = self._pair_energies(activations, starts)
        if energies is None:
            return explained
        near = np.flatnonzero(energies)  # a compiled network sees all pairs
        edges, vectors = activations.edges, activations.vectors
        return with_pair_energies(
            explained, edges.first[near], edges.second[near], vectors[near], energies[near]
        )

    def in_ev(self, values: Tensor) -> Floats:
        """Return values in the network's energy unit, in eV."""
        result: Floats = values.cpu().numpy() * np.float64(self._unit)
        return result


@dataclass(frozen=True, slots=True)
class _Inside:
    """Relevance of the walks inside sets of atoms, R_S.

    one: (n_atoms,) of single atoms. pairs: (n_pairs,). atoms: (n_atoms,) of all walks, by the atom
    where they end. triples: (n, 3) within reach, trios: (n,) of these.
    """

    one: Floats
    pairs: Floats
    atoms: Floats
    triples: Ints = field(default_factory=_NO_TRIPLES.copy)
    trios: Floats = field(default_factory=_NONE.copy)


class WalkAttributor(_NetworkAttributor):
    """Exact relevance by body order, from passes restricted to sets of atoms.

    Memory grows as (pairs within reach) · F; triples are computed in chunks.

    Args:
        potential, rule, pooling, unit: the network to explain, γ and variant, how atoms combine
            to the property explained, its unit.
        body_order: highest order resolved: 1, 2 or 3. Higher orders are given as one sum.

    Raises:
        AttributionError: for another order.
    """

    method = "walks"

    def __init__(
        self,
        potential: NetworkPotential,
        rule: Rule = DEFAULT_RULE,
        *,
        pooling: Pooling = SUM,
        unit: str = "eV",
        body_order: int = 2,
    ) -> None:
        if isinstance(body_order, float) or body_order not in BODY_ORDERS:
            raise AttributionError(f"body_order must be one of {BODY_ORDERS}, got {body_order!r}")
        super().__init__(potential, rule, pooling=pooling, unit=unit)
        self.body_order = body_order
        # A compiled calculator always has the same edges, so this pass can be compiled too.
        self._compiles = potential.compile and pooling is SUM and body_order <= 2
        self._pass: tuple[Any, Function] | None = None

    @property
    def runs_compiled(self) -> bool:
        """Whether a compiled pass was made."""
        return self._pass is not None

    def attribute(self, frame: Frame | Atoms) -> Attribution:
        """Explain one frame.

        Raises:
            CalculatorError: for a structure the network cannot take.
            AttributionUnavailable: for positions that are not finite, or too many atoms.
        """
        frame = as_frame(frame)
        with self._lock, torch.inference_mode():
            explained = self._explain(self._activations(frame))[0]
        return self._with_guard(explained, frame)

    def attribute_many(self, frames: Sequence[Frame | Atoms]) -> list[Attribution]:
        """Explain frames of any molecules in one batch: one pass of the network for all.

        Raises:
            CalculatorError, AttributionUnavailable: as `attribute`, before anything is explained.
        """
        checked = [as_frame(frame) for frame in frames]
        for frame in checked:
            self._pooling.check(frame)
        if not checked:
            return []
        with self._lock, torch.inference_mode():
            activations, starts = self._own.activations_of_many(checked)
            together, outputs = self._explain(activations, starts)
        apart = zip(_apart(together, outputs, starts), checked, strict=True)
        return [self._with_guard(explained, frame) for explained, frame in apart]

    def attribute_together(self, frames: Sequence[Frame | Atoms]) -> Together:
        """Explain frames of any molecules in one batch, and leave them side by side: for sums over
        many molecules, which need no explanation of each.

        Raises:
            CalculatorError, AttributionUnavailable: as `attribute_many`.
            AttributionError: without frames.
        """
        if not frames:
            raise AttributionError("there are no frames to explain")
        if self._own.card.guard is not None and self._pooling is SUM:
            return side_by_side(self.attribute_many(frames))
        checked = [as_frame(frame) for frame in frames]
        for frame in checked:
            self._pooling.check(frame)
        with self._lock, torch.inference_mode():
            activations, starts = self._own.activations_of_many(checked)
            whole, outputs = self._explain(activations, starts)
        return Together(whole, starts, np.add.reduceat(outputs, starts[:-1]))

    def _with_guard(self, explained: Attribution, frame: Frame) -> Attribution:
        """Return the explanation with what the network's guard adds to its energy."""
        if self._own.card.guard is None or self._pooling is not SUM:
            return explained
        action = self._own.guard_action(frame)
        return explained if action is None else with_guard(explained, action)

    def relevance_of_sets(self, frame: Frame | Atoms, sets: Ints) -> Floats:
        """Return R_S, eV, of sets of atoms (n_sets, k): the walks that stay inside each set.

        Walks are the network's own; pair potentials that are added to it have none.

        Raises:
            AttributionError: for an atom that does not exist, or one that a set names twice.
        """
        frame = as_frame(frame)
        chosen = checked_sets(sets, frame.n_atoms)
        with self._lock, torch.inference_mode():
            activations = self._activations(frame)
            linear, _ = self._at(activations)
            return self._of_tuples(linear, activations.edges, chosen)

    def linearised(self, frame: Frame) -> tuple[LinearNetwork, list[Filters]]:
        """Return the network as linear maps, and each block's filters by receiver and sender,
        (n_atoms·n_atoms, K): for small molecules.
        """
        with self._lock, torch.inference_mode():
            activations = self._activations(frame)
            linear, _ = self._at(activations)
            links = Links(activations.edges)
            return linear, [links.square(links.filters(b.filters)) for b in linear.blocks]

    def inclusive_strength(self, frame: Frame | Atoms) -> Floats:
        """Return (n_atoms, n_atoms), eV: relevance of all walks that visit both i and j.

        It is R_N − R_{N∖i} − R_{N∖j} + R_{N∖{i,j}}; the diagonal holds that of walks that visit i.
        """
        frame = as_frame(frame)
        return relevance_of_both(lambda sets: self.relevance_of_sets(frame, sets), frame.n_atoms)

    def _explain(
        self, activations: Activations, starts: Ints | None = None
    ) -> tuple[Attribution, Floats]:
        """Return the explanation, and each atom's output."""
        pairs, several = _pairs_of(activations, self._own.cutoff)
        outputs, inside = self._solved(activations, pairs, starts)
        one, atoms, triples = inside.one, inside.atoms, inside.triples
        two = inside.pairs - one[pairs.i] - one[pairs.j]
        orders = [one.sum(), two.sum()][: self.body_order]
        three = inside.trios
        if self.body_order >= 3:
            three = three - lower_orders(triples, pairs, one, two)
            orders.append(three.sum())
        orders.append(atoms.sum() - sum(orders))
        attribution = Attribution(
            method=self.method,
            gamma=self.rule.gamma,
            unit=self.unit,
            max_bias=self.rule.max_bias,
            scalars_only=self.rule.scalars_only,
            numbers=activations.numbers,
            output=float(outputs.sum()),
            atoms=atoms,
            one_body=one,
            pairs=pairs,
            strengths=two,
            by_body_order=np.array(orders),
            triples=triples,
            three_body=three,
            several_images=several,
        )
        return self._with_pairs(attribution, activations, starts), outputs

    def _solved(
        self, activations: Activations, pairs: Pairs, starts: Ints | None
    ) -> tuple[Floats, _Inside]:
        """Return each atom's output, and the relevance of walks inside sets of atoms."""
        edges = activations.edges
        if self._compiles and self._fixed(activations):
            rows, outputs = self._compiled_rows(activations), self.in_ev(activations.energies)
            return outputs, _Inside(*self._layout(edges).split(self.in_ev(rows), pairs.i, pairs.j))
        linear, outputs = self._at(activations, starts)
        _refuse_many(len(activations.vectors), linear.top.shape[1])
        if self.body_order >= 3 and len(linear.blocks) in DEPTHS:
            firsts = np.array([0, edges.n_atoms]) if starts is None else starts
            if np.diff(firsts).max() <= DENSE_LIMIT:
                return outputs, self._met(linear, edges, pairs, firsts)
        layout = self._layout(edges)
        rows = restricted_relevance(
            linear.blocks, layout.gates(linear.blocks), linear.top, linear.features, layout
        )
        inside = _Inside(*layout.split(self.in_ev(rows), pairs.i, pairs.j))
        if self.body_order >= 3:
            triples = triples_within_reach(pairs.i, pairs.j)
            trios = self._of_tuples(linear, edges, triples)
            inside = replace(inside, triples=triples, trios=trios)
        return outputs, inside

    def _met(self, linear: LinearNetwork, edges: Edges, pairs: Pairs, starts: Ints) -> _Inside:
        """Return what `_solved` does, from walks that meet in the middle, molecule by molecule."""
        links = Links(edges)
        filters = [links.filters(block.filters) for block in linear.blocks]
        ends = np.searchsorted(pairs.i, starts)  # pairs are sorted
        parts = []
        for (start, stop), (first, last) in zip(
            itertools.pairwise(starts), itertools.pairwise(ends), strict=True
        ):
            i, j = pairs.i[first:last] - start, pairs.j[first:last] - start
            gates = [links.square(each, start, stop) for each in filters]
            relevance = walk_relevance(linear, gates, slice(start, stop))
            walks, triples = WalkSums(*map(self.in_ev, relevance)), triples_within_reach(i, j)
            parts.append((*walks.split(i, j), triples + start, walks.of_sets(triples)))
        return _Inside(*map(np.concatenate, zip(*parts, strict=True)))

    def _fixed(self, activations: Activations) -> bool:
        """Return whether the next activations will have the same edges."""
        return activations is self._running.last_activations and isinstance(
            activations.edges, AllPairs
        )

    def _compiled_rows(self, activations: Activations) -> Tensor:
        """Return the relevance at each (set, atom) from a compiled pass.

        The compiled pass holds for one set of edges and one version of the weights.
        """
        tensors, spec = tree_flatten(activations.tape)
        key = (activations.edges, activations.weights)
        if self._pass is None or self._pass[0] != key:
            layout = self._layout(activations.edges)

            def rows(*tensors: Tensor) -> tuple[Tensor, ...]:
                linear = self._rules.at(tree_unflatten(list(tensors), spec))
                gates = layout.gates(linear.blocks)
                top, features = linear.top, linear.features
                return (restricted_relevance(linear.blocks, gates, top, features, layout),)

            self._rules.at(activations.tape)  # first, so that the rules are not compiled too
            self._pass = key, compiled_or_eager(rows, tensors)
        return self._pass[1](*tensors)[0]

    def _of_tuples(self, linear: LinearNetwork, edges: Edges, sets: Ints) -> Floats:
        links, parts = Links(edges), [np.empty(0)]
        gates = [links.filters(block.filters) for block in linear.blocks]
        for some in in_chunks(sets):
            layout = Tuples(links, some, linear.top.device)
            rows = restricted_relevance(linear.blocks, gates, linear.top, linear.features, layout)
            parts.append(self.in_ev(rows.sum(1)))
        return np.concatenate(parts)


class FlowAttributor(_NetworkAttributor):
    """Flow on every pair and image, from one tangent and one backward pass; for any size."""

    method = "flow"

    def attribute(self, frame: Frame | Atoms) -> Attribution:
        """Explain one frame.

        Raises:
            CalculatorError: for a structure the network cannot take.
            AttributionUnavailable: for positions that are not finite.
        """
        frame = as_frame(frame)
        with self._lock, torch.inference_mode():
            activations = self._activations(frame)
            linear, outputs = self._at(activations)
            flows, atoms = pair_flow(linear.blocks, activations.edges, linear.top, linear.features)
            by_layer, per_atom = self.in_ev(flows), self.in_ev(atoms)
        strengths, edges = by_layer.sum(0), activations.edges
        energies = self._pair_energies(activations)
        if energies is not None:
            strengths = strengths + energies
            per_atom = per_atom + halves(edges.first, edges.second, energies, frame.n_atoms)
        distances = np.linalg.norm(activations.vectors, axis=1)
        near = np.flatnonzero(distances < self._own.cutoff)
        pairs = Pairs(
            edges.first[near], edges.second[near], activations.vectors[near], distances[near]
        )
        return Attribution(
            method=self.method,
            gamma=self.rule.gamma,
            unit=self.unit,
            max_bias=self.rule.max_bias,
            scalars_only=self.rule.scalars_only,
            numbers=activations.numbers,
            output=float(outputs.sum()),
            atoms=per_atom,
            one_body=np.full(len(per_atom), np.nan),
            pairs=pairs,
            strengths=strengths[near],
            by_body_order=np.array([per_atom.sum()]),
            by_layer=by_layer[:, near],
        )

    def attribute_many(self, frames: Sequence[Frame | Atoms]) -> list[Attribution]:
        """Explain frames one after the other. Raises what `attribute` raises."""
        return [self.attribute(frame) for frame in frames]


def _refuse_many(n_pairs: int, width: int) -> None:
    if 2 * n_pairs * width > MAX_ROWS * 128:
        raise AttributionUnavailable(
            f"exact relevance of {n_pairs} pairs within reach would not fit into memory; use "
            'method="flow", which takes any number of atoms'
        )


def _pairs_of(activations: Activations, cutoff: float) -> tuple[Pairs, Bools]:
    edges, vectors = activations.edges, activations.vectors
    if activations.pbc.any():
        return merge_images(edges.first, edges.second, vectors)
    distances = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    pairs = Pairs(edges.first, edges.second, vectors, distances)
    if not (distances < cutoff).all():  # a compiled network sees all pairs
        pairs = pairs.select(distances < cutoff)
    if not isinstance(edges, AllPairs) and not each_pair_once(edges):
        return merge_images(pairs.i, pairs.j, pairs.vectors)
    return pairs, np.zeros(len(pairs), dtype=bool)


def _apart(together: Attribution, outputs: Floats, starts: Ints) -> list[Attribution]:
    """Split the attribution of several molecules; starts (n_frames + 1,): their first atoms."""
    whose = np.searchsorted(starts, together.pairs.i, side="right") - 1
    whose_triple = np.searchsorted(starts, together.triples[:, 0], side="right") - 1
    results = []
    for k, (start, stop) in enumerate(itertools.pairwise(starts)):
        mine, trio = whose == k, whose_triple == k
        pairs = together.pairs.select(mine)
        pairs = Pairs(pairs.i - start, pairs.j - start, pairs.vectors, pairs.distances)
        one, two = together.one_body[start:stop], together.strengths[mine]
        three = together.three_body[trio]
        atoms = together.atoms[start:stop]
        known = [one.sum(), two.sum(), three.sum()][: len(together.by_body_order) - 1]
        results.append(
            Attribution(
                method=together.method,
                gamma=together.gamma,
                unit=together.unit,
                max_bias=together.max_bias,
                scalars_only=together.scalars_only,
                numbers=together.numbers[start:stop],
                output=float(outputs[start:stop].sum()),
                atoms=atoms,
                one_body=one,
                pairs=pairs,
                strengths=two,
                by_body_order=np.array([*known, atoms.sum() - sum(known)]),
                triples=together.triples[trio] - start,
                three_body=three,
                several_images=None
                if together.several_images is None
                else together.several_images[mine],
            )
        )
    return results
