"""What counts as worse: against scipy, against chance, and against a limit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_ind_from_stats

from mdxai.testing.baseline import Baseline, BaselineError, Figure, broke_more, changes

WHAT = {"formula": "C2H6O", "temperature": 300.0}


def baseline(mean, spread, runs=4, **outcomes):
    figures = {"contact": Figure(mean, spread, ""), "net_force": Figure(1e-7, 1e-8, "eV/Å")}
    return Baseline(runs, WHAT, outcomes or {"stable": runs}, figures)


def test_p_is_that_of_welch():
    found = changes(baseline(0.30, 0.02, 5), baseline(0.2, 0.03))
    contact = next(c for c in found if c.principle == "contact")
    expected = ttest_ind_from_stats(
        0.30, 0.02, 5, 0.2, 0.03, 4, equal_var=False, alternative="greater"
    )
    assert contact.p == pytest.approx(expected.pvalue)


def test_a_sure_rise_that_matters_is_worse_and_no_other():
    before = baseline(0.1, 0.001)
    limit = next(c.limit for c in changes(before, before) if c.principle == "contact")
    for rise, worse in ((0.2 * limit, True), (0.01 * limit, False), (-0.2 * limit, False)):
        found = changes(baseline(0.1 + rise, 0.001), before)
        assert [c.worse for c in found if c.principle == "contact"] == [worse]
    noisy = changes(baseline(0.1 + 0.2 * limit, limit), before)
    assert not any(c.worse for c in noisy)


def test_a_slope_that_becomes_right_is_not_worse():
    """Forces 1.1 times too large before, right now: their slope rises, and is no deviation."""
    before, now = (
        replace(baseline(0.1, 0.01), principles={"work_slope": Figure(slope, 3e-4, "eV/eV")})
        for slope in (0.909, 1.0)
    )
    assert changes(now, before) == []


def test_runs_of_one_potential_are_seldom_worse_than_each_other():
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(500):
        draws = rng.normal(0.1, 0.02, (2, 4))
        one, other = (baseline(d.mean(), d.std(ddof=1)) for d in draws)
        alarms += any(c.worse for c in changes(one, other))
    assert alarms <= 9  # 0.01 are expected at most, 5 of 500


def test_more_runs_that_fail_are_worse():
    assert broke_more(baseline(0, 0, stable=0, unstable=4), baseline(0, 0, stable=4))
    assert not broke_more(baseline(0, 0, stable=3, unstable=1), baseline(0, 0, stable=4))


def test_a_file_holds_the_baseline_and_damage_is_named(tmp_path):
    before = baseline(0.1, 0.02, stable=3, suspect=1)
    before.save(tmp_path / "kept.toml")
    assert Baseline.load(tmp_path / "kept.toml") == before
    (tmp_path / "kept.toml").write_text("runs = 4")
    with pytest.raises(BaselineError, match="restore it from version control"):
        Baseline.load(tmp_path / "kept.toml")
    with pytest.raises(BaselineError, match="`pytest --mdxai-update` makes it from these runs"):
        Baseline.load(tmp_path / "missing.toml")
    with pytest.raises(BaselineError, match="formula C2H6O and CH4"):
        changes(replace(before, what={**WHAT, "formula": "CH4"}), before)


def test_fewer_than_three_runs_have_no_spread():
    with pytest.raises(BaselineError, match="at least 3 runs, with different seeds"):
        Baseline.of([])
