"""The limit on open files and sockets.

A shell's soft limit is often 256 or 1024, and without free descriptors intact files would fail. So the limit is raised
before the run starts; if that is not possible, fewer concurrent requests are made.
"""

from __future__ import annotations

from bulkstow.platform.process import raise_open_files_limit

SPARE = 64
"""Descriptors of the interpreter, the ledger, the open directories of the walk, and standard streams."""

PER_SENDER = 5
"""Descriptors of one request: a socket, its second handle, a socket that the server is closing, a file, and the
connection of a replay."""


def allowed_senders(*, senders: int, readers: int) -> int:
    """Raise the limit on open files for senders and readers; return the number of senders it allows, at least 1."""
    wanted = SPARE + readers + senders * PER_SENDER
    allowed = raise_open_files_limit(wanted)
    return senders if allowed >= wanted else max(1, (allowed - SPARE - readers) // PER_SENDER)
