"""The embedded DICOMweb origin: routes, and the words of HTTP around what the other modules do.

Owns status codes (PS3.18 §10.4 to §10.6), the login, and the seam for faults. It is for tests, demos
and measurements: it streams, so that a part may be larger than memory, and stores what it says it has stored, but it is
no archive. Refuses to log: a path holds UIDs, and those are somebody's.
"""

from __future__ import annotations

import json
import ssl
from asyncio import get_running_loop
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Protocol

from aiohttp import web
from anyio import CancelScope, current_time, sleep
from yarl import URL

from bulkstow.errors import MultipartError
from bulkstow.model import Header, StoreResponse
from bulkstow.server import media, query, retrieve, store, urls
from bulkstow.server.catalogue import is_uid
from bulkstow.server.connection_limiter import ConnectionLimiter
from bulkstow.server.login import Login
from bulkstow.server.storage import Storage
from bulkstow.wire.multipart_reader import MultipartReader, boundary_of

ROOT = "/dicom-web"

_READ_BYTES = 256 * 1024
"""What a selector event loop takes from a socket at once: aiohttp's default of 64 KiB would stop it each time."""

_SHUTDOWN_S = 2.0
"""Whoever is still sending when the origin ends has this long."""


class Fault(Protocol):
    """A way to misbehave in answer to store requests, which are numbered from 1 in the order of their coming.

    Anything here may raise a web.HTTPException, which is then the answer; `request.transport.abort()` and
    ConnectionResetError break the connection.
    """

    async def before(self, request: web.Request, number: int) -> web.StreamResponse | Mishap | None:
        """Run before the body is read: return what to answer instead of storing, or None to go on.

        A Mishap goes on too, and has this request to itself.
        """

    async def after(
        self, request: web.Request, number: int, response: StoreResponse
    ) -> StoreResponse | web.StreamResponse:
        """Run when all is stored: return what to say of it, or a whole answer of another kind."""


class Mishap(Protocol):
    """What goes wrong with one store request, from its first byte on; may raise what a Fault may."""

    def body(self, pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
        """Yield the pieces of the body, as late and as many as they are to be read."""

    def judge(self, header: Header) -> int | None:
        """Return the FailureReason for which an instance is not stored that would be, None to store it."""

    async def after(
        self, request: web.Request, number: int, response: StoreResponse
    ) -> StoreResponse | web.StreamResponse:
        """Run in place of the fault's own."""


_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Origin:
    """A DICOMweb server on a storage; `serving` runs it.

    `max_part_bytes` bounds an instance (413), `max_requests` how many are in work at once (503).
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
    ) -> None:
        self.storage = storage
        self.root = root.rstrip("/")
        self._login = login
        self._max_part_bytes = max_part_bytes
        self._max_requests = max_requests
        self._fault = fault
        self._requests = 0
        self._stores = 0
        self._frozen_until_s = 0.0

    def freeze(self, duration_s: float) -> None:
        """From now on take no request and give no answer, not even to a query, until the time is over."""
        self._frozen_until_s = max(self._frozen_until_s, current_time() + duration_s)

    async def thawed(self) -> None:
        """Wait while the origin is frozen."""
        while (left_s := self._frozen_until_s - current_time()) > 0:  # noqa: ASYNC110 - it may freeze anew meanwhile
            await sleep(left_s)

    def application(self) -> web.Application:
        """Return a new application of aiohttp with the routes; each counts on this origin."""
        study, series = "/studies/{study}", "/studies/{study}/series/{series}"
        application = web.Application(middlewares=[self._door])
        application[ORIGIN] = self
        router = application.router
        for path in ("/studies", study):
            router.add_post(self.root + path, self._store)
        for path in (
            "/studies",
            "/series",
            "/instances",
            f"{study}/series",
            f"{study}/instances",
            f"{series}/instances",
        ):
            router.add_get(self.root + path, self._search)
        router.add_routes(retrieve.routes(self.root, self.storage))
        router.add_delete(self.root + study, self._delete)
        return application

    @web.middleware
    async def _door(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        await self.thawed()
        if self._login and not self._login.admits(request.headers.get("Authorization", "")):
            return _complaint(401, "a login is needed", {"WWW-Authenticate": self._login.challenge})
        if self._max_requests is not None and self._requests >= self._max_requests:
            return _complaint(503, "too many requests at once", {"Retry-After": "1"})
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
            return _complaint(400, str(error))
        except web.HTTPRequestEntityTooLarge as answer:
            # Or the client would go on with what nobody wants (RFC 9110 §15.5.14).
            answer.force_close()
            raise
        except ConnectionError:
            # The client is gone. aiohttp would put a traceback into the log; nobody is left to read this instead.
            return _complaint(400, "the body ends before its length")

    async def _stored(self, request: web.Request, number: int, mishap: Mishap | None) -> web.StreamResponse:
        notation = media.notation_for(request.headers.get("Accept", ""))
        if notation is None:
            return _complaint(406, "the answer can be application/dicom+json or application/dicom+xml")
        if complaint := media.complaint(request.headers):
            return _complaint(415, complaint)
        study_uid = request.match_info.get("study")
        if study_uid is not None and not is_uid(study_uid):
            return _complaint(400, "the study in the URL is not a UID")
        reader = MultipartReader(boundary_of(request.headers["Content-Type"]))
        terms = store.Terms(study_uid, self._max_part_bytes, mishap.judge if mishap else store.no_objection)
        pieces = request.content.iter_any()
        async with aclosing(mishap.body(pieces) if mishap else _as_they_come(pieces)) as body:
            verdicts = await store.receive(body, reader, self.storage, terms)
        response = store.response_to(verdicts, self._studies_url(request))
        teller = mishap or self._fault
        answer = await teller.after(request, number, response) if teller else response
        if isinstance(answer, web.StreamResponse):
            return answer
        body_of = media.NOTATIONS[notation]
        return web.Response(status=store.status_of(answer), body=body_of(answer), headers={"Content-Type": notation})

    async def _search(self, request: web.Request) -> web.StreamResponse:
        level = request.path.rpartition("/")[2]
        studies_url = self._studies_url(request)
        try:
            page = query.search(self.storage.catalogue, level, request.match_info, request.query, studies_url)
        except ValueError as error:
            return _complaint(400, str(error))
        if not page.items:
            return web.Response(status=204)
        # PS3.18 §8.3.4.4 gives the wording.
        more = {"Warning": f"299 {studies_url}: There are additional results that can be requested"}
        headers = {"Content-Type": "application/dicom+json"} | (more if page.more else {})
        return web.Response(body=json.dumps(page.items, separators=(",", ":")).encode("ascii"), headers=headers)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        if await self.storage.remove_study(request.match_info["study"]):
            return web.Response(status=204)
        return _complaint(404, "no such study")

    def _studies_url(self, request: web.Request) -> str:
        return urls.absolute(request, f"{self.root}/studies")


ORIGIN = web.AppKey("ORIGIN", Origin)
"""Where a fault finds the origin that it befalls: `request.app[ORIGIN]`."""


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

    A connection beyond `max_connections` is closed at once. On leaving, requests in work get two seconds.
    OSError: the address cannot be listened on.
    """
    # A Content-Encoding is refused, so nothing is to be inflated on the way.
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
        # Not by web.TCPSite: it has no hook for a connection limiter.
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


async def _as_they_come(pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    async for piece in pieces:
        yield piece


def _complaint(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers=headers)
