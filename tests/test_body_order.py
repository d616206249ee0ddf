"""Shares of body orders: their order and their drift."""

from __future__ import annotations

import pytest

from mdxai.principles import (
    BodyOrders,
)

from .explained_frames import explained, shaken


def test_body_orders_may_not_grow():
    frame = shaken(4)
    falling = explained(frame, lambda *_: 1.0, orders=(0.1, -5.0, 4.0, 0.5))
    rising = explained(frame, lambda *_: 1.0, orders=(0.1, -4.0, 5.0, 0.5))
    assert BodyOrders().deviate(frame, falling).value == 0
    assert BodyOrders().deviate(frame, rising).value == pytest.approx(1 / 9.6)
