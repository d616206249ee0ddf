"""SchNetPack's molecular dynamics of many replicas as a source of frames, one engine per replica.

schnetpack uses kJ/mol, nm and Da, and nm·√(Da·mol/kJ) = 1 ps for time. Conversion factors to ASE's
units are read from `schnetpack.units` at each use, so changed unit systems work too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import units as ase_units
from schnetpack import units as spk_units
from schnetpack.md.integrators import VelocityVerlet
from schnetpack.md.simulation_hooks import (
    BasicTensorboardLogger,
    Checkpoint,
    FileLogger,
    GLEThermostat,
    LangevinThermostat,
    ThermostatHook,
    WrapPositions,
)

from mdxai.engines.engine import EngineDescription, EngineError
from mdxai.engines.schnetpack_calculator import ReplicaCalculator
from mdxai.frame import DENSE_LIMIT, Floats, Frame, Thermostat
from mdxai.serialization import StateError

ONLY_WATCH = (BasicTensorboardLogger, Checkpoint, FileLogger, WrapPositions)


class ReplicaReader:
    """Reads all systems of a simulator in one copy, without starting an evaluation.

    A system is one molecule of one replica. Systems are numbered replica by replica, and within a
    replica molecule by molecule.

    Args:
        simulator: a schnetpack.md.Simulator whose system is loaded.
        watching: classes of hooks that change nothing, besides those of schnetpack.

    Raises:
        EngineError: for a ring polymer, whose replicas are beads of one system.
    """

    def __init__(self, simulator: Any, watching: tuple[type, ...] = ()) -> None:
        if simulator.integrator.ring_polymer:
            raise EngineError(
                f"{type(simulator.integrator).__name__} couples the replicas by springs: they are "
                "beads of one ring polymer, but the principles that mdxai checks apply to "
                "independent replicas; use schnetpack's VelocityVerlet"
            )
        self.simulator = simulator
        self._watching = watching
        system = simulator.system
        self.n_molecules = int(system.n_molecules)
        ends = np.cumsum(system.n_atoms.cpu().numpy())
        self._atoms = [slice(end - n, end) for end, n in zip(ends, system.n_atoms, strict=True)]
        self._numbers = system.atom_types.cpu().numpy().astype(np.int64)
        self._masses = _float64(system.masses)[0, :, 0] * spk_units.mass
        self.stop_requested = False
        self.step = int(simulator.step)  # of the last frames read
        self.in_step = False

    def __len__(self) -> int:
        return int(self.simulator.system.n_replicas) * self.n_molecules

    def atoms_of(self, k: int) -> tuple[int, slice]:
        """Return the replica of system k and the slice of its atoms there."""
        replica, m = divmod(k, self.n_molecules)
        return replica, self._atoms[m]

    @property
    def timestep(self) -> float:
        """Timestep of the integrator, fs."""
        return float(self.simulator.integrator.time_step * spk_units.time / ase_units.fs)

    @property
    def thermostats(self) -> list[Any]:
        """The hooks that control the temperature."""
        return [h for h in self.simulator.simulator_hooks if hasattr(h, "temperature_bath")]

    @property
    def thermostat(self) -> Thermostat | None:
        """The current thermostat; schnetpack's do not count the heat that they supply."""
        hooks = self.thermostats
        return Thermostat(float(hooks[0].temperature_bath)) if hooks else None

    @property
    def has_energy(self) -> bool:
        """Whether the calculator computes an energy beside the forces."""
        return getattr(self.simulator.calculator, "energy_key", None) is not None

    def conserves_energy(self) -> bool:
        """Return whether only the forces change the velocities, as far as is known."""
        others = [
            hook
            for hook in self.simulator.simulator_hooks
            if not isinstance(hook, ONLY_WATCH + self._watching)
        ]
        return type(self.simulator.integrator) is VelocityVerlet and not others

    def restart_caveat(self) -> str | None:
        """Return why a resumed run may differ from an uninterrupted one; None if it cannot."""
        hooks = [h for h in self.simulator.simulator_hooks if not isinstance(h, self._watching)]
        foreign = [h for h in hooks if not type(h).__module__.startswith("schnetpack.")]
        if foreign:
            return f"what {type(foreign[0]).__name__} keeps outside its buffers is not saved"
        if not isinstance(self.simulator.calculator, ReplicaCalculator):
            return "neighbour lists of calculators other than mdxai's are not saved"
        system = self.simulator.system
        if bool(system.pbc.any()) or int(system.n_atoms.max()) > DENSE_LIMIT:
            return "neighbour lists of the replicas are not saved: forces agree to rounding"
        return None

    def frames(self, step: int) -> list[Frame]:
        """Return the current frame of every system, as MD step `step`."""
        self.step = step
        system = self.simulator.system
        length, energy_unit = spk_units.length, spk_units.energy
        positions = _float64(system.positions) * length
        momenta = _float64(system.momenta) * (spk_units.mass * length / spk_units.time)
        velocities = momenta * (ase_units.fs / self._masses[:, None])
        forces = _float64(system.forces) * (energy_unit / length)
        energies = np.full((len(positions), self.n_molecules), np.nan)
        absent = frozenset[str]() if self.has_energy else frozenset({"energy"})
        if self.has_energy:
            energies = _float64(system.energy)[..., 0] * energy_unit
        cells, pbc = _float64(system.cells) * length, system.pbc[0].cpu().numpy().astype(bool)
        time, thermostat = step * self.timestep, self.thermostat
        frames = []
        for k in range(len(self)):
            replica, mine = self.atoms_of(k)
            m = k % self.n_molecules
            frames.append(
                Frame(
                    step=step,
                    time=time,
                    numbers=self._numbers[mine],
                    masses=self._masses[mine],
                    positions=positions[replica, mine],
                    velocities=velocities[replica, mine],
                    forces=forces[replica, mine],
                    energy=float(energies[replica, m]),
                    cell=cells[replica, m],
                    pbc=pbc[m],
                    thermostat=thermostat,
                    absent=absent,
                )
            )
        return frames


class SchNetPackEngine:
    """One replica of a schnetpack simulation.

    Args:
        reader: of the simulation.
        index: number of the system.
        calculator: the ASE calculator of the same network, to be explained; None for none.
    """

    def __init__(self, reader: ReplicaReader, index: int, calculator: Any = None) -> None:
        self._reader, self._index = reader, index
        self._calculator = calculator

    @property
    def calculator(self) -> Any:
        return self._calculator

    def frame(self) -> Frame:
        """Return the current frame, between two steps of the simulator."""
        return self._reader.frames(int(self._reader.simulator.step))[self._index]

    def stop(self) -> None:
        """Ask the ReplicaMonitor to end the simulation of all replicas."""
        self._reader.stop_requested = True

    def state(self) -> dict[str, Any]:
        """Return the step only: a ReplicaMonitor saves the state of all replicas together."""
        return {"step": self._reader.step}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Check that the simulation is at the step of this state, or past it if dropped.

        Raises:
            StateError: if it is not.
        """
        if not int(state["step"]) <= self._reader.step:
            raise StateError(
                f"the state is of step {state['step']}, but the simulation is at step "
                f"{self._reader.step}; use ReplicaMonitor.resume to set all replicas to it"
            )

    def between_steps(self) -> bool:
        """Return whether the simulation is between two steps."""
        return not self._reader.in_step

    def restart_caveat(self) -> str | None:
        """Return why a resumed run may differ from an uninterrupted one; None if it cannot."""
        return self._reader.restart_caveat()

    def describe(self) -> EngineDescription:
        """Return what the engine is and what it simulates."""
        reader, thermostats = self._reader, self._reader.thermostats
        replica, molecule = divmod(self._index, reader.n_molecules)
        parameters = {
            "engine": "schnetpack.md",
            "replica": replica,
            "molecule": molecule,
            "n_replicas": len(reader) // reader.n_molecules,
            "n_molecules": reader.n_molecules,
            "hooks": ", ".join(type(h).__name__ for h in reader.simulator.simulator_hooks),
        }
        if thermostats and isinstance(thermostats[0], ThermostatHook):
            parameters["time_constant_fs"] = float(thermostats[0].time_constant) / spk_units.fs
        return EngineDescription(
            name=type(reader.simulator.integrator).__name__,
            timestep=reader.timestep,
            temperature=None if reader.thermostat is None else reader.thermostat.temperature,
            conserves_energy=reader.conserves_energy(),
            random_bath=any(isinstance(t, LangevinThermostat | GLEThermostat) for t in thermostats),
            parameters=parameters,
            missing={} if reader.has_energy else {"energy": "the calculator gives MD no energy"},
        )


def _float64(tensor: Any) -> Floats:
    """Return a copy, so that frames do not change with the system."""
    return np.array(tensor.detach().cpu().numpy(), dtype=np.float64)
