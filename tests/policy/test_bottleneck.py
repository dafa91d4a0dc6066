"""Claims about the bottleneck of a run."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.model import RequestTiming
from bulkstow.policy.bottleneck import Bottleneck, Usage, Wait, bottleneck

seconds = st.floats(min_value=0, max_value=1e6)
usages = st.builds(Usage, *(seconds for _ in fields(Usage)))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(), Bottleneck.UNKNOWN),
        (Usage(elapsed_s=10, cpu_s=9.9), Bottleneck.UNKNOWN),
        (Usage(elapsed_s=0.9, requests_s=2, waiting_s=2), Bottleneck.UNKNOWN),
        (Usage(elapsed_s=10, requests_s=40, waiting_s=30, sending_s=8, reading_s=2), Bottleneck.SERVER),
        (Usage(elapsed_s=10, requests_s=40, sending_s=30, receive_window_s=28, waiting_s=2), Bottleneck.SERVER),
        (Usage(elapsed_s=10, requests_s=40, sending_s=30, receive_window_s=3, waiting_s=8), Bottleneck.NETWORK),
        (Usage(elapsed_s=10, requests_s=40, connecting_s=30, waiting_s=8), Bottleneck.NETWORK),
        (Usage(elapsed_s=10, requests_s=40, reading_s=30, waiting_s=8), Bottleneck.DISK),
        (Usage(elapsed_s=10, requests_s=9, waiting_s=8, nothing_to_send_s=6), Bottleneck.DISK),
        (Usage(elapsed_s=10, requests_s=9, waiting_s=8, study_limit_s=6), Bottleneck.STUDIES),
        (Usage(elapsed_s=10, requests_s=40, reading_s=30, cpu_s=9, busiest_cpu_s=9), Bottleneck.CLIENT),
        (Usage(elapsed_s=10, requests_s=9, waiting_s=8, nothing_to_send_s=6, busiest_cpu_s=9), Bottleneck.CLIENT),
        (Usage(elapsed_s=10, requests_s=40, waiting_s=30, cpu_s=18, busiest_cpu_s=7), Bottleneck.SERVER),
        (Usage(elapsed_s=10, requests_s=40, throttled_s=30, sending_s=8), Bottleneck.LIMIT),
        (Usage(elapsed_s=10, requests_s=4, waiting_s=4, pacing_s=8), Bottleneck.LIMIT),
        (Usage(elapsed_s=10, requests_s=2, throttled_s=2, outage_s=6), Bottleneck.OUTAGE),
        (Usage(elapsed_s=10, outage_s=6), Bottleneck.OUTAGE),
        (Usage(elapsed_s=10, requests_s=4, waiting_s=4, server_rate_s=8), Bottleneck.SERVER_RATE),
        (Usage(elapsed_s=10, requests_s=4, waiting_s=4, pacing_s=4, outage_s=3), Bottleneck.LIMIT),
        (Usage(elapsed_s=10, requests_s=4, waiting_s=4, pacing_s=3, outage_s=3), Bottleneck.SERVER),
    ],
    ids=lambda value: value.name if isinstance(value, Bottleneck) else None,
)
def test_bottleneck(usage: Usage, expected: Bottleneck) -> None:
    """The largest share wins; outages, the user's limit, a busy processor and a lack of files precede requests."""
    assert bottleneck(usage) is expected


@given(usages)
def test_every_usage_has_a_bottleneck_with_a_meaning(usage: Usage) -> None:
    """Any measurement has one bottleneck, and the bottleneck has a text for users."""
    assert bottleneck(usage).meaning


@given(usages, seconds, st.sampled_from(Wait))
def test_a_period_is_the_difference_of_two_sums(before: Usage, duration_s: float, wait: Wait) -> None:
    """A request and a wait are added to their own fields and to no other."""
    timing = RequestTiming(
        elapsed_s=6, connecting_s=1, reading_s=1, sending_s=2, waiting_s=1, throttled_s=1, receive_window_s=1
    )
    period = Usage().with_request(timing).with_wait(wait, duration_s).since(Usage())
    assert period.requests_s == 6
    assert sum(period.by_name_s.values()) == pytest.approx(6 + duration_s)
    assert before.since(before) == Usage()
