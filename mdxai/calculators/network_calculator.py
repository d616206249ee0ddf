"""The ASE calculator around a trained network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from torch import nn

from mdxai.calculators.card import Card
from mdxai.calculators.own_networks import OwnNetwork
from mdxai.calculators.potential import NetworkPotential


class NetworkCalculator(Calculator, OwnNetwork):  # type: ignore[misc]
    """ASE calculator for a SchNet, PaiNN or SO3net potential of schnetpack.

    Gives energy (eV), forces (eV/Å), energies per atom (eV) and, where the cell is periodic in
    all three directions, stress (eV/Å³, ASE's sign and Voigt order). Made by `load_calculator`.

    Attributes:
        model: the torch module.
        card: what the network is and what it was trained on.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy", "free_energy", "forces", "energies", "stress",
    ]  # fmt: skip

    def __init__(self, potential: NetworkPotential, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._potential = potential

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def model(self) -> nn.Module:
        return self._potential.network

    @property
    def card(self) -> Card:
        return self._potential.card

    @property
    def potential(self) -> NetworkPotential:
        """A new, independent twin to probe; evaluating it does not affect this calculator."""
        return self._potential.twin()

    @property
    def running_potential(self) -> NetworkPotential:
        """The potential that this calculator evaluates, to be read only."""
        return self._potential

    def share_activations(self, dtype: torch.dtype | None = None) -> NetworkPotential:
        """Return the running potential, to be read only; it keeps its activations from now on.

        For another `dtype` return a converted twin instead.
        """
        if dtype is not None and dtype != self._potential.dtype:
            return self._potential.twin(dtype)
        self._potential.keep_activations()
        return self._potential

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """Return which quantities that the energy depends on changed since the last evaluation.

        MD calls this several times per step, and ASE's own comparison, which includes charges and
        magnetic moments, takes a tenth of an evaluation. Any difference counts: `tol` is ignored.
        """
        last = self.atoms
        if last is None or len(last) != len(atoms):
            return list(all_changes)
        parts = (
            ("positions", last.positions, atoms.positions),
            ("numbers", last.numbers, atoms.numbers),
            ("cell", last.cell.array, atoms.cell.array),
            ("pbc", last.pbc, atoms.pbc),
        )
        return [name for name, before, now in parts if before.tobytes() != now.tobytes()]

    def reset(self) -> None:
        """Discard the results; the next request evaluates the network."""
        # The last system is kept: where only positions change, only they are copied.
        self.results: dict[str, Any] = {}

    def state(self) -> dict[str, Any]:
        """Return, for a checkpoint, what the rounding of the next evaluation depends on."""
        return dict(self._potential.state())

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state` with the same bits as the calculator that returned it."""
        self._potential.restore(state)
        self.reset()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate the network for `atoms` and fill `results`.

        Raises:
            CalculatorError: for a structure the network cannot take.
            PropertyNotImplementedError: for stress without three periodic directions.
        """
        if list(system_changes) == ["positions"] and atoms is not None and self.atoms is not None:
            self.atoms.positions = atoms.positions
        else:
            super().calculate(atoms, properties, system_changes)
        system: Atoms = self.atoms
        periodic = system.pbc.all()
        if "stress" in (properties or []) and not periodic:
            raise PropertyNotImplementedError(
                f"stress needs a cell that is periodic in all directions, got pbc={system.pbc}"
            )
        prediction = self._potential.predict(
            system.numbers, system.positions, system.cell.array, system.pbc
        )
        self.results = {
            "energy": prediction.energy,
            "free_energy": prediction.energy,
            "energies": prediction.energies,
            "forces": prediction.forces,
        }
        if periodic:
            stress = prediction.virial / system.get_volume()
            self.results["stress"] = full_3x3_to_voigt_6_stress((stress + stress.T) / 2)
