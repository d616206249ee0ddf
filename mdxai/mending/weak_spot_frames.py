"""Frames along the paths into weak spots whose labels would close these, diverse and sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from mdxai.forecast import WeakSpots
from mdxai.frame import Floats, Frame
from mdxai.mending.active_learning import farthest_first
from mdxai.principles.motion.structure import bonds_of
from mdxai.principles.probes.configurations import moved

# eV above the minimum: data of a hot run reach as far as the first; what a model puts above the
# second is no way into a hole at any temperature.
LOW, HIGH = 0.25, 3.0
CLOSEST, LONGEST = 0.65, 1.65  # of the sum of covalent radii: of any pair, and of a bond
DIGITS = 6  # of positions, Å: so they survive a file


def frames_of_weak_spots(spots: WeakSpots, n: int, known: Sequence[Atoms] = ()) -> list[Atoms]:
    """Return frames along the paths into weak spots whose labels would close these.

    Eligible are points of 0.25 to 3 eV, and lower ones from the top on, in which no atoms overlap
    and no bond is torn apart. They are picked farthest first, by the logarithms of pair distances,
    in which 0.1 Å count more the closer two atoms are.

    Args:
        spots: of a molecule.
        n: number of frames wanted; fewer are returned if fewer are eligible.
        known: frames of the same atoms, in the same order, that need not be labelled any more.

    Returns:
        Frames without energies. `info` holds `weak_spot`, `length_A` along its path and
        `model_eV`, the model's energy above the minimum.
    """
    frames = list(_eligible(spots))
    if not frames:
        return []
    held = [spots.minimum.positions, *(atoms.positions for atoms in known)]
    chosen = farthest_first(_points([a.positions for a in frames]), n, _points(held))
    return [frames[k] for k in chosen]


def _eligible(spots: WeakSpots) -> Iterator[Atoms]:
    start = spots.minimum
    i, j = np.triu_indices(start.n_atoms, k=1)
    covalent = covalent_radii[start.numbers]
    sums, bonded = covalent[i] + covalent[j], _bonded(start)[i, j]
    for spot in spots.spots:
        way = spot.path
        for k, positions in enumerate(way.positions):
            shares = np.linalg.norm(positions[j] - positions[i], axis=1) / sums
            sound = shares.min() > CLOSEST and not (shares[bonded] > LONGEST).any()
            if sound and way.energies[k] < HIGH and (k >= way.top or way.energies[k] > LOW):
                atoms = moved(start, positions.round(DIGITS)).to_atoms(results=False)
                for name in ("masses", "momenta"):  # nothing to a label
                    atoms.arrays.pop(name, None)
                atoms.info |= {
                    "weak_spot": spot.label.replace("–", "-"), "length_A": float(way.lengths[k]),
                    "model_eV": float(way.energies[k]),
                }  # fmt: skip
                yield atoms


def _bonded(frame: Frame) -> Floats:
    i, j = bonds_of(frame)
    found = np.zeros((frame.n_atoms, frame.n_atoms), dtype=bool)
    found[i, j] = found[j, i] = True
    return found


def _points(structures: Sequence[Floats]) -> Floats:
    """Return a row for each structure (n_atoms, 3): the logarithms of its distances, Å."""
    positions = np.array(structures)
    i, j = np.triu_indices(positions.shape[1], k=1)
    return np.log(np.linalg.norm(positions[:, j] - positions[:, i], axis=-1))
