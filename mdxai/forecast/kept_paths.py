"""Weak spots as a run follows them, and their file in the run directory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import covalent_radii

from mdxai.forecast.coordinates import Coordinate, coordinates_of
from mdxai.forecast.weak_spot import WeakSpot, WeakSpots
from mdxai.frame import Floats, Frame
from mdxai.principles.motion.followed_paths import SHORTEST, FollowedPath, FollowedPaths
from mdxai.principles.motion.structure import bonds_of
from mdxai.record import RecordError
from mdxai.record.durable_files import read_file, write_file
from mdxai.record.layout import WEAK_SPOTS
from mdxai.serialization import as_plain, from_plain

UNTOLD = "its weak spots are encounters of molecules, which no two atoms tell"


def paths_of(found: WeakSpots) -> FollowedPaths:
    """Return weak spots as a run follows them.

    Weak spots that the same distances lead to are one path, that of the lowest barrier: a run
    cannot tell which of them it passes. Its rate is that of all. An encounter of two molecules is
    followed by the two of their atoms that end closest, or left out where there are none such.
    """
    every = coordinates_of(found.minimum) if found.spots else []
    paths: dict[Any, FollowedPath] = {}
    for spot in sorted(found.spots, key=lambda spot: spot.barrier):
        path = _path(spot, found, every)
        if path is None:
            continue
        inwards = path.lengths[path.top] < path.lengths[0]
        key = frozenset(frozenset((a[0], a[-1])) for a in path.atoms), bool(inwards)
        if (known := paths.get(key)) is not None:
            path = replace(known, rate_per_ps=known.rate_per_ps + path.rate_per_ps)
        paths[key] = path
    numbers = tuple(found.minimum.numbers.tolist())
    why_none = UNTOLD if found.spots else found.table()
    return FollowedPaths(tuple(paths.values()), "" if paths else why_none, numbers)


def _path(spot: WeakSpot, found: WeakSpots, every: Sequence[Coordinate]) -> FollowedPath | None:
    atoms, lengths = spot.equivalent or (spot.atoms,), spot.path.lengths
    energies = spot.path.energies - spot.path.energies[0]
    closing = _closing_pair(spot, found.minimum)
    if closing is None and spot.kind == "encounter":
        return None
    if closing is not None:
        pair = frozenset(closing)
        atoms = next(
            c.equivalent for c in every if c.kind != "encounter"
            for a in c.equivalent if {a[0], a[-1]} == pair
        )  # fmt: skip
        i, j = closing
        lengths = np.linalg.norm(spot.path.positions[:, j] - spot.path.positions[:, i], axis=1)
        energies = cubic(lengths, spot.path.top, energies[spot.path.top])
    return FollowedPath(
        spot.kind, spot.label, atoms, lengths, energies, spot.path.top, spot.barrier,
        spot.rate_of_all_per_ps(found.temperature), found.temperature, spot.forbidden,
    )  # fmt: skip


def cubic(lengths: Floats, top: int, height: float) -> Floats:
    """Return energies (n,), eV, at lengths (n,), Å, that begin at a minimum, where only the height
    of the top is known: of the simplest curve with both, a cubic one.
    """
    share = (lengths - lengths[0]) / (lengths[top] - lengths[0])
    energies: Floats = height * share**2 * (3 - 2 * share)
    return energies


def _closing_pair(spot: WeakSpot, minimum: Frame) -> tuple[int, int] | None:
    """Return the pair whose distance tells the way better than the scanned one; None for that.

    A scan may push one pair together, and the structure give way by another: of an approach of two
    hydrogens, an angle that closes. That other pair is the one that ends closest, in covalent
    distances, though it is not bonded; both before and beyond the top it has to come closer.
    """
    if spot.kind not in ("angle", "approach", "encounter") or minimum.pbc.any():
        return None
    i, j = np.triu_indices(minimum.n_atoms, k=1)
    bonded = {frozenset(bond) for bond in np.stack(bonds_of(minimum), 1).tolist()}
    free = np.array([{a, b} not in bonded for a, b in zip(i.tolist(), j.tolist(), strict=True)])
    i, j = i[free], j[free]
    path = spot.path.positions[[0, spot.path.top, -1]]
    start, top, end = np.linalg.norm(path[:, j] - path[:, i], axis=2)
    radii = covalent_radii[minimum.numbers]
    k = int(np.argmin(end / (radii[i] + radii[j])))
    pair = int(i[k]), int(j[k])
    if {pair[:1], pair[1:]} == set(spot.groups) or not start[k] - SHORTEST > top[k] > end[k]:
        return None
    return pair


def write_paths(folder: Path, paths: FollowedPaths) -> None:
    """Write weak_spots.json in a run directory.

    Raises:
        RecordError: when the file system refuses.
    """
    write_file(folder / WEAK_SPOTS, json.dumps(as_plain(paths)).encode())


def read_paths(folder: Path) -> FollowedPaths | None:
    """Return what weak_spots.json of a run directory holds; None without it.

    Raises:
        RecordError: for a damaged file.
    """
    file = folder / WEAK_SPOTS
    try:
        return from_plain(FollowedPaths, json.loads(read_file(file)))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RecordError(
            f"{file} is damaged: {error}; give its weak spots by forecast="
        ) from error
