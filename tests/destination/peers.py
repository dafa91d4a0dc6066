"""Peers that misbehave on purpose, on real sockets of this machine."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

STORED = b'{"00081199":{"vr":"SQ","Value":[]}}'


@asynccontextmanager
async def peer(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve `handler` for every connection, and give the URL; connections still open at the end are cut."""
    writers: list[asyncio.StreamWriter] = []
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"{'https' if tls else 'http'}://localhost:{port}/dicom-web"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


class Request:
    """What a client sent."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.line, *lines = head.decode("utf-8").rstrip("\r\n").split("\r\n")
        self.headers = dict(line.split(": ", 1) for line in lines)
        self.body = body


async def read_head(reader: asyncio.StreamReader) -> Request:
    """Read a request up to its body."""
    return Request(await reader.readuntil(b"\r\n\r\n"), b"")


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Read a request whole, by its length or its chunks."""
    request = await read_head(reader)
    if "Content-Length" in request.headers:
        request.body = await reader.readexactly(int(request.headers["Content-Length"]))
    elif request.headers.get("Transfer-Encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            request.body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    return request


def answer(writer: asyncio.StreamWriter, status: str = "200 OK", body: bytes = STORED, *headers: str) -> None:
    """Write an answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


class Relay:
    """An HTTP proxy: forwards requests in absolute form, and makes tunnels for CONNECT (RFC 9110 §9.3.6)."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.headers: list[dict[str, str]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        request = await read_head(reader)
        self.lines.append(request.line)
        self.headers.append(request.headers)
        method, target, version = request.line.split()
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        from_server, to_server = await asyncio.open_connection(parts.hostname, parts.port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            lines = [f"{method} {path} {version}", *(f"{name}: {value}" for name, value in request.headers.items())]
            to_server.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        await asyncio.gather(_pump(reader, to_server), _pump(from_server, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while octets := await reader.read(2**16):
        writer.write(octets)
        await writer.drain()
    writer.close()
