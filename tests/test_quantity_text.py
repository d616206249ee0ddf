"""Times and intervals in words."""

from __future__ import annotations

import math

import pytest

from mdxai.forecast.quantity_text import (
    TimeError,
    share_interval_text,
    time_interval_text,
    time_of,
    time_text,
)
from mdxai.forecast.survival_model import Interval


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1ns", 1e3),
        ("500 ps", 500.0),
        ("2.5us", 2.5e6),
        ("1µs", 1e6),
        ("50fs", 0.05),
        ("1e3ps", 1e3),
    ],
)
def test_times_are_read(text, time):
    assert time_of(text) == pytest.approx(time)


@pytest.mark.parametrize("text", ["1", "ns", "-1ns", "0ps", "1 h", "1.2.3ps", "nan ps"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(TimeError, match="expected a time with its unit"):
        time_of(text)


def test_times_are_told():
    assert time_text(16e3) == "16 ns"
    assert time_text(5.14) == "5.1 ps"
    assert time_text(0.05) == "50 fs"
    assert time_text(math.inf) == "for ever"


def test_intervals_share_a_unit_where_they_can():
    assert time_interval_text(Interval(16e3, 6e3, 45e3)) == "16 ns (6–45)"
    assert time_interval_text(Interval(16e3, 20.0, math.inf)) == "16 ns (20 ps to for ever)"


def test_probabilities_are_not_rounded_to_certainty():
    assert share_interval_text(Interval(0.94, 0.85, 0.98)) == "0.94 (0.85–0.98)"
    assert share_interval_text(Interval(0.9996, 0.97, 1.0)) == "0.9996 (0.97–1.00)"
