"""The sink's ceiling: a ready-made body straight from the page cache into a socket, by a client that does nothing else.

python -m benchmarks.sendfile BODY CONTENT_TYPE URL
"""

from __future__ import annotations

import os
import socket
import sys
from urllib.parse import urlsplit


def main() -> None:
    """Send the body and wait for the answer."""
    path, content_type, url = sys.argv[1:]
    parts = urlsplit(url)
    size_bytes = os.stat(path).st_size  # noqa: PTH116 - pathlib takes longer to import than small bodies to send
    head = (
        f"POST {parts.path}/studies HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {size_bytes}\r\nConnection: close\r\n\r\n"
    )
    file = os.open(path, os.O_RDONLY)
    with socket.create_connection((parts.hostname or "", parts.port or 80)) as connection:
        connection.sendall(head.encode())
        sent_bytes = 0
        while sent_bytes < size_bytes:
            sent_bytes += os.sendfile(connection.fileno(), file, sent_bytes, size_bytes - sent_bytes)
        answer = b"".join(iter(lambda: connection.recv(2**20), b""))
    if not answer.startswith(b"HTTP/1.1 200 "):
        sys.exit(answer[:200].decode())


if __name__ == "__main__":
    main()
