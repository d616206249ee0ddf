"""Thresholds: those shipped, and changes from a file."""

from __future__ import annotations

import pytest

from mdxai import load_thresholds
from mdxai.monitoring.options import MonitorOptions
from mdxai.stability.thresholds import (
    PROBE_THRESHOLDS,
    THRESHOLDS,
    Threshold,
    ThresholdError,
    without_physics,
)


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path):
    path = written(tmp_path, "[bond]\nunstable = 0.7\n[temperature]\npatience = 50\n")
    changed = {t.principle: t for t in load_thresholds(path)}
    shipped = {t.principle: t for t in THRESHOLDS}
    assert (changed["bond"].warn, changed["bond"].unstable) == (0.4, 0.7)
    assert changed["temperature"].patience == 50
    assert all(changed[n] == shipped[n] for n in shipped if n not in ("bond", "temperature"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[bonds]\nwarn = 1\n", "names unknown principles: bonds; known are"),
        ("[bond]\nlimit = 1\n", "expected any of warn, unstable, patience, advice, outcome"),
        ("[bond]\nwarn = 'much'\n", "warn must be a number or text, got 'much'"),
        ("[bond]\nwarn = 2.0\n", "expected 0 ≤ warn ≤ unstable and patience ≥ 0, got warn 2"),
        ("[bond]\nwarn = nan\n", "expected 0 ≤ warn ≤ unstable"),
        ("[bond]\noutcome = 'odd'\n", "outcome must be one of unstable, broken, melted, reacted"),
        ("[bond\n", "thresholds cannot be read from"),
    ],
)
def test_unusable_files_are_refused(tmp_path, text, message):
    with pytest.raises(ThresholdError, match=message):
        load_thresholds(written(tmp_path, text))


def test_shipped_thresholds_are_consistent():
    for threshold in (*THRESHOLDS, *PROBE_THRESHOLDS):
        assert 0 <= threshold.warn <= threshold.unstable
        assert len(threshold.advice) > 20
    names = [t.principle for t in (*THRESHOLDS, *PROBE_THRESHOLDS)]
    assert len(set(names)) == len(names)


def test_physics_that_is_forbidden_makes_a_run_unstable():
    outcomes = ("unstable", "broken", "melted", "reacted")
    given = [Threshold(o, 0, 1, 0, "advice", o) for o in outcomes]
    forbidden = {t.principle: t.outcome for t in without_physics(given)}
    assert forbidden == dict.fromkeys(outcomes, "unstable") | {"broken": "broken"}
    allowed, strict = MonitorOptions(thresholds=THRESHOLDS), MonitorOptions(reactions=False)
    assert allowed.judged_by == THRESHOLDS
    assert strict.judged_by == without_physics(THRESHOLDS)
