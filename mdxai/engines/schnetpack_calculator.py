"""Our networks as a calculator of schnetpack's MD: all replicas in one evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from schnetpack.md.calculators import MDCalculator

from mdxai.calculators import CalculatorError, NetworkCalculator
from mdxai.calculators.batch import BatchPotential, Systems


class ReplicaCalculator(MDCalculator):  # type: ignore[misc]
    """Calculator of `schnetpack.md.Simulator` around a network that `mdxai.load_calculator` gives.

        calculator = mdxai.ReplicaCalculator(mdxai.load_calculator("schnet-ethanol"))
        simulator = Simulator(system, VelocityVerlet(0.5), calculator)

    All replicas and molecules are evaluated in one batch, with the dtype and on the device that the
    network was loaded for; positions and forces are moved between it and the system. Forces have
    the system's dtype. Energies include the offset of the atoms and stay in float64: they are too
    large for float32. There is no stress.

    Args:
        calculator: made by `mdxai.load_calculator`; it is only read.

    Raises:
        CalculatorError: for another calculator.
    """

    def __init__(self, calculator: NetworkCalculator) -> None:
        if not isinstance(calculator, NetworkCalculator):
            raise CalculatorError(
                "expected a calculator made by mdxai.load_calculator, got "
                f"{type(calculator).__name__}"
            )
        super().__init__(
            required_properties=["energy", "forces"],
            force_key="forces",
            energy_unit="eV",
            position_unit="Angstrom",
            energy_key="energy",
        )
        self.ase_calculator = calculator
        self._batch = BatchPotential(calculator.running_potential)
        self.n_calls = 0

    def calculate(self, system: Any) -> None:
        """Evaluate every replica of every molecule; a replica that is not finite gets NaN.

        Raises:
            CalculatorError: at the first call, for a system that the network cannot take.
        """
        energies, forces = self._batch.predict(self._systems(system))
        self.n_calls += 1
        self.results = {
            "energy": torch.from_numpy(energies).to(system.device),
            "forces": torch.from_numpy(forces).to(system.positions),
        }
        self._update_system(system)

    def _systems(self, system: Any) -> Systems:
        """Return replica after replica, and in each molecule after molecule, in Å."""
        inner = float(self.position_conversion)
        sizes = np.tile(system.n_atoms.cpu().numpy(), system.n_replicas)
        return Systems(
            numbers=np.tile(system.atom_types.cpu().numpy(), system.n_replicas),
            starts=np.concatenate([[0], np.cumsum(sizes)]),
            positions=_float64(system.positions).reshape(-1, 3) / inner,
            cells=_float64(system.cells).reshape(-1, 3, 3) / inner,
            pbc=np.tile(system.pbc[0].cpu().numpy(), (system.n_replicas, 1)),
        )


def _float64(tensor: Any) -> Any:
    return tensor.detach().cpu().numpy().astype(np.float64)
