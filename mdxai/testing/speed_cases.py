"""What `mdxai bench` measures: each section yields what it measured, as soon as it has."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

from mdxai.calculators import load_calculator
from mdxai.monitoring.monitor import Monitor
from mdxai.testing.timing import MOLECULES, Work, after_forces, shortest, stepper, turns, untrained

KINDS = ("SchNet", "PaiNN")
BARS = {"SchNet": ("0.5", "4"), "PaiNN": ("0.35", "3"), "SO3net": ("", "")}  # two-, three-body
MONITORED = {"SchNet": "1.6", "PaiNN": "1.35"}
SIZES = {256: (4, 4, 4), 2048: (8, 8, 8), 16384: (16, 16, 16), 100_000: (25, 25, 40)}  # fcc cells
REPLICAS = {"cpu": (32,), "cuda": (32, 256, 1024)}
WARM = 60  # steps, until the operations of a small molecule are recorded


class Measured(NamedTuple):
    """One value, in which unit, and the bar that it is held against."""

    what: str
    value: float
    unit: str
    bar: str = ""


def resources() -> Iterator[Measured]:
    """How fast this machine multiplies the matrices of two-body relevance, and copies."""
    import torch

    for name, atoms in MOLECULES.items():
        n, width = len(atoms), 128
        left, right = torch.rand(n * (n + 1), width), torch.rand(width, width)
        made = torch.empty(n * (n + 1), width)
        (seconds,) = shortest([partial(torch.mm, left, right, out=made)], 30)
        rate = 2 * n * (n + 1) * width**2 / seconds
        yield Measured(f"products of two-body relevance, {name}", 1e-9 * rate, "GFLOP/s")
    for megabytes in (1, 64):
        source = torch.rand(megabytes * 250_000)
        goal = torch.empty_like(source)
        (seconds,) = shortest([partial(goal.copy_, source)], 10)
        yield Measured(f"copying {megabytes} MB", 2e-3 * megabytes / seconds, "GB/s")


def explanations(device: str = "cpu") -> Iterator[Measured]:
    """Energies and forces, and what explaining them takes."""
    ways: dict[str, dict[str, Any]] = {
        "exact two-body": {"method": "walks"},
        "two- and three-body": {"body_order": 3},
        "flow": {"method": "flow"},
    }
    for kind, (two, three) in BARS.items():
        for name, atoms in MOLECULES.items():
            move = stepper(atoms, untrained(kind, device=device), WARM)
            explain = [after_forces(atoms, untrained(kind, device=device), **how)
                       for how in ways.values()]  # fmt: skip
            forces, *costs = shortest([move, *explain], 12, 8)
            yield Measured(f"{kind} {name}: energy and forces", 1e3 * forces, "ms")
            bars = (two, three if name == "aspirin" else "", "")
            for way, cost, bar in zip(ways, costs, bars, strict=True):
                yield Measured(f"{kind} {name}: {way} over it", cost / forces, "", bar)


def compiled() -> Iterator[Measured]:
    """The same compiled; the first time takes minutes, then the code is cached."""
    for kind in KINDS:
        for name, atoms in MOLECULES.items():
            move = stepper(atoms, untrained(kind), WARM)
            quick = stepper(atoms, untrained(kind, compile=True), WARM)
            fast = after_forces(atoms, untrained(kind, compile=True), method="walks")
            forces, compiled, explained = shortest([move, quick, fast], 12, 8)
            what = f"{kind} {name}: compiled"
            yield Measured(f"{what} energy and forces over uncompiled", compiled / forces, "")
            yield Measured(f"{what} two-body over uncompiled forces", explained / forces, "", "0.3")
            yield Measured(f"{what} two-body over compiled forces", explained / compiled, "")


def monitored() -> Iterator[Measured]:
    """A Langevin step of ethanol, everything recorded, over the bare one and schnetpack's."""
    from schnetpack.interfaces import SpkCalculator
    from schnetpack.transform import ASENeighborList

    every = {"never": 0, "every ten steps": 10, "every step": 1}
    for kind in KINDS:
        name = f"{kind.lower()}-ethanol"
        network = load_calculator(name).model
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")
            theirs = SpkCalculator(
                network, ASENeighborList(5.0), energy_unit="eV", position_unit="Ang"
            )
            runs = [_langevin(c) for c in (load_calculator(name), theirs)]
            for word, steps in every.items():
                run = _langevin(load_calculator(name))
                monitor = Monitor(run, Path(folder) / word, attribute_every=steps, report=False)
                run.attach(monitor, interval=1)
                runs.append(run)
            work: list[Work] = [partial(run.run, 10) for run in runs]
            turns(work, 1, 8)  # until the operations are recorded
            bare, foreign, *costs = np.median(turns(work, 25, 3)[:, :, -1], axis=1)
        yield Measured(f"{kind}: bare step", 1e2 * bare, "ms")
        for word, cost in zip(every, costs, strict=True):
            bar = MONITORED[kind] if word == "every step" else ""
            yield Measured(f"{kind}: explained {word}, over the bare step", cost / bare, "", bar)
        what = f"{kind}: explained every step, over a bare step with SpkCalculator"
        yield Measured(what, costs[-1] / foreign, "", "0.8")


def _langevin(calculator: Any) -> Langevin:
    rng = np.random.default_rng(0)
    atoms = molecule("CH3CH2OH")
    atoms.calc = calculator
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=rng)
    return Langevin(
        atoms, 0.5 * units.fs, temperature_K=300, friction=0.01 / units.fs, fixcm=False, rng=rng
    )


class Wells(Calculator):  # type: ignore[misc]
    """Atoms in harmonic wells: forces that cost next to nothing."""

    implemented_properties = ("energy", "forces")

    def __init__(self, sites: Any, stiffness: float = 5.0) -> None:
        super().__init__()
        self._sites, self._stiffness = sites, stiffness

    def calculate(
        self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        """Fill `results`: energy, eV, and forces, eV/Å."""
        super().calculate(atoms, properties, system_changes)
        moved = atoms.positions - self._sites
        energy = 0.5 * self._stiffness * float(np.einsum("ij,ij->", moved, moved))
        self.results = {"energy": energy, "forces": -self._stiffness * moved}


def sizes() -> Iterator[Measured]:
    """What a monitor adds per atom and frame of a crystal; everything is recorded."""
    added = []
    for n_atoms, cells in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            bare, watched = (_crystal(cells) for _ in range(2))
            monitor = Monitor(watched, Path(folder) / "run", report=False)
            watched.attach(monitor, interval=1)
            few = max(2, 40_000 // n_atoms)
            work: list[Work] = [partial(run.run, few) for run in (bare, watched)]
            turns(work, 1, 2)
            without, whole = shortest(work, 3, 2)
            added.append((whole - without) / few / n_atoms)
        yield Measured(f"{n_atoms:,} atoms: added per atom and frame", 1e6 * added[-1], "µs", "1.5")
    slope = np.polyfit(np.log(list(SIZES)), np.log(np.array(added) * list(SIZES)), 1)[0]
    yield Measured("slope of added time against atoms, log–log", float(slope), "", "1.05")


def _crystal(cells: Sequence[int]) -> VelocityVerlet:
    atoms = bulk("Cu", cubic=True) * tuple(cells)
    atoms.calc = Wells(atoms.positions.copy())
    rng = np.random.default_rng(0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=rng)
    return VelocityVerlet(atoms, 2 * units.fs)


def replicas(device: str = "cpu") -> Iterator[Measured]:
    """Replicas of ethanol in one batch, monitored and explained every ten steps, over bare ones."""
    for kind in KINDS:
        for number in REPLICAS[device]:
            with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ways = [_batch(kind, number, device, where) for where in (None, Path(folder))]
                turns(ways, 1, 3)
                bare, watched = shortest(ways, 3, 2)
            yield Measured(f"{kind}, {number} replicas: bare step of all", 1e2 * bare, "ms")
            yield Measured(f"{kind}, {number} replicas: monitored over bare", watched / bare, "")


def _batch(kind: str, number: int, device: str, folder: Path | None) -> Work:
    from schnetpack.md import MaxwellBoltzmannInit, Simulator, System
    from schnetpack.md.integrators import VelocityVerlet as Integrator
    from schnetpack.md.simulation_hooks import LangevinThermostat

    from mdxai.engines.schnetpack_calculator import ReplicaCalculator
    from mdxai.monitoring.replicas import ReplicaMonitor

    system = System()
    system.load_molecules([MOLECULES["ethanol"].copy()], n_replicas=number)
    MaxwellBoltzmannInit(300.0).initialize_system(system)
    hooks: list[Any] = [LangevinThermostat(300.0, 100.0)]
    if folder is not None:
        hooks.append(ReplicaMonitor(folder, attribute_every=10, on_unstable="ignore", report=False))
        hooks[-1].__enter__()
    calculator = ReplicaCalculator(untrained(kind, device=device, width=64))
    simulator = Simulator(system, Integrator(0.5), calculator, hooks, progress=False)
    return lambda: simulator.simulate(10)


START = """
import sys, time, warnings
begun = time.perf_counter()
warnings.simplefilter("ignore")
from ase import units
from ase.md.verlet import VelocityVerlet
"""
CRYSTAL = """
from ase.build import bulk
from ase.calculators.emt import EMT
atoms = bulk("Cu", cubic=True) * (2, 2, 2)
atoms.calc = EMT()
"""
ETHANOL = """
from ase.build import molecule
import mdxai
atoms = molecule("CH3CH2OH")
atoms.calc = mdxai.load_calculator("{}")
"""
CLUSTER = """
import numpy as np
from ase.build import molecule
from ase import Atoms
from ase.calculators.idealgas import IdealGas
rng, atoms = np.random.default_rng(0), Atoms()
for site in np.ndindex(10, 10, 10):
    water = molecule("H2O")
    water.rotate(rng.uniform(0, 360), rng.normal(size=3))
    water.translate(3.1 * np.array(site))
    atoms += water
atoms.calc = IdealGas()
import mdxai
mdxai.Monitor
begun = time.perf_counter()
"""
RUN = """
dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
"""
WATCH = """
import mdxai
monitor = mdxai.Monitor(dynamics, sys.argv[1], report=False)
dynamics.attach(monitor, interval=1)
"""
END = """
dynamics.run({})
peak = next((line.split()[1] for line in open("/proc/self/status") if "VmHWM" in line), "nan")
print(time.perf_counter() - begun, float(peak) / 1024)
"""
BARE, WATCHED = RUN + END, RUN + WATCH + END
STARTS = (  # what, script, steps, bars of time and memory
    ("EMT copper, bare", CRYSTAL + BARE, 1, "", ""),
    ("EMT copper, monitored", CRYSTAL + WATCHED, 1, "", "250"),
    ("painn-ethanol, bare", ETHANOL.format("painn-ethanol") + BARE, 1, "", ""),
    ("painn-ethanol, monitored", ETHANOL.format("painn-ethanol") + WATCHED, 1, "3", ""),
    ("painn-ethanol, monitored, 100 steps", ETHANOL.format("painn-ethanol") + WATCHED, 100, "",
     "800"),
    ("set-up of 3,000 atoms in vacuum", CLUSTER + WATCHED, 1, "2", "500"),
)  # fmt: skip


def starts() -> Iterator[Measured]:
    """What a simulation waits for before the end of its first step, and its largest memory."""
    with tempfile.TemporaryDirectory() as folder:
        for number, (what, script, steps, time_bar, memory_bar) in enumerate(STARTS):
            found = []
            for repeat in range(2):
                command = [sys.executable, "-c", START + script.format(steps),
                           str(Path(folder) / f"{number}-{repeat}")]  # fmt: skip
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found.append(tuple(map(float, done.stdout.split()[-2:])))
            seconds, size = map(min, zip(*found, strict=True))
            yield Measured(f"{what}: time to the end", seconds, "s", time_bar)
            yield Measured(f"{what}: largest memory", size, "MB", memory_bar)


SECTIONS: dict[str, Callable[[], Iterator[Measured]]] = {
    "resources": resources,
    "explanations": explanations,
    "monitored": monitored,
    "starts": starts,
    "sizes": sizes,
    "replicas": replicas,
    "compiled": compiled,
}
ON_GPU: dict[str, Callable[[], Iterator[Measured]]] = {
    "explanations, GPU": partial(explanations, "cuda"),
    "replicas, GPU": partial(replicas, "cuda"),
}


def sections() -> dict[str, Callable[[], Iterator[Measured]]]:
    """Return what can be measured here, by name: with a GPU that torch can use, on it as well."""
    import torch

    return SECTIONS | (ON_GPU if torch.cuda.is_available() else {})
