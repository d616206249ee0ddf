"""A simulation imports what it uses, and other packages stay what they are."""

from __future__ import annotations

import subprocess
import sys

import pytest

TRAINING = ("pytorch_lightning", "lightning_fabric", "torchmetrics", "matplotlib", "torch._dynamo")
UNUSED = (*TRAINING, "pandas", "networkx", "sympy", "scipy.stats")

SIMULATE = """
import sys, warnings
warnings.simplefilter("ignore")
import mdxai
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.md.verlet import VelocityVerlet
"""

WATCH = (
    SIMULATE
    + """
from mdxai.record import RecordSettings
atoms = bulk("Cu", cubic=True)
atoms.calc = EMT()
dynamics = VelocityVerlet(atoms, 2 * units.fs)
often = RecordSettings(rows_per_part=5, retain=20)  # so that parts are merged and cut, too
with mdxai.Monitor(dynamics, sys.argv[1], report=False, record=often) as monitor:
    dynamics.attach(monitor)
    dynamics.run(60)
assert str(monitor.verdict).startswith("stable")
print(*sys.modules)
"""
)

NETWORK = (
    SIMULATE
    + """
atoms = molecule("CH3CH2OH")
atoms.calc = mdxai.load_calculator("schnet-ethanol")
dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
with mdxai.Monitor(dynamics, sys.argv[1], report=False) as monitor:
    dynamics.attach(monitor)
    dynamics.run(60)
assert atoms.calc.running_potential.runs_recorded
print(*sys.modules)
"""
)

LOAD = """
import sys, warnings
warnings.simplefilter("ignore")
warnings.simplefilter("error", FutureWarning)  # users see none either
import mdxai
from ase.build import molecule
atoms = molecule("CH3CH2OH")
atoms.calc = mdxai.load_calculator("schnet-ethanol")
mdxai.attributor(atoms.calc).attribute(atoms)
print(*sys.modules)

import numpy as np, torch, schnetpack, vesin
assert schnetpack.__file__.endswith("__init__.py")
assert schnetpack.AtomisticTask is schnetpack.task.AtomisticTask  # only the package defines it
assert schnetpack.convert_units("eV", "Hartree") < 0.04
assert "pytorch_lightning" in sys.modules
search = vesin.NeighborList(cutoff=2.0, full_list=True)  # tensors are still taken
points = torch.tensor([[0.0, 0, 0], [1.0, 0, 0]], dtype=torch.float64)
found = search.compute(points, torch.zeros((3, 3), dtype=torch.float64), False, "ij")
assert len(found[0]) == 2 and isinstance(found[0], torch.Tensor)
"""


def modules_of(script, *arguments):
    """Return the modules that a script has loaded when it prints them."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_watching_other_calculators_loads_no_torch(tmp_path):
    loaded = modules_of(WATCH, tmp_path / "run")
    assert {"numba", "pyarrow"} <= loaded
    assert not loaded & {"torch", "schnetpack", *UNUSED}


def test_watching_a_network_loads_only_what_it_uses(tmp_path):
    """Past the step at which its operations are recorded."""
    loaded = modules_of(NETWORK, tmp_path / "run")
    assert {"numba", "pyarrow", "torch"} <= loaded
    assert not loaded & set(UNUSED)


def test_loading_a_network_loads_nothing_of_its_training_and_hides_nothing():
    loaded = modules_of(LOAD)
    assert {"torch", "schnetpack.representation"} <= loaded
    assert not loaded & set(UNUSED)


IN_ANY_ORDER = """
import warnings
warnings.simplefilter("ignore")
import mdxai.calculators.schnetpack_parts
import {0}
import schnetpack
assert schnetpack.task.AtomisticTask
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "part",
    ["train", "data", "datasets", "interfaces", "md", "md.simulation_hooks", "model", "task",
     "transform", "units", "utils", "nn.so3", "representation.so3net", "md.calculators", "md.data"],
)  # fmt: skip
def test_any_part_of_schnetpack_is_imported_after_ours(part):
    modules_of(IN_ANY_ORDER.format(f"schnetpack.{part}"))
