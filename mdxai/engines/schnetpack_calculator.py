"""Networks of mdxai as a calculator for schnetpack's MD: one evaluation for all replicas."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from schnetpack.md.calculators import MDCalculator

from mdxai.calculators import CalculatorError, NetworkCalculator
from mdxai.calculators.batch import BatchPotential, Systems


class ReplicaCalculator(MDCalculator):  # type: ignore[misc]
    """Wraps a network from `mdxai.load_calculator` as a calculator for `schnetpack.md.Simulator`.

        calculator = mdxai.ReplicaCalculator(mdxai.load_calculator("schnet-ethanol"))
        simulator = Simulator(system, VelocityVerlet(0.5), calculator)

    All replicas and molecules are evaluated in one batch, with the dtype and on the device of the
    network; positions and forces are copied between it and the system. Forces have the system's
    dtype. Energies include the atomic offsets and are float64, because float32 is too coarse for
    them. Stress is not computed.

    Args:
        calculator: made by `mdxai.load_calculator`; it is not changed.

    Raises:
        CalculatorError: for any other calculator.
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
        """Evaluate every molecule of every replica; NaN if its positions are not finite.

        Raises:
            CalculatorError: at the first call, for a system that the network does not support.
        """
        energies, forces = self._batch.predict(self._systems(system))
        self.n_calls += 1
        self.results = {
            "energy": torch.from_numpy(energies).to(system.device),
            "forces": torch.from_numpy(forces).to(system.positions),
        }
        self._update_system(system)

    def _systems(self, system: Any) -> Systems:
        """Return the molecules of the first replica, then those of the next, and so on, in Å."""
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
