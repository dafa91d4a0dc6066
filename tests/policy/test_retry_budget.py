"""The retry budget."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bulkstow.model import Batch, Candidate, Instance
from bulkstow.policy.retry_budget import RetryBudget
from bulkstow.policy.work_items import Query, Store, WorkItem
from tests.archives import header

BATCH = Batch(1, (Instance(Candidate("/1", 1, 1), header(1)),))
FIRST = Store(BATCH)
RETRY = Store(replace(BATCH, requests=1, failed_attempts=1))


@pytest.mark.parametrize(
    "item",
    [None, FIRST, Query(RETRY.batch, "no answer"), replace(RETRY, is_piece=True)],
    ids=["a probe", "a first attempt", "a query", "a part of a batch that was split"],
)
def test_only_retries_wait(item: WorkItem | None) -> None:
    """Without any budget left, everything but a retry may start, and does not count as one."""
    budget = RetryBudget(share=0.0, minimum_per_s=0.1, most=1.0)
    budget.started(item, 0.0)
    assert budget.wait_s(RETRY, 0.0) == 0.0
    budget.started(RETRY, 0.0)
    assert budget.wait_s(item, 0.0) == 0.0
    assert budget.wait_s(RETRY, 0.0) == pytest.approx(10.0)


def test_retries_are_a_share_of_first_tries() -> None:
    """Over a run there are no more retries than the share, the initial budget, and what time earns."""
    budget = RetryBudget(share=0.2, minimum_per_s=0.01, most=5.0)
    retries = 0
    for number in range(1000):
        budget.started(FIRST, number * 0.1)
        while budget.wait_s(RETRY, number * 0.1) <= 0:
            budget.started(RETRY, 0.0)
            retries += 1
    assert 195 <= retries <= 1000 * 0.2 + 5 + 100 * 0.01


def test_what_is_left_at_the_end_is_tried_all_the_same() -> None:
    """Without first attempts a retry is allowed after the time that the budget names, and not before."""
    budget = RetryBudget(minimum_per_s=0.5, most=1.0)
    assert budget.wait_s(RETRY, 0.0) == 0.0
    budget.started(RETRY, 0.0)
    assert budget.wait_s(RETRY, 0.0) == pytest.approx(2.0, abs=1e-3)
    assert budget.wait_s(RETRY, 1.0) == pytest.approx(1.0, abs=1e-3)
    assert budget.wait_s(RETRY, 2.0) == 0.0


def test_a_quiet_hour_does_not_save_up_a_storm() -> None:
    """The budget that time earns is bounded."""
    budget = RetryBudget(minimum_per_s=10.0, most=3.0)
    budget.wait_s(RETRY, 0.0)
    allowed = 0
    while budget.wait_s(RETRY, 3600.0) <= 0:
        budget.started(RETRY, 0.0)
        allowed += 1
    assert allowed == 3
