"""Would the runs of the stability study that a contact ended have broken?

    python runs/after_contact.py DATA runs/stability 15

draws 15 of them at random, continues each for 1 ps from its last frame without stopping it, and
writes runs/stability/after_contact.csv. DATA is the data folder of the study, and runs/stability
must hold its run directories. runs/stability/ANALYSIS.md gives the result.
"""

import sys
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.neighborlist import natural_cutoffs

import mdxai
from mdxai.calculators import NetworkCalculator

STEPS = 2000
LOST = 0.5  # Å by which a bond changes: the criterion of Fu et al.
FALLEN = 1.0  # Å between atoms that are not bonded


def load(model: str, data: Path, out: Path) -> NetworkCalculator:
    """Return a model of the study: trained for it, published or shipped."""
    places = (out / "models" / model, data / "models" / f"{model}.pt")
    return mdxai.load_calculator(next((p for p in places if p.exists()), model))


def distances(positions: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the distances of pairs (2, P)."""
    return np.linalg.norm(positions[pairs[0]] - positions[pairs[1]], axis=1)


def go_on(row: pd.Series, data: Path, out: Path) -> dict[str, object]:
    """Continue one run, and return when atoms fell together and when a bond was lost, fs."""
    folder = out / "runs" / row["run"]
    first = next(iter(mdxai.open_run(folder).frames()))
    reach = np.array(natural_cutoffs(Atoms(first.numbers, first.positions), mult=1.25))
    pairs = np.array(np.triu_indices(len(first.numbers), 1))
    bonded = distances(first.positions, pairs) < reach[pairs[0]] + reach[pairs[1]]
    bonds, others = pairs[:, bonded], pairs[:, ~bonded]
    rest = distances(first.positions, bonds)
    atoms = ase.io.read(next(folder.glob("blackbox-*.extxyz")), index=-1)
    atoms.calc = load(row["model"], data, out)
    dynamics = Langevin(
        atoms, 0.5 * units.fs, temperature_K=row["temperature_K"], friction=0.01 / units.fs,
        fixcm=False, rng=np.random.default_rng(3),
    )  # fmt: skip
    lost = fallen = np.nan
    start = least = distances(atoms.positions, others).min()
    for step in range(1, STEPS + 1):
        dynamics.run(1)
        now = distances(atoms.positions, others).min()
        least = min(least, now)
        if now < FALLEN and np.isnan(fallen):
            fallen = 0.5 * step
        if np.abs(distances(atoms.positions, bonds) - rest).max() > LOST:
            lost = 0.5 * step
            break
    return {
        "run": row["run"], "cause": row["cause"], "onset_fs": row["followed_fs"],
        "shortest_at_onset_ang": start, "shortest_after_ang": least,
        "below_1_ang_after_fs": fallen, "bond_lost_after_fs": lost,
    }  # fmt: skip


def main() -> None:
    """Read the arguments, continue the runs, write the table."""
    data, out, number = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    runs = pd.read_csv(out / "runs.csv")
    ended = runs[runs["unstable"] & runs["cause"].eq("contact")]
    rows = [go_on(row, data, out) for _, row in ended.sample(number, random_state=1).iterrows()]
    pd.DataFrame(rows).to_csv(out / "after_contact.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
