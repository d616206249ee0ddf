"""Runs as ASE's documentation, examples and tutorials set them up, for all of ase.md.

Each entry builds dynamics that are ready to run. `SCRIPTS` holds them by name; `run` monitors one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import add_adsorbate, bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.harmonic import SpringCalculator
from ase.calculators.lj import LennardJones
from ase.calculators.tip3p import TIP3P, angleHOH, rOH
from ase.cluster import Icosahedron, Octahedron
from ase.constraints import (
    FixAtoms,
    FixBondLengths,
    FixCom,
    FixedPlane,
    FixLinearTriatomic,
    FixSymmetry,
)
from ase.md.andersen import Andersen
from ase.md.bussi import Bussi
from ase.md.fix import FixRotation
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.md import MolecularDynamics
from ase.md.melchionna import MelchionnaNPT
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, MaskedMTKNPT, NoseHooverChainNVT
from ase.md.nptberendsen import Inhomogeneous_NPTBerendsen, NPTBerendsen
from ase.md.nvtberendsen import NVTBerendsen
from ase.md.switch_langevin import SwitchLangevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet
from ase.optimize import QuasiNewton
from ase.units import fs

import mdxai
from mdxai.stability.verdict import Verdict
from runs.lennard_jones import SwitchedLennardJones

BAR = 1.01325 * units.bar
PER_FS = 1 / fs


@dataclass(frozen=True)
class Script:
    """A script that users copy.

    build: dynamics, with velocities where the script draws them, from a seed. steps: enough for
    averages to be judged. explain: steps from one explained frame to the next; 0 for none.
    """

    build: Callable[[int], MolecularDynamics]
    steps: int
    explain: int = 0


def warmed(atoms: Atoms, kelvin: float, seed: int, *, still: bool = False) -> Atoms:
    """Draw velocities as scripts do; with `still` also stop the whole."""
    MaxwellBoltzmannDistribution(atoms, temperature_K=kelvin, rng=np.random.default_rng(seed))
    if still:
        Stationary(atoms)
        if not atoms.pbc.any():
            ZeroRotation(atoms)
    return atoms


class PairMetal(SwitchedLennardJones):
    """A Lennard-Jones metal with copper's size and well, switched off smoothly: a fast crystal."""

    SIGMA, EPSILON, ON, OFF = 2.338, 0.4096, 2.9, 3.6


def metal() -> Atoms:
    atoms = bulk("Cu", a=3.71, cubic=True) * (2, 2, 2)
    atoms.calc = PairMetal()
    return atoms


def copper(size: int = 2) -> Atoms:
    atoms = bulk("Cu", cubic=True) * (size, size, size)
    atoms.calc = EMT()
    return atoms


def nitrogen() -> Atoms:
    """Return the molecule of ASE's introduction, whose bond is not relaxed."""
    return with_emt(Atoms("N2", [(0, 0, 0), (0, 0, 1.1)]))


def nitrogen_on_copper() -> Atoms:
    """Return the relaxed slab of ASE's introduction; its copper is fixed."""
    slab = fcc111("Cu", size=(2, 2, 2), vacuum=10.0)
    add_adsorbate(slab, Atoms("2N", positions=[(0, 0, 0), (0, 0, 1.1)]), 1.85, "ontop")
    slab.calc = EMT()
    slab.set_constraint(FixAtoms(mask=[atom.symbol != "N" for atom in slab]))
    QuasiNewton(slab, logfile=None).run(fmax=0.05)
    return slab


def oxygen_on_copper(*, planes: bool = False) -> Atoms:
    """Return a slab with an adatom whose lower layers are fixed."""
    slab = fcc111("Cu", (2, 2, 4), vacuum=8.0)
    layers = [*FixAtoms(indices=range(4)).index, *range(4, 8)]
    add_adsorbate(slab, "O", 1.2, "fcc")
    slab.calc = EMT()
    held: list[Any] = [FixAtoms(indices=layers)]
    slab.set_constraint([*held, FixedPlane(16, (0, 0, 1))] if planes else held)
    QuasiNewton(slab, logfile=None).run(fmax=0.05)
    return slab


def rigid_water() -> Atoms:
    """Return 27 rigid TIP3P molecules on a lattice, as the tutorial on a box of water has them."""
    half = angleHOH * np.pi / 180 / 2
    side = ((18.01528 / 6.022140857e23) / (0.9982 / 1e24)) ** (1 / 3)
    single = Atoms(
        "OH2",
        [
            (0, 0, 0),
            (0, rOH * np.cos(half), rOH * np.sin(half)),
            (0, rOH * np.cos(half), -rOH * np.sin(half)),
        ],
        cell=(side, side, side),
    )
    single.center()
    atoms = single.repeat((3, 3, 3))
    atoms.set_pbc(True)
    bonds = [(3 * k + a, 3 * k + b) for k in range(27) for a, b in combinations(range(3), 2)]
    atoms.constraints = FixBondLengths(bonds)
    atoms.calc = TIP3P(rc=4.5)
    return atoms


def linear_on_gold() -> Atoms:
    """Return a gold slab with a rigid linear molecule above it."""
    molecule = Atoms("COO", [(0, 0, 0), (0, -1.16, 0), (0, 1.16, 0)])
    slab = fcc111("Au", size=(2, 2, 3), vacuum=10.0, orthogonal=True)
    add_adsorbate(slab, molecule, 2.5, "bridge")
    slab.calc = EMT()
    slab.set_constraint(FixLinearTriatomic(triples=[(-2, -3, -1)]))
    return slab


def argon() -> Atoms:
    atoms = bulk("Ar", "fcc", 5.3, cubic=True) * (2, 2, 2)
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.0103, rc=5.2, ro=4.5, smooth=True)
    return atoms


def cluster() -> Atoms:
    atoms = Icosahedron("Cu", 2)
    atoms.calc = EMT()
    return atoms


def ethanol(name: str = "schnet-ethanol") -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.calc = mdxai.load_calculator(name)
    QuasiNewton(atoms, logfile=None).run(fmax=0.05)
    return atoms


def gfn2(name: str) -> Callable[[], Atoms]:
    """Return how to build a relaxed molecule with GFN2-xTB, where that is installed."""

    def make() -> Atoms:
        tblite = pytest.importorskip("tblite.ase", reason="GFN2-xTB is not installed")
        atoms = molecule(name)
        atoms.calc = tblite.TBLite(method="GFN2-xTB", verbosity=0)
        QuasiNewton(atoms, logfile=None).run(fmax=0.05)
        return atoms

    return make


def verlet(
    make: Callable[[], Atoms], kelvin: float, timestep: float = 5.0, *, still: bool = False
) -> Callable[[int], MolecularDynamics]:
    """Return how to build a run at constant energy."""
    return lambda seed: VelocityVerlet(warmed(make(), kelvin, seed, still=still), timestep * fs)


def bath(
    kind: Any,
    make: Callable[[], Atoms] = metal,
    *,
    kelvin: float = 300.0,
    timestep: float = 5.0,
    start: float | None = None,
    still: bool = False,
    random: bool = True,
    **options: Any,
) -> Callable[[int], MolecularDynamics]:
    """Return how to build a run with a thermostat; start: K of the velocities, 0 for none."""

    def build(seed: int) -> MolecularDynamics:
        atoms = make()
        if start != 0:
            warmed(atoms, kelvin if start is None else start, seed, still=still)
        more = {"rng": np.random.default_rng(seed)} if random else {}
        return kind(atoms, timestep=timestep * fs, temperature_K=kelvin, **options, **more)

    return build


def holding_centre(seed: int) -> MolecularDynamics:
    """Return Langevin as ASE recommends it today: fixcm=False together with FixCom."""
    atoms = metal()
    atoms.set_constraint(FixCom())
    return bath(Langevin, lambda: atoms, friction=0.01 * PER_FS, fixcm=False)(seed)


def with_symmetry(seed: int) -> MolecularDynamics:
    pytest.importorskip("spglib", reason="FixSymmetry needs spglib")
    atoms = copper(1)
    atoms.set_constraint(FixSymmetry(atoms))
    return VelocityVerlet(warmed(atoms, 300, seed), 5 * fs)


def with_zones(seed: int) -> MolecularDynamics:
    """Return Langevin whose friction acts at one end only, as ASE's manual suggests."""
    atoms = warmed(metal(), 300, seed)
    friction = np.where(atoms.positions[:, :1] < 2.0, 0.02 * PER_FS, 0.0)
    rng = np.random.default_rng(seed)
    return Langevin(atoms, 5 * fs, temperature_K=300, friction=friction, fixcm=False, rng=rng)


def hot_and_cold(seed: int) -> MolecularDynamics:
    """Return Langevin with a temperature per atom: heat flows from one end to the other."""
    atoms = warmed(metal(), 300, seed)
    kelvin = np.where(atoms.positions[:, :1] < 2.0, 400.0, 300.0)
    rng = np.random.default_rng(seed)
    return Langevin(
        atoms, 5 * fs, temperature_K=kelvin, friction=0.01 * PER_FS, fixcm=False, rng=rng
    )


def switching(seed: int) -> MolecularDynamics:
    """Return thermodynamic integration between two crystals of springs."""
    atoms = bulk("Al", cubic=True) * (2, 2, 2)
    springs = [SpringCalculator(atoms.positions, k) for k in (2.0, 4.0)]
    dynamics = SwitchLangevin(
        atoms, *springs, 10 * fs, temperature_K=300, friction=0.01, n_eq=250, n_switch=250,
        fixcm=False, rng=np.random.default_rng(seed),
    )  # fmt: skip
    warmed(atoms, 600, seed)
    return dynamics


def changing(kelvin: Callable[[int], float], every: int = 20) -> Callable[[int], MolecularDynamics]:
    """Return how to build Langevin whose temperature the script sets anew as it goes."""

    def build(seed: int) -> MolecularDynamics:
        rng = np.random.default_rng(seed)
        atoms = warmed(metal(), kelvin(0), seed)
        dynamics = Langevin(
            atoms, 5 * fs, temperature_K=kelvin(0), friction=0.01 * PER_FS, fixcm=False, rng=rng
        )
        dynamics.attach(
            lambda: dynamics.set_temperature(temperature_K=kelvin(dynamics.nsteps)), every
        )
        return dynamics

    return build


def not_turning(seed: int) -> MolecularDynamics:
    atoms = warmed(cluster(), 300, seed)
    dynamics = VelocityVerlet(atoms, 5 * fs)
    dynamics.attach(FixRotation(atoms))
    return dynamics


def deposition(seed: int) -> MolecularDynamics:
    """Return a fast atom that hits a cold slab."""
    slab = fcc111("Cu", (3, 3, 3), vacuum=8.0)
    slab.set_constraint(FixAtoms(indices=range(9)))
    slab.calc = EMT()
    warmed(slab, 100, seed)
    slab.append("Cu")
    slab.positions[-1] = slab.positions[-2] + (1.5, 0.8, 5.0)
    momenta = slab.get_momenta()
    momenta[-1] = (0, 0, -np.sqrt(2 * 63.546 * 1.0))  # 1 eV
    slab.set_momenta(momenta)
    return VelocityVerlet(slab, 2 * fs)


SLOW = 0.002 * PER_FS
USUAL = 0.01 * PER_FS
SOFT = 7e-7 / units.bar
NPT = {"pressure_au": BAR, "compressibility_au": SOFT, "taut": 100 * fs, "taup": 1000 * fs}
STRESS = {"externalstress": 0.0, "ttime": 25 * fs, "random": False}
MTK = {"pressure_au": BAR, "tdamp": 100 * fs, "pdamp": 1000 * fs, "random": False}
MOLECULE = {"kelvin": 300.0, "timestep": 0.5}

SCRIPTS = {
    "NVE, Cu crystal": Script(verlet(copper, 300), 1000),
    "NVE, Cu crystal, twice the temperature": Script(verlet(copper, 600, still=True), 1000),
    "NVE, Cu cluster": Script(verlet(cluster, 300, still=True), 1000),
    "NVE, Cu cluster that drifts and turns": Script(verlet(cluster, 300), 1000),
    "NVE, Cu cluster, FixRotation": Script(not_turning, 1000),
    "NVE, Au octahedron": Script(
        verlet(lambda: with_emt(Octahedron("Au", 3, cutoff=1)), 200, still=True), 500
    ),
    "NVE, Ar crystal": Script(verlet(argon, 40), 1000),
    "NVE, N2 on fixed Cu(111)": Script(verlet(nitrogen_on_copper, 300, 1.0), 1500),
    "NVE, N2 that starts at rest": Script(lambda seed: VelocityVerlet(nitrogen(), 1 * fs), 500),
    "NVE, O on Cu(111), FixAtoms": Script(verlet(oxygen_on_copper, 300, 2.0), 1000),
    "NVE, O on Cu(111), FixedPlane": Script(
        verlet(lambda: oxygen_on_copper(planes=True), 300, 2.0), 900
    ),
    "NVE, Cu, FixSymmetry": Script(with_symmetry, 500),
    "NVE, Cu atom hits Cu(111)": Script(deposition, 1000),
    "NVE, ethanol": Script(verlet(ethanol, 300, 0.5), 2000, 20),
    "Langevin, Cu, default": Script(bath(Langevin, copper, friction=USUAL), 1000),
    "Langevin, metal, default": Script(bath(Langevin, friction=USUAL), 1000),
    "Langevin, metal, friction 0.002": Script(bath(Langevin, friction=0.002), 1000),
    "Langevin, metal, weak": Script(bath(Langevin, friction=SLOW), 1000),
    "Langevin, metal, fixcm=False": Script(bath(Langevin, friction=USUAL, fixcm=False), 1000),
    "Langevin, metal, FixCom": Script(holding_centre, 1000),
    "Langevin, metal at 1500 K": Script(bath(Langevin, kelvin=1500, friction=0.002), 1000),
    "Langevin, metal, started at 0 K": Script(bath(Langevin, start=0, friction=SLOW), 1000),
    "Langevin, metal, very weak, started at 0 K": Script(
        bath(Langevin, start=0, friction=0.0005 * PER_FS, fixcm=False), 900
    ),
    "Langevin, metal, started at 600 K": Script(bath(Langevin, start=600, friction=SLOW), 1000),
    "Langevin, metal, started at 1200 K, very weak": Script(
        bath(Langevin, start=1200, friction=0.0005 * PER_FS), 900
    ),
    "Langevin, metal, friction at one end": Script(with_zones, 1000),
    "Langevin, metal, hot and cold end": Script(hot_and_cold, 1000),
    "Langevin, metal, heated": Script(changing(lambda step: 300 + 0.5 * step), 1000),
    "Langevin, metal, cooled": Script(changing(lambda step: max(900 - step, 100)), 1000),
    "Langevin, metal, quenched": Script(changing(lambda step: 900 if step < 300 else 100), 1000),
    "Langevin, Cu cluster, default": Script(bath(Langevin, cluster, friction=USUAL), 1000),
    "Langevin, Ar": Script(bath(Langevin, argon, kelvin=40, friction=USUAL), 1000),
    "Langevin, Ar, started at 0 K": Script(
        bath(Langevin, argon, kelvin=40, start=0, friction=SLOW, fixcm=False), 900
    ),
    "Langevin, O on Cu(111), FixAtoms": Script(
        bath(Langevin, oxygen_on_copper, timestep=2.0, friction=USUAL), 900
    ),
    "Langevin, CO2 on Au(111), FixLinearTriatomic": Script(
        bath(Langevin, linear_on_gold, timestep=2.0, friction=0.1, fixcm=False), 300
    ),
    "Langevin, rigid TIP3P water": Script(
        bath(Langevin, rigid_water, timestep=2.0, friction=USUAL), 60
    ),
    "Langevin, ethanol, default": Script(
        bath(Langevin, ethanol, friction=USUAL, **MOLECULE), 8000, 20
    ),
    "Langevin, ethanol, weak": Script(bath(Langevin, ethanol, friction=SLOW, **MOLECULE), 8000, 20),
    "Langevin, ethanol, started at 0 K": Script(
        bath(Langevin, ethanol, start=0, friction=SLOW, fixcm=False, **MOLECULE), 8000, 20
    ),
    "BAOAB, metal": Script(bath(LangevinBAOAB, T_tau=250 * fs), 1000),
    "BAOAB, metal, constant stress": Script(
        bath(LangevinBAOAB, T_tau=250 * fs, externalstress=0.0, hydrostatic=True), 900
    ),
    "BAOAB, metal, neither bath nor stress": Script(
        lambda seed: LangevinBAOAB(warmed(copper(), 300, seed), 5 * fs), 900
    ),
    "Andersen, metal": Script(bath(Andersen, andersen_prob=0.002), 1000),
    "Andersen, metal, fixcm=False": Script(bath(Andersen, andersen_prob=0.02, fixcm=False), 1000),
    "Andersen, ethanol": Script(bath(Andersen, ethanol, andersen_prob=0.01, **MOLECULE), 8000, 20),
    "Bussi, metal": Script(bath(Bussi, taut=100 * fs), 1000),
    "Bussi, ethanol": Script(bath(Bussi, ethanol, taut=100 * fs, **MOLECULE), 8000, 20),
    "Nosé–Hoover chain, metal": Script(
        bath(NoseHooverChainNVT, tdamp=100 * fs, random=False), 1000
    ),
    "Nosé–Hoover chain, metal, started at 600 K": Script(
        bath(NoseHooverChainNVT, start=600, tdamp=100 * fs, random=False), 900
    ),
    "Nosé–Hoover chain, ethanol": Script(
        bath(NoseHooverChainNVT, ethanol, tdamp=50 * fs, random=False, **MOLECULE), 8000, 20
    ),
    "Berendsen, metal": Script(bath(NVTBerendsen, taut=500 * fs, random=False), 1000),
    "Berendsen, metal, 100 fs": Script(bath(NVTBerendsen, taut=100 * fs, random=False), 1000),
    "Berendsen, metal, started at 600 K": Script(
        bath(NVTBerendsen, start=600, taut=500 * fs, random=False), 900
    ),
    "Berendsen, ethanol": Script(
        bath(NVTBerendsen, ethanol, taut=500 * fs, random=False, **MOLECULE), 8000, 20
    ),
    "NPT Berendsen, metal": Script(bath(NPTBerendsen, random=False, **NPT), 1000),
    "NPT Berendsen, metal, each axis": Script(
        bath(Inhomogeneous_NPTBerendsen, random=False, **NPT), 900
    ),
    "NPT Melchionna, metal": Script(
        bath(MelchionnaNPT, pfactor=100 * units.GPa * (75 * fs) ** 2, **STRESS), 900
    ),
    "NVT Melchionna, metal": Script(bath(MelchionnaNPT, pfactor=None, **STRESS), 1000),
    "NPT MTK, Cu, isotropic": Script(bath(IsotropicMTKNPT, copper, **MTK), 300),
    "NPT MTK, metal, isotropic": Script(bath(IsotropicMTKNPT, **MTK), 1000),
    "NPT MTK, metal": Script(bath(MTKNPT, **MTK), 1000),
    "NPT MTK, metal, one axis": Script(bath(MaskedMTKNPT, mask=(False, False, True), **MTK), 1000),
    "NVE, GFN2 water": Script(verlet(gfn2("H2O"), 300, 0.5), 1000),
    "Langevin, GFN2 methanol, default": Script(
        bath(Langevin, gfn2("CH3OH"), friction=USUAL, **MOLECULE), 8000
    ),
    "Nosé–Hoover chain, GFN2 methanol": Script(
        bath(NoseHooverChainNVT, gfn2("CH3OH"), tdamp=50 * fs, random=False, **MOLECULE), 8000
    ),
    "SwitchLangevin, springs": Script(switching, 500),
}


def with_emt(atoms: Atoms) -> Atoms:
    atoms.calc = EMT()
    return atoms


def run(script: Script, seed: int = 1, steps: int | None = None, interval: int = 1) -> Verdict:
    """Run a script with a monitor of default options and return the verdict."""
    dynamics = script.build(seed)
    monitor = mdxai.Monitor(dynamics, attribute_every=script.explain, on_unstable="ignore")
    with monitor:
        dynamics.attach(monitor, interval=interval)
        if isinstance(dynamics, SwitchLangevin):
            dynamics.run()
        else:
            dynamics.run(steps or script.steps)
    return monitor.verdict
