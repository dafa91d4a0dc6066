"""Fetches instances into the spool: a series in one request where all of it is wanted, and single instances otherwise.

Retrievals are repeated as searches are. An instance that cannot be fetched is unreadable, with the server's message.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from bulkstow.destination.search import Found as Received
from bulkstow.destination.wado import Retriever
from bulkstow.errors import LoginRefused, SpoolError, SpoolExceeded
from bulkstow.model import Candidate, Cause, FileResult, Header, NoResponse, Outcome, Response
from bulkstow.policy.reading import failure_reason
from bulkstow.ports import Found
from bulkstow.retrieval.locations import NO_PATH, Locations
from bulkstow.retrieval.reception import ReceivedInstance, SpoolReceiver, Take
from bulkstow.retrieval.results import Results
from bulkstow.source.spool import Spool
from bulkstow.verification.requests import Requests, Unanswered
from bulkstow.wire.resource_path import instance_path, series_path

INSTANCES_AT_ONCE = 64
"""Single instances of a series that wait for their requests at a time, if the limit of requests is not lower."""

READY_BYTES = 8 * 2**20
"""The content of a list that is fetched ahead of the next stage: a source that is faster than the destination is slowed
down before the spool has to use a disk. Eight lists are fetched at a time."""

STALLED_S = 1.0
"""A wait for room after which a lost connection is no failed attempt: servers close connections that do not proceed.
With a slow destination and a server that does so after 2 s, an instance of 12 MB was unreadable after two attempts."""

_ABSENT = (404, 410)
"""Statuses of a series that is gone; a server that sends no series at all costs one request a series more."""

_REFUSED = (401, 403)

MOST_REFUSED_IN_SUCCESSION = 100
"""Instances that are refused one after the other, after which the run stops: the login may have ended."""

Wanted = dict[str, Candidate]
"""Candidates by SOP Instance UID."""

IsWhole = Callable[[str, int], bool]
"""Returns whether so many candidates are all instances that were listed of a series, by its path."""


class Fetcher:
    """Fetches from one server."""

    def __init__(
        self,
        requests: Requests,
        retriever: Retriever,
        locations: Locations,
        spool: Spool,
        threads: Executor,
        is_whole: IsWhole,
        *,
        accept_missing_preamble: bool = False,
    ) -> None:
        self._accept_missing_preamble = accept_missing_preamble
        self._requests = requests
        self._retriever = retriever
        self._locations = locations
        self._spool = spool
        self._threads = threads
        self._is_whole = is_whole
        self._sends_series = True
        """The server has not refused to send a series."""
        self._refused_in_succession = 0

    async def fetch(self, candidates: Sequence[Candidate]) -> AsyncGenerator[Sequence[Found]]:
        """Yield each candidate with its extent, or its outcome, as they come.

        Raises Abandoned, LoginRefused and the RunStopped of `Requests.make`.
        """
        by_series: dict[str, Wanted] = defaultdict(dict)
        results = Results[Found](READY_BYTES)
        for candidate in candidates:
            header = self._locations.header_of(candidate)
            path = None if header is None else series_path(header)
            if header is None or path is None or instance_path(header) is None:
                await results.add(_unreadable(candidate, NO_PATH), 0)
            else:
                by_series[path][header.sop_instance_uid] = candidate
        for path, wanted in by_series.items():
            results.start(self._fetch_series(path, wanted, results))
        async for several in results.lists():
            yield several

    async def _fetch_series(self, path: str, wanted: Wanted, results: Results[Found]) -> None:
        """Fetch the wanted instances of a series, those that a response for the series lacks one by one."""
        if len(wanted) > 1 and self._sends_series and self._is_whole(path, len(wanted)):
            await self._fetch_whole(path, wanted, results)
        left = deque(wanted.values())
        for _ in range(min(INSTANCES_AT_ONCE, len(left))):
            results.start(self._fetch_each(left, results))

    async def _fetch_each(self, left: deque[Candidate], results: Results[Found]) -> None:
        while left:
            await _add(await self.fetch_one(left.popleft()), results)

    async def _fetch_whole(self, path: str, wanted: Wanted, results: Results[Found]) -> None:
        """Fetch a series in one request; the instances that the response lacks are left in `wanted`."""
        received_bytes = 0

        async def take(received: ReceivedInstance) -> bool:
            nonlocal received_bytes
            uid = "" if received.header is None else received.header.sop_instance_uid
            candidate = wanted.pop(uid, None)
            if candidate is None:
                self._spool.release(received.extent)
            else:
                self._refused_in_succession = 0
                received_bytes += received.extent.size_bytes
                await _add(replace(candidate, extent=received.extent), results)
            return True  # also after the last one: the connection of a response that is read to its end is used again

        async def attempt() -> Received[None] | Response | NoResponse:
            before, before_bytes = len(wanted), received_bytes
            async with self._receiving(take) as receiver:
                exchange = await self._retriever.retrieve(path, receiver)
            # A truncated series is not requested again: its missing instances are fetched one by one.
            is_refused = isinstance(exchange, NoResponse) or exchange.status != 200
            if before == len(wanted) and is_refused:
                return exchange
            return Received(None, received_bytes - before_bytes, before - len(wanted))

        answer: Response | Unanswered | None = await self._requests.make(attempt)
        if isinstance(answer, Response) and answer.status not in _ABSENT:
            self._sends_series = False

    async def fetch_one(self, candidate: Candidate) -> Found:
        """Return a candidate with its extent, or its outcome; raises as `fetch`."""
        header = self._locations.header_of(candidate)
        path = None if header is None else instance_path(header)
        if header is None or path is None:
            return _unreadable(candidate, NO_PATH)

        async def attempt() -> Received[ReceivedInstance | _SpoolFailed] | Response | NoResponse:
            return await self._retrieve(path)

        while True:
            answer = await self._requests.make(attempt)
            match answer:
                case ReceivedInstance():
                    self._refused_in_succession = 0
                    return self._checked(candidate, header, answer)
                case _SpoolFailed(reason, retry_bytes):
                    if not retry_bytes:
                        return _unreadable(candidate, reason)
                    await self._spool.reserve(retry_bytes)
                    self._spool.give_back(retry_bytes)
                case Response():
                    self._note_refusal(answer)
                    return _unreadable(candidate, f"QIDO-RS lists it, but WADO-RS answers {failure_reason(answer)}")
                case Unanswered(reason):
                    return _unreadable(candidate, reason)

    def _note_refusal(self, answer: Response) -> None:
        if answer.status not in _REFUSED:
            return
        self._refused_in_succession += 1
        if self._refused_in_succession >= MOST_REFUSED_IN_SUCCESSION:
            raise LoginRefused(
                f"{self._locations.source} refused {self._refused_in_succession} instances in succession: "
                f"{failure_reason(answer)}; check the login, and run the same command again"
            )

    async def _retrieve(self, path: str) -> Received[ReceivedInstance | _SpoolFailed] | Response | NoResponse:
        """Retrieve an instance once."""
        received: list[ReceivedInstance] = []

        async def take(instance: ReceivedInstance) -> bool:
            received.append(instance)
            return len(received) == 1

        async with self._receiving(take) as receiver:
            exchange = await self._retriever.retrieve(path, receiver)
            failure = None if receiver.failure is None else _spool_failed(receiver, receiver.failure, self._spool)
        if failure is None and isinstance(exchange, NoResponse) and receiver.longest_wait_s >= STALLED_S:
            needed_bytes = min(max(1, receiver.instance_bytes), self._spool.most_bytes)
            failure = _SpoolFailed("the connection was lost while the spool was full", needed_bytes)
        is_received = isinstance(exchange, Response) and exchange.status == 200
        if is_received and failure is None and len(received) == 1:
            return Received(received[0], received[0].extent.size_bytes, 1)
        for instance in received:
            self._spool.release(instance.extent)
        if failure is not None:
            return Received(failure, 0, 0)
        if not is_received:
            return exchange
        detail = f"{len(received) or 'no'} instances instead of the one that was requested"
        return NoResponse(Cause.MALFORMED, body_started=False, detail=detail)

    def _checked(self, candidate: Candidate, header: Header, received: ReceivedInstance) -> Found:
        """Return the candidate with its extent, if the received instance is the requested one."""
        if received.header is not None and received.header.sop_instance_uid == header.sop_instance_uid:
            return replace(candidate, extent=received.extent)
        self._spool.release(received.extent)
        sent = "another instance" if received.header is not None else f"content that is no instance ({received.reason})"
        return _unreadable(candidate, f"the source server sent {sent} instead of the requested one")

    @asynccontextmanager
    async def _receiving(self, take: Take) -> AsyncGenerator[SpoolReceiver]:
        receiver = SpoolReceiver(
            self._spool, self._threads, take, accept_missing_preamble=self._accept_missing_preamble
        )
        try:
            yield receiver
        finally:
            await receiver.close()


@dataclass(frozen=True, slots=True)
class _SpoolFailed:
    """The spool could not take an instance, or not in time."""

    reason: str
    retry_bytes: int
    """The room with which another try makes sense; 0 if none does."""


def _spool_failed(receiver: SpoolReceiver, failure: SpoolError, spool: Spool) -> _SpoolFailed:
    needed_bytes = receiver.instance_bytes
    is_for_now = isinstance(failure, SpoolExceeded) and needed_bytes <= spool.most_bytes
    return _SpoolFailed(str(failure), needed_bytes if is_for_now else 0)


async def _add(found: Found, results: Results[Found]) -> None:
    await results.add(found, found.content_bytes if isinstance(found, Candidate) else 0)


def _unreadable(candidate: Candidate, reason: str) -> FileResult:
    return FileResult(candidate, None, Outcome.UNREADABLE, reason)
