"""Converts responses and exceptions of aiohttp's client to bulkstow's types.

A response is read whole up to a limit, or streamed to a receiver that gets one piece after the other.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

import aiohttp
import anyio
from aiohttp.http_exceptions import HttpProcessingError

from bulkstow.destination.reasons import reason
from bulkstow.model import Response
from bulkstow.wire.http_fields import field_text, retry_after_s


class Malformed(Exception):
    """The response is not an HTTP response that ends an exchange."""


class Overlong(Exception):
    """The response is longer than the request can explain."""


FOREIGN = (
    aiohttp.ClientError,
    OSError,
    Overlong,
    Malformed,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
)
"""aiohttp and http.cookies raise the last five for unexpected header fields."""

_QUOTED_OCTETS = re.compile(r":?\s*(?:\b(?:b|bytearray\(b)['\"])")
"""The point in aiohttp's messages after which they repeat text of the server."""


def reason_of(error: BaseException) -> str:
    """Return why an exchange failed, without URLs, which may contain a password, and without text of the server."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return "no connection in time"
        case aiohttp.ClientResponseError(message=message):
            return _QUOTED_OCTETS.split(message, maxsplit=1)[0]
        case aiohttp.ClientPayloadError(__cause__=HttpProcessingError(message=message)):
            return _QUOTED_OCTETS.split(message, maxsplit=1)[0]
        case aiohttp.ClientConnectorError():
            return reason(error.os_error)
        case _:
            return reason(error)


async def read_response(response: aiohttp.ClientResponse, limit_bytes: int) -> Response:
    """Return a response with its whole body. Raises Overlong, Malformed and the exceptions of aiohttp."""
    head = _head(response)
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > limit_bytes:
            raise Overlong(f"more than {limit_bytes} bytes")
    return replace(head, body=bytes(body))


class ResponseReceiver(Protocol):
    """Receives the content of a response piece by piece; raises nothing but RunStopped."""

    def begin(self, content_type: str) -> None:
        """Begin a response with this Content-Type."""

    async def take(self, piece: bytes) -> bool:
        """Take the next piece; return False if the rest is not needed. The server waits meanwhile."""


class ResponseStream:
    """The content of one response on its way to a receiver.

    `scope` ends the exchange: its deadline is the response timeout at first, then the stall timeout of each piece. The
    time that the receiver takes is not limited.
    """

    def __init__(self, receiver: ResponseReceiver, scope: anyio.CancelScope, stall_timeout_s: float) -> None:
        self._receiver = receiver
        self._scope = scope
        self._stall_timeout_s = stall_timeout_s
        self.has_begun = False
        """The receiver has a part of the content, so only the caller may repeat the request."""

    async def run(self, response: aiohttp.ClientResponse) -> Response:
        """Pass the content on, and return the response without it. Raises Malformed and the exceptions of aiohttp."""
        head = _head(response)
        self.has_begun = True
        self._receiver.begin(head.content_type)
        while True:
            self._scope.deadline = anyio.current_time() + self._stall_timeout_s
            piece = await response.content.readany()
            self._scope.deadline = math.inf
            if not piece or not await self._receiver.take(piece):
                return head


def _head(response: aiohttp.ClientResponse) -> Response:
    """Return a response without its body."""
    if response.status < 200:
        raise Malformed(f"HTTP status {response.status:03} does not end an exchange")
    headers = response.headers
    return Response(
        status=response.status,
        body=b"",
        content_type=field_text(headers.get("Content-Type", "")),
        warning=field_text(headers.get("Warning", "")),
        retry_after_s=retry_after_s(headers.get("Retry-After", ""), datetime.now(UTC)),
        location=field_text(headers.get("Location", "")),
    )
