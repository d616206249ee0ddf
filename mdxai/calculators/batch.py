"""A network evaluated for many systems in one pass, for molecular dynamics of replicas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mdxai.calculators.architectures import atom_energies_of
from mdxai.calculators.card import CalculatorError
from mdxai.calculators.compiled import compiled_or_eager, traced
from mdxai.calculators.edges import Edges, NeighbourEdges, VerletList
from mdxai.calculators.guard_term import GuardTerm
from mdxai.calculators.potential import ALL_PAIRS_LIMIT, TRACE_AFTER, NetworkPotential
from mdxai.calculators.replica_pairs import ReplicaPairs
from mdxai.frame import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class Systems:
    """Several systems in one set of arrays, one after the other.

    numbers: (n_atoms,) atomic numbers. starts: (n_systems + 1,) index of each system's first atom,
    then n_atoms. positions: (n_atoms, 3) Å. cells: (n_systems, 3, 3) Å. pbc: (n_systems, 3).
    """

    numbers: Ints
    starts: Ints
    positions: Floats
    cells: Floats
    pbc: Bools

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, k: int) -> tuple[Ints, Floats, Floats, Bools]:
        """Return numbers, positions, cell and pbc of system k."""
        mine = slice(self.starts[k], self.starts[k + 1])
        return self.numbers[mine], self.positions[mine], self.cells[k], self.pbc[k]


class BatchPotential:
    """Evaluates a network for several systems in one pass; the systems do not interact.

    Args:
        potential: source of weights, units, dtype and device; it is not changed.
        traces: whether to record a graph after 50 evaluations, which takes some seconds and pays
            off in molecular dynamics.
    """

    def __init__(self, potential: NetworkPotential, *, traces: bool = True) -> None:
        self._potential = NetworkPotential(
            potential.network, potential.card, dtype=potential.dtype, device=potential.device
        )
        self._compile, self._traces = potential.compile, traces
        self._atom_energies = atom_energies_of(potential.network)
        self._known: tuple[Ints, Ints] | None = None

    def predict(self, systems: Systems) -> tuple[Floats, Floats]:
        """Return energies (n_systems,) in eV, offsets included, and forces (n_atoms, 3) in eV/Å.

        A system with non-finite positions gets NaN; the others are not affected.

        Raises:
            CalculatorError: for new atoms, if the network cannot take one of the systems; the
                message names the system.
        """
        known = self._known
        if known is None or not (
            np.array_equal(known[0], systems.numbers) and np.array_equal(known[1], systems.starts)
        ):
            self._prepare(systems)
        finite_atoms = np.isfinite(systems.positions).all(1)
        finite = np.logical_and.reduceat(finite_atoms, systems.starts[:-1])
        edges, vectors = self._edges(systems, finite)
        energies, gradient = self._evaluation(edges)(self._potential.scaled(vectors))
        card = self._potential.card
        slopes = gradient.cpu().numpy().astype(np.float64) * (card.energy_unit / card.length_unit)
        atomic = energies.cpu().numpy().astype(np.float64) * card.energy_unit
        total = np.add.reduceat(atomic + self._offsets, systems.starts[:-1])
        forces = edges.pull(slopes)
        self._add_guards(systems, finite, total, forces)
        total[~finite] = np.nan
        forces[np.repeat(~finite, np.diff(systems.starts))] = np.nan
        return total, forces

    def _add_guards(
        self, systems: Systems, finite: Bools, energies: Floats, forces: Floats
    ) -> None:
        """Add what the guard that the card states does to systems with finite positions."""
        if not self._guards:
            return
        if self._pairs is not None and self._alike:
            actions = self._guards[0].act_on_all(systems.positions.reshape(len(systems), -1, 3))
        else:
            actions = [
                guard.act(*systems[k][1:]) if finite[k] else None
                for k, guard in enumerate(self._guards)
            ]
        for k, action in enumerate(actions):
            if action is not None:
                mine = slice(systems.starts[k], systems.starts[k + 1])
                atoms = np.zeros(mine.stop - mine.start)
                action.add_to(atoms, forces[mine])
                energies[k] += atoms.sum()

    def _prepare(self, systems: Systems) -> None:
        for k in range(len(systems)):
            numbers, positions, cell, pbc = systems[k]
            if not np.isfinite(positions).all():  # predict gives NaN for it
                positions = np.arange(len(positions), dtype=np.float64)[:, None] * np.ones(3)
            try:
                self._potential.prepare(numbers, positions, cell, pbc)
            except CalculatorError as error:
                raise CalculatorError(f"system {k} of {len(systems)}: {error}") from error
        device, sizes = self._potential.device, np.diff(systems.starts)
        alike = (sizes == sizes[0]).all() and sizes[0] <= ALL_PAIRS_LIMIT
        self._pairs: ReplicaPairs | None = None
        if alike and not systems.pbc.any():
            self._pairs = ReplicaPairs(len(systems), int(sizes[0]), device)
        self._lists = [VerletList(self._potential.cutoff) for _ in sizes]
        self._numbers = torch.tensor(systems.numbers, device=device)
        guard = self._potential.card.guard
        kinds = [] if guard is None else [systems[k][0] for k in range(len(systems))]
        self._guards = [GuardTerm(guard, numbers) for numbers in kinds if guard is not None]
        self._alike = all(np.array_equal(kinds[0], numbers) for numbers in kinds)
        self._offsets = self._potential.card.offsets(systems.numbers)
        self._fixed: Callable[..., tuple[Tensor, ...]] | None = None
        self._n_evaluations = 0
        self._known = systems.numbers.copy(), systems.starts.copy()

    def _edges(self, systems: Systems, finite: Bools) -> tuple[Edges, Floats]:
        """Return edges and vectors (n_half, 3), Å.

        Systems with non-finite positions have placeholders without NaN, or no edges at all.
        """
        if self._pairs is not None:
            vectors = self._pairs.vectors(systems.positions)
            if not finite.all():
                vectors[~np.repeat(finite, len(vectors) // len(finite))] = 1.0
            return self._pairs, vectors
        parts = [
            self._lists[k].find(*systems[k][1:], self._potential.device)
            for k in range(len(systems))
            if finite[k]
        ]
        shifts = systems.starts[:-1][finite]
        none = [np.empty(0, dtype=np.int64)]
        together = NeighbourEdges(
            np.concatenate([e.first + s for (e, _), s in zip(parts, shifts, strict=True)] or none),
            np.concatenate([e.second + s for (e, _), s in zip(parts, shifts, strict=True)] or none),
            len(systems.numbers),
            self._potential.device,
        )
        return together, np.concatenate([v for _, v in parts] or [np.empty((0, 3))])

    def _evaluation(self, edges: Edges) -> Callable[..., tuple[Tensor, ...]]:
        def eager(vectors: Tensor) -> tuple[Tensor, ...]:
            vectors = vectors.detach().requires_grad_()
            with torch.enable_grad():
                energies, _ = self._atom_energies(
                    self._potential.network, self._numbers, edges, vectors
                )
                (gradient,) = torch.autograd.grad(energies.sum(), vectors)
            return energies.detach(), gradient

        if edges is not self._pairs or not (self._traces or self._compile):
            return eager
        self._n_evaluations += 1
        if self._fixed is None and (self._compile or self._n_evaluations > TRACE_AFTER):
            example = torch.ones(
                len(edges.first), 3, dtype=self._potential.dtype, device=self._potential.device
            )
            self._fixed = (compiled_or_eager if self._compile else traced)(eager, [example])
        return self._fixed or eager
