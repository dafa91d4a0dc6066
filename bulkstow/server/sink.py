"""The acknowledging sink: a STOW-RS server that stores nothing and answers for every instance.

    python -m bulkstow.server.sink --port 8080 [--slots 8 --service-ms 50 --spread 0.3 --limit 24]

It serves to measure the speed of a client, and to check the client's figures against known ones. It speaks the HTTP/1.1
of clients (keep-alive, Expect, chunked, TLS), and simulates a server by queues and a freeze. It runs in its own process
on loopback, prints `PORT n` when it listens, and ends when its standard input ends. GET .../counts returns what it has
received; any other GET is answered 204, as by an empty archive.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from http import HTTPStatus
from typing import cast

from bulkstow.server.parts import Malformed, Parts

BUFFER_BYTES = 2**20
"""The bytes that are read from a socket at once.
1.05 GB take 0.30 to 0.33 s with 64 KiB to 4 MiB, and 0.40 s with 16 KiB."""

GOLDEN = 0.6180339887
"""The golden section: fractional parts of its multiples are distributed evenly, successive ones far apart (Weyl)."""

_LENGTH = re.compile(rb"\r\nContent-Length:[ \t]*([0-9]+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\nTransfer-Encoding:[ \t]*chunked", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nExpect:[ \t]*100-continue", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nConnection:[ \t]*close", re.IGNORECASE)
_BOUNDARY = re.compile(rb'\r\nContent-Type:[^\r]*;[ \t]*boundary="?([^"\r;]+)', re.IGNORECASE)
_CHUNK = re.compile(rb"(?:\r\n)?([0-9A-Fa-f]+)[^\r\n]*\r\n")
_LAST_CHUNK = re.compile(rb"(?:\r\n)?0+(?:;[^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*\r\n")


@dataclass(slots=True)
class Counts:
    """The counts of everything received since the start."""

    instances: int = 0
    body_bytes: int = 0
    requests: int = 0
    rejected: int = 0
    """Requests answered 503, or 400 for a body that cannot be read."""

    def as_json(self) -> bytes:
        """Return the counts and the processor time used as a JSON object."""
        return json.dumps(asdict(self) | {"cpu_s": time.process_time()}).encode()


def _later(delay_s: float, call: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(delay_s, call)


@dataclass(slots=True)
class Service:
    """A simulated server: `slots` requests are served at once, others queue, and beyond `limit` they get 503.

    With `service_s` and no slots, every request is answered after that time.
    """

    slots: int = 0
    """0 is unlimited."""
    limit: int = 0
    """The most requests in progress, queued ones included; 0 is unlimited."""
    service_s: float = 0.0
    instance_s: float = 0.0
    """Added for each instance of the request."""
    spread: float = 0.0
    """The share of it by which a service time varies, in a fixed sequence."""
    freeze_at_s: float = 0.0
    """The time from the first request to a freeze: nothing is read or answered, as in a garbage collection."""
    freeze_for_s: float = 0.0
    later: Callable[[float, Callable[[], None]], object] = _later
    """Calls a function after some seconds; the event loop's."""
    sleep: Callable[[float], None] = time.sleep
    """Blocks the whole event loop."""
    _is_awaited: bool = True
    _in_progress: int = 0
    _served: int = 0
    _busy: int = 0
    _queue: deque[tuple[float, Callable[[], None]]] = field(default_factory=deque)

    def admit(self) -> bool:
        """Admit a request, to be served or to `leave`; return False above the limit."""
        if self._is_awaited:
            self._is_awaited = False
            if self.freeze_for_s:
                self.later(self.freeze_at_s, partial(self.sleep, self.freeze_for_s))
        if self.limit and self._in_progress >= self.limit:
            return False
        self._in_progress += 1
        return True

    def leave(self) -> None:
        """Count out a request that was admitted and is not served."""
        self._in_progress -= 1

    def serve(self, instances: int, answer: Callable[[], None]) -> None:
        """Call `answer` when the request has been served."""
        self._served += 1
        duration_s = self.service_s + self.instance_s * instances
        self._queue.append((duration_s * (1 + self.spread * (2 * (self._served * GOLDEN % 1) - 1)), answer))
        self._next()

    def _next(self) -> None:
        while self._queue and not (self.slots and self._busy >= self.slots):
            duration_s, answer = self._queue.popleft()
            self._busy += 1
            if duration_s:
                self.later(duration_s, partial(self._end, answer))
            else:
                self._end(answer)

    def _end(self, answer: Callable[[], None]) -> None:
        self._busy -= 1
        self._in_progress -= 1
        answer()
        self._next()


class Connection(asyncio.BufferedProtocol):
    """The connection of one client: its requests are read one after the other into the same buffer."""

    def __init__(self, service: Service, counts: Counts) -> None:
        self._service = service
        self._counts = counts
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._step: Callable[[int, int], int] = self._head
        self._left_bytes = 0
        self._parts: Parts | None = None
        self._is_admitted = False
        self._closes = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for answers."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not of this class

    def connection_lost(self, _exc: Exception | None) -> None:
        """Count out a request that was not complete."""
        if self._is_admitted:
            self._service.leave()

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Return the buffer behind the bytes that are not processed yet."""
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Process the received bytes; each step returns the next offset, or the same one if it needs more bytes."""
        at, end = 0, self._filled + nbytes
        try:
            while at < end and (next_at := self._step(at, end)) != at:
                at = next_at
        except Malformed as error:
            self._counts.rejected += 1
            self._closes = True
            self._answer(HTTPStatus.BAD_REQUEST, str(error).encode(), "text/plain")
            at = end
        self._filled = end - at
        if at and self._filled:
            self._view[: self._filled] = bytes(self._view[at:end])

    def _head(self, at: int, end: int) -> int:
        head_end = self._buffer.find(b"\r\n\r\n", at, end)
        if head_end < 0:
            return at
        # With its last line break, so that every header line is between two line breaks.
        head = bytes(self._buffer[at : head_end + 2])
        self._closes = _CLOSE.search(head) is not None
        method, path, _ = head.split(b" ", 2)
        if method == b"GET":
            if path.endswith(b"/counts"):
                self._answer(HTTPStatus.OK, self._counts.as_json(), "application/json")
            else:
                self._answer(HTTPStatus.NO_CONTENT)
        else:
            self._begin(head)
        return head_end + 4

    def _begin(self, head: bytes) -> None:
        boundary = _BOUNDARY.search(head)
        if boundary is None:
            raise Malformed("no multipart/related with a boundary")
        self._is_admitted = self._service.admit()
        self._parts = Parts(boundary[1].strip()) if self._is_admitted else None
        self._counts.requests += 1
        if _EXPECT.search(head):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = _LENGTH.search(head)
        if _CHUNKED.search(head) or length is None:
            self._left_bytes, self._step = 0, self._chunk
        else:
            self._left_bytes, self._step = int(length[1]), self._sized

    def _sized(self, at: int, end: int) -> int:
        at = self._take(at, end)
        if not self._left_bytes:
            self._finish()
        return at

    def _chunk(self, at: int, end: int) -> int:
        if self._left_bytes:
            return self._take(at, end)
        if last := _LAST_CHUNK.match(self._buffer, at, end):
            self._finish()
            return last.end()
        size = _CHUNK.match(self._buffer, at, end)
        if size is None or not (left_bytes := int(size[1], 16)):
            return at
        self._left_bytes = left_bytes
        return size.end()

    def _take(self, at: int, end: int) -> int:
        taken_bytes = min(self._left_bytes, end - at)
        self._left_bytes -= taken_bytes
        self._counts.body_bytes += taken_bytes
        if self._parts is not None:
            self._parts.feed(self._buffer, at, at + taken_bytes)
        return at + taken_bytes

    def _finish(self) -> None:
        self._step = self._head
        parts, self._parts = self._parts, None
        if parts is None:
            self._counts.rejected += 1
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        if not parts.has_ended:
            raise Malformed("the body ends without its closing delimiter")
        self._is_admitted = False
        self._service.serve(len(parts.named), partial(self._acknowledge, parts.named))

    def _acknowledge(self, named: list[tuple[bytes, bytes]]) -> None:
        # Counted when they are answered: queued requests are not stored yet.
        self._counts.instances += len(named)
        self._answer(HTTPStatus.OK, store_response(named), "application/dicom+json")

    def _answer(self, status: HTTPStatus, body: bytes = b"", content_type: str = "") -> None:
        lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
        if status is not HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(body)}")
        if content_type:
            lines.append(f"Content-Type: {content_type}")
        if self._closes:
            lines.append("Connection: close")
        if not self._transport.is_closing():
            self._transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            if self._closes:
                self._transport.close()


def store_response(named: list[tuple[bytes, bytes]]) -> bytes:
    """Return a Store Instances Response that names each instance as stored (PS3.18 Table I.1-1), in DICOM JSON."""
    items = b",".join(
        b'{"00081150":{"vr":"UI","Value":["%b"]},"00081155":{"vr":"UI","Value":["%b"]},"00081190":{"vr":"UR"}}' % uids
        for uids in named
    )
    return b'{"00081190":{"vr":"UR"},"00081199":{"vr":"SQ","Value":[%b]}}' % items


async def _serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    tls = None
    if options.tls_cert:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(options.tls_cert)
    service_s, instance_s = options.service_ms / 1000, options.instance_ms / 1000
    freeze = options.freeze_at, options.freeze_for
    service = Service(options.slots, options.limit, service_s, instance_s, options.spread, *freeze)
    counts = Counts()
    server = await loop.create_server(lambda: Connection(service, counts), "127.0.0.1", options.port, ssl=tls)
    ended = asyncio.Event()
    _call_at_end_of_input(partial(loop.call_soon_threadsafe, ended.set))
    sys.stdout.write(f"PORT {server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await ended.wait()


def _call_at_end_of_input(call: Callable[[], object]) -> None:
    """Call a function in a thread when standard input ends; the event loop of Windows cannot wait for it."""

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)
        call()

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m bulkstow.server.sink", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls-cert", help="certificate chain and key (PEM)")
    parser.add_argument("--slots", type=int, default=0, help="requests served at once; 0 is no bound")
    parser.add_argument("--service-ms", type=float, default=0.0, help="time that a request is served")
    parser.add_argument("--instance-ms", type=float, default=0.0, help="and for each of its instances")
    parser.add_argument("--spread", type=float, default=0.0, help="share of it that a service is shorter or longer")
    parser.add_argument("--limit", type=int, default=0, help="requests within before it answers 503; 0 is no bound")
    parser.add_argument("--freeze-at", type=float, default=0.0, help="seconds from the first request to a freeze")
    parser.add_argument("--freeze-for", type=float, default=0.0, help="seconds that it lasts; 0 is no freeze")
    options = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(options))
    else:
        uvloop.run(_serve(options))


if __name__ == "__main__":
    main()
