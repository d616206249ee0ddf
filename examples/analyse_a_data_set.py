"""What have two models of ethanol learned? Analyse both over the same structures.

    python analyse_a_data_set.py [DATA]

DATA is what ASE reads, or an npz such as those of rMD17 and QM9. Without it, frames of a run are
taken.
"""

import sys
from pathlib import Path

import numpy as np
from ase import units
from ase.build import molecule
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

import mdxai
from mdxai.analysis.analysis_files import write_tables
from mdxai.report import write_analysis_page


def frames_of_a_run(file: Path) -> Path:
    """Write 50 frames of ethanol at 500 K."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = mdxai.load_calculator("painn-ethanol")
    rng = np.random.default_rng(1)
    thermalize_momenta(atoms, temperature_K=500, rng=rng)
    dyn = Langevin(
        atoms, 0.5 * units.fs, temperature_K=500, friction=0.01 / units.fs, rng=rng,
        trajectory="hot.traj", loginterval=40, fixcm=False,
    )  # fmt: skip
    dyn.run(2000)
    write(file, read("hot.traj", ":"))
    return file


data = Path(sys.argv[1]) if len(sys.argv) > 1 else frames_of_a_run(Path("ethanol.extxyz"))
found = mdxai.analyse(["schnet-ethanol", "painn-ethanol"], data, path="analysis")

for model in found.models:
    print(model.name)
    for bond in model.bonds[:4]:
        print(f"  {bond.name}: {bond.mean:.2f} ± {bond.error:.2f} eV")
    for decay in model.decays[:3]:
        best = decay.laws[0]
        print(f"  {decay.pair} from {decay.fitted[0]:.1f} to {decay.fitted[1]:.1f} Å: {best.kind}")
write_tables(found, Path("analysis"))  # every number, as Parquet and CSV
print(f"open {write_analysis_page(found, Path('analysis'))}")
