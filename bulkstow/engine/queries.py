"""Requests that read from a server, within the limits of the run's settings."""

from __future__ import annotations

from bulkstow.config import UploadSettings
from bulkstow.engine.descriptors import allowed_requests
from bulkstow.events import Reporter
from bulkstow.policy.concurrency import Concurrency
from bulkstow.policy.controllers import RequestLimits
from bulkstow.policy.health import CircuitBreaker
from bulkstow.policy.pacing import Pacer
from bulkstow.policy.request_rate import RequestRate
from bulkstow.policy.retry import Backoff
from bulkstow.verification.requests import Requests


def requests_for(settings: UploadSettings, reporter: Reporter) -> Requests:
    """Return the requests of a run, with the limits and retries of its settings."""
    highest = at_once(settings)
    concurrency = Concurrency(lowest=min(settings.concurrency.lowest, highest), highest=highest)
    return Requests(
        limits=RequestLimits(concurrency=concurrency, request_rate=RequestRate()),
        breaker=CircuitBreaker(give_up_after_s=settings.give_up_after_s),
        pacer=None if settings.requests_per_s is None else Pacer(settings.requests_per_s),
        backoff=Backoff(),
        attempts=settings.retries + 1,
        reporter=reporter,
    )


def at_once(settings: UploadSettings) -> int:
    """Return how many requests may be under way, as the settings and the limit on open files allow."""
    return allowed_requests(at_once=settings.concurrency.highest, readers=settings.read_concurrency)
