"""What the controllers are told of a request, and what others read from them."""

from __future__ import annotations

import pytest

from bulkstow.model import Cause, Exchange, NoResponse, Response, SourceChanged
from bulkstow.policy.batch_size import BatchSize, Bound
from bulkstow.policy.batching import BatchLimits
from bulkstow.policy.concurrency import Concurrency
from bulkstow.policy.controllers import SMALLEST_CEILING_BYTES, Controllers, EndedRequest
from bulkstow.policy.request_rate import RequestRate


class Told:
    """Controllers that write down what they are told."""

    def __init__(self, lowest: int = 1) -> None:
        told = self.told = list[str]()

        class ToldConcurrency(Concurrency):
            def ended(
                self,
                started_s: float,
                now_s: float,
                size_bytes: int,
                instances: int,
                *,
                at_once: int,
                is_rejected: bool = False,
                is_wanted: bool = True,
            ) -> None:
                told.append(f"concurrency {'rejected' if is_rejected else 'ended'} {started_s} {at_once}")

        class ToldBatchSize(BatchSize):
            def ended(self, size_bytes: int, instances: int, elapsed_s: float, *, is_plenty: bool = False) -> None:
                told.append(f"batch size {size_bytes} {instances} {elapsed_s}")

        class ToldRequestRate(RequestRate):
            def accepted(self, now_s: float, at_once: int) -> None:
                told.append(f"rate accepted {now_s} {at_once}")

            def rejected(self, started_s: float, now_s: float) -> None:
                told.append(f"rate rejected {started_s} {now_s}")

            def is_of_concurrency(self, at_once: int) -> bool:
                return at_once == 4

        self.controllers = Controllers(
            concurrency=ToldConcurrency(lowest=lowest, highest=8),
            batch_size=ToldBatchSize(),
            request_rate=ToldRequestRate(),
        )


def ended(exchange: Exchange, *, at_once: int = 2, is_outage: bool = False) -> EndedRequest:
    """Return a request that took 3 s."""
    return EndedRequest(
        size_bytes=150,
        instances=3,
        exchange=exchange,
        started_s=7.0,
        ended_s=10.0,
        at_once=at_once,
        is_wanted=True,
        is_plenty=False,
        is_outage=is_outage,
    )


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (ended(Response(200, b"")), ["batch size 150 3 3.0", "rate accepted 10.0 2", "concurrency ended 7.0 2"]),
        (ended(Response(200, b"", is_replayed=True)), ["rate accepted 10.0 2", "concurrency ended 7.0 2"]),
        (ended(Response(500, b"")), ["rate accepted 10.0 2", "concurrency ended 7.0 2"]),
        (ended(Response(503, b"")), ["rate rejected 7.0 10.0"]),
        (ended(Response(429, b""), at_once=4), ["concurrency rejected 7.0 4"]),
        (ended(NoResponse(Cause.UNANSWERED, body_started=True)), ["concurrency rejected 7.0 2"]),
        (ended(NoResponse(Cause.STALLED, body_started=True)), ["concurrency rejected 7.0 2"]),
        (ended(NoResponse(Cause.UNREACHABLE, body_started=False)), []),
        (ended(NoResponse(Cause.DISCONNECTED, body_started=True)), []),
        (ended(NoResponse(Cause.MALFORMED, body_started=True)), []),
        (ended(SourceChanged({})), []),
        (ended(Response(503, b""), is_outage=True), []),
        (ended(Response(200, b""), is_outage=True), ["batch size 150 3 3.0"]),
    ],
    ids=lambda value: str(value.exchange) if isinstance(value, EndedRequest) else "",
)
def test_who_is_told_of_a_request(request_: EndedRequest, expected: list[str]) -> None:
    """A response tells all; a rejection either the rate or the number at once; a cancelled request nothing."""
    told = Told()
    told.controllers.ended(request_)
    assert told.told == expected


def test_a_rejection_at_the_lowest_number_is_put_down_to_the_rate() -> None:
    """Fewer than one request at once is impossible."""
    told = Told(lowest=4)
    told.controllers.ended(ended(Response(503, b""), at_once=4))
    assert told.told == ["rate rejected 7.0 10.0"]


@pytest.mark.parametrize(
    ("given_bytes", "refused_bytes", "ceiling_bytes", "limit_bytes"),
    [
        ("auto", 2**22, 2**21, 2**21),
        (None, 2**22, 2**21, 2**21),
        (2**20, 2**22, None, 2**20),
        (2**23, 2**22, 2**21, 2**21),
        ("auto", 1000, SMALLEST_CEILING_BYTES, SMALLEST_CEILING_BYTES),
    ],
)
def test_a_body_that_was_too_large_bounds_the_next_ones(
    given_bytes: Bound, refused_bytes: int, ceiling_bytes: int | None, limit_bytes: int
) -> None:
    """Half of what was refused, but no less than servers accept by default; None where batches were smaller already."""
    controllers = Controllers(
        concurrency=Concurrency(), batch_size=BatchSize(given_bytes, "auto"), request_rate=RequestRate()
    )
    assert controllers.learn_ceiling(refused_bytes) == ceiling_bytes
    assert controllers.batch_limits.size_bytes == limit_bytes


def test_another_batch_size_shares_the_other_controllers() -> None:
    """Files in conflict go one to a request, with the concurrency and the rate that the run has found."""
    controllers = Told().controllers
    single = controllers.with_batch_size(BatchSize(None, 1))
    assert single.batch_limits == BatchLimits(None, 1)
    assert controllers.batch_limits != single.batch_limits
    assert single.concurrency is controllers.concurrency
    assert single.request_rate is controllers.request_rate
