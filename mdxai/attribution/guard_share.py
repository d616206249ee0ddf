"""Pair potentials in an explanation, such as a guard: they are exactly two-body."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mdxai.attribution.attribution import Attribution
from mdxai.calculators.guard_term import GuardAction
from mdxai.frame import Floats, Ints, Pairs


def with_guard(explained: Attribution, action: GuardAction) -> Attribution:
    """Return the explanation of a network's energy with a guard's."""
    whole = with_pair_energies(explained, action.i, action.j, action.vectors, action.energies)
    return replace(whole, output=explained.output + action.energy)


def with_pair_energies(
    explained: Attribution, i: Ints, j: Ints, vectors: Floats, energies: Floats
) -> Attribution:
    """Return the explanation of an energy with the part of pair potentials, which it lacks so far.

    Half of a pair's energy arrives at each of its atoms. That of an atom with its own image is
    one-body.

    Args:
        explained: whose `output` holds the pair energies already.
        i: (n,) first atoms.
        j: (n,) second atoms.
        vectors: (n, 3) from i to j, Å.
        energies: (n,) in the unit of the explanation.
    """
    pairs, two = explained.pairs, explained.strengths
    n, images = len(explained.atoms), i == j
    first, second = np.minimum(i, j), np.maximum(i, j)
    keys, wanted = pairs.i * n + pairs.j, first * n + second
    new = np.flatnonzero(~np.isin(wanted, keys) & ~images)  # beyond the cutoff
    new = new[np.unique(wanted[new], return_index=True)[1]]
    turned = np.where(i > j, -1.0, 1.0)[:, None] * vectors
    together = Pairs(
        np.concatenate([pairs.i, first[new]]), np.concatenate([pairs.j, second[new]]),
        np.concatenate([pairs.vectors, turned[new]]),
        np.concatenate([pairs.distances, np.linalg.norm(turned[new], axis=1)]),
    )  # fmt: skip
    order = np.lexsort((together.j, together.i))
    together = together.select(order)
    two = np.concatenate([two, np.zeros(len(new))])[order]
    rows = np.searchsorted(together.i * n + together.j, wanted[~images])
    np.add.at(two, rows, energies[~images])
    one, orders = explained.one_body.copy(), explained.by_body_order.copy()
    np.add.at(one, i[images], energies[images])
    orders[0] += energies[images].sum()
    orders[1] += energies[~images].sum()
    several = explained.several_images
    return replace(
        explained, atoms=explained.atoms + halves(i, j, energies, n), one_body=one,
        pairs=together, strengths=two, by_body_order=orders,
        several_images=None if several is None
        else np.concatenate([several, np.zeros(len(new), dtype=bool)])[order],
    )  # fmt: skip


def halves(i: Ints, j: Ints, energies: Floats, n_atoms: int) -> Floats:
    """Return (n_atoms,) half of each pair's energy at both of its atoms."""
    atoms = np.zeros(n_atoms)
    for ends in (i, j):
        np.add.at(atoms, ends, 0.5 * energies)
    return atoms
