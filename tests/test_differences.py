"""Attribution of energy differences."""

from __future__ import annotations

import numpy as np
import pytest

import mdxai
from mdxai.attribution import (
    AttributionError,
    difference,
)

from .conftest import (
    ethanol_with,
)


def test_a_difference_subtracts_every_relevance():
    calculator = mdxai.load_calculator("painn-ethanol", dtype="float64")
    explain = mdxai.attributor(calculator, method="walks", body_order=3)
    before, after = ethanol_with(None), ethanol_with(None)
    after.set_distance(1, 2, 1.6, fix=0)  # stretch C–O
    after.positions[3] += [0, 9, 0]  # and take the hydroxyl H out of reach
    one, two = explain.attribute(before), explain.attribute(after)
    change = difference(two, one)
    assert change.output == pytest.approx(two.output - one.output)
    assert change.two_body.sum() == pytest.approx(two.two_body.sum() - one.two_body.sum())
    assert change.three_body.sum() == pytest.approx(two.three_body.sum() - one.three_body.sum())
    assert len(change.pairs) > len(two.pairs)
    c_o = np.flatnonzero((change.pairs.i == 1) & (change.pairs.j == 2)).item()
    assert change.pairs.distances[c_o] == pytest.approx(1.6)
    none = difference(one, one)
    assert not none.strengths.any()
    assert not none.atoms.any()
    flow = mdxai.attributor(calculator, method="flow").attribute(before)
    with pytest.raises(AttributionError, match="a difference needs two"):
        difference(flow, one)
