"""Gates that need nothing but a controller."""

from __future__ import annotations

import math

from bulkstow.model import Batch
from bulkstow.policy.concurrency import Concurrency
from bulkstow.policy.gates import RISE_EVERY_S, ConcurrencyGate
from bulkstow.policy.work_items import HealthSignal, Store

ITEM = Store(Batch(1, ()))


def start(gate: ConcurrencyGate, now_s: float) -> int:
    """Start as many items as may start now; return how many were started."""
    started = 0
    while gate.wait_s(None, now_s) == 0:
        gate.started(ITEM, now_s)
        started += 1
    return started


def test_a_limit_that_grows_is_used_by_one_request_after_the_other() -> None:
    """The first requests start together; one that raises the number under way waits for the one before it."""
    controller = Concurrency(start=4)
    gate = ConcurrencyGate(controller)
    assert start(gate, 0.0) == 4
    assert gate.wait_s(None, 0.0) == math.inf
    controller.limit = 7
    assert [start(gate, 1.0 + n * RISE_EVERY_S / 2) for n in range(6)] == [1, 0, 1, 0, 1, 0]
    assert gate.in_flight == 7


def test_a_number_that_was_reached_is_reached_again_at_once() -> None:
    """Requests that replace others do not wait; after the limit has fallen, the number is a new one again."""
    controller = Concurrency(start=4)
    gate = ConcurrencyGate(controller)
    start(gate, 0.0)
    for _ in range(3):
        gate.ended(ITEM, 1.0, HealthSignal.EASED)
    assert start(gate, 1.0) == 3
    controller.limit = 2
    for _ in range(4):
        gate.ended(ITEM, 2.0, HealthSignal.EASED)
    assert start(gate, 2.0) == 2
    controller.limit = 4
    assert [start(gate, 3.0), start(gate, 3.0), start(gate, 3.0 + RISE_EVERY_S)] == [1, 0, 1]
