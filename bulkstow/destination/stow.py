"""A STOW-RS server as a destination.

`StowDestination.send` posts a batch once and returns how that ended; it decides nothing about the instances and repeats
a request only for a login or a required length. `find` searches stored instances.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Self

from bulkstow.blocking import ReadLimit, timeout_reason
from bulkstow.config import DestinationSettings
from bulkstow.destination import qido
from bulkstow.destination.auth import Auth
from bulkstow.destination.authorized import AuthorizedClient
from bulkstow.destination.body import Body, ByteLimiter, Resources
from bulkstow.destination.given_headers import GivenHeaders
from bulkstow.destination.http import ERROR_LIMIT_BYTES, HttpClient, Request
from bulkstow.destination.masking import is_telling
from bulkstow.destination.prefetch import StorageSpeed
from bulkstow.destination.preflight import TIMEOUT_S, check_service
from bulkstow.destination.request_timer import RequestState, RequestTimer
from bulkstow.events import Reporter, RequestTimed
from bulkstow.model import Batch, Cause, Exchange, Instance, NoResponse, Response, SourceChanged
from bulkstow.policy.preflight import Asked, login_refused, unreachable
from bulkstow.ports import Destination, Source
from bulkstow.source_check import SourceCheck
from bulkstow.wire.multipart import BOUNDARY_DIGITS, closing, content_type
from bulkstow.wire.request_headers import has_header

RESPONSE_BYTES_PER_INSTANCE = 4096
"""An item of a Store Instances Response with UIDs of 64 characters and Google's RetrieveURL has 560 bytes in JSON and
870 in XML; the rest is for some 15 comments of a server that explains a failure."""


class StowDestination(Destination):
    """A STOW-RS server; use it as an asynchronous context manager.

    `source` gives the instances' bytes, in the threads of `readers`; `reporter` gets `BytesSent` and `RequestTimed`.
    `headers` are the user's, if their file has been read already. Raises ConfigurationError for certificates that
    cannot be loaded, and for headers that cannot be read or set.
    """

    def __init__(
        self,
        settings: DestinationSettings,
        auth: Auth,
        *,
        source: Source,
        readers: Executor,
        limit: ReadLimit,
        reporter: Reporter,
        throttle: ByteLimiter | None = None,
        headers: GivenHeaders | None = None,
    ) -> None:
        self._settings = settings
        self._limit = limit
        self._reporter = reporter
        self._resources = Resources(source, readers, reporter, throttle, StorageSpeed(readers, source.prefetch))
        self._source_check = SourceCheck(source, readers, limit)
        self._profile = settings.profile
        self._chunked = settings.chunked or self._profile.chunked
        self._quote_boundary = settings.quote_boundary or self._profile.quote_boundary
        self._http = HttpClient(settings, headers)
        self._client = AuthorizedClient(self._http, auth)
        self._accept = {} if has_header(self._http.headers, "Accept") else {"Accept": self._profile.accept}

    @property
    def name(self) -> str:
        """The DICOMweb root."""
        return self._settings.root

    @property
    def headers(self) -> GivenHeaders:
        """The user's headers; their file is read once."""
        return self._http.given

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.__aexit__(exc_type, exc, traceback)

    async def send(self, batch: Batch) -> Exchange:
        """Post a batch once (PS3.18 §10.5).

        Repeats it after a 401 with a fresh login, and after a 411 with a Content-Length, which later requests have too.

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

    async def find(self, instances: tuple[Instance, ...]) -> frozenset[str] | Response | NoResponse:
        """Search the instances by QIDO-RS, and return the SOP Instance UIDs of those that are stored (PS3.18 §10.6)."""
        get = partial(self._get, response_limit_bytes=qido.PAGE_LIMIT_BYTES)
        return await qido.find(get, instances, self._profile.page_instances)

    async def probe(self) -> Response | NoResponse:
        """Search any study, to find out whether the server responds."""
        return await self._get(self._profile.probe.path, self._profile.probe.query)

    async def reach(self) -> None:
        """Check that a DICOMweb service responds and accepts the login, before a file is read.

        Without preflight, check only that a connection can be made. Raises DestinationRefused and LoginRefused.
        """
        asked = self._asked
        if self._settings.no_preflight:
            if why := await self._http.try_connection():
                raise unreachable(why, asked)
            return
        search = partial(self._get, self._profile.probe.path, self._profile.probe.query, timeout_s=TIMEOUT_S)
        await check_service(search, self._store_nothing, self._http.speaks_tls, asked)

    async def _store_nothing(self) -> Response | NoResponse:
        """Post a body without instances."""
        boundary = secrets.token_hex(BOUNDARY_DIGITS // 2)
        body = closing(boundary)
        headers = {
            **self._accept,
            "Content-Type": content_type(boundary, quoted=self._quote_boundary),
            "Content-Length": str(len(body)),
        }
        return await self._client.exchange(Request("POST", "/studies", headers, body=body), timeout_s=TIMEOUT_S)

    @property
    def _asked(self) -> Asked:
        has_login = self._client.has_login or any(map(is_telling, self._http.headers))
        return Asked(self._settings.root, has_login, self._http.proxy.name if self._http.proxy else "")

    async def _get(
        self,
        path: str,
        query: Mapping[str, str],
        *,
        response_limit_bytes: int = ERROR_LIMIT_BYTES,
        timeout_s: float = math.inf,
    ) -> Response | NoResponse:
        request = Request("GET", path, {"Accept": qido.ACCEPT}, query, response_limit_bytes=response_limit_bytes)
        return await self._client.exchange(request, timeout_s=min(timeout_s, self._settings.response_timeout_s))

    async def _post(self, batch: Batch, request: Request) -> Exchange:
        boundary = secrets.token_hex(BOUNDARY_DIGITS // 2)
        timer = RequestTimer(self._settings, batch, self._limit)
        body = Body(batch.instances, boundary, timer, self._resources)
        headers = {**request.headers, "Content-Type": content_type(boundary, quoted=self._quote_boundary)}
        if not self._chunked:
            headers["Content-Length"] = str(body.length_bytes)
        limit_bytes = ERROR_LIMIT_BYTES + RESPONSE_BYTES_PER_INSTANCE * len(batch.instances)
        request = replace(request, headers=headers, body=body, response_limit_bytes=limit_bytes)
        exchange: Exchange | None = None
        with timer.running():
            exchange = await self._http.exchange(request)
        if body.stopped_by is not None:
            raise body.stopped_by
        exchange = self._attributed(exchange, body, timer)
        self._reporter.tell(RequestTimed(timer.timing(), batch))
        fault = {} if body.fault is None else {body.fault.instance.header.sop_instance_uid: body.fault.reason}
        if isinstance(exchange, Response):
            changed = {} if body.is_copied else await self._source_check.changed(batch.instances)
            return replace(exchange, is_whole=body.is_sent, changed=changed | fault)
        if fault:
            # One fault often has company: all changed instances are reported at once, not one for each request.
            seen = await self._source_check.unreadable(batch.instances) or SourceChanged({})
            return SourceChanged({**seen.changed, **fault}, seen.directories)
        return exchange

    def _attributed(self, exchange: Exchange | None, body: Body, timer: RequestTimer) -> Exchange:
        """Return how an exchange ended: in a timeout if it is None, or because of storage that hangs.

        A server, or a proxy before it, does not wait for such storage and ends the request in one way or another; the
        other instances of the batch are not to blame.
        """
        reading_for_s = timer.reading_for_s
        if reading_for_s > (0.0 if exchange is None else self._limit.stuck_s):
            reason = f"cannot be read: {timeout_reason(reading_for_s)}"
            return SourceChanged({body.current.header.sop_instance_uid: reason})
        if exchange is None:
            cause = Cause.UNANSWERED if timer.state is RequestState.WAITING else Cause.STALLED
            return NoResponse(cause, body_started=body.is_started)
        return exchange
