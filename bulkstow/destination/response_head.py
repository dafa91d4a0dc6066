"""A bound on the head of an answer as a whole.

aiohttp bounds each field of it and their number, but not their product, which many requests at once hold many times.
"""

from __future__ import annotations

import asyncio
from functools import partial
from ssl import SSLContext
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

HEAD_BYTES = 512 * 2**10
"""Octets after which a head must have ended. An endless one in each of four requests took 240 MB without the bound, and
takes 52 MB with it."""


class BoundedConnector(aiohttp.TCPConnector):
    """Connections on which the head of an answer is bounded."""

    def __init__(self, *, ssl: SSLContext | bool, force_close: bool) -> None:
        # The number of requests under way is the pipeline's affair: no second limit here.
        super().__init__(limit=0, ssl=ssl, force_close=force_close)
        handler: type[ResponseHandler] = _BoundedHandler
        self._factory = partial(handler, loop=asyncio.get_running_loop())


class _BoundedHandler(ResponseHandler):
    """Closes a connection on which the head of an answer is longer than the bound."""

    _head_bytes = 0
    _has_head = False

    def set_response_params(self, **params: Any) -> None:  # noqa: ANN401 - aiohttp's signature
        """Expect another answer."""
        self._head_bytes, self._has_head = 0, False
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:  # noqa: ANN401 - aiohttp's signature
        """Take an answer whose head has been read."""
        self._has_head = True
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Take octets from the server."""
        super().data_received(data)
        if self._has_head or self.exception() is not None:
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self.set_exception(HttpProcessingError(message=f"Got more than {HEAD_BYTES} bytes of headers"))
            self.abort()
