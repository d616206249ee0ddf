"""The ASE calculator around a trained network."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from torch import nn

from mdxai.calculators.card import Card
from mdxai.calculators.potential import NetworkPotential


class NetworkCalculator(Calculator):  # type: ignore[misc]
    """ASE calculator for a SchNet or PaiNN potential of schnetpack.

    Gives energy (eV), forces (eV/Å), energies per atom (eV) and, where the cell is periodic in
    all three directions, stress (eV/Å³, ASE's sign and Voigt order). Made by `load_calculator`.

    Attributes:
        model: the torch module.
        card: what the network is and what it was trained on.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy", "free_energy", "forces", "energies", "stress",
    ]  # fmt: skip

    def __init__(self, engine: NetworkPotential, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._engine = engine

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def model(self) -> nn.Module:
        return self._engine.network

    @property
    def card(self) -> Card:
        return self._engine.card

    @property
    def potential(self) -> NetworkPotential:
        """A new, independent twin to probe: its evaluations never reach this calculator."""
        return self._engine.twin()

    def share_activations(self, dtype: torch.dtype | None = None) -> NetworkPotential:
        """Return the running potential for reading, which from now on keeps its activations; for
        another `dtype`, a twin converted to it.
        """
        if dtype is not None and dtype != self._engine.dtype:
            return self._engine.twin(dtype)
        self._engine.keep_activations()
        return self._engine

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """Return what changed since the last evaluation, among what the energy depends on.

        ASE's own comparison looks at charges and magnetic moments too and takes as long as a tenth
        of an evaluation; MD asks for it several times a step. Any difference counts, so `tol` is
        ignored.
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
        """Forget the results; the next request evaluates the network."""
        self.results: dict[
            str, Any
        ] = {}  # the last system stays, so that a moved one need not be copied whole

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
        prediction = self._engine.predict(
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
