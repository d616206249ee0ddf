"""Thresholds, patience, onset; NaN never passes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mdxai.principles import Deviation
from mdxai.stability.outcomes import Stability
from mdxai.stability.thresholds import THRESHOLDS, Threshold
from mdxai.stability.verdict import Verdict, VerdictBuilder

TEST = (Threshold("bond", 0.4, 0.5, 0.0, "advice"), Threshold("heat", 1.0, 2.0, 3.0, "cool"))


def judged(values, principle="bond", thresholds=TEST):
    builder = VerdictBuilder(thresholds)
    for time, value in enumerate(values):
        builder.add(float(time), {principle: Deviation(principle, "Å", value, (1, 2))})
    return builder.verdict()


def test_stable_suspect_unstable():
    assert judged([0.1, 0.2]).stability is Stability.STABLE
    suspect = judged([0.1, 0.45, 0.1])
    assert (suspect.stability, suspect.onset_fs) == (Stability.SUSPECT, None)
    unstable = judged([0.1, 0.45, 0.6, 0.9])
    assert (unstable.stability, unstable.onset_fs) == (Stability.UNSTABLE, 2.0)
    (finding,) = unstable.findings
    assert (finding.value, finding.worst, finding.threshold) == (0.6, 0.9, 0.5)
    assert finding.atoms == (1, 2)
    assert VerdictBuilder(TEST).verdict().stability is Stability.INCONCLUSIVE
    assert judged([0.1]).stability is Stability.INCONCLUSIVE


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=lambda t: t.principle)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_never_passes_any_threshold(threshold, value):
    values = [0.0] + [value] * 600  # fs, longer than any patience
    verdict = judged(values, threshold.principle, (threshold,))
    outcome = threshold.outcome if value == np.inf else "unstable"
    only_warns = threshold.unstable == np.inf == value
    assert verdict.stability == ("suspect" if only_warns else outcome)
    assert verdict.findings[0].time_fs == 1.0
    assert not np.isfinite(verdict.findings[0].worst)


def test_patience_counts_from_the_first_violation_and_forgets_interruptions():
    assert judged([3, 3, 3, 0, 3, 3, 3, 0], "heat").stability is Stability.STABLE
    cut_short = judged([0, 0, 9, 9], "heat")
    assert (cut_short.stability, cut_short.findings[0].worst) == (Stability.SUSPECT, 9)
    lasting = judged([0, 3, 0, 3, 3, 3, 3], "heat")
    assert (lasting.stability, lasting.onset_fs) == (Stability.UNSTABLE, 3.0)


@pytest.mark.parametrize("late", [np.nan, np.inf])
def test_time_that_is_not_finite_ends_patience(late):
    builder = VerdictBuilder(TEST)
    builder.add(0.0, {"heat": Deviation("heat", "σ", 3.0)})
    builder.add(late, {"heat": Deviation("heat", "σ", 3.0)})
    assert builder.verdict().stability is Stability.UNSTABLE


def test_nan_stays_the_worst_and_is_null_in_json():
    verdict = judged([0.6, np.nan, 0.7])
    assert np.isnan(verdict.findings[0].worst)
    plain = json.loads(json.dumps(verdict.as_dict(), allow_nan=False))
    assert (plain["findings"][0]["value"], plain["findings"][0]["worst"]) == (0.6, None)


def test_what_was_not_measured_is_said():
    builder = VerdictBuilder(TEST)
    builder.add(0.0, {"bond": Deviation("bond", "Å", 0.1), "heat": None})
    builder.add(1.0, {"bond": None, "heat": None})
    assert builder.verdict().unavailable == {
        "heat": "could not be measured from 0 fs on",
        "bond": "could not be measured after 0 fs",
    }


def test_silence_between_explained_frames_is_no_complaint():
    builder = VerdictBuilder(TEST)
    for time in range(26):
        heat = Deviation("heat", "σ", 0.1) if time % 10 == 0 else None
        bond = Deviation("bond", "Å", 0.1) if time < 4 else None
        builder.add(float(time), {"heat": heat, "bond": bond})
    assert builder.verdict().unavailable == {"bond": "could not be measured after 3 fs"}


def test_the_cause_is_the_first_grave_finding():
    builder = VerdictBuilder(TEST)
    for time in range(8):
        deviations = [Deviation("heat", "σ", 3.0), Deviation("bond", "Å", 0.1 * time)]
        builder.add(time, {d.principle: d for d in deviations})
    verdict = builder.verdict()
    assert verdict.cause.principle == "heat"
    assert [f.principle for f in verdict.findings] == ["heat", "bond"]


def test_reads_aloud_and_as_json():
    verdict = judged([0.1, 0.6])
    assert str(verdict) == (
        "unstable over 1 fs (2 frames), onset at 1 fs\n"
        "  unstable: bond 0.6 Å at 1 fs (atoms 1, 2), allowed 0.5, worst 0.6; advice"
    )
    content = json.loads(json.dumps(verdict.as_dict()))
    assert content["stability"] == "unstable"
    assert {"principle", "time_fs", "value", "threshold", "unit", "atoms", "advice"} <= set(
        content["findings"][0]
    )


def test_verdicts_of_principles_that_only_warn_are_json():
    only_warns = Threshold("heat", 1.0, np.inf, 0.0, "advice of some length")
    for value in (np.nan, np.inf, 2.0):
        verdict = judged([0.0, value], "heat", (only_warns,))
        json.dumps(verdict.as_dict(), allow_nan=False)


def lasting(*outcomes):
    """Return the verdict of a run in which a principle of each outcome is violated from 1 fs on."""
    thresholds = [Threshold(f"p{k}", 0, 0, 0, "advice", o) for k, o in enumerate(outcomes)]
    builder = VerdictBuilder(thresholds)
    for time in range(3):
        found = [Deviation(t.principle, "1", float(time > 0)) for t in thresholds]
        builder.add(float(time), {d.principle: d for d in found})
    return builder.verdict(), builder.failed


def test_the_gravest_finding_decides_the_outcome():
    order = ["reacted", "melted", "broken", "unstable"]
    for k, outcome in enumerate(order):
        verdict, failed = lasting(*order[: k + 1])
        assert verdict.stability == outcome == verdict.cause.severity
        assert failed is verdict.stability.is_failure is (outcome in ("broken", "unstable"))
        assert verdict.onset_fs == (1.0 if failed else None)
        assert [Stability(o).rank for o in order] == sorted(Stability(o).rank for o in order)


def test_nan_is_never_taken_for_physics():
    verdict = judged([0.0, np.nan], "heat", (Threshold("heat", 1, 2, 0, "advice", "melted"),))
    assert verdict.stability is Stability.UNSTABLE


def test_json_gives_the_outcomes_back():
    verdict, _ = lasting("reacted", "broken")
    plain = json.loads(json.dumps(verdict.as_dict()))
    assert (plain["stability"], plain["reason"]) == ("broken", verdict.reason)
    assert Verdict.from_dict(plain) == verdict


def test_a_finding_says_since_when_it_is_over():
    (finding,) = judged([0.1, 0.6, 0.1, 0.7, 0.2, 0.1]).findings
    assert finding.until_fs == 4.0
    assert "bonds as at the start again from 2 fs on" in str(judged([0.1, 0.6, 0.1]))
    assert judged([0.1, 0.6, 0.1, 0.7]).findings[0].until_fs is None
    warned = judged([0.1, 0.6, 0.45, 0.45])
    assert warned.findings[0].until_fs == 2.0  # below the limit that it broke


def test_a_broken_bond_comes_with_the_way_to_allow_it():
    def advice(symbols, principle="bond"):
        builder = VerdictBuilder([Threshold(principle, 0.4, 0.5, 0.0, "advice")], symbols=symbols)
        for time, value in enumerate((0.1, 0.6)):
            builder.add(float(time), {principle: Deviation(principle, "Å", value, (1, 2))})
        return builder.verdict().findings[0].advice

    assert advice("HCO").endswith("; if it is meant to happen, allow it: --allow-reaction C1-O2")
    assert advice("HCO", "contact") == advice("") == "advice"


def test_a_reaction_is_told_in_words():
    builder = VerdictBuilder([Threshold("reaction", 0, 0, 0, "advice", "reacted")], symbols="OHO")
    builder.add(0.0, {"reaction": Deviation("reaction", "bonds", 0.0)})
    builder.add(1.0, {"reaction": Deviation("reaction", "bonds", 1.0, (0, 1, 2))})
    assert "reaction 1 bonds at 1 fs (H1 moved from O0 to O2)" in str(builder.verdict())
