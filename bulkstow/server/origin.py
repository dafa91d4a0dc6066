"""The embedded DICOMweb origin: routes, status codes (PS3.18 §10.4 to §10.6), the login, and the interface of faults.

It is for tests, demos and measurements: it streams, so that a part may be larger than memory, and what it calls stored
is stored, but it is no archive. It does not log: paths contain UIDs, which belong to patients.
"""

from __future__ import annotations

import json
import ssl
from asyncio import get_running_loop
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from functools import partial
from typing import Protocol

from aiohttp import web
from anyio import CancelScope, current_time, sleep
from yarl import URL

from bulkstow.errors import MultipartError
from bulkstow.model import Header, StoreResponse
from bulkstow.server import media, message, query, retrieve, store, urls
from bulkstow.server.connection_limiter import ConnectionLimiter
from bulkstow.server.faults import Operation
from bulkstow.server.login import Login
from bulkstow.server.read_terms import ReadTerms
from bulkstow.server.storage import Storage
from bulkstow.wire.multipart_reader import MultipartReader, boundary_of
from bulkstow.wire.uids import is_uid

ROOT = "/dicom-web"

_READ_BYTES = 256 * 1024
"""The read buffer: a selector event loop reads this much at once; aiohttp's default of 64 KiB would pause it."""

_SHUTDOWN_S = 2.0
"""The time that requests in progress have when the origin ends."""


class Fault(Protocol):
    """A source of faults in store requests, which are numbered from 1 in the order of arrival.

    Its methods may raise a web.HTTPException, which is then the answer; `request.transport.abort()` and
    ConnectionResetError close the connection.
    """

    async def before(self, request: web.Request, number: int) -> web.StreamResponse | RequestFault | None:
        """Return, before the body is read, an answer instead of storing, or None to store.

        A RequestFault stores, too, and is asked about the rest of this request.
        """

    async def after(
        self, request: web.Request, number: int, response: StoreResponse
    ) -> StoreResponse | web.StreamResponse:
        """Return, after the body has been stored, the response or a complete answer."""


class RequestFault(Protocol):
    """The fault of one store request, from its first byte on; may raise what a Fault may."""

    def body(self, pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
        """Yield the pieces of the body that are to be read, when they are to be read."""

    def judge(self, header: Header) -> int | None:
        """Return the FailureReason of a valid instance that is not to be stored, None to store it."""

    async def after(
        self, request: web.Request, number: int, response: StoreResponse
    ) -> StoreResponse | web.StreamResponse:
        """Replace the method of the Fault."""


class ReadFault(Protocol):
    """A source of faults in searches and retrievals."""

    async def terms(self, request: web.Request, operation: Operation) -> ReadTerms:
        """Return the terms on which a request is answered; may raise the exceptions of a Fault."""


_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Origin:
    """A DICOMweb server on a storage; `serving` runs it.

    `max_part_bytes` limits the size of an instance (413), `max_requests` the concurrent requests (503).
    """

    def __init__(
        self,
        storage: Storage,
        *,
        root: str = ROOT,
        login: Login | None = None,
        max_part_bytes: int | None = None,
        max_requests: int | None = None,
        fault: Fault | None = None,
        read_fault: ReadFault | None = None,
    ) -> None:
        self.storage = storage
        self.root = root.rstrip("/")
        self._login = login
        self._max_part_bytes = max_part_bytes
        self._max_requests = max_requests
        self._fault = fault
        self._read_fault = read_fault
        self._requests = 0
        self._stores = 0
        self._frozen_until_s = 0.0

    def freeze(self, duration_s: float) -> None:
        """Read no request and send no answer, not even to a query, for some time from now on."""
        self._frozen_until_s = max(self._frozen_until_s, current_time() + duration_s)

    async def thawed(self) -> None:
        """Wait while the origin is frozen."""
        while (left_s := self._frozen_until_s - current_time()) > 0:  # noqa: ASYNC110 - it may be frozen again meanwhile
            await sleep(left_s)

    def application(self) -> web.Application:
        """Return a new application of aiohttp with the routes; each counts on this origin."""
        study, series = "/studies/{study}", "/studies/{study}/series/{series}"
        application = web.Application(middlewares=[self._admit])
        application[ORIGIN] = self
        router = application.router
        for path in ("/studies", study):
            router.add_post(self.root + path, self._store)
        below = (f"{study}/series", f"{study}/instances", f"{series}/instances")
        for path in ("/studies", "/series", "/instances", *below):
            router.add_get(self.root + path, self._search)
        router.add_routes(retrieve.routes(self.root, self.storage, partial(self._terms, Operation.RETRIEVE)))
        for path in (study, series, f"{series}/instances/{{instance}}"):
            router.add_delete(self.root + path, self._delete)
        return application

    @web.middleware
    async def _admit(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        await self.thawed()
        if self._login and not self._login.accepts(request.headers.get("Authorization", "")):
            return _error(401, "a login is needed", {"WWW-Authenticate": self._login.challenge})
        if self._max_requests is not None and self._requests >= self._max_requests:
            return _error(503, "too many requests at once", {"Retry-After": "1"})
        self._requests += 1
        try:
            response = await handler(request)
        finally:
            self._requests -= 1
        await self.thawed()
        return response

    async def _store(self, request: web.Request) -> web.StreamResponse:
        self._stores += 1
        number = self._stores
        try:
            met = await self._fault.before(request, number) if self._fault else None
            return met if isinstance(met, web.StreamResponse) else await self._stored(request, number, met)
        except MultipartError as error:
            return _error(400, str(error))
        except web.HTTPRequestEntityTooLarge as answer:
            # Otherwise the client would send the rest of the body (RFC 9110 §15.5.14).
            answer.force_close()
            raise
        except ConnectionError:
            # The client has disconnected and does not read this; aiohttp would log a traceback.
            return _error(400, "the body ends before its length")

    async def _stored(
        self, request: web.Request, number: int, request_fault: RequestFault | None
    ) -> web.StreamResponse:
        notation = media.notation_for(request.headers.get("Accept", ""))
        if notation is None:
            return _error(406, "the answer can be application/dicom+json or application/dicom+xml")
        if error_text := media.type_error(request.headers):
            return _error(415, error_text)
        study_uid = request.match_info.get("study")
        if study_uid is not None and not is_uid(study_uid):
            return _error(400, "the study in the URL is not a UID")
        reader = MultipartReader(boundary_of(request.headers["Content-Type"]))
        terms = store.Terms(
            study_uid, self._max_part_bytes, request_fault.judge if request_fault else store.no_objection
        )
        pieces = request.content.iter_any()
        reading: AbstractAsyncContextManager[AsyncIterable[bytes]] = (
            aclosing(request_fault.body(pieces)) if request_fault else nullcontext(pieces)
        )
        async with reading as body:
            results = await store.receive(body, reader, self.storage, terms)
        response = store.response_to(results, self._studies_url(request))
        fault = request_fault or self._fault
        answer = await fault.after(request, number, response) if fault else response
        if isinstance(answer, web.StreamResponse):
            return answer
        body_of = media.NOTATIONS[notation]
        return web.Response(status=store.status_of(answer), body=body_of(answer), headers={"Content-Type": notation})

    async def _terms(self, operation: Operation, request: web.Request) -> ReadTerms:
        return await self._read_fault.terms(request, operation) if self._read_fault else ReadTerms()

    async def _search(self, request: web.Request) -> web.StreamResponse:
        terms = await self._terms(Operation.SEARCH, request)
        document = self._results(request, terms)
        if terms.sent_share < 1.0:
            return await message.send_share(request, document, terms.sent_share)
        return document

    def _results(self, request: web.Request, terms: ReadTerms) -> web.Response:
        level = request.path.rpartition("/")[2]
        studies_url = self._studies_url(request)
        try:
            page = query.search(self.storage.catalogue, level, request.match_info, request.query, studies_url, terms)
        except ValueError as error:
            return _error(400, str(error))
        if terms.is_other_document:
            return web.Response(text="success")
        if not page.items and terms.empty_status == 204:
            return web.Response(status=204)
        # PS3.18 §8.3.4.4 gives the wording.
        more = {"Warning": f"299 {studies_url}: There are additional results that can be requested"}
        headers = {"Content-Type": "application/dicom+json"} | (more if page.more else {})
        return web.Response(body=json.dumps(page.items, separators=(",", ":")).encode("ascii"), headers=headers)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        named = request.match_info
        uids = [named[level] for level in ("study", "series", "instance") if level in named]
        if await self.storage.remove(*uids):
            return web.Response(status=204)
        return _error(404, "nothing is kept here")

    def _studies_url(self, request: web.Request) -> str:
        return urls.absolute(request, f"{self.root}/studies")


ORIGIN = web.AppKey("ORIGIN", Origin)
"""The key by which a fault finds the origin: `request.app[ORIGIN]`."""


@asynccontextmanager
async def serving(
    origin: Origin,
    host: str = "127.0.0.1",
    port: int = 0,
    ssl_context: ssl.SSLContext | None = None,
    *,
    max_connections: int | None = None,
) -> AsyncIterator[str]:
    """Run the origin, and give its base URL; port 0 takes a free one.

    A connection beyond `max_connections` is closed at once. At the end, requests in progress get two seconds. Raises
    OSError if the address cannot be listened on.
    """
    # A Content-Encoding is refused, so nothing has to be inflated.
    runner = web.AppRunner(
        origin.application(),
        access_log=None,
        auto_decompress=False,
        read_bufsize=_READ_BYTES,
        shutdown_timeout=_SHUTDOWN_S,
    )
    await runner.setup()
    server = runner.server
    assert server is not None  # noqa: S101 - there is one after setup()
    try:
        # web.TCPSite has no hook for a connection limiter.
        factory = server if max_connections is None else partial(ConnectionLimiter, server, max_connections)
        listener = await get_running_loop().create_server(factory, host, port, ssl=ssl_context)
        scheme, port = "https" if ssl_context else "http", listener.sockets[0].getsockname()[1]
        try:
            yield str(URL.build(scheme=scheme, host=host, port=port, path=origin.root))
        finally:
            listener.close()
    finally:
        with CancelScope(shield=True):
            await runner.cleanup()


def _error(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers=headers)
