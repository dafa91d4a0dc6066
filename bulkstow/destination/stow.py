"""A STOW-RS server as a place to send to.

`StowDestination.send` posts a batch once and tells how that ended, as a value; it decides nothing about the instances
and retries nothing but a login. `find` asks what is there.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Protocol, Self, cast

from bulkstow.blocking import ReadLimit, unanswered
from bulkstow.config import READ_TIMEOUT_S, DestinationSettings
from bulkstow.destination import qido
from bulkstow.destination.ahead import StorageSpeed
from bulkstow.destination.auth import Auth
from bulkstow.destination.authorized import AuthorizedClient
from bulkstow.destination.body import Body, Throttle
from bulkstow.destination.clock import RequestClock
from bulkstow.destination.contents import Contents, Files, directories_of, look_again, opened
from bulkstow.destination.http import ERROR_LIMIT_BYTES, HttpClient, Request
from bulkstow.destination.masking import is_telling
from bulkstow.destination.preflight import QUESTION_S, check_service
from bulkstow.model import Batch, Cause, Exchange, Instance, NoResponse, RequestTiming, Response, SourceChanged
from bulkstow.policy.preflight import Asked, login_refused, unreachable
from bulkstow.wire.multipart import BOUNDARY_LENGTH, closing, content_type
from bulkstow.wire.request_headers import has_header

ANSWER_BYTES_PER_INSTANCE = 4096
"""An item of a Store Instances Response with UIDs of 64 characters and Google's RetrieveURL has 560 bytes in JSON and
870 in XML; the rest is for some 15 comments of a server that explains a failure."""

READERS = 8
"""Threads where the caller brings none."""


class Destination(Protocol):
    """Where a pipeline sends: one exchange at a time, told as a value."""

    async def send(self, batch: Batch) -> Exchange:
        """Send a batch once."""

    async def look(self, batch: Batch) -> SourceChanged | None:
        """Look at a batch's files without sending them; return which have changed, None where none has."""

    async def find(self, instances: tuple[Instance, ...]) -> frozenset[str] | Response | NoResponse:
        """Ask which of the instances are there; return their SOP Instance UIDs, or how the question failed."""

    async def probe(self) -> Response | NoResponse:
        """Ask for anything, to see whether anybody is there."""


class StowDestination:
    """A STOW-RS server; use it as an asynchronous context.

    `on_taken(n)` hears of every n bytes that the server has taken, `on_timing` of where each request's time went.
    `contents` says where instances' bytes come from (from files, if nothing else is said), and `readers` who fetches
    them. Raises ConfigurationError for certificates that cannot be loaded, and for headers that cannot be read or set.
    """

    def __init__(
        self,
        settings: DestinationSettings,
        auth: Auth,
        *,
        readers: Executor | None = None,
        limit: ReadLimit | None = None,
        throttle: Throttle | None = None,
        contents: Contents | None = None,
        on_taken: Callable[[int], None] = lambda _: None,
        on_timing: Callable[[Batch, RequestTiming], None] = lambda _batch, _timing: None,
    ) -> None:
        self._settings = settings
        self._on_taken = on_taken
        self._on_timing = on_timing
        self._limit = limit or ReadLimit(READ_TIMEOUT_S)
        self._throttle = throttle
        self._contents = contents or Files()
        self._profile = settings.profile
        self._chunked = settings.chunked or self._profile.chunked
        self._quote_boundary = settings.quote_boundary or self._profile.quote_boundary
        self._http = HttpClient(settings)
        self._client = AuthorizedClient(self._http, auth)
        self._accept = {} if has_header(self._http.headers, "Accept") else {"Accept": self._profile.accept}
        self._own_readers = ThreadPoolExecutor(READERS, thread_name_prefix="read") if readers is None else None
        self._readers: Executor = readers or cast("Executor", self._own_readers)
        self._ahead = StorageSpeed(self._readers) if contents is None else None

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.__aexit__(exc_type, exc, traceback)
        if self._own_readers is not None:
            self._own_readers.shutdown(wait=False, cancel_futures=True)

    async def send(self, batch: Batch) -> Exchange:
        """Post a batch once (PS3.18 §10.5).

        Once more with a fresh login after a 401; and with a Content-Length, from then on, after a 411.

        Raises DestinationRefused when the server's certificate is not trusted, and LoginRefused for a 401 that stays.
        """
        was_chunked = self._chunked
        request = Request("POST", "/studies", self._accept)
        exchange = await self._client.authorized(request, partial(self._post, batch))
        if was_chunked and isinstance(exchange, Response) and exchange.status == 411:
            self._chunked = False
            exchange = await self._client.authorized(request, partial(self._post, batch))
        if isinstance(exchange, Response) and exchange.status == 401:
            raise login_refused(exchange, self._asked)
        return exchange

    async def look(self, batch: Batch) -> SourceChanged | None:
        """Open a batch's files and compare them with what the scan found; None where they are the same."""
        changed = await look_again(partial(opened, self._contents), batch.instances, self._readers, self._limit)
        if not changed:
            return None
        directories = await directories_of(batch.instances, changed, self._readers, self._limit)
        return SourceChanged(changed, directories, is_begun=False)

    async def find(self, instances: tuple[Instance, ...]) -> frozenset[str] | Response | NoResponse:
        """Ask by QIDO-RS which of the instances are there (PS3.18 §10.6)."""
        get = partial(self._get, answer_limit_bytes=qido.PAGE_LIMIT_BYTES)
        return await qido.find(get, instances, self._profile.page_instances)

    async def probe(self) -> Response | NoResponse:
        """Ask for any study, to see whether anybody answers."""
        return await self._get(self._profile.probe.path, self._profile.probe.query)

    async def reach(self) -> None:
        """Find out whether a DICOMweb service is there and lets us in, before a file is read.

        Without preflight only whether a connection stands. Raises DestinationRefused and LoginRefused.
        """
        asked = self._asked
        if self._settings.no_preflight:
            if why := await self._http.try_connection():
                raise unreachable(why, asked)
            return
        search = partial(self._get, self._profile.probe.path, self._profile.probe.query, patience_s=QUESTION_S)
        await check_service(search, self._store_nothing, self._http.speaks_tls, asked)

    async def _store_nothing(self) -> Response | NoResponse:
        """Post a body without instances."""
        boundary = secrets.token_hex(BOUNDARY_LENGTH // 2)
        body = closing(boundary)
        headers = {
            **self._accept,
            "Content-Type": content_type(boundary, quoted=self._quote_boundary),
            "Content-Length": str(len(body)),
        }
        return await self._client.exchange(Request("POST", "/studies", headers, body=body), timeout_s=QUESTION_S)

    @property
    def _asked(self) -> Asked:
        has_login = self._client.has_login or any(map(is_telling, self._http.headers))
        return Asked(self._settings.root, has_login, self._http.proxy.name if self._http.proxy else "")

    async def _get(
        self,
        path: str,
        query: Mapping[str, str],
        *,
        answer_limit_bytes: int = ERROR_LIMIT_BYTES,
        patience_s: float = math.inf,
    ) -> Response | NoResponse:
        request = Request("GET", path, {"Accept": qido.ACCEPT}, query, answer_limit_bytes=answer_limit_bytes)
        return await self._client.exchange(request, timeout_s=min(patience_s, self._settings.response_timeout_s))

    async def _post(self, batch: Batch, request: Request) -> Exchange:
        settings = self._settings
        boundary = secrets.token_hex(BOUNDARY_LENGTH // 2)
        started_s = time.perf_counter()
        clock = RequestClock(settings, batch, self._limit)
        exchange: Exchange | None = None
        with clock.scope, self._limit.watched_by(clock.hurry):

            def taken(count_bytes: int) -> None:
                self._on_taken(count_bytes)
                if body.is_sent:
                    clock.wait_for_answer()

            body = Body(
                batch.instances,
                boundary,
                self._contents,
                self._readers,
                self._throttle,
                taken,
                self._ahead,
                clock.wait_for,
                self._limit,
            )
            headers = {**request.headers, "Content-Type": content_type(boundary, quoted=self._quote_boundary)}
            if not self._chunked:
                headers["Content-Length"] = str(body.length_bytes)
            answer_limit_bytes = ERROR_LIMIT_BYTES + ANSWER_BYTES_PER_INSTANCE * len(batch.instances)
            request = replace(request, headers=headers, body=body, answer_limit_bytes=answer_limit_bytes)
            exchange = await self._http.exchange(request)
        exchange = self._blamed(exchange, body, clock)
        self._on_timing(batch, body.timing(started_s, time.perf_counter()))
        if isinstance(exchange, Response):
            return replace(exchange, is_whole=body.is_sent, changed=await body.changed())
        if body.fault is not None:
            # What is lost together is told together, not one file a request.
            seen = await self.look(batch) or SourceChanged({})
            changed = {**seen.changed, body.fault.instance.header.sop_instance_uid: body.fault.reason}
            return SourceChanged(changed, seen.directories)
        return exchange

    def _blamed(self, exchange: Exchange | None, body: Body, clock: RequestClock) -> Exchange:
        """Return how an exchange ended: `result`, unless its time was over (None) or a disk that hangs kept it waiting.

        A server, or a proxy before it, does not wait for such a disk, and ends the request in one way or another; that
        is no fault of the other files.
        """
        silent_s = 0.0 if body.is_sent else clock.silent_s
        if silent_s > (0.0 if exchange is None else self._limit.stuck_s):
            words = f"cannot be read: {unanswered(silent_s)}"
            return SourceChanged({body.under_way.header.sop_instance_uid: words})
        if exchange is None:
            return NoResponse(Cause.UNANSWERED if body.is_sent else Cause.STALLED, body_started=body.is_started)
        return exchange
