"""Which atomic interactions a model's energy comes from, for one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from ase import Atoms

from mdxai.attribution.blocks import LinearBlock, painn_blocks, schnet_blocks
from mdxai.attribution.rules import pull_readout
from mdxai.attribution.sets import atom_relevance, exactly_two, pair_relevance
from mdxai.calculators.energies import atom_energies_of, readout
from mdxai.calculators.network_calculator import NetworkCalculator
from mdxai.calculators.potential import NetworkPotential
from mdxai.frame import Floats, Frame, Pairs

MAX_ATOMS = 400  # memory grows as n_atoms² · F: half a gigabyte for this many and 128 features
DEFAULT_GAMMA = 0.1  # the published default for potentials (Bonneau et al., Nat. Commun. 16, 9898)


class AttributionUnavailable(ValueError):
    """A calculator whose energy cannot be attributed to interactions, with the reason."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Relevance of one frame; everything in eV.

    output is the energy being explained without its constant offset. atoms (n_atoms,) is the
    relevance arriving at each atom; one_body (n_atoms,) that of walks which never leave the atom;
    two_body (n_pairs,) that of walks which touch both atoms of a pair and no other, signed, for
    the pairs within the cutoff. by_body_order sums them: one-body, two-body, all higher orders.
    """

    method: str
    gamma: float
    output: float
    atoms: Floats
    one_body: Floats
    pairs: Pairs
    two_body: Floats
    by_body_order: Floats

    @property
    def relevance_total(self) -> float:
        """Sum of all relevance, eV."""
        return float(self.atoms.sum())

    @property
    def residual(self) -> float:
        """Output − total: what the biases absorbed, eV. It judges the explanation, not physics."""
        return self.output - self.relevance_total


class Attributor(Protocol):
    """Explains frames."""

    def attribute(self, frame: Frame | Atoms) -> Attribution: ...


class WalkAttributor:
    """Exact one- and two-body relevance of a SchNet or PaiNN energy by set-restricted passes.

    The network is only read. Memory grows with n_atoms² · F.

    Args:
        potential: a twin of the calculator's potential; never the running one.
        gamma: γ of the generalised γ rule; 0 is LRP-0.
    """

    method = "walks"

    def __init__(self, potential: NetworkPotential, gamma: float = DEFAULT_GAMMA) -> None:
        if not gamma >= 0:
            raise ValueError(f"gamma must be 0 or positive, got {gamma}")
        self.gamma = gamma
        self._potential = potential
        self._network = potential.network
        self._energies = atom_energies_of(potential.network)

    def attribute(self, frame: Frame | Atoms) -> Attribution:
        """Explain one frame.

        Raises:
            CalculatorError: for a structure the network cannot take.
            AttributionUnavailable: for positions that are not finite, or too many atoms.
        """
        if isinstance(frame, Atoms):
            frame = Frame.from_atoms(frame)
        if frame.n_atoms > MAX_ATOMS:
            raise AttributionUnavailable(
                f"exact two-body relevance is limited to {MAX_ATOMS} atoms by its memory, "
                f"got {frame.n_atoms}"
            )
        pairs = frame.pairs(self._potential.cutoff)
        with torch.no_grad():
            energies, blocks, top, features = self._linearise(frame)
            i = torch.as_tensor(pairs.i, device=top.device)
            j = torch.as_tensor(pairs.j, device=top.device)
            one, two = exactly_two(pair_relevance(blocks, top, features), i, j)
            atoms = atom_relevance(blocks, top, features)
        return self._assemble(energies, atoms, one, two, pairs)

    def _linearise(
        self, frame: Frame
    ) -> tuple[torch.Tensor, list[LinearBlock], torch.Tensor, torch.Tensor]:
        if not np.isfinite(frame.positions).all():
            raise AttributionUnavailable(f"the positions of step {frame.step} are not finite")
        numbers, edges, vectors = self._potential.inputs(frame)
        tape: list[Any] = []
        energies = self._energies(self._network, numbers, edges, vectors, tape)
        *states, last = tape
        blocks_of = {"SchNet": schnet_blocks, "PaiNN": painn_blocks}[
            type(self._network.representation).__name__
        ]
        blocks = blocks_of(self._network, edges, states, self.gamma)
        top = pull_readout(readout(self._network), last, self.gamma)
        features: torch.Tensor = self._network.representation.embedding(numbers)  # type: ignore[union-attr, operator]
        return energies, blocks, top, features

    def _assemble(
        self,
        energies: torch.Tensor,
        atoms: torch.Tensor,
        one: torch.Tensor,
        two: torch.Tensor,
        pairs: Pairs,
    ) -> Attribution:
        unit = self._potential.card.energy_unit
        per_atom, one_body, two_body = (t.double().cpu().numpy() * unit for t in (atoms, one, two))
        orders: list[float] = [one_body.sum(), two_body.sum()]
        orders.append(per_atom.sum() - sum(orders))
        return Attribution(
            method=self.method,
            gamma=self.gamma,
            output=float(energies.double().sum()) * unit,
            atoms=per_atom,
            one_body=one_body,
            pairs=pairs,
            two_body=two_body,
            by_body_order=np.array(orders),
        )


def attributor(calculator: Any, *, gamma: float = DEFAULT_GAMMA) -> Attributor:
    """Return an attributor for a calculator's energy.

    Raises:
        AttributionUnavailable: for a calculator that is not a SchNet or PaiNN of schnetpack.
    """
    if isinstance(calculator, NetworkCalculator):
        return WalkAttributor(calculator.potential, gamma)
    name = getattr(calculator, "name", None) or type(calculator).__name__
    raise AttributionUnavailable(
        f"relevance needs the inside of the network, and {name!r} is not a SchNet or PaiNN loaded "
        "with mdxai.load_calculator; every other check works with it"
    )
