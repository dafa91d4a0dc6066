"""Connections of aiohttp's client on which the head of a response is bounded."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

HEAD_BYTES = 512 * 2**10
"""The longest head of a response as a whole. aiohttp bounds each field and their number, but not their product:
an endless head in each of four requests took 240 MB without this limit, and takes 52 MB with it."""


class BoundedConnector(aiohttp.TCPConnector):
    """Connections on which the head of a response is bounded."""

    def __init__(self, *, ssl: ssl.SSLContext | bool, force_close: bool) -> None:
        # The pipeline decides how many requests run: no second limit here.
        super().__init__(limit=0, ssl=ssl, force_close=force_close)
        handler: type[ResponseHandler] = _BoundedHandler
        self._factory = partial(handler, loop=asyncio.get_running_loop())


class _BoundedHandler(ResponseHandler):
    """Closes a connection on which the head of a response is longer than HEAD_BYTES."""

    _head_bytes = 0
    _has_head = False

    def set_response_params(self, **params: Any) -> None:  # noqa: ANN401 - aiohttp's signature
        """Expect another response."""
        self._head_bytes, self._has_head = 0, False
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:  # noqa: ANN401 - aiohttp's signature
        """Receive a response whose head has been read."""
        self._has_head = True
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Receive bytes from the server."""
        super().data_received(data)
        if self._has_head or self.exception() is not None:
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self.set_exception(HttpProcessingError(message=f"Got more than {HEAD_BYTES} bytes of headers"))
            self.abort()
