"""The controllers of a run: how many requests at once, how many per second, and how much each holds.

They are told of every request that ended, in one place; gates and the batcher read their limits.
"""

from __future__ import annotations

from dataclasses import dataclass

from bulkstow.model import Cause, Exchange, NoResponse, Response, SourceChanged
from bulkstow.policy.batch_size import BatchSize
from bulkstow.policy.batching import BatchLimits
from bulkstow.policy.concurrency import Concurrency
from bulkstow.policy.request_rate import RequestRate

SMALLEST_CEILING_BYTES = 2**18
"""nginx accepts 1 MiB by default, framing included; a 413 for less is about the file, not about the batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRequest:
    """A request that ended, for the controllers."""

    size_bytes: int
    """The bytes that it transferred: the files of a batch, or one instance."""
    instances: int
    exchange: Exchange
    started_s: float
    ended_s: float
    at_once: int
    """Requests that were under way when it started, itself included."""
    is_wanted: bool
    """More waits to be sent than may be under way."""
    is_plenty: bool = False
    """Enough waits that half as many requests would keep all connections busy."""
    is_outage: bool
    """The destination is unavailable or out of space, which says nothing about limits."""


class RequestLimits:
    """Owns the controllers of concurrent requests and of requests started per second."""

    def __init__(self, *, concurrency: Concurrency, request_rate: RequestRate) -> None:
        self.concurrency = concurrency
        self.request_rate = request_rate

    def ended(self, request: EndedRequest) -> None:
        """Observe a request that ended; requests cancelled by bulkstow are ignored."""
        if request.is_outage:
            return
        is_rejected = True
        match request.exchange:
            case (
                SourceChanged()
                | NoResponse(cause=Cause.UNREACHABLE | Cause.DISCONNECTED | Cause.MALFORMED | Cause.SENDER_LOST)
            ):
                return
            case Response(status=429 | 503):
                can_lower = self.concurrency.limit > self.concurrency.lowest
                if not (can_lower and self.request_rate.is_of_concurrency(request.at_once)):
                    self.request_rate.rejected(request.started_s, request.ended_s)
                    return
            case Response():
                self.request_rate.accepted(request.ended_s, request.at_once)
                is_rejected = False
            case NoResponse():
                pass
        self.concurrency.ended(
            request.started_s,
            request.ended_s,
            request.size_bytes,
            request.instances,
            at_once=request.at_once,
            is_rejected=is_rejected,
            is_wanted=request.is_wanted,
        )


class Controllers(RequestLimits):
    """Owns the controllers of a run's store requests; `batch_limits` are the current limits of a batch."""

    def __init__(self, *, concurrency: Concurrency, batch_size: BatchSize, request_rate: RequestRate) -> None:
        super().__init__(concurrency=concurrency, request_rate=request_rate)
        self._batch_size = batch_size
        self.batch_limits: BatchLimits = batch_size.limits

    def ended(self, request: EndedRequest) -> None:
        """Take note of a request that ended."""
        self._adapt_batch_size(request)
        super().ended(request)

    def learn_ceiling(self, refused_bytes: int) -> int | None:
        """Take note that a body was too large (413); return the new limit, None if it changes nothing."""
        ceiling_bytes = max(refused_bytes // 2, SMALLEST_CEILING_BYTES)
        if not self._batch_size.learn_ceiling(ceiling_bytes):
            return None
        self.batch_limits = self._batch_size.limits
        return ceiling_bytes

    def with_batch_size(self, batch_size: BatchSize) -> Controllers:
        """Return these controllers with another batch size."""
        return Controllers(concurrency=self.concurrency, batch_size=batch_size, request_rate=self.request_rate)

    def _adapt_batch_size(self, request: EndedRequest) -> None:
        exchange = request.exchange
        # A body that was sent twice took the time of two.
        if isinstance(exchange, Response) and 200 <= exchange.status < 300 and not exchange.is_replayed:
            self._batch_size.ended(
                request.size_bytes,
                request.instances,
                request.ended_s - request.started_s,
                is_plenty=request.is_plenty,
            )
        self.batch_limits = self._batch_size.limits
