"""What follows from the relevance of sets of atoms, whatever network it is of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mdxai.attribution.attribution import AttributionError
from mdxai.frame import Floats, Ints, Pairs


def checked_sets(sets: Any, n_atoms: int) -> Ints:
    """Return sets of atoms (n_sets, k), each ascending.

    Raises:
        AttributionError: for an atom that does not exist, one that a set names twice, or sets of
            several sizes.
    """
    try:
        given = np.atleast_2d(np.asarray(sets))
    except ValueError as error:  # ragged
        raise AttributionError("sets must be of one size; make one call per size") from error
    if given.size and not np.issubdtype(given.dtype, np.integer):
        raise AttributionError(f"sets are made of atom indices, got {given.dtype} values")
    chosen = np.sort(given.astype(np.int64), axis=1)
    if chosen.size and not 0 <= chosen.min() <= chosen.max() < n_atoms:
        raise AttributionError(
            f"sets name atoms {chosen.min()} to {chosen.max()}, but the structure has atoms 0 "
            f"to {n_atoms - 1}"
        )
    if (np.diff(chosen, axis=1) == 0).any():
        raise AttributionError("a set names an atom twice")
    return chosen


def lower_orders(triples: Ints, pairs: Pairs, one: Floats, two: Floats) -> Floats:
    """Return (n,) the one- and two-body relevance inside each triple."""
    n = len(one)
    keys = pairs.i * n + pairs.j  # ascending, as pairs are sorted
    inside: Floats = one[triples].sum(1)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        wanted = triples[:, a] * n + triples[:, b]
        rows = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        inside += np.where(keys[rows] == wanted, two[rows], 0.0)
    return inside


def relevance_of_both(relevance: Callable[[Ints], Floats], n_atoms: int) -> Floats:
    """Return (n_atoms, n_atoms) R_N − R_{N∖i} − R_{N∖j} + R_{N∖{i,j}}: of all that touches both i
    and j; on the diagonal of all that touches i.

    Args:
        relevance: R_S (n_sets,) of sets (n_sets, k).
        n_atoms: number of atoms.
    """
    everyone = np.arange(n_atoms)
    whole = relevance(everyone[None])[0]
    without = relevance(_all_but(n_atoms, everyone[:, None]))
    i, j = np.triu_indices(n_atoms, k=1)
    neither = relevance(_all_but(n_atoms, np.stack([i, j], axis=1)))
    strength = np.diag(whole - without)
    strength[i, j] = strength[j, i] = whole - without[i] - without[j] + neither
    return strength


def _all_but(n_atoms: int, left_out: Ints) -> Ints:
    """Return (n_sets, n_atoms − k) all atoms except those of each row of `left_out` (n_sets, k)."""
    keep = np.ones((len(left_out), n_atoms), dtype=bool)
    np.put_along_axis(keep, left_out, False, axis=1)
    return np.nonzero(keep)[1].reshape(len(left_out), -1)
