"""A limit on the number of open connections.

Decides before anything has been read from a connection, and hands an accepted one to the server's own protocol. A
connection in its TLS handshake does not count yet.
"""

from __future__ import annotations

import asyncio
from typing import cast

from aiohttp import web


class ConnectionLimiter(asyncio.Protocol):
    """Hands a new connection to the server while fewer than `max_connections` are open; closes it otherwise."""

    def __init__(self, server: web.Server, max_connections: int) -> None:
        self._server = server
        self._max_connections = max_connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Decide here, not at accept(2): the event loop accepts many at a time before the server knows of the first."""
        if len(self._server.connections) >= self._max_connections:
            transport.close()
            return
        handler = self._server()
        cast("asyncio.Transport", transport).set_protocol(handler)  # uvloop's is not of this class
        handler.connection_made(transport)
