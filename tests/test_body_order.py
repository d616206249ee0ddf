"""Shares of body orders: their order and their drift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mdxai.principles import BodyOrderDrift, BodyOrders, Residual

from .explained_frames import explained, shaken


def test_body_orders_may_not_grow():
    frame = shaken(4)
    falling = explained(frame, lambda *_: 1.0, orders=(0.1, -5.0, 4.0, 0.5))
    rising = explained(frame, lambda *_: 1.0, orders=(0.1, -4.0, 5.0, 0.5))
    assert BodyOrders().deviate(frame, falling).value == 0
    assert BodyOrders().deviate(frame, rising).value == pytest.approx(1 / 9.6)


def test_shares_of_next_to_nothing_say_nothing():
    frame, drift = shaken(4), BodyOrderDrift()
    tiny = explained(frame, lambda *_: 1.0, orders=(0.0, 0.0, 0.001))
    assert BodyOrders().deviate(frame, tiny).value == pytest.approx(0.01)
    for k in range(200):
        orders = (0.001, 0.0, 0.0) if k < 20 else (0.0, 0.001, 0.0)
        last = drift.deviate(frame, explained(frame, lambda *_: 1.0, orders=orders))
    assert last.value == pytest.approx(0.01, rel=0.01)
    lost = explained(frame, lambda *_: 1.0, orders=(np.nan, 0.0, 0.0))
    assert np.isnan(drift.deviate(frame, lost).value)
    assert np.isnan(Residual().deviate(frame, lost).value)


def test_a_residual_of_next_to_nothing_is_no_share():
    frame = shaken(4)
    lost = explained(frame, lambda *_: 1.0, orders=(0.001, 0.0, 0.0))
    assert Residual().deviate(frame, replace(lost, output=0.002)).value == pytest.approx(0.02)
    assert Residual().deviate(frame, replace(lost, output=0.2)).value == pytest.approx(2.0)
