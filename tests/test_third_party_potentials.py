"""Reactions with GFN2-xTB, crystals with SevenNet and CHGNet: named, not punished.

The packages are those of the dependency group `potentials`.
"""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.md.langevin import Langevin
from ase.optimize import BFGS

from mdxai.monitoring.monitor import Monitor

from .conftest import heated
from .test_bond_changes import shared_proton

pytestmark = pytest.mark.slow


def gfn2():
    tblite = pytest.importorskip("tblite.ase")
    return tblite.TBLite(method="GFN2-xTB", verbosity=0)


def sevennet():
    sevenn = pytest.importorskip("sevenn.calculator")
    return sevenn.SevenNetCalculator("7net-0", device="cpu")


def chgnet():
    dynamics = pytest.importorskip("chgnet.model.dynamics")
    return dynamics.CHGNetCalculator(use_device="cpu")


def malonaldehyde():
    """The enol: O8–H…O with a proton between two oxygens of one molecule."""
    return Atoms(
        "OCCCOHHHH",
        [[-1.28, -1.0, 0], [-1.2, 0.24, 0], [0, 1.0, 0], [1.22, 0.33, 0], [1.3, -0.98, 0],
         [-2.12, 0.85, 0], [0, 2.08, 0], [2.14, 0.92, 0], [-0.33, -1.35, 0]],
    )  # fmt: skip


def watched(atoms, kelvin, steps, timestep):
    rng = np.random.default_rng(1)
    heated(atoms, kelvin, rng)
    dynamics = Langevin(
        atoms, timestep * units.fs, temperature_K=kelvin, friction=0.01 / units.fs, rng=rng,
        fixcm=False,
    )  # fmt: skip
    with Monitor(dynamics, None, attribute_every=0, on_unstable="ignore") as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(steps)
    return monitor.verdict


def test_a_shared_proton_reacts():
    atoms = shared_proton()
    atoms.set_initial_charges([0, 0, 0, 0, 0, 0, 1.0])
    atoms.calc = gfn2()
    BFGS(atoms, logfile=None).run(0.02, 200)
    verdict = watched(atoms, 300, 1500, 0.5)
    assert verdict.stability == "reacted", str(verdict)
    assert "H6 moved from" in verdict.cause.what


@pytest.mark.parametrize(("kelvin", "outcome"), [(600, "stable"), (1500, "reacted")])
def test_malonaldehyde_passes_its_proton_on_when_it_is_hot(kelvin, outcome):
    atoms = malonaldehyde()
    atoms.calc = gfn2()
    BFGS(atoms, logfile=None).run(0.02, 200)
    verdict = watched(atoms, kelvin, 3000, 0.5)
    assert verdict.stability == outcome, str(verdict)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("calculator", "kelvin", "outcome"),
    [(sevennet, 1400, "stable"), (sevennet, 4000, "melted"), (chgnet, 900, "stable")],
)
def test_silicon_is_stable_below_its_melting_point_and_melts_above(calculator, kelvin, outcome):
    atoms = bulk("Si", cubic=True)
    atoms.calc = calculator()
    verdict = watched(atoms, kelvin, 300, 2.0)
    assert verdict.stability == outcome, str(verdict)
