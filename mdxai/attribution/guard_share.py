"""The guard's part of an explanation: a potential of pairs, and so exactly two-body."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mdxai.attribution.attribution import Attribution
from mdxai.calculators.guard_term import GuardAction
from mdxai.frame import Pairs


def with_guard(explained: Attribution, action: GuardAction) -> Attribution:
    """Return the explanation of a network's energy with a guard's, each pair's energy on the pair.

    Half of it arrives at each of its atoms. The energy of an atom with its own image is one-body.
    """
    pairs, two = explained.pairs, explained.strengths
    n, images = len(explained.atoms), action.i == action.j
    first, second = np.minimum(action.i, action.j), np.maximum(action.i, action.j)
    keys, wanted = pairs.i * n + pairs.j, first * n + second
    new = np.flatnonzero(~np.isin(wanted, keys) & ~images)  # beyond the cutoff
    new = new[np.unique(wanted[new], return_index=True)[1]]
    turned = np.where(action.i > action.j, -1.0, 1.0)[:, None] * action.vectors
    together = Pairs(
        np.concatenate([pairs.i, first[new]]), np.concatenate([pairs.j, second[new]]),
        np.concatenate([pairs.vectors, turned[new]]),
        np.concatenate([pairs.distances, np.linalg.norm(turned[new], axis=1)]),
    )  # fmt: skip
    order = np.lexsort((together.j, together.i))
    together = together.select(order)
    two = np.concatenate([two, np.zeros(len(new))])[order]
    rows = np.searchsorted(together.i * n + together.j, wanted[~images])
    np.add.at(two, rows, action.energies[~images])
    one, atoms, orders = (
        explained.one_body.copy(), explained.atoms.copy(), explained.by_body_order.copy(),
    )  # fmt: skip
    np.add.at(one, action.i[images], action.energies[images])
    action.add_to(atoms, np.zeros((n, 3)))
    orders[0] += action.energies[images].sum()
    orders[1] += action.energies[~images].sum()
    several = explained.several_images
    return replace(
        explained, output=explained.output + action.energy, atoms=atoms, one_body=one,
        pairs=together, strengths=two, by_body_order=orders,
        several_images=None if several is None
        else np.concatenate([several, np.zeros(len(new), dtype=bool)])[order],
    )  # fmt: skip
