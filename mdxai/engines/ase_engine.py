"""ASE's molecular dynamics as a source of frames that can be stopped."""

from __future__ import annotations

from typing import Any

from ase import units
from ase.md.andersen import Andersen
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import NoseHooverChainNVT
from ase.md.nvtberendsen import NVTBerendsen
from ase.md.verlet import VelocityVerlet

from mdxai.engines.engine import EngineDescription
from mdxai.frame import Frame


class AseEngine:
    """Reads an ASE dynamics object and never starts an evaluation.

    Raises:
        TypeError: for anything that is not an ASE MolecularDynamics.
    """

    def __init__(self, dynamics: MolecularDynamics) -> None:
        if not isinstance(dynamics, MolecularDynamics):
            raise TypeError(
                f"expected ASE molecular dynamics such as Langevin or VelocityVerlet, got "
                f"{type(dynamics).__name__}"
            )
        self._dynamics = dynamics
        self._temperature_at_start = self.temperature()

    @property
    def calculator(self) -> Any:
        return self._dynamics.atoms.calc

    def frame(self) -> Frame:
        """Return the present instant."""
        dynamics = self._dynamics
        return Frame.from_atoms(
            dynamics.atoms, step=dynamics.nsteps, time=dynamics.get_time() / units.fs
        )

    def temperature(self) -> float | None:
        """Return the thermostat's temperature at this moment, K, or None without a thermostat."""
        return _temperature(self._dynamics)

    def bath_energy(self) -> float | None:
        """Return the energy that the thermostat holds, eV, less that at its start.

        E_pot + E_kin + this is conserved. None without a thermostat, for one that does not count
        the heat it gives, and for a Nosé–Hoover chain whose temperature was changed: its sum is
        one of a constant temperature.
        """
        dynamics = self._dynamics
        if isinstance(dynamics, Bussi):
            return -float(dynamics.transferred_energy)
        if (
            type(dynamics) is NoseHooverChainNVT
            and self.temperature() == self._temperature_at_start
        ):
            return float(dynamics._thermostat.get_thermostat_energy())
        return None

    def stop(self) -> None:
        """Let the run end after this step; its `run()` then returns False."""
        self._dynamics.max_steps = 0

    def describe(self) -> EngineDescription:
        """Return what the engine is and what it simulates."""
        stated = dict(self._dynamics.todict())
        stated.pop("type", None)
        name = stated.pop("md-type", type(self._dynamics).__name__)
        timestep = float(stated.pop("timestep", self._dynamics.dt)) / units.fs
        plain = (bool, int, float, str)
        return EngineDescription(
            name=name,
            timestep=timestep,
            temperature=self.temperature(),
            # Thermostats are subclasses of VelocityVerlet, so its own type is what counts.
            conserves_energy=type(self._dynamics) is VelocityVerlet,
            random_bath=isinstance(self._dynamics, Andersen | Langevin | LangevinBAOAB)
            and self.temperature() is not None,
            parameters={key: v for key, v in stated.items() if isinstance(v, plain)},
        )


def _temperature(dynamics: Any) -> float | None:
    """Return the thermostat's temperature, K; ASE's classes keep it in different places."""
    kelvin: float | None = None
    if isinstance(dynamics, NVTBerendsen):  # and its subclasses
        kelvin = dynamics.temperature
    elif getattr(dynamics, "temperature_K", None) is not None:  # LangevinBAOAB
        kelvin = dynamics.temperature_K
    elif hasattr(dynamics, "_temperature_K"):  # barostats of Martyna, Tobias and Klein
        kelvin = dynamics._temperature_K
    elif hasattr(dynamics, "_thermostat"):  # Nosé–Hoover chain
        kelvin = dynamics._thermostat._kT / units.kB
    else:  # Langevin, Bussi, Andersen; NPT
        energy = getattr(dynamics, "temp", getattr(dynamics, "temperature", None))
        kelvin = None if energy is None else energy / units.kB
    return None if kelvin is None else float(kelvin)
