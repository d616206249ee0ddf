"""Judge a trajectory that exists: when did it break, by which atoms, and what led up to it?

python judge_a_trajectory.py [TRAJECTORY]
"""

import sys
from pathlib import Path

import numpy as np
from ase import units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

import mdxai
from mdxai.monitoring.replay import replay


def old_trajectory(file: Path) -> Path:
    """Make one, as somebody might have who never heard of mdxai: a weak model, and hot."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = mdxai.load_calculator("schnet-ethanol-weak")
    rng = np.random.default_rng(17)
    thermalize_momenta(atoms, temperature_K=1000, rng=rng)
    dyn = Langevin(
        atoms, 0.5 * units.fs, temperature_K=1000, friction=0.01 / units.fs, fixcm=False, rng=rng,
        trajectory=str(file), loginterval=10,
    )  # fmt: skip
    dyn.run(3000)
    return file


trajectory = Path(sys.argv[1]) if len(sys.argv) > 1 else old_trajectory(Path("old.traj"))
# The calculator explains, and computes energies and forces where the trajectory has none.
monitor = replay("schnet-ethanol-weak", trajectory, "runs/judged", attribute_every=10)

verdict = monitor.verdict
print(verdict)
if verdict.onset_fs is not None:
    run = mdxai.open_run("runs/judged")
    table = run.to_dataframe().set_index("time_fs")
    before = table.loc[: verdict.onset_fs].tail(5)
    print("the last frames up to the onset:")
    print(before[["temperature_K", "potential_energy_eV", verdict.cause.principle]].round(3))
print("open runs/judged/report.html to see the molecule break")
