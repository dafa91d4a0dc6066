"""One timer for each store request: the deadline of its present state, and the account of its time.

A connection has its timeout; then the server must accept some bytes every now and then, while there are any (slow
storage is not its fault); then it has time for the response, the longer the larger the batch. There is no deadline for
the whole request: a slow request is not a failed one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto

import anyio

from bulkstow.blocking import ReadLimit
from bulkstow.config import DestinationSettings
from bulkstow.model import Batch, RequestTiming

RESPONSE_S_PER_MIB = 1.0
RESPONSE_S_PER_INSTANCE = 0.1
"""Added to the response timeout: servers parse and index after the last byte, some ms for an instance (Orthanc on a
spinning disk up to 50), and a proxy's spooled body is read once more at disk speed."""


class RequestState(Enum):
    """What a request waits for."""

    CONNECTING = auto()
    READING = auto()
    """The storage, or a worker thread."""
    THROTTLED = auto()
    """The user's bandwidth limit."""
    SENDING = auto()
    """The server, to accept data."""
    WAITING = auto()
    """The response; the whole body is sent."""


class RequestTimer:
    """Times one request, from its construction to `timing`; belongs to the event loop."""

    def __init__(self, settings: DestinationSettings, batch: Batch, limit: ReadLimit) -> None:
        self._limit = limit
        self._stall_timeout_s = settings.stall_timeout_s
        self._response_timeout_s = (
            settings.response_timeout_s
            + RESPONSE_S_PER_MIB * batch.size_bytes / 2**20
            + RESPONSE_S_PER_INSTANCE * len(batch.instances)
        )
        self._started_s = self._entered_s = anyio.current_time()
        self._scope = anyio.CancelScope(
            deadline=self._started_s + settings.connect_timeout_s + settings.stall_timeout_s
        )
        self._spent_s = dict.fromkeys(RequestState, 0.0)
        self.state = RequestState.CONNECTING
        self._receive_window_share = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the request; cancel it, and leave the context, if its state lasts too long."""
        with self._scope, self._limit.on_shortened(self._shorten):
            yield

    @property
    def reading_for_s(self) -> float:
        """How long the present read has lasted; 0 in another state than READING."""
        return anyio.current_time() - self._entered_s if self.state is RequestState.READING else 0.0

    def begin_body(self) -> None:
        """Enter READING on a new connection; all time before that counts as connecting."""
        self.enter(RequestState.READING)
        self._spent_s = dict.fromkeys(RequestState, 0.0) | {RequestState.CONNECTING: self._entered_s - self._started_s}
        self._receive_window_share = 0.0

    def enter(self, state: RequestState) -> None:
        """Begin a state, or begin it again, with the whole time that it may last."""
        self._account()
        self.state = state
        match state:
            case RequestState.CONNECTING | RequestState.SENDING:
                allowed_s = self._stall_timeout_s
            case RequestState.READING:
                allowed_s = self._limit.allowed_s()
            case RequestState.THROTTLED:
                allowed_s = math.inf
            case RequestState.WAITING:
                allowed_s = self._response_timeout_s
        self._scope.deadline = self._entered_s + allowed_s

    def add_turn(self, reading_s: float, sending_s: float) -> None:
        """Add what a worker thread measured during READING; the time until a thread was free counts as nothing."""
        self._spent_s[RequestState.READING] += reading_s
        self._spent_s[RequestState.SENDING] += sending_s

    def add_receive_window(self, share: float) -> None:
        """Add the share of the sending time in which the server's receive window was full."""
        self._receive_window_share = share

    def timing(self) -> RequestTiming:
        """Return the time of the request until now, by what it waited for."""
        self._account()
        return RequestTiming(
            elapsed_s=self._entered_s - self._started_s,
            connecting_s=self._spent_s[RequestState.CONNECTING],
            reading_s=self._spent_s[RequestState.READING],
            sending_s=self._spent_s[RequestState.SENDING],
            waiting_s=self._spent_s[RequestState.WAITING],
            throttled_s=self._spent_s[RequestState.THROTTLED],
            receive_window_s=self._spent_s[RequestState.SENDING] * self._receive_window_share,
        )

    def _account(self) -> None:
        now_s = anyio.current_time()
        if self.state is not RequestState.READING:  # worker threads measure that
            self._spent_s[self.state] += now_s - self._entered_s
        self._entered_s = now_s

    def _shorten(self) -> None:
        """Wait only a moment longer for storage that hangs: the run is about to end."""
        if self.state is RequestState.READING:
            self._scope.deadline = self._entered_s + self._limit.allowed_s(self.reading_for_s)
