"""How often does a principle alarm in a run that is sound? false_alarms/PLAN.md says what counts.

    python runs/false_alarms.py PASS [-N] [SYSTEM ...]   run what is not there yet; all by default
    python runs/false_alarms.py --table PASS             print the table of docs/false_alarms.md

-N: only the first N segments of each system. Each segment adds one line to
runs/false_alarms/segments.csv. GFN2-xTB needs tblite.
"""

import csv
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import add_adsorbate, bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.cluster import Icosahedron
from ase.constraints import FixAtoms
from ase.md.andersen import Andersen
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import IsotropicMTKNPT, NoseHooverChainNVT
from ase.md.nptberendsen import NPTBerendsen
from ase.md.nvtberendsen import NVTBerendsen
from ase.md.velocitydistribution import (
    MaxwellBoltzmannDistribution,
    Stationary,
    ZeroRotation,
)
from ase.md.verlet import VelocityVerlet
from ase.optimize import FIRE
from lennard_jones import SwitchedLennardJones
from scipy.stats import chi2

import mdxai
from mdxai.stability.thresholds import THRESHOLDS
from mdxai.testing import report_times

FOLDER = Path(__file__).with_suffix("")
SEGMENTS = FOLDER / "segments.csv"
COLUMNS = ("pass", "system", "seed", "commit", "ps", "frames", "outcome", "findings", "checked")

Random = np.random.Generator
Row = dict[str, str]
Bath = Callable[[Atoms, float, float, Random], MolecularDynamics]


class Argon(SwitchedLennardJones):
    """Lennard-Jones argon, switched off smoothly between 6.5 and 7.5 Å."""

    SIGMA, EPSILON, ON, OFF = 3.405, 0.010324, 6.5, 7.5


def nve(atoms, temperature, timestep, rng):
    return VelocityVerlet(atoms, timestep)


def langevin(atoms, temperature, timestep, rng):
    """Return Langevin dynamics with ASE's default, which holds the centre of mass."""
    return Langevin(atoms, timestep, temperature_K=temperature, friction=0.01 / units.fs, rng=rng)


def free_langevin(atoms, temperature, timestep, rng):
    return Langevin(
        atoms, timestep, temperature_K=temperature, friction=0.01 / units.fs, fixcm=False, rng=rng
    )


def weak_langevin(atoms, temperature, timestep, rng):
    return Langevin(
        atoms, timestep, temperature_K=temperature, friction=0.002 / units.fs, fixcm=False, rng=rng
    )


def baoab(atoms, temperature, timestep, rng):
    return LangevinBAOAB(
        atoms, timestep=timestep, temperature_K=temperature, T_tau=100 * units.fs, rng=rng
    )


def bussi(atoms, temperature, timestep, rng):
    return Bussi(atoms, timestep, temperature_K=temperature, taut=100 * units.fs, rng=rng)


def andersen(atoms, temperature, timestep, rng):
    return Andersen(atoms, timestep, temperature_K=temperature, andersen_prob=0.01, rng=rng)


def chain(atoms, temperature, timestep, rng):
    return NoseHooverChainNVT(atoms, timestep, temperature_K=temperature, tdamp=100 * units.fs)


def berendsen(atoms, temperature, timestep, rng):
    return NVTBerendsen(atoms, timestep, temperature_K=temperature, taut=500 * units.fs)


def npt_berendsen(atoms, temperature, timestep, rng):
    return NPTBerendsen(
        atoms, timestep, temperature_K=temperature, pressure_au=1.01325 * units.bar,
        taut=500 * units.fs, taup=1000 * units.fs, compressibility_au=7e-7 / units.bar,
    )  # fmt: skip


def npt(atoms, temperature, timestep, rng):
    return IsotropicMTKNPT(
        atoms, timestep, temperature_K=temperature, pressure_au=0.0,
        tdamp=100 * units.fs, pdamp=1000 * units.fs,
    )  # fmt: skip


def relaxed(atoms: Atoms) -> Atoms:
    FIRE(atoms, logfile=None).run(fmax=0.02, steps=500)
    return atoms


def with_calculator(atoms, calculator):
    atoms.calc = calculator
    return atoms


def metal(*args, repeat=(2, 2, 2), **kwargs):
    return lambda: with_calculator(bulk(*args, cubic=True, **kwargs) * repeat, EMT())


def copper_gold():
    atoms = bulk("Cu", a=3.74, cubic=True)
    atoms.numbers[0] = 79
    return relaxed(with_calculator(atoms * (2, 2, 2), EMT()))


def slab():
    atoms = fcc111("Cu", (2, 2, 4), vacuum=8.0)
    atoms.set_constraint(FixAtoms(mask=atoms.positions[:, 2] < atoms.positions[:, 2].min() + 3.0))
    add_adsorbate(atoms, "O", 1.2, "fcc")
    return relaxed(with_calculator(atoms, EMT()))


def cluster():
    return relaxed(with_calculator(Icosahedron("Cu", 2), EMT()))


def argon_crystal():
    return with_calculator(bulk("Ar", "fcc", 5.3, cubic=True) * (3, 3, 3), Argon())


def argon_liquid():
    """Return argon at 94 K and 1.37 g/cm³, melted at 300 K and cooled before anybody watches."""
    atoms = with_calculator(bulk("Ar", "fcc", 5.78, cubic=True) * (3, 3, 3), Argon())
    rng = np.random.default_rng(1)
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=rng)
    for temperature in (300, 94):
        free_langevin(atoms, temperature, 5 * units.fs, rng).run(2000)
    return atoms


def ours(name, atoms):
    return lambda: relaxed(with_calculator(atoms(), mdxai.load_calculator(name)))


def ethanol():
    return molecule("CH3CH2OH")


def aspirin():
    return ase.io.read(FOLDER / "aspirin.xyz")


def gfn2(atoms):
    def make():
        from tblite.ase import TBLite

        return relaxed(with_calculator(atoms(), TBLite(method="GFN2-xTB", verbosity=0)))

    return make


def water_dimer():
    first, second = molecule("H2O"), molecule("H2O")
    second.rotate(110, "y")
    second.translate((0.0, 0.4, 2.9))
    return first + second


@dataclass(frozen=True)
class System:
    """A sound system. temperature: K; timestep: fs; ps: of a segment."""

    make: Callable[[], Atoms]
    bath: Bath
    temperature: float
    timestep: float
    ps: float
    segments: int
    explain: int = 0


SYSTEMS = {
    "argon crystal, NVE": System(argon_crystal, nve, 40, 10, 60, 2),
    "argon crystal, Langevin": System(argon_crystal, langevin, 40, 10, 60, 2),
    "argon liquid, Langevin": System(argon_liquid, free_langevin, 94, 10, 60, 2),
    "argon liquid, Bussi": System(argon_liquid, bussi, 94, 10, 60, 2),
    "Cu, NVE": System(metal("Cu"), nve, 300, 5, 20, 2),
    "Cu, Langevin": System(metal("Cu"), langevin, 600, 5, 20, 2),
    "Al, MTK NPT": System(metal("Al"), npt, 300, 4, 20, 1),
    "Au, Bussi": System(metal("Au"), bussi, 300, 10, 40, 2),
    "Au, Nosé–Hoover chain": System(metal("Au"), chain, 600, 10, 40, 2),
    "Ag, Andersen": System(metal("Ag"), andersen, 300, 10, 40, 2),
    "Pt, BAOAB": System(metal("Pt"), baoab, 300, 10, 40, 2),
    "Ni, Berendsen": System(metal("Ni"), berendsen, 300, 5, 20, 1),
    "Cu3Au, Langevin": System(copper_gold, free_langevin, 400, 5, 20, 2),
    "Cu, Berendsen NPT": System(metal("Cu"), npt_berendsen, 300, 5, 20, 1),
    "O on Cu(111), Langevin": System(slab, langevin, 300, 4, 10, 2),
    "Cu13, NVE": System(cluster, nve, 300, 5, 20, 2),
    "Cu13, Langevin": System(cluster, langevin, 300, 5, 20, 2),
    "schnet-ethanol, Langevin": System(ours("schnet-ethanol", ethanol), langevin, 300, 1, 5, 4, 20),
    "painn-ethanol, Langevin": System(
        ours("painn-ethanol", ethanol), free_langevin, 300, 0.5, 5, 4, 20
    ),
    "schnet-ethanol, NVE": System(ours("schnet-ethanol", ethanol), nve, 300, 0.5, 5, 2, 20),
    "schnet-aspirin, Langevin": System(
        ours("schnet-aspirin", aspirin), free_langevin, 300, 1, 5, 4, 20
    ),
    "painn-aspirin, Langevin": System(
        ours("painn-aspirin", aspirin), weak_langevin, 300, 1, 5, 4, 20
    ),
    "GFN2 water dimer, NVE": System(gfn2(water_dimer), nve, 100, 0.5, 5, 4),
    "GFN2 ethanol, Langevin": System(gfn2(ethanol), langevin, 300, 0.5, 5, 2),
    "GFN2 acetic acid, Langevin": System(
        gfn2(lambda: molecule("CH3COOH")), weak_langevin, 300, 0.5, 5, 1
    ),
}


def segment(system: System, seed: int) -> mdxai.Verdict:
    """Run one segment and return its verdict."""
    rng = np.random.default_rng(seed)
    atoms = system.make()
    MaxwellBoltzmannDistribution(atoms, temperature_K=system.temperature, rng=rng)
    if seed % 2:
        Stationary(atoms)
        if not (atoms.pbc.any() or atoms.constraints):
            ZeroRotation(atoms)
    dynamics = system.bath(atoms, system.temperature, system.timestep * units.fs, rng)
    options = {"attribute_every": system.explain, "on_unstable": "ignore"}
    with mdxai.Monitor(dynamics, **options) as monitor:
        dynamics.attach(monitor, interval=1)
        dynamics.run(round(1e3 * system.ps / system.timestep))
    return monitor.verdict


def git(*arguments: str) -> str:
    return subprocess.check_output(["git", "-C", FOLDER.parent, *arguments], text=True).strip()


def commit() -> str:
    """Return the commit that is measured, with a + where the package differs from it."""
    changed = git("status", "--porcelain", "--", "../mdxai")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def rows() -> list[Row]:
    """Return the segments that are there."""
    if not SEGMENTS.exists():
        return []
    with SEGMENTS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(row: dict[str, object]) -> None:
    """Add one segment."""
    new = not SEGMENTS.exists()
    with SEGMENTS.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def described(verdict: mdxai.Verdict) -> str:
    return "; ".join(
        f"{f.principle} {f.severity} {f.worst:.3g} at {f.time_fs:g} fs" for f in verdict.findings
    )


def run(name: str, systems: Sequence[str], most: int) -> None:
    """Run the segments of a pass that are not there yet, the first ones of all systems first."""
    measured = commit()
    for seed in range(1, most + 1):
        for key in systems:
            done = {(row["pass"], row["system"], row["seed"]) for row in rows()}
            if seed > SYSTEMS[key].segments or (name, key, str(seed)) in done:
                continue
            verdict = segment(SYSTEMS[key], seed)
            found = described(verdict)
            write(
                {
                    "pass": name, "system": key, "seed": seed, "commit": measured,
                    "ps": f"{verdict.duration_fs / 1e3:g}", "frames": verdict.n_frames,
                    "outcome": str(verdict.stability), "findings": found,
                    "checked": " ".join(report_times(verdict)),
                }
            )  # fmt: skip
            print(f"{key}, seed {seed}: {verdict.stability} {found}", flush=True)


def of_systems(mine: Sequence[Row]) -> Iterator[str]:
    yield "| system | ps | segments | with an alarm | commit |\n|---|---|---|---|---|"
    for key in SYSTEMS:
        own = [row for row in mine if row["system"] == key]
        if own:
            alarms = sum(bool(row["findings"]) for row in own)
            commits = ", ".join(sorted({row["commit"] for row in own}))
            yield f"| {key} | {picoseconds(own):g} | {len(own)} | {alarms} | {commits} |"


def of_principles(mine: Sequence[Row]) -> Iterator[str]:
    yield "| principle | ns | systems | alarms | per ns, below (95 %) |\n|---|---|---|---|---|"
    for name in (threshold.principle for threshold in THRESHOLDS):
        own = [row for row in mine if name in row["checked"].split()]
        ns, alarms = picoseconds(own) / 1e3, sum(name in alarms_of(row) for row in own)
        limit = f"{chi2.ppf(0.95, 2 * alarms + 2) / 2 / ns:.3g}" if ns else "–"
        systems = len({row["system"] for row in own})
        yield f"| `{name}` | {ns:.3g} | {systems} | {alarms} | {limit} |"


def picoseconds(segments: Sequence[Row]) -> float:
    return sum(float(row["ps"]) for row in segments)


def alarms_of(row: Row) -> set[str]:
    """Return the principles that alarmed in a segment."""
    return {finding.split()[0] for finding in row["findings"].split("; ") if finding}


def main() -> None:
    """Read the arguments; run, or print the tables."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name == "--help":
        print(__doc__)
        return
    if name == "--table":
        mine = [row for row in rows() if row["pass"] == rest[0]]
        print("\n".join([*of_systems(mine), "", *of_principles(mine)]))
        return
    warnings.simplefilter("ignore")
    most = max((-int(word) for word in rest if word.startswith("-")), default=99)
    run(name, [word for word in rest if not word.startswith("-")] or list(SYSTEMS), most)


if __name__ == "__main__":
    main()
