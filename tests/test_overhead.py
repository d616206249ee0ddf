"""Explanations become rarer until the monitor keeps to its share of the time."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from mdxai.monitoring.overhead import Cost, Overhead, OverheadWarning


def test_overhead_follows_a_clock():
    """Explanations cost 1 s, everything else 0.1 s of a step of 0.9 s."""
    cost = Cost()
    overhead = Overhead(0.2, cost)
    explained = []
    for step in range(4000):
        due = overhead.due(step, 2)
        explained.append(due)
        cost.total += 0.9 + (1.1 if due else 0.1)
        cost.monitor += 1.1 if due else 0.1
        overhead.review()
    late = np.array(explained[2000:])
    share = (0.1 * 2000 + late.sum()) / (2000 + late.sum())
    assert share <= 0.2
    assert 4 <= cost.stretch <= 32
    cost.monitor -= 1e9  # as if it cost nothing any more
    for _ in range(40 * cost.stretch):
        cost.total += 1
        overhead.review()
    assert cost.stretch < 32


def test_an_overhead_that_cannot_be_kept_is_said_once():
    """What is done in every frame takes 10 % by itself; setting up took a minute, once."""
    cost = Cost(total=60.0, monitor=60.0, start=60.0)
    overhead = Overhead(0.05, cost)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for step in range(20_000):
            explained = overhead.due(step, 1)
            cost.total += 1.0 + explained
            cost.monitor += 0.1 + explained
            cost.attribution += explained
            overhead.review()
    assert [w.category for w in said] == [OverheadWarning]
    assert re.match(r"checking .* alone take (9|10)\.\d% .* allows 5.0%", str(said[0].message))
    assert cost.share == pytest.approx(0.1, abs=0.01)
