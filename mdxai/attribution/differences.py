"""Attribution of the energy difference between two configurations of one molecule."""

from __future__ import annotations

import numpy as np

from mdxai.attribution.attribution import Attribution, AttributionError
from mdxai.frame import Floats, Ints, Pairs


def difference(after: Attribution, before: Attribution) -> Attribution:
    """Return the attribution of E(after) − E(before): every relevance as a difference.

    A pair or triple within reach in only one of the two counts as 0 in the other. Pairs have the
    geometry of `after`, unless only `before` has the pair.

    Raises:
        AttributionError: for attributions that differ in rule, output, body order or molecule, or
            by a method other than "walks".
    """
    mine, theirs = (
        (a.method, a.gamma, a.max_bias, a.scalars_only, a.unit, len(a.by_body_order))
        for a in (after, before)
    )
    if after.method != "walks" or mine != theirs:
        raise AttributionError(
            "a difference needs two attributions by method 'walks' with the same rule, output and "
            f"body order; got (method, γ, max_bias, scalars_only, unit, orders) {mine} and {theirs}"
        )
    if not np.array_equal(after.numbers, before.numbers):
        raise AttributionError(
            "a difference needs two configurations of one molecule, its atoms in the same order; "
            f"got atomic numbers {after.numbers.tolist()} and {before.numbers.tolist()}"
        )
    pairs, two = _pairs_of_both(after, before)
    triples, three = _triples_of_both(after, before)
    return Attribution(
        method=after.method,
        gamma=after.gamma,
        unit=after.unit,
        max_bias=after.max_bias,
        scalars_only=after.scalars_only,
        numbers=after.numbers,
        output=after.output - before.output,
        atoms=after.atoms - before.atoms,
        one_body=after.one_body - before.one_body,
        pairs=pairs,
        strengths=two,
        by_body_order=after.by_body_order - before.by_body_order,
        triples=triples,
        three_body=three,
    )


def _pairs_of_both(after: Attribution, before: Attribution) -> tuple[Pairs, Floats]:
    n, both = len(after.atoms), (after.pairs, before.pairs)
    keys = [pairs.i * n + pairs.j for pairs in both]
    every, first = np.unique(np.concatenate(keys), return_index=True)  # `after` comes first
    i, j, vectors, distances = (
        np.concatenate([getattr(pairs, name) for pairs in both])[first]
        for name in ("i", "j", "vectors", "distances")
    )
    return Pairs(i, j, vectors, distances), _minus(every, keys, (after.strengths, before.strengths))


def _triples_of_both(after: Attribution, before: Attribution) -> tuple[Ints, Floats]:
    n = len(after.atoms)
    weights = np.array([n * n, n, 1])
    keys = [a.triples @ weights for a in (after, before)]
    every = np.unique(np.concatenate(keys))
    triples = np.stack([every // n**2, every // n % n, every % n], axis=1)
    return triples, _minus(every, keys, (after.three_body, before.three_body))


def _minus(every: Ints, keys: list[Ints], values: tuple[Floats, Floats]) -> Floats:
    result = np.zeros(len(every))
    result[np.searchsorted(every, keys[0])] += values[0]
    result[np.searchsorted(every, keys[1])] -= values[1]
    return result
