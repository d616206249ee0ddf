"""The runs of one model at one temperature: replicas in one batch of schnetpack's MD."""

from __future__ import annotations

import json
import os
import platform
import time
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from schnetpack import units as spk_units
from schnetpack.md import MaxwellBoltzmannInit, Simulator, System
from schnetpack.md.integrators import VelocityVerlet
from schnetpack.md.simulation_hooks import LangevinThermostat

from mdxai.calculators import NetworkCalculator
from mdxai.engines.schnetpack_calculator import ReplicaCalculator
from mdxai.mending import guard
from mdxai.monitoring.monitor import InstabilityWarning
from mdxai.monitoring.replicas import ReplicaMonitor
from mdxai.study.models import Places, load, starts, traits
from mdxai.study.recipe import Candidate, Simulation, StudyRecipe

CHUNK = 1000  # steps after which to look whether any replica is left
DONE = "batch.json"  # written last: what the batch cost, and where it ran


@dataclass(frozen=True, slots=True)
class Batch:
    """All replicas of one model at one temperature, K: one worker's unit of work."""

    candidate: Candidate
    temperature: float

    @property
    def name(self) -> str:
        return f"{self.candidate.name} at {self.temperature:g} K"


def batches(recipe: StudyRecipe, candidate: Candidate) -> list[Batch]:
    """Return the batches of one model, the hottest first: they end soonest and say most."""
    return [Batch(candidate, t) for t in sorted(recipe.simulation.temperatures, reverse=True)]


def is_done(batch: Batch, places: Places) -> bool:
    """Return whether every run of a batch is finished."""
    return (places.runs(batch.candidate, batch.temperature) / DONE).is_file()


def run_batch(batch: Batch, recipe: StudyRecipe, places: Places) -> str:
    """Run the replicas of a batch unless they are finished, and return the batch's name.

    What a killed worker left unfinished is set aside, not deleted, and repeated: the same seeds
    give the same runs.

    Raises:
        CalculatorError, StudyError, RecordError: where the runs cannot be made.
    """
    if is_done(batch, places):
        return batch.name
    folder = places.runs(batch.candidate, batch.temperature)
    set_aside(folder)
    torch.set_num_threads(1)
    begin, cpu = time.perf_counter(), time.process_time()
    settings = recipe.simulation
    calculator = load(batch.candidate, recipe, places)
    seed = [settings.seed, zlib.crc32(batch.candidate.name.encode()), round(batch.temperature)]
    rng = np.random.default_rng(seed)
    molecule = recipe.molecules[batch.candidate.molecule]
    structures = starts(molecule, places, rng, settings.replicas)
    if settings.guard:
        calculator = guard(calculator, structures[0])
    system = _system(structures)
    torch.manual_seed(int(rng.integers(2**62)))  # velocities and thermostat draw from torch
    MaxwellBoltzmannInit(batch.temperature).initialize_system(system)
    monitor = ReplicaMonitor(folder, settings.monitor_options(_context(batch, recipe, calculator)))
    _simulate(system, calculator, monitor, batch.temperature, settings)
    _note_cost(folder, time.perf_counter() - begin, time.process_time() - cpu)
    return batch.name


def _note_cost(folder: Path, wall: float, cpu: float) -> None:
    spent = {"wall_s": wall, "cpu_s": cpu, "machine": platform.machine(), "host": platform.node()}
    scratch = folder / f".{DONE}"
    scratch.write_text(json.dumps(spent, indent=1), encoding="utf-8")
    os.replace(scratch, folder / DONE)


def set_aside(folder: Path) -> Path | None:
    """Rename a folder that was left unfinished; return its new path, None without a folder."""
    if not folder.exists():
        return None
    number = 1
    while (aside := folder.with_name(f"{folder.name}.interrupted-{number}")).exists():
        number += 1
    return folder.rename(aside)


def _context(batch: Batch, recipe: StudyRecipe, calculator: NetworkCalculator) -> dict[str, Any]:
    return {
        "study": recipe.name,
        "model": batch.candidate.name,
        "temperature": batch.temperature,
        "seed": recipe.simulation.seed,
        "duration_fs": 1e3 * recipe.simulation.duration_ps,
        "traits": traits(batch.candidate, calculator),
    }


def _system(structures: Sequence[Atoms]) -> System:
    system = System()
    system.load_molecules([structures[0]], n_replicas=len(structures))
    positions = np.stack([atoms.positions for atoms in structures]) / spk_units.length
    system.positions = torch.as_tensor(positions, dtype=system.positions.dtype)
    return system


def _simulate(
    system: System,
    calculator: NetworkCalculator,
    monitor: ReplicaMonitor,
    temperature: float,
    settings: Simulation,
) -> None:
    simulator = Simulator(
        system,
        VelocityVerlet(settings.timestep),
        ReplicaCalculator(calculator),
        simulator_hooks=[LangevinThermostat(temperature, settings.time_constant), monitor],
        progress=False,
    )
    with monitor, warnings.catch_warnings():
        warnings.simplefilter("ignore", InstabilityWarning)  # expected in a study
        left = settings.steps
        while left and len(monitor.dropped) < settings.replicas:
            simulator.simulate(min(CHUNK, left))
            left -= min(CHUNK, left)
