"""Decisions after a request that reads."""

from __future__ import annotations

import pytest

from bulkstow.model import Cause, NoResponse, Response
from bulkstow.policy.reading import Retry, Tries, after_failure, is_answer, signal_of
from bulkstow.policy.retry import Delay
from bulkstow.policy.work_items import MOST_EXCUSED, HealthSignal

GONE = NoResponse(Cause.UNREACHABLE, body_started=False)
CUT_OFF = NoResponse(Cause.DISCONNECTED, body_started=False, detail="connection closed")
MALFORMED = NoResponse(Cause.MALFORMED, body_started=False, detail="broken JSON")
OVERLONG = NoResponse(Cause.OVERLONG, body_started=False, detail="more than 5 bytes")


@pytest.mark.parametrize(
    ("exchange", "answers", "signal"),
    [
        (Response(404, b""), True, HealthSignal.EASED),
        (Response(400, b""), True, HealthSignal.EASED),
        (Response(403, b""), True, HealthSignal.EASED),
        (Response(408, b""), False, HealthSignal.EASED),
        (Response(429, b""), False, HealthSignal.REJECTED),
        (Response(500, b""), False, HealthSignal.EASED),
        (Response(502, b""), False, HealthSignal.GONE),
        (Response(503, b""), False, HealthSignal.REJECTED),
        (GONE, False, HealthSignal.GONE),
        (CUT_OFF, False, HealthSignal.GONE),
        (MALFORMED, False, HealthSignal.EASED),
    ],
)
def test_what_an_exchange_says(exchange: Response | NoResponse, answers: bool, signal: HealthSignal) -> None:
    """A status that no retry changes is an answer; the others are signals of the server's health."""
    assert (is_answer(exchange), signal_of(exchange)) == (answers, signal)


@pytest.mark.parametrize(
    ("exchange", "tries", "is_outage", "expected"),
    [
        (GONE, Tries(), False, Retry(Tries(failed=1), Delay.BACKOFF)),
        (GONE, Tries(), True, Retry(Tries(excused=1), Delay.BACKOFF)),
        (GONE, Tries(failed=2), False, "no connection"),
        (CUT_OFF, Tries(failed=2), False, "connection lost: connection closed"),
        (MALFORMED, Tries(), True, Retry(Tries(failed=1), Delay.BACKOFF)),
        (OVERLONG, Tries(), False, "answer longer than the limit: more than 5 bytes"),
        (Response(500, b"broken"), Tries(failed=2), False, "HTTP 500 (broken)"),
        (Response(429, b"", retry_after_s=7.0), Tries(failed=2), False, Retry(Tries(2, 1), Delay.BACKOFF, 7.0)),
        (Response(503, b""), Tries(2, MOST_EXCUSED), False, "HTTP 503 (no reason given)"),
    ],
)
def test_what_follows_from_a_failure(
    exchange: Response | NoResponse, tries: Tries, is_outage: bool, expected: Retry | str
) -> None:
    """Failures count up to the limit of attempts; rejections and those of an outage do not, up to their own limit."""
    assert after_failure(exchange, tries, attempts=3, is_outage=is_outage) == expected
