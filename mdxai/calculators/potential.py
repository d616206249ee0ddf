"""A network as a potential: positions in, energies and forces out, in eV and Å."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from mdxai.calculators.architectures import atom_energies_of
from mdxai.calculators.card import CalculatorError, Card, check_structure
from mdxai.calculators.compiled import compiled_or_eager, traced
from mdxai.calculators.edges import AllPairs, Edges, NeighbourEdges, VerletList
from mdxai.calculators.forward import Tape
from mdxai.calculators.guard_term import GuardAction, GuardTerm
from mdxai.calculators.own_networks import OwnNetwork
from mdxai.frame import Bools, Floats, Frame, Ints, find_pairs

ALL_PAIRS_LIMIT = 40  # atoms; beyond this most pairs of a molecule lie outside the cutoff
TRACE_AFTER = 50  # evaluations of one molecule, after which recording a graph pays off

Evaluation = Callable[[Tensor], tuple[Tensor, ...]]  # energies, gradient, activations if kept


@dataclass(frozen=True, slots=True)
class Prediction:
    """energies: (n_atoms,) eV with offsets; forces: (n_atoms, 3) eV/Å; virial: (3, 3) eV,
    Σ_edges r ⊗ ∂E/∂r, so that stress = virial / volume.
    """

    energies: Floats
    forces: Floats
    virial: Floats

    @property
    def energy(self) -> float:
        """Potential energy, eV, summed in float64."""
        return float(self.energies.sum())


@dataclass(frozen=True, slots=True)
class Activations:
    """What attribution needs of one forward pass. Tensors are in the network's units.

    numbers, positions, cell, pbc: the system, in Å. weights: version of the network's weights.
    vectors: (n_half, 3) of the half edges, Å. energies: (n_atoms,) without offsets.
    """

    numbers: Ints
    positions: Floats
    cell: Floats
    pbc: Bools
    weights: int
    edges: Edges
    vectors: Floats
    energies: Tensor
    tape: Tape

    def belong_to(self, frame: Frame) -> bool:
        """Return whether they come from exactly this configuration."""
        mine = (self.positions, self.numbers, self.cell, self.pbc)
        theirs = (frame.positions, frame.numbers, frame.cell, frame.pbc)
        return all(map(np.array_equal, mine, theirs))


class NetworkPotential(OwnNetwork):
    """A schnetpack network with its card and its own neighbour lists.

    Args:
        network: SchNet, PaiNN or SO3net potential; converted in place to `dtype` and `device`.
        card: units, offset, elements.
        compile: whether to compile the evaluation of small molecules with `torch.compile`.

    Attributes:
        last_activations: of the last prediction, if `keep_activations` was called before it.
    """

    _last: Activations | Callable[[], Activations] | None = None
    _keeps: bool = False
    _all_pairs: AllPairs | None
    _near: tuple[Bools, AllPairs] | None
    _neighbours: VerletList
    _prepared: dict[bool, Evaluation]  # with activations, and without
    _n_evaluations: int
    _guard: GuardTerm | None  # that the card states
    _tape_spec: TreeSpec

    def __init__(
        self,
        network: nn.Module,
        card: Card,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        compile: bool = False,
    ) -> None:
        self.network = network.to(device=_usable(device), dtype=dtype).eval().requires_grad_(False)
        self.card = card
        self.name = card.name
        self.cutoff = card.cutoff
        self.n_layers = card.n_layers
        self.elements = card.elements
        self.dtype = dtype
        self.device = torch.device(device)
        self.compile = compile
        self._atom_energies = atom_energies_of(network)
        self._numbers: Ints | None = None
        self._offsets: Floats | float = 0.0
        self._parameters = list(self.network.parameters())

    def __getstate__(self) -> dict[str, Any]:
        """Omit neighbour lists and compiled code; copies build their own."""
        kept = ("network", "card", "name", "cutoff", "n_layers", "elements", "dtype", "device",
                "compile", "_atom_energies", "_keeps")  # fmt: skip
        return {name: getattr(self, name) for name in kept} | {"_numbers": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._parameters = list(self.network.parameters())

    def twin(self, dtype: torch.dtype | None = None) -> NetworkPotential:
        """Return an independent, uncompiled potential with a copy of the weights, in `dtype` if
        given.
        """
        network = copy.deepcopy(self.network)
        return NetworkPotential(network, self.card, dtype=dtype or self.dtype, device=self.device)

    def evaluate(self, frame: Frame) -> tuple[float, Floats]:
        prediction = self.predict(frame.numbers, frame.positions, frame.cell, frame.pbc)
        return prediction.energy, prediction.forces

    def predict(self, numbers: Ints, positions: Floats, cell: Floats, pbc: Bools) -> Prediction:
        """Evaluate the network. Non-finite positions give NaN.

        Raises:
            CalculatorError: for a new system that `check_structure` refuses.
        """
        if self._numbers is None or not np.array_equal(numbers, self._numbers):
            self.prepare(numbers, positions, cell, pbc)
        if not np.isfinite(positions).all():
            nan = np.full((len(numbers), 3), np.nan)
            return Prediction(nan[:, 0], nan, np.full((3, 3), np.nan))
        edges, vectors = self._edges(positions, cell, pbc)
        energies, gradient, *flat = self._evaluation(edges)(self.scaled(vectors))
        if flat:
            system = (numbers.copy(), positions.copy(), cell.copy(), pbc.copy(), self.weights)
            spec = self._tape_spec
            self._last = lambda: Activations(
                *system, edges, vectors, energies, tree_unflatten(flat, spec)
            )
        prediction = self._in_physical_units(energies, gradient, edges, vectors)
        action = None if self._guard is None else self._guard.act(positions, cell, pbc)
        if action is None:
            return prediction
        action.add_to(prediction.energies, prediction.forces)
        return replace(prediction, virial=prediction.virial + action.virial)

    @property
    def runs_recorded(self) -> bool:
        """Whether a recorded or compiled graph replaces the network's own operations."""
        return self._numbers is not None and bool(self._prepared)

    @property
    def last_activations(self) -> Activations | None:
        # Assembled on request, because most steps are not explained.
        if callable(self._last):
            self._last = self._last()
        return self._last

    def keep_activations(self, keep: bool = True) -> None:
        """Set whether predictions keep their activations in `last_activations` from now on.

        Without them a prediction is 3 % faster. Results are the same to the last bit.
        """
        # Compiled code might round differently without them, so it never stops keeping them.
        self._keeps = keep or (self.compile and self._keeps)

    def activations(self, frame: Frame) -> Activations:
        """Run the network on a frame, without forces, and return its activations.

        Raises:
            CalculatorError: as `predict`.
        """
        self._prepare_for(frame)
        edges, vectors = self._edges(frame.positions, frame.cell, frame.pbc)
        with torch.no_grad():
            energies, tape = self._atom_energies(
                self.network, self._atomic_numbers, edges, self.scaled(vectors)
            )
        system = (frame.numbers, frame.positions, frame.cell, frame.pbc, self.weights)
        return Activations(*system, edges, vectors, energies, tape)

    def activations_of_many(self, frames: Sequence[Frame]) -> tuple[Activations, Ints]:
        """Run the network once on several systems that do not interact.

        Returns:
            Activations of all atoms; (n_frames + 1,) first atom of each system, then n_atoms.

        Raises:
            CalculatorError: as `predict`.
        """
        starts = np.cumsum([0] + [frame.n_atoms for frame in frames])
        first, second, vectors = [], [], []
        for start, frame in zip(starts, frames, strict=False):
            i, j, reach = self._within_reach(frame)
            first.append(i + start)
            second.append(j + start)
            vectors.append(reach)
        together = NeighbourEdges(
            np.concatenate(first), np.concatenate(second), int(starts[-1]), self.device
        )
        numbers = np.concatenate([frame.numbers for frame in frames])
        reach = np.concatenate(vectors)
        with torch.no_grad():
            on_device = torch.tensor(numbers, device=self.device)
            energies, tape = self._atom_energies(
                self.network, on_device, together, self.scaled(reach)
            )
        positions = np.concatenate([frame.positions for frame in frames])
        pbc = np.any([frame.pbc for frame in frames], axis=0)
        system = (numbers, positions, np.zeros((3, 3)), pbc, self.weights)
        return Activations(*system, together, reach, energies, tape), starts

    def _within_reach(self, frame: Frame) -> tuple[Ints, Ints, Floats]:
        """Return the half edges of one of many systems, (n_half,) each, and their vectors, Å."""
        if frame.pbc.any() or self.card.guard is not None:
            self._prepare_for(frame)
            edges, reach = self._edges(frame.positions, frame.cell, frame.pbc)
            return edges.first, edges.second, reach
        # Setting up what only the next frame of the same molecule would use takes half the time.
        check_structure(self.card, frame.numbers, frame.positions, frame.cell, frame.pbc)
        self._check_embedding(frame.numbers)
        pairs = find_pairs(frame.positions, frame.cell, frame.pbc, self.cutoff)
        return pairs.i, pairs.j, pairs.vectors

    def partial_forces(self, frame: Frame, atom: int | None = None) -> Floats:
        """Return F_ij = −∂E_i/∂r_j, eV/Å: (n_atoms, n_atoms, 3), or (n_atoms, 3) for i = `atom`.

        Their sum over i is the force on j. Row i shows which atoms E_i depends on.

        Raises:
            CalculatorError: as `predict`.
        """
        self._prepare_for(frame)
        edges, reach = self._edges(frame.positions, frame.cell, frame.pbc)
        vectors = self.scaled(reach).requires_grad_()
        energies, _ = self._atom_energies(self.network, self._atomic_numbers, edges, vectors)
        unit = self.card.energy_unit / self.card.length_unit
        atoms, rows = range(frame.n_atoms) if atom is None else [atom], []
        for i in atoms:
            (slope,) = torch.autograd.grad(energies[i], vectors, retain_graph=True)
            rows.append(edges.pull(slope.cpu().numpy().astype(np.float64) * unit))
        partial: Floats = np.stack(rows)
        action = self.guard_action(frame)
        if action is not None:
            partial += action.partial_forces(frame.n_atoms)[list(atoms)]
        return partial if atom is None else partial[0]

    def guard_action(self, frame: Frame) -> GuardAction | None:
        """Return what the guard that the card states does to a frame; None where it does nothing.

        Raises:
            CalculatorError: as `predict`.
        """
        self._prepare_for(frame)
        if self._guard is None:
            return None
        return self._guard.act(frame.positions, frame.cell, frame.pbc)

    @property
    def weights(self) -> int:
        """Version of the weights; it increases with every change in place."""
        return sum(parameter._version for parameter in self._parameters)

    def _prepare_for(self, frame: Frame) -> None:
        """Prepare for a frame unrelated to the last one, so check its structure every time."""
        system = (frame.numbers, frame.positions, frame.cell, frame.pbc)
        if self._numbers is None or not np.array_equal(frame.numbers, self._numbers):
            self.prepare(*system)
        else:
            check_structure(self.card, *system)

    def scaled(self, vectors: Floats) -> Tensor:
        """Return vectors (n, 3), Å, as a tensor in the network's length unit."""
        scaled = torch.as_tensor(vectors / self.card.length_unit, dtype=self.dtype)
        return scaled.to(self.device)

    def _edges(self, positions: Floats, cell: Floats, pbc: Bools) -> tuple[Edges, Floats]:
        """Return the edges of a system and their vectors (n_half, 3), Å, in float64."""
        if self._all_pairs is not None and not pbc.any():
            vectors = self._all_pairs.vectors(positions)
            near = np.einsum("ij,ij->i", vectors, vectors) < self.cutoff**2
            if self.compile or near.all():
                return self._all_pairs, vectors
            if self._near is None or not np.array_equal(near, self._near[0]):
                self._near = near, self._all_pairs.select(near)
            return self._near[1], vectors[near]
        return self._neighbours.find(positions, cell, pbc, self.device)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what the rounding of the next prediction depends on: the system at the last
        neighbour search. Empty for a system that needs no neighbour list.
        """
        if self._numbers is None:
            return {}
        searched = self._neighbours.state()
        return searched | {"numbers": self._numbers.copy()} if searched else {}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a `state` with the same bits as the potential that returned it."""
        if state:
            self._set_up(state["numbers"])
            self._neighbours.restore(state)
        elif self._numbers is not None:
            self._neighbours.restore({})

    def prepare(self, numbers: Ints, positions: Floats, cell: Floats, pbc: Bools) -> None:
        """Check a new system and set up its edges.

        Raises:
            CalculatorError: as `check_structure`.
            GuardError: for a system with other bonds than those of its guard.
        """
        check_structure(self.card, numbers, positions, cell, pbc)
        self._set_up(numbers)
        if self._guard is not None and np.isfinite(positions).all():
            self._guard.check(positions, cell, pbc)

    def _check_embedding(self, numbers: Ints) -> None:
        embedding: Any = self.network.representation.embedding  # type: ignore[union-attr]
        last = embedding.num_embeddings - 1
        if not 0 < numbers.min() <= numbers.max() <= last:
            raise CalculatorError(
                f"{self.name} takes atomic numbers 1 to {last}, got {numbers.min()} to "
                f"{numbers.max()}"
            )

    def _set_up(self, numbers: Ints) -> None:
        self._check_embedding(numbers)
        self._atomic_numbers = torch.tensor(numbers, dtype=torch.int64, device=self.device)
        small = len(numbers) <= ALL_PAIRS_LIMIT
        self._all_pairs = AllPairs(len(numbers), self.device) if small else None
        self._near = None  # pairs within the cutoff at the last evaluation
        self._neighbours = VerletList(self.cutoff)
        self._prepared, self._n_evaluations = {}, 0
        self._numbers = np.array(numbers)
        self._offsets = self.card.offsets(numbers)
        guard = self.card.guard
        self._guard = None if guard is None else GuardTerm(guard, self._numbers)

    def _energies_and_gradient(self, edges: Edges, vectors: Tensor) -> tuple[Tensor, ...]:
        vectors = vectors.detach().requires_grad_()
        energies, tape = self._atom_energies(self.network, self._atomic_numbers, edges, vectors)
        (gradient,) = torch.autograd.grad(energies.sum(), vectors)
        flat: list[Tensor] = []
        if self._keeps:
            kept, self._tape_spec = tree_flatten(tape)
            flat = [activation.detach() for activation in kept]
        return energies.detach(), gradient, *flat

    def _evaluation(self, edges: Edges) -> Evaluation:
        def eager(vectors: Tensor) -> tuple[Tensor, ...]:
            return self._energies_and_gradient(edges, vectors)

        if edges is not self._all_pairs:
            return eager
        self._n_evaluations += 1
        ready = self.compile or self._n_evaluations > TRACE_AFTER
        if ready and self._keeps not in self._prepared:
            example = torch.ones(len(edges.first), 3, dtype=self.dtype, device=self.device)
            prepare = compiled_or_eager if self.compile else traced
            self._prepared[self._keeps] = prepare(eager, [example])
        return self._prepared.get(self._keeps, eager)

    def _in_physical_units(
        self, energies: Tensor, gradient: Tensor, edges: Edges, vectors: Floats
    ) -> Prediction:
        unit = self.card.energy_unit
        slope = gradient.cpu().numpy().astype(np.float64) * (unit / self.card.length_unit)
        # The offset is thousands of eV: in float32 it would hide energy differences.
        atomic = energies.cpu().numpy().astype(np.float64) * unit + self._offsets
        return Prediction(atomic, edges.pull(slope), vectors.T @ slope)


def _usable(device: str | torch.device) -> torch.device:
    """Return the device, if torch can use it on this machine.

    Raises:
        CalculatorError: for a device that torch does not know or that this machine lacks.
    """
    try:
        torch.zeros(1, device=device).cpu()
        return torch.device(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CalculatorError(
            f"device {str(device)!r} cannot be used here ({reason}); expected cpu, or cuda where "
            "torch finds a GPU"
        ) from error
