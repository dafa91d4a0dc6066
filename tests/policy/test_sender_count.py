"""The number of sender processes: when one is added, kept and given up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.policy.sender_count import HOLD_S, PERIODS_BEFORE, TRIAL_PERIODS, Period, SenderCount

PERIOD_S = 0.5


def period(work: float = 100.0, **changes: Any) -> Period:
    """Return a period in which this process is busy, and a processor idle."""
    usual = {"coordinator_s": 0.5, "sender_s": 0.0, "idle_cores": 1.0, "is_sending": True}
    return Period(elapsed_s=PERIOD_S, work=work, **(usual | changes))


def observe(senders: SenderCount, times: int, work: float = 100.0, **changes: Any) -> None:
    """Observe equal periods."""
    for _ in range(times):
        senders.observe(period(work, **changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 1),
        ({"coordinator_s": 0.3}, 1),
        ({"coordinator_s": 0.2}, 0),
        ({"idle_cores": 0.1}, 0),
        ({"is_sending": False}, 0),
    ],
    ids=["busy", "busy enough", "the processor waits", "no processor is free", "nothing is sent"],
)
def test_the_first_sender(changes: dict[str, Any], expected: int) -> None:
    """A sender is added if this process is busy with sending and a processor is free."""
    senders = SenderCount(4)
    observe(senders, PERIODS_BEFORE - 1, **changes)
    assert senders.count == 0
    observe(senders, 1, **changes)
    assert senders.count == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"coordinator_s": 0.2, "sender_s": 0.5}, 2),
        ({"coordinator_s": 0.5, "sender_s": 0.5}, 1),
        ({"coordinator_s": 0.2, "sender_s": 0.2}, 1),
    ],
    ids=["the sender is busy", "this process is busy too", "the sender waits"],
)
def test_another_sender(changes: dict[str, Any], expected: int) -> None:
    """Another sender is added if the busiest one limits the run, and not this process."""
    senders = SenderCount(4)
    observe(senders, PERIODS_BEFORE)
    observe(senders, TRIAL_PERIODS, work=200.0)
    assert senders.count == 1
    senders.observe(period(200.0, **changes))
    assert senders.count == expected


def test_a_sender_without_gain_is_given_up() -> None:
    """One that brings nothing is given up, and tried again only after the hold, which grows."""
    senders = SenderCount(4)
    observe(senders, PERIODS_BEFORE)
    for hold_s in (HOLD_S, 2 * HOLD_S):
        assert (senders.count, senders.settled) == (1, 0)
        observe(senders, TRIAL_PERIODS, work=101.0)
        periods = 0
        while senders.count == 0:
            observe(senders, 1)
            periods += 1
        assert periods * PERIOD_S == hold_s


def test_a_pause_does_not_end_a_trial() -> None:
    """Periods in which nothing is sent are left out of the measurement."""
    senders = SenderCount(4)
    observe(senders, PERIODS_BEFORE)
    for _ in range(TRIAL_PERIODS):
        observe(senders, 1, work=200.0)
        observe(senders, 3, work=0.0, is_sending=False)
    assert senders.settled == 1


def test_those_that_helped_stay() -> None:
    """A trial of one more never ends with fewer than before."""
    senders = SenderCount(4)
    observe(senders, PERIODS_BEFORE)
    observe(senders, TRIAL_PERIODS, work=170.0)
    senders.observe(period(170.0, coordinator_s=0.1, sender_s=0.5))
    observe(senders, TRIAL_PERIODS, work=171.0, coordinator_s=0.1, sender_s=0.5)
    assert senders.count == 1
    observe(senders, 10 * TRIAL_PERIODS, work=20.0, coordinator_s=0.0, sender_s=0.1)
    assert senders.count == 1


@given(
    st.integers(0, 3),
    st.lists(st.builds(period, st.floats(0, 1e12), coordinator_s=st.floats(0, 2), sender_s=st.floats(0, 2))),
)
def test_the_number_stays_within_its_bounds(most: int, periods: list[Period]) -> None:
    """Whatever is measured, there are at most `most` senders, and at most one more or less than a period before."""
    senders = SenderCount(most)
    for each in periods:
        before = senders.count
        senders.observe(each)
        assert 0 <= senders.count <= most
        assert abs(senders.count - before) <= 1
