"""One HTTP exchange.

Turns every exception of aiohttp into a value of bulkstow's, and masks secrets in whatever comes back. Follows no
redirect, adds no login, and retries in one case only: a request on a pooled connection that gets no response, or a
malformed one, is sent once more on a new connection, because servers close idle connections without notice (Orthanc
after 1 s).
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from types import SimpleNamespace, TracebackType
from typing import Protocol, Self
from urllib.parse import quote, urlencode

import aiohttp
import aiohttp.abc
import anyio
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from bulkstow.config import DestinationSettings
from bulkstow.destination.bounded_connector import BoundedConnector
from bulkstow.destination.connection import speaks_tls, ssl_context, try_connection
from bulkstow.destination.given_headers import GivenHeaders, read_headers
from bulkstow.destination.masking import Mask, secrets_of_headers, secrets_of_url
from bulkstow.destination.proxy import proxy_for
from bulkstow.destination.reasons import NO_TLS, certificate_reason, is_without_tls
from bulkstow.destination.request_writer import RequestWriter
from bulkstow.destination.responses import (
    FOREIGN,
    Overlong,
    ResponseReceiver,
    ResponseStream,
    read_response,
    reason_of,
)
from bulkstow.destination.tls import share
from bulkstow.errors import DestinationRefused, LoginRefused, RunStopped
from bulkstow.model import Cause, NoResponse, Response
from bulkstow.quantities import show_duration
from bulkstow.wire.request_headers import has_header
from bulkstow.wire.server_text import printable

ERROR_LIMIT_BYTES = 2**20
"""The longest response that names no instance: a stack trace has some 10 KiB, an error page with pictures 500 KiB."""

FIELD_BYTES = 128 * 2**10
"""The longest header field of a response. Cookies and security policies have 8 to 20 KiB; curl accepts 100 KiB."""

FIELDS = 256
"""The most header fields of a response; servers behind several proxies send some 40."""


class RequestBody(Protocol):
    """A request's body that is streamed."""

    @property
    def is_started(self) -> bool:
        """At least one byte may have been sent."""

    @property
    def is_sent(self) -> bool:
        """The socket has accepted the last byte."""

    async def send(self, request_writer: RequestWriter) -> None:
        """Send the whole body; a replay calls it again.

        Raises OSError when the connection is lost, and whatever else ends the request. A cancelled call returns
        normally if the last byte has just been sent.
        """


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the DICOMweb root."""

    method: str
    path: str
    """Below the DICOMweb root, percent-encoded (`wire.resource_path`); it is sent as it is."""
    headers: Mapping[str, str]
    """A body without a Content-Length is sent in chunks."""
    query: Mapping[str, str] = field(default_factory=dict)
    login: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers that log the request in; all their values are secrets."""
    body: RequestBody | bytes | None = None
    response_limit_bytes: int = ERROR_LIMIT_BYTES
    """The longest response that is read: as long as the request can explain."""


class HttpClient:
    """Connections to one DICOMweb root; use it as an asynchronous context manager.

    Raises ConfigurationError for certificates that cannot be loaded, for headers that cannot be read or set, and for a
    proxy that cannot be used.
    """

    def __init__(self, settings: DestinationSettings, given: GivenHeaders | None = None) -> None:
        self._settings = settings
        self._root = str(URL(settings.root)).rstrip("/")
        # aiohttp's own `trust_env` would read ~/.netrc too, and log in with what it finds there.
        self.proxy = proxy_for(settings.root, os.environ)
        self._ssl = ssl_context(settings, self.proxy.url if self.proxy else "")
        if isinstance(self._ssl, ssl.SSLContext) and not (self.proxy and self.proxy.url.startswith("https:")):
            share(self._ssl)  # through a proxy with TLS, the socket has another encryption around ours
        self.given = given or read_headers(settings)
        """The user's headers, with the secrets in them."""
        self.headers = self.given.by_name
        """The user's headers for every request."""
        self._lasting_secrets = self.given.secrets | secrets_of_url(self.proxy.url if self.proxy else "")
        self._masked_secrets: set[str] = set()
        self._current_mask = Mask(self._lasting_secrets)
        self._sessions = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._pooled = await self._sessions.enter_async_context(self._session(force_close=False))
        self._fresh = await self._sessions.enter_async_context(self._session(force_close=True))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._sessions.aclose()

    async def exchange(self, request: Request) -> Response | NoResponse:
        """Make a request and read its whole response; a NoResponse gives the reason why there is none.

        Raises DestinationRefused when the server's certificate is not trusted.
        """
        return await self._masked(request, None)

    async def receive(self, request: Request, receiver: ResponseReceiver) -> Response | NoResponse:
        """Make a request, and pass the content of a response with status 200 to `receiver` as it comes.

        Every other response is read as `exchange` does. The response timeout ends at the head of the response, then the
        stall timeout applies to each piece. Raises DestinationRefused, and the exceptions of the receiver.
        """
        settings = self._settings
        allowed_s = settings.connect_timeout_s + settings.response_timeout_s
        with anyio.CancelScope(deadline=anyio.current_time() + allowed_s) as scope:
            stream = ResponseStream(receiver, scope, settings.stall_timeout_s)
            return await self._masked(request, stream)
        why = f"nothing more for {show_duration(settings.stall_timeout_s)}" if stream.has_begun else ""
        return NoResponse(Cause.UNANSWERED, body_started=False, detail=why)

    async def _masked(self, request: Request, stream: ResponseStream | None) -> Response | NoResponse:
        mask = self._mask(request.login)
        try:
            return _without_secrets(await self._exchange_or_replay(request, stream), mask)
        except RunStopped as stop:
            raise type(stop)(mask.text(str(stop))) from None  # the cause would show what was masked

    async def try_connection(self) -> str:
        """Open a connection, to the proxy if there is one, and close it; return why that failed, or ""."""
        url = URL(self.proxy.url if self.proxy else self._root)
        context = self._ssl if isinstance(self._ssl, ssl.SSLContext) and url.scheme == "https" else None
        return await try_connection(url, context, self._settings.connect_timeout_s)

    async def speaks_tls(self) -> bool:
        """Return whether the server's port speaks TLS."""
        return await speaks_tls(URL(self._root), self._settings.connect_timeout_s)

    async def _exchange_or_replay(self, request: Request, stream: ResponseStream | None) -> Response | NoResponse:
        trail = _Trail()
        exchange = await self._exchange(request, self._pooled, trail, stream)
        if stream is not None and stream.has_begun:
            return exchange
        # Bytes that a server sends after its last response are malformed as the next one.
        if not (trail.is_reused and isinstance(exchange, NoResponse) and exchange.cause in _STALE):
            return exchange
        again = await self._exchange(request, self._fresh, _Trail(), stream)
        # What was sent the first time may have been stored, however the second time ends.
        if isinstance(again, NoResponse):
            return replace(again, body_started=again.body_started or exchange.body_started)
        return replace(again, is_replayed=exchange.body_started)

    def _mask(self, login: Mapping[str, str]) -> Mask:
        """Return the mask for the response to a request with this login."""
        secrets = secrets_of_headers(login, all_values=True)
        if self._masked_secrets != secrets:
            self._masked_secrets = secrets
            self._current_mask = Mask(secrets | self._lasting_secrets)
        return self._current_mask

    def url(self, request: Request) -> URL:
        """Return the URL of a request; `encoded` keeps yarl from decoding it or resolving `..` in it."""
        query = urlencode(request.query, quote_via=quote, errors="replace")
        return URL(f"{self._root}{request.path}{'?' if query else ''}{query}", encoded=True)

    def _session(self, *, force_close: bool) -> aiohttp.ClientSession:
        connect_timeout_s = self._settings.connect_timeout_s
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_on_connected)
        trace.on_connection_reuseconn.append(_on_reused)
        return aiohttp.ClientSession(
            connector=BoundedConnector(ssl=self._ssl, force_close=force_close),
            # No deadline for the whole exchange: `RequestTimer` sets one for each state of a store request.
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout_s, sock_connect=connect_timeout_s),
            max_line_size=FIELD_BYTES,
            max_field_size=FIELD_BYTES,
            max_headers=FIELDS,
            headers=({} if has_header(self.headers, "User-Agent") else {"User-Agent": "bulkstow"}) | self.headers,
            cookie_jar=aiohttp.CookieJar(unsafe=True),  # load balancers at bare addresses set sticky cookies too
            trace_configs=[trace],
        )

    async def _exchange(
        self, request: Request, session: aiohttp.ClientSession, trail: _Trail, stream: ResponseStream | None
    ) -> Response | NoResponse:
        data, payload = request.body, None
        if not (data is None or isinstance(data, bytes)):
            payload = _Payload(data, chunked="Content-Length" not in request.headers)
        try:
            async with session.request(
                request.method,
                self.url(request),
                headers={**request.headers, **request.login},
                data=payload or data,
                proxy=self.proxy.url if self.proxy else None,
                allow_redirects=False,
                trace_request_ctx=trail,
            ) as response:
                if stream is not None and response.status == 200:
                    return await stream.run(response)
                received = await read_response(response, request.response_limit_bytes)
                if self.proxy and received.status == 407:
                    raise self._proxy_login_refused()
                if payload is not None and not await payload.is_sent():
                    response.close()  # the server responded early: neither send the rest nor keep the connection
                return received
        except FOREIGN as error:
            body_started = trail.is_connected and data is not None if payload is None else payload.body.is_started
            return self._no_response(error, trail, body_started=body_started)
        finally:
            if payload is not None:
                with anyio.CancelScope(shield=True):
                    await payload.ended()

    def _no_response(self, error: Exception, trail: _Trail, *, body_started: bool) -> NoResponse:
        """Return an exception as a value; raise RunStopped for a failure that no retry fixes.

        `from None` where a traceback would show a proxy's URL, and the password in it.
        """
        match error:
            case aiohttp.ClientConnectorCertificateError():
                raise DestinationRefused(
                    f"the certificate of {self._settings.root} {certificate_reason(error.certificate_error)}; "
                    "--insecure sends without looking at it"
                ) from error
            case aiohttp.ClientHttpProxyError(status=407):
                raise self._proxy_login_refused() from None
            case aiohttp.ClientHttpProxyError(status=status):
                return self._unreachable(f"answers HTTP {status} to CONNECT")
            case aiohttp.ClientConnectorSSLError() if is_without_tls(error.os_error):
                raise DestinationRefused(f"{self._settings.root}: {NO_TLS}") from None
            case aiohttp.ClientError() | OSError() if not trail.is_connected:
                return self._unreachable(reason_of(error))
            case Overlong():
                return NoResponse(Cause.OVERLONG, body_started, str(error))
            case aiohttp.ClientPayloadError() if not isinstance(error.__cause__, ContentEncodingError):
                return NoResponse(Cause.DISCONNECTED, body_started, reason_of(error))
            case aiohttp.ClientConnectionError() | OSError():
                return NoResponse(Cause.DISCONNECTED, body_started, reason_of(error))
            case _:
                return NoResponse(Cause.MALFORMED, body_started, reason_of(error))

    def _unreachable(self, why: str) -> NoResponse:
        detail = f"the proxy {self.proxy.name} ({self.proxy.variable}): {why}" if self.proxy else why
        return NoResponse(Cause.UNREACHABLE, body_started=False, detail=detail)

    def _proxy_login_refused(self) -> LoginRefused:
        where = f"{self.proxy.name} ({self.proxy.variable})" if self.proxy else ""
        return LoginRefused(f"the proxy {where} refuses our login (407): check the user and password in its URL")


class _Payload(aiohttp.Payload):
    """Hands a body to aiohttp, which starts `write` in a task and cancels it when the exchange ends.

    A cancelled body ends within `body.LAST_TURN_S`; `ended` waits for that.
    """

    def __init__(self, body: RequestBody, *, chunked: bool) -> None:
        super().__init__(body)
        self.body = body
        self._chunked = chunked
        self._sending: asyncio.Event | None = None

    async def write(self, writer: aiohttp.abc.AbstractStreamWriter) -> None:
        """Send the body; raises what the body raises."""
        self._sending = asyncio.Event()
        request_writer = RequestWriter(writer, chunked=self._chunked)
        try:
            await self.body.send(request_writer)
        except ConnectionError:
            await request_writer.until_cancelled()
            raise
        finally:
            self._sending.set()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's signature
        """Raise TypeError."""
        raise TypeError("a streamed body has no text")

    async def ended(self) -> None:
        """Wait until `write` has returned."""
        if self._sending is not None:
            await self._sending.wait()

    async def is_sent(self) -> bool:
        """Return whether the whole body was sent, once `write` has returned: a response may be faster than the thread
        that has sent the last byte."""
        await self.ended()
        return self.body.is_sent


@dataclass(slots=True)
class _Trail:
    """What aiohttp tells of the connection of one request."""

    is_connected: bool = False
    is_reused: bool = False


_STALE = (Cause.DISCONNECTED, Cause.MALFORMED)


async def _on_connected(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.is_connected = True


async def _on_reused(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.is_connected = context.trace_request_ctx.is_reused = True


def _without_secrets(exchange: Response | NoResponse, mask: Mask) -> Response | NoResponse:
    match exchange:
        case NoResponse(detail=detail):
            return replace(exchange, detail=printable(mask.text(detail)))
        case Response(body=body, warning=warning, location=location):
            return replace(exchange, body=mask.body(body), warning=mask.text(warning), location=mask.text(location))
