"""What a simulation waits for before its first step, and the memory that it takes.

python3 -m uv run pytest -m benchmark -n 0 -s tests/benchmarks/test_start.py

Each case runs in processes of its own, in turns with its rival: the same simulation without a
monitor, and for a network schnetpack's own calculator. Run it twice: the first time may compile.
Memory is read where Linux tells it.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark
REPEATS = 3

START = """
import sys, time, warnings
begun = time.perf_counter()
warnings.simplefilter("ignore")
"""
END = """
peak = next(line.split()[1] for line in open("/proc/self/status") if "VmHWM" in line)
print(time.perf_counter() - begun, int(peak) / 1024)
"""
CRYSTAL = """
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.verlet import VelocityVerlet
atoms = bulk("Cu", cubic=True) * (2, 2, 2)
atoms.calc = EMT()
dynamics = VelocityVerlet(atoms, 2 * units.fs)
"""
ETHANOL = """
from ase import units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet
atoms = molecule("CH3CH2OH")
"""
OURS = """
import mdxai
atoms.calc = mdxai.load_calculator("painn-ethanol")
dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
"""
THEIRS = """
import mdxai
from schnetpack.interfaces import SpkCalculator
from schnetpack.transform import ASENeighborList
network = mdxai.load_calculator("painn-ethanol").model
atoms.calc = SpkCalculator(network, ASENeighborList(5.0), energy_unit="eV", position_unit="Ang")
dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
"""
BARE = """
dynamics.run(1)
"""
WATCHED = """
import mdxai
monitor = mdxai.Monitor(dynamics, sys.argv[1], report=False)
dynamics.attach(monitor, interval=1)
dynamics.run(1)
"""
CASES = {
    "EMT copper, bare": CRYSTAL + BARE,
    "EMT copper, monitored": CRYSTAL + WATCHED,
    "painn-ethanol, SpkCalculator": ETHANOL + THEIRS + BARE,
    "painn-ethanol, bare": ETHANOL + OURS + BARE,
    "painn-ethanol, monitored and explained": ETHANOL + OURS + WATCHED,
}


def measured(body: str, run: Path) -> tuple[float, float]:
    """Return s to the end of the first step, and MB."""
    done = subprocess.run(
        [sys.executable, "-c", START + body + END, str(run)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds, size = done.stdout.split()[-2:]
    return float(seconds), float(size)


def test_time_to_the_first_step_and_memory(tmp_path):
    found = defaultdict(list)
    for repeat in range(REPEATS):
        for number, (case, body) in enumerate(CASES.items()):
            found[case].append(measured(body, tmp_path / f"{repeat}-{number}"))
    print()
    for case, values in found.items():
        seconds, size = map(min, zip(*values, strict=True))
        print(f"{case}: {seconds:.2f} s, {size:.0f} MB")
