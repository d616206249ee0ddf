"""How far the members of an ensemble disagree along the runs that any of them drove."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mdxai.calculators.batch import BatchPotential, Systems
from mdxai.frame import Floats, Ints
from mdxai.record import Run, open_run
from mdxai.study.models import Places, load, potential_of
from mdxai.study.recipe import Candidate, StudyRecipe
from mdxai.study.run_series import SPREAD

BATCH = 250  # frames that are evaluated together


@dataclass(frozen=True, slots=True)
class Committee:
    """An ensemble of models for one molecule."""

    name: str
    members: tuple[Candidate, ...]


def committees(recipe: StudyRecipe) -> list[Committee]:
    """Return the ensembles of a study that have at least two members."""
    names = dict.fromkeys((c.committee, c.molecule) for c in recipe.candidates if c.committee)
    found = [
        Committee(
            name, tuple(c for c in recipe.candidates if (c.committee, c.molecule) == (name, mol))
        )
        for name, mol in names
    ]
    return [committee for committee in found if len(committee.members) > 1]


def measure_spread(
    committee: Committee, candidate: Candidate, recipe: StudyRecipe, places: Places
) -> str:
    """Write the spread of all members' forces beside every run that one member drove.

    The spread is max over atoms of √(Σ_xyz var over members of F), eV/Å, at every recorded
    geometry: the model deviation of Zhang et al. 2020 (DP-GEN), by which active learning selects
    frames.
    """
    folders = sorted((places.out / "runs" / candidate.name).glob("*K/replica-*"))
    todo = [f for f in folders if not (f / SPREAD).exists()]
    if todo:
        members = [load(c, recipe, places) for c in committee.members]
        potentials = [BatchPotential(potential_of(member, recipe)) for member in members]
        for folder in todo:
            _write(folder, *_spread(open_run(folder), potentials))
    return candidate.name


def _spread(run: Run, potentials: Sequence[BatchPotential]) -> tuple[list[int], Floats]:
    steps: list[int] = []
    spreads: list[Floats] = []
    for numbers, some, positions in _stacks(run):
        forces = np.stack([_forces(p, numbers, positions) for p in potentials])
        variance = forces.var(axis=0).sum(axis=-1)  # over members; (n_frames, n_atoms)
        steps += some
        spreads.append(np.sqrt(variance).max(axis=-1))
    return steps, np.concatenate(spreads) if spreads else np.empty(0)


def _stacks(run: Run) -> Iterator[tuple[Ints, list[int], Floats]]:
    frames = list(run.frames())
    for start in range(0, len(frames), BATCH):
        some = frames[start : start + BATCH]
        yield some[0].numbers, [f.step for f in some], np.stack([f.positions for f in some])


def _forces(potential: BatchPotential, numbers: Ints, positions: Floats) -> Floats:
    n, n_atoms = positions.shape[:2]
    _, forces = potential.predict(
        Systems(
            numbers=np.tile(numbers, n),
            starts=n_atoms * np.arange(n + 1),
            positions=positions.reshape(-1, 3),
            cells=np.zeros((n, 3, 3)),
            pbc=np.zeros((n, 3), dtype=bool),
        )
    )
    return forces.reshape(n, n_atoms, 3)


def _write(folder: Path, steps: list[int], spreads: Floats) -> None:
    scratch = folder / f".{SPREAD}"
    pq.write_table(pa.table({"step": steps, "committee_spread": spreads}), scratch)
    os.replace(scratch, folder / SPREAD)
