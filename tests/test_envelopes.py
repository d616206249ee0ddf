"""Long curves in few points: every bucket keeps its extremes, and no spike is lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import mdxai
from mdxai.principles import Deviation, Residual
from mdxai.principles.explanation.body_order import body_order_shares
from mdxai.record import RecordSettings, RunWriter
from mdxai.report.envelopes import BUCKETS, Envelope, read_body_orders, read_series

from .synthetic_run import HEADER, Measure, attribution_of, frame_at


def brute_force(steps, times, values, first, last):
    """Extremes of each bucket, row by row."""
    found = {}
    for step, time, value in zip(steps, times, values, strict=True):
        if np.isfinite(value):
            found.setdefault((step - first) * BUCKETS // (last - first + 1), []).append(
                (value, time)
            )
    points = {p for inside in found.values() for p in (min(inside), max(inside))}
    return sorted(value for value, _ in points), sorted(time for _, time in points)


@pytest.mark.parametrize("n", [1, 2, 749, 750, 751, 5000])
def test_the_envelope_equals_brute_force(n):
    rng = np.random.default_rng(n)
    steps = np.sort(rng.choice(10 * n + 3, n, replace=False))
    times, values = 0.5 * steps, rng.normal(size=(n, 2))
    values[rng.random((n, 2)) < 0.1] = np.nan
    values[rng.random((n, 2)) < 0.01] = np.inf
    measured = rng.random((n, 2)) < 0.8
    envelope = Envelope(2, int(steps[0]), int(steps[-1]))
    for cut in np.array_split(np.arange(n), 7):  # as row groups come
        if len(cut):
            envelope.update(steps[cut], times[cut], values[cut], measured[cut])
    for k in range(2):
        curve, there = envelope.curve(k), measured[:, k]
        expected = brute_force(steps[there], times[there], values[there, k], steps[0], steps[-1])
        assert sorted(curve.values) == expected[0]
        assert sorted(curve.times) == expected[1]
        assert (np.diff(curve.times) > 0).all()
        assert len(curve.times) <= 2 * BUCKETS
        assert curve.n_measured == there.sum()
        wrong = times[there & ~np.isfinite(values[:, k])]
        assert (len(curve.not_finite) > 0) == (len(wrong) > 0)
        assert set(curve.not_finite) <= set(wrong)
        if n <= BUCKETS // 20:  # every row has a bucket of its own
            assert set(curve.not_finite) == set(wrong)


def test_a_spike_of_one_frame_in_a_hundred_thousand_is_drawn(tmp_path):
    n, at = 100_000, 61_803
    writer = RunWriter(tmp_path / "run", RecordSettings(rows_per_part=20_000, trajectory_every=n))
    writer.start(HEADER | {"thresholds": {}}, [Measure("bond", "Å")])
    first = frame_at(0)
    calm, spike = ({"bond": Deviation("bond", "Å", v)} for v in (0.1, 7.25))
    for step in range(n):
        frame = replace(first, step=step, time=0.5 * step)
        writer.add_frame(frame, spike if step == at else calm)
        if writer.due(step):
            writer.commit(step)
    writer.finish({"stability": "stable"}, None)
    run = mdxai.open_run(tmp_path / "run")
    curve = read_series(run, ["bond"]).curves["bond"]
    assert curve.largest == 7.25
    assert curve.times[curve.values == 7.25] == [0.5 * at]
    assert len(curve.times) <= 2 * BUCKETS


def explained_run(path, orders_at, steps=20):
    """Record explanations whose relevance by body order is `orders_at(step)`; return them."""
    writer, made = RunWriter(path), []
    writer.start(HEADER, [Measure("bond")])
    for step in range(steps):
        frame = frame_at(step)
        made.append(replace(attribution_of(frame), by_body_order=np.array(orders_at(step))))
        writer.add_frame(frame, {"bond": Deviation("bond", "Å", 0.1)})
        writer.add_attribution(frame, made[-1])
    writer.finish({"stability": "stable"}, None)
    return made


def test_body_orders_and_residual_are_shares_of_the_absolute_sum(tmp_path):
    made = explained_run(tmp_path / "run", lambda step: [-1.0, 2.0 + step, -0.5])
    curves = read_body_orders(mdxai.open_run(tmp_path / "run")).curves
    shares = np.array([body_order_shares(one) for one in made])
    assert list(curves) == ["order 1", "order 2", "order 3", "residual"]
    for name, expected in zip(curves, shares.T, strict=False):
        np.testing.assert_allclose(curves[name].values, expected, rtol=1e-6)
    residual = curves["residual"]
    principle = [Residual().deviate(frame_at(k), one).value for k, one in enumerate(made)]
    np.testing.assert_allclose(np.abs(residual.values), principle, rtol=1e-6)
    assert np.sign(residual.values).tolist() == np.sign([one.residual for one in made]).tolist()
    assert residual.times.tolist() == (0.5 * np.arange(20)).tolist()


def test_frames_resolved_to_another_order_and_broken_ones_are_left_out(tmp_path):
    orders = {3: [1.0, 2.0], 4: [np.nan, np.nan, np.nan], 5: [0.0, 0.0, 0.0]}
    explained_run(tmp_path / "run", lambda step: orders.get(step, [1.0, 2.0, 3.0]))
    one_body = read_body_orders(mdxai.open_run(tmp_path / "run")).curves["order 1"]
    assert one_body.n_measured == 19
    assert one_body.not_finite.tolist() == [2.0]
    shares = np.where(np.arange(18) == 3, 0.0, 1 / 6)  # the fourth of them holds no relevance
    np.testing.assert_allclose(one_body.values, shares, rtol=1e-6)


def test_a_run_without_explanations_has_no_body_orders(tmp_path):
    writer = RunWriter(tmp_path / "run")
    writer.start(HEADER, [Measure("bond")])
    writer.add_frame(frame_at(0), {"bond": Deviation("bond", "Å", 0.1)})
    writer.finish({"stability": "stable"}, None)
    assert read_body_orders(mdxai.open_run(tmp_path / "run")).curves == {}
