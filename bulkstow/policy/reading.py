"""Decisions after a read request: whether it is retried, and its signal about the destination's health.

The counterpart of `settlement` for searches and retrievals, which change nothing at the server, so that repeating them
is always safe.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bulkstow.model import Cause, NoResponse, Response
from bulkstow.policy.exchange import health_signal_of, is_absence, status_reason
from bulkstow.policy.retry import Delay
from bulkstow.policy.work_items import MOST_EXCUSED, HealthSignal

_REJECTIONS = (429, 503)
_TEMPORARY = (408, 425)


@dataclass(frozen=True, slots=True)
class Tries:
    """The history of one request."""

    failed: int = 0
    """Attempts that ended without an answer."""
    excused: int = 0
    """Attempts that the server rejected because of load, or that failed during an outage; they do not count."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Make the request again."""

    tries: Tries
    delay: Delay
    at_least_s: float | None = None
    """The server's Retry-After."""


def is_answer(exchange: Response | NoResponse) -> bool:
    """Return whether the answer is final: a status that a retry would not change."""
    return (
        isinstance(exchange, Response)
        and exchange.status < 500
        and exchange.status
        not in (
            *_REJECTIONS,
            *_TEMPORARY,
        )
    )


def signal_of(exchange: Response | NoResponse) -> HealthSignal:
    """Return the health signal of an exchange."""
    match exchange:
        case Response(status=status) if status in _REJECTIONS:
            return HealthSignal.REJECTED
        case _:
            return health_signal_of(exchange)


def after_failure(exchange: Response | NoResponse, tries: Tries, *, attempts: int, is_outage: bool) -> Retry | str:
    """Return how an unanswered request is retried; if it is not, why it has failed.

    Rejections because of load and failures in an outage do not count as attempts, up to MOST_EXCUSED of them.
    """
    at_least_s = exchange.retry_after_s if isinstance(exchange, Response) else None
    is_rejected = isinstance(exchange, Response) and exchange.status in _REJECTIONS
    if (is_rejected or (is_outage and is_absence(exchange))) and tries.excused < MOST_EXCUSED:
        return Retry(replace(tries, excused=tries.excused + 1), Delay.BACKOFF, at_least_s)
    tries = replace(tries, failed=tries.failed + 1)
    is_hopeless = isinstance(exchange, NoResponse) and exchange.cause is Cause.OVERLONG
    if is_hopeless or tries.failed >= attempts:
        return failure_reason(exchange)
    return Retry(tries, Delay.BACKOFF, at_least_s)


def failure_reason(exchange: Response | NoResponse) -> str:
    """Return why a request was not answered, in words."""
    if isinstance(exchange, Response):
        return status_reason(exchange)
    return f"{exchange.cause}: {exchange.detail}" if exchange.detail else exchange.cause.value
