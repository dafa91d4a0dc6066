"""The times at which a server is asked again."""

from __future__ import annotations

import pytest

from bulkstow.policy.look import FIRST_PAUSE_S, next_look_in_s


def test_pauses_double_until_the_settle_time_is_over() -> None:
    """The last look is at the settle time, not before it."""
    looks, elapsed_s, pauses_s = 1, 0.0, []
    while (pause_s := next_look_in_s(looks, elapsed_s, 30.0)) is not None:
        pauses_s.append(pause_s)
        looks, elapsed_s = looks + 1, elapsed_s + pause_s
    assert pauses_s == [FIRST_PAUSE_S, 1.0, 2.0, 4.0, 8.0, 14.5]


@pytest.mark.parametrize(("elapsed_s", "settle_s"), [(0.0, 0.0), (30.0, 30.0), (31.0, 30.0)])
def test_no_look_follows_after_the_settle_time(elapsed_s: float, settle_s: float) -> None:
    """Without a settle time the first look is the last."""
    assert next_look_in_s(1, elapsed_s, settle_s) is None


def test_a_slow_look_does_not_exceed_the_settle_time() -> None:
    """If the looks themselves took long, the next one comes at the settle time."""
    assert next_look_in_s(4, 29.0, 30.0) == 1.0
