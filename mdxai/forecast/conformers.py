"""Conformers to look for weak spots from: the minima that frames of a trajectory relax into."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

from mdxai.calculators.reference_data import structures_of
from mdxai.errors import MdxaiError
from mdxai.forecast.evaluations import Evaluations
from mdxai.forecast.forbidden import Physics
from mdxai.forecast.hot_replicas import HotReplicas, Motion
from mdxai.forecast.relaxation import relax
from mdxai.forecast.same_molecule import graph_of, renumbering
from mdxai.frame import Bools, Floats, Frame, Ints, formula_in_order
from mdxai.principles.motion.structure import bonds_of
from mdxai.principles.probes.configurations import moved

MOST_FRAMES = 32  # that are relaxed, evenly spread over all
MOST_CONFORMERS = 6  # that are scanned, lowest first
# Likewise where thermal runs visit them: each costs as much as the first; and of all together.
MOST_VISITED, MOST_COORDINATES = 3, 200
REPLICAS, LAST = 16, 500  # thermal runs, and their last step of 1 fs
WINDOW = 0.6  # eV above the lowest minimum, up to which conformers are scanned
DISTORTED = 0.08  # `Physics.distortion` of what is no conformer, but on its way into a hole
SAME_CONFORMER = 0.1  # Å, of any distance: torsions are soft, so that minima are inexact
Frames = str | os.PathLike[str] | Iterable[Atoms | Frame]


class WeakSpotError(MdxaiError, ValueError):
    """A search for weak spots that cannot begin, or has found none where one is needed."""


class FlatPotentialError(WeakSpotError):
    """A structure between whose atoms there are no forces."""


def positions_of(frames: Frames, frame: Frame) -> Floats:
    """Return positions (n, n_atoms, 3), Å, of at most 32 frames, evenly spread.

    Frames of a molecule may have its atoms in another order, the same in all, as its bonds tell.

    Args:
        frames: structures, or a file with a trajectory or data set: what ASE reads, or an npz as
            those of MD17.
        frame: whose atoms they must have, and whose cell if both are periodic.

    Raises:
        WeakSpotError: for no frames, or frames of other atoms or another cell.
        ReferenceDataError: for a file that cannot be read.
    """
    found, first = list[Floats](), frame.numbers
    for k, (numbers, positions, cell, pbc) in enumerate(_read(frames)):
        first = first if k else numbers
        if not np.array_equal(np.sort(numbers), np.sort(frame.numbers)):
            raise WeakSpotError(
                f"frame {k} has other atoms than the structure: {formula_in_order(numbers)}; "
                f"expected those of {formula_in_order(frame.numbers)}"
            )
        if any(numbers != first):
            raise WeakSpotError(
                f"frame {k} has its atoms in another order than the frames before: "
                f"{formula_in_order(numbers)}; expected {formula_in_order(first)} in all frames"
            )
        if frame.pbc.any() and np.any(pbc) and not _same_box(frame, cell, pbc):
            raise WeakSpotError(
                f"frame {k} has another cell than the structure: {np.round(cell, 3).tolist()} "
                f"instead of {np.round(frame.cell, 3).tolist()} Å; weak spots are looked for in "
                "one cell, so give frames with that of the structure"
            )
        found.append(np.array(positions, dtype=np.float64))
    if not found:
        raise WeakSpotError("there are no frames to begin from; expected at least one")
    chosen = np.unique(np.linspace(0, len(found) - 1, MOST_FRAMES).round().astype(int))
    positions = np.stack([found[k] for k in chosen])
    return positions[:, _order(np.asarray(first), positions, frame)]


def _order(numbers: Ints, positions: Floats, frame: Frame) -> Ints:
    """Return which atom of the frames is which of the structure, (n_atoms,)."""
    if np.array_equal(numbers, frame.numbers) and (frame.pbc.any() or not len(bonds_of(frame)[0])):
        return np.arange(frame.n_atoms)
    mine, kinds = graph_of(frame), np.asarray(numbers)
    hot = [graph_of(replace(moved(frame, x), numbers=kinds)) for x in positions]
    mappings = [mapping for graph in hot if (mapping := renumbering(mine, graph)) is not None]
    if not mappings:
        raise WeakSpotError(
            f"none of {len(positions)} frames has the bonds of the structure, in whatever order of "
            "atoms; expected frames of the same molecule"
        )
    kept = [m for m in mappings if all(a == b for a, b in m.items())]
    mapping = (kept or mappings)[0]
    return np.array([mapping[a] for a in range(frame.n_atoms)])


def _read(frames: Frames) -> Iterator[tuple[Ints, Floats, Floats, Bools]]:
    """Yield atomic numbers, positions, cell and periodic directions of frames."""
    if isinstance(frames, str | os.PathLike):
        for numbers, positions, cell, pbc, _ in structures_of(Path(frames)):
            yield numbers, positions, cell, pbc
    else:
        for one in cast("Iterable[Atoms | Frame]", frames):  # mypy keeps the str
            yield one.numbers, one.positions, np.asarray(one.cell), one.pbc


def _same_box(frame: Frame, cell: Floats, pbc: Bools) -> bool:
    """Return whether the directions that repeat, and their vectors, are those of a frame."""
    if not np.array_equal(pbc, frame.pbc):
        return False
    return bool(np.allclose(cell[pbc], frame.cell[pbc], rtol=0.0, atol=1e-3))


def thermal_positions(evaluate: Evaluations, start: Frame, temperature: float) -> Floats:
    """Return what short Langevin runs of a system visit, (n, n_atoms, 3) Å.

    Sixteen replicas, after 0.25 and 0.5 ps; those that have broken may be among them.

    Args:
        evaluate: of the system.
        start: with its energy and forces.
        temperature: K.
    """
    replicas = HotReplicas(start, evaluate, None, Motion(timestep=1.0), 1, together=True)
    replicas.assign([temperature] * REPLICAS)
    found = []
    for _ in range(2):
        replicas.run(LAST // 2)
        found.append(replicas.positions.copy())
    visited = np.concatenate(found)
    return visited[np.isfinite(visited).all(axis=(1, 2))]


def conformers_of(evaluate: Evaluations, physics: Physics, starts: Floats) -> list[Floats]:
    """Return the minima (n_atoms, 3), Å, that structures relax into, lowest first, each once.

    Args:
        evaluate: of the system.
        physics: minima that it forbids, that have other bonds, or angles unlike those of the first,
            are left out.
        starts: (n, n_atoms, 3) Å, the structure itself first.
    """
    relaxed = relax(evaluate, starts, fmax=0.02, steps=500)
    found = list[Floats]()
    for k in np.argsort(relaxed.energies):
        here = relaxed.positions[k]
        sound = np.isfinite(relaxed.energies[k]) and physics.keeps_bonds(here)
        sound = sound and physics.distortion(relaxed.positions[0], here) < DISTORTED
        if sound and not physics.forbids(here, np.inf) and is_new(evaluate.frame, here, found):
            found.append(here)
    return found


def is_new(frame: Frame, positions: Floats, others: Sequence[Floats]) -> bool:
    """Return whether a conformer (n_atoms, 3), Å, is none of the others nor an image of them."""
    mine = sorted_distances(frame, positions)
    return all(
        np.abs(mine - sorted_distances(frame, other)).max() > SAME_CONFORMER for other in others
    )


def sorted_distances(frame: Frame, positions: Floats) -> Floats:
    """Return all distances, sorted within each pair of elements: equal for mirror images too."""
    i, j = np.triu_indices(frame.n_atoms, k=1)
    z = np.sort(np.stack([frame.numbers[i], frame.numbers[j]]), axis=0)
    vectors = positions[j] - positions[i]
    if frame.pbc.any() and len(vectors):
        vectors = find_mic(vectors, frame.cell, frame.pbc)[0]
    lengths = np.linalg.norm(vectors, axis=1)
    ordered: Floats = lengths[np.lexsort((lengths, z[1], z[0]))]
    return ordered
