"""One HTTP exchange: the one place that knows aiohttp's client.

Owns connections, TLS, proxies, and the turning of every foreign exception into a value of ours. Follows no redirect,
logs nobody in, and retries nothing but one thing: a request on a pooled connection that turns out to be dead before any
answer goes once more on a new one, as servers close idle connections without a word (Orthanc after 1 s).
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Protocol, Self
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import aiohttp.abc
import anyio
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError
from yarl import URL

from bulkstow.config import DestinationSettings
from bulkstow.destination.masking import Mask, secrets_of_headers, secrets_of_url
from bulkstow.destination.outlet import Outlet
from bulkstow.errors import ConfigurationError, DestinationRefused, LoginRefused, RunStopped
from bulkstow.model import Cause, Interruption, Reply
from bulkstow.wire.http_fields import field_text, retry_after_s
from bulkstow.wire.request_headers import has_header, parse_headers
from bulkstow.wire.server_text import printable

ERROR_LIMIT_BYTES = 2**20
"""The longest answer that tells of no instance: a stack trace has some 10 KiB, an error page with its pictures 500."""

HEARING_S = 0.2
"""A body that is being ended ends within 0.1 s, where the disk does not hang."""

ENDING_S = 5.0
"""A body that is ended ends within one turn of the loop; one that did not must not hold up the run."""

FIELD_BYTES = 128 * 2**10
"""One line of an answer's head. Sticky cookies and security policies come to 8 to 20 KiB; curl takes 100 KiB."""

FIELDS = 256
"""Lines in it; servers behind several proxies send some 40. Both limits together bound an answer's head to 32 MiB."""


class Upload(Protocol):
    """A request's body."""

    @property
    def is_started(self) -> bool:
        """Some of it has left."""

    @property
    def is_taken(self) -> bool:
        """All of it has left."""

    async def write(self, outlet: Outlet) -> None:
        """Send it; raises OSError, or whatever else ends the request."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask."""

    method: str
    path: str
    """Below the DICOMweb root, percent-encoded (`wire.resource_path`); it is sent as it is."""
    headers: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Upload | None = None
    answer_limit_bytes: int = ERROR_LIMIT_BYTES
    """What the answer may have at most: as much as the request can explain."""


class HttpClient:
    """Connections to one DICOMweb root; use it as an asynchronous context.

    Raises ConfigurationError for certificates that cannot be loaded, and for headers that cannot be read or set.
    """

    def __init__(self, settings: DestinationSettings) -> None:
        self._settings = settings
        self._root = str(URL(settings.root)).rstrip("/")
        self._ssl = _ssl_context(settings)
        self._proxy = _proxy(settings.root)
        from_file = _headers_in(settings.header_file)
        self.headers = _joined(settings.headers, from_file)
        """What the user adds to every request."""
        self._lasting_secrets = secrets_of_headers(settings.headers) | secrets_of_headers(from_file, all_values=True)
        self._lasting_secrets |= secrets_of_url(self._proxy or "")
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

    async def exchange(self, request: Request) -> Reply | Interruption:
        """Make a request and read its answer whole; an Interruption tells why there is none.

        Raises DestinationRefused when the server's certificate is not trusted.
        """
        mask = self._mask(request.headers)
        try:
            return _masked(await self._exchange_or_replay(request), mask)
        except RunStopped as stop:
            raise type(stop)(mask.text(str(stop))) from None  # the cause would show what was masked

    async def _exchange_or_replay(self, request: Request) -> Reply | Interruption:
        trail = _Trail()
        result = await self._exchange(request, self._pooled, trail)
        # Bytes that a server sent after its last answer are malformed as the next one.
        if not (trail.reused and isinstance(result, Interruption) and result.cause in _STALE):
            return result
        again = await self._exchange(request, self._fresh, _Trail())
        # What left the first time may have been stored, whatever becomes of the second.
        if isinstance(again, Interruption):
            return replace(again, body_started=again.body_started or result.body_started)
        return replace(again, is_replayed=result.body_started)

    def _mask(self, login: Mapping[str, str]) -> Mask:
        """Return the mask for what a request with these headers may bring back."""
        secrets = secrets_of_headers(login)
        if self._masked_secrets != secrets:
            self._masked_secrets = secrets
            self._current_mask = Mask(secrets | self._lasting_secrets)
        return self._current_mask

    def _url(self, request: Request) -> URL:
        """Return the URL of a request; `encoded` keeps yarl from decoding it or resolving `..` in it."""
        query = urlencode(request.query, quote_via=quote, errors="replace")
        return URL(f"{self._root}{request.path}{'?' if query else ''}{query}", encoded=True)

    def _session(self, *, force_close: bool) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_on_reused)
        return aiohttp.ClientSession(
            # The number of requests under way is the pipeline's affair: no second limit here.
            connector=aiohttp.TCPConnector(limit=0, ssl=self._ssl, force_close=force_close),
            # No deadline over the whole; stalls and thinking are clocked by who sends the body.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._settings.connect_timeout_s),
            max_line_size=FIELD_BYTES,
            max_field_size=FIELD_BYTES,
            max_headers=FIELDS,
            headers=({} if has_header(self.headers, "User-Agent") else {"User-Agent": "bulkstow"}) | self.headers,
            cookie_jar=aiohttp.CookieJar(unsafe=True),  # load balancers at bare addresses set sticky cookies too
            trace_configs=[trace],
        )

    async def _exchange(self, request: Request, session: aiohttp.ClientSession, trail: _Trail) -> Reply | Interruption:
        body = request.body

        def has_started() -> bool:
            return body is not None and body.is_started

        payload = None if body is None else _Payload(body, chunked="Content-Length" not in request.headers)
        try:
            async with session.request(
                request.method,
                self._url(request),
                headers=request.headers,
                data=payload,
                proxy=self._proxy,
                allow_redirects=False,
                trace_request_ctx=trail,
            ) as response:
                answer = await _read_answer(response, request.answer_limit_bytes)
                if payload is not None and not await payload.is_heard_out():
                    response.close()  # it answered before it had heard us out: neither go on, nor keep the connection
                return answer
        except aiohttp.ClientConnectorCertificateError as error:
            raise DestinationRefused(
                f"the certificate of {self._settings.root} is not trusted ({_words(error)}): "
                "give its authority with --ca-file, or --insecure"
            ) from error
        except aiohttp.ClientHttpProxyError as error:
            # `from None`: the exception, and a traceback of it, would show the proxy's URL and the password in it.
            if error.status == 407:
                raise LoginRefused("the proxy refuses our login (407): check the proxy in the environment") from None
            return Interruption(Cause.UNREACHABLE, body_started=False, detail=f"the proxy answers {error.status}")
        except _UNREACHABLE as error:
            return Interruption(Cause.UNREACHABLE, body_started=False, detail=_words(error))
        except _Overlong as error:
            return Interruption(Cause.OVERLONG, body_started=has_started(), detail=str(error))
        except (aiohttp.ClientResponseError, _Malformed) as error:
            return Interruption(Cause.MALFORMED, body_started=has_started(), detail=_words(error))
        except (aiohttp.ClientError, OSError) as error:
            cause = Cause.MALFORMED if isinstance(error.__cause__, ContentEncodingError) else Cause.DISCONNECTED
            return Interruption(cause, body_started=has_started(), detail=_words(error))
        except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
            # What aiohttp and http.cookies raise on fields that they did not expect.
            return Interruption(Cause.MALFORMED, body_started=has_started(), detail=_words(error))
        finally:
            if payload is not None:
                await payload.ended()


class _Payload(aiohttp.Payload):
    """A body, as aiohttp takes it."""

    def __init__(self, body: Upload, *, chunked: bool) -> None:
        super().__init__(body)
        self._body = body
        self._chunked = chunked
        self._under_way: anyio.Event | None = None

    async def write(self, writer: aiohttp.abc.AbstractStreamWriter) -> None:
        self._under_way = anyio.Event()
        try:
            await self._body.write(Outlet(writer, chunked=self._chunked))
        finally:
            self._under_way.set()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's signature
        raise TypeError("a body that is streamed has no text")

    async def is_heard_out(self) -> bool:
        """Say whether the server took the whole body before it answered."""
        await self._ended(HEARING_S)  # an answer can be faster than the thread that has just sent the last byte
        return self._body.is_taken

    async def ended(self) -> None:
        """Wait until nothing writes any more; aiohttp ends a body that is midway, and does not wait for its end."""
        with anyio.CancelScope(shield=True):
            await self._ended(ENDING_S)

    async def _ended(self, patience_s: float) -> None:
        if self._under_way is not None and not self._under_way.is_set():
            with anyio.move_on_after(patience_s):
                await self._under_way.wait()


@dataclass(slots=True)
class _Trail:
    """What is known of one request's connection."""

    reused: bool = False


_QUOTED_OCTETS = re.compile(r":?\s*(?:\b(?:b|bytearray\(b)['\"])")

_STALE = (Cause.DISCONNECTED, Cause.MALFORMED)
_UNREACHABLE = (aiohttp.ClientConnectorError, aiohttp.ClientProxyConnectionError, aiohttp.ConnectionTimeoutError)


class _Malformed(Exception):
    """The answer is none that HTTP knows."""


class _Overlong(Exception):
    """The answer is longer than anyone's answer."""


async def _on_reused(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.reused = True


def _masked(result: Reply | Interruption, mask: Mask) -> Reply | Interruption:
    match result:
        case Interruption(detail=detail):
            return replace(result, detail=printable(mask.text(detail)))
        case Reply(body=body, warning=warning, location=location):
            return replace(result, body=mask.body(body), warning=mask.text(warning), location=mask.text(location))


async def _read_answer(response: aiohttp.ClientResponse, limit_bytes: int) -> Reply:
    if response.status < 200:
        raise _Malformed(f"HTTP status {response.status:03} does not end an exchange")
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > limit_bytes:
            raise _Overlong(f"more than {limit_bytes} bytes")
    headers = response.headers
    return Reply(
        status=response.status,
        body=bytes(body),
        content_type=field_text(headers.get("Content-Type", "")),
        warning=field_text(headers.get("Warning", "")),
        retry_after_s=retry_after_s(headers.get("Retry-After", ""), datetime.now(UTC)),
        location=field_text(headers.get("Location", "")),
    )


def _ssl_context(settings: DestinationSettings) -> ssl.SSLContext | bool:
    if settings.root.startswith("http://") and settings.ca_file is None and settings.client_cert is None:
        return True  # nobody asks for it, and reading the system's authorities takes 16 ms
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.client_cert is not None:
            context.load_cert_chain(settings.client_cert, settings.client_key)
    except OSError as error:
        names = " ".join(str(path) for path in (settings.ca_file, settings.client_cert, settings.client_key) if path)
        raise ConfigurationError(f"certificates {names} cannot be loaded: {_words(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _headers_in(path: Path | None) -> dict[str, str]:
    """Read the headers in a file, one a line; lines without text count for nothing."""
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = _words(error) if isinstance(error, OSError) else "not UTF-8"  # a decoder's words hold what it met
        raise ConfigurationError(f"--header-file {path}: cannot be read ({why})") from None
    headers = parse_headers([line for line in text.splitlines() if line.strip()], f"--header-file {path}, header")
    if not headers:
        raise ConfigurationError(f"--header-file {path}: holds no header; expected 'Name: value' a line")
    return headers


def _joined(given: dict[str, str], from_file: dict[str, str]) -> dict[str, str]:
    for name in from_file:
        if has_header(given, name):
            raise ConfigurationError(f"--header {name}: --header-file has it too; leave out one of them")
    return given | from_file


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for this URL.

    aiohttp's own `trust_env` would read ~/.netrc too, and log in with what it finds there.
    """
    parts = urlsplit(url)
    if parts.hostname is None or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)


def _words(error: BaseException) -> str:
    match error:
        case aiohttp.ConnectionTimeoutError():
            return "no connection in time"
        case aiohttp.ClientConnectorCertificateError():
            return str(error.certificate_error)
        case (
            aiohttp.ClientConnectorSSLError(os_error=ssl.SSLError(reason=str(reason)))
            | ssl.SSLError(reason=str(reason))
        ):
            return f"TLS: {reason.lower().replace('_', ' ')}"
        case aiohttp.ClientResponseError():
            # Not its own words, which hold the URL, and a proxy's URL a password; nor the octets that it quotes.
            return _QUOTED_OCTETS.split(error.message, maxsplit=1)[0]
        case aiohttp.ClientPayloadError(__cause__=HttpProcessingError(message=message)):
            return _QUOTED_OCTETS.split(message, maxsplit=1)[0]
        case aiohttp.ClientConnectorError(os_error=OSError(errno=int(number))) if number > 0:
            # asyncio words a refused connection with the address in Python's notation; the number says it shorter.
            return os.strerror(number)
        case aiohttp.ClientConnectorError():
            return error.os_error.strerror or str(error.os_error)
        case OSError() if error.strerror:
            return error.strerror
        case _:
            return str(error) or type(error).__name__
